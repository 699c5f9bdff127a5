//! How the end of a goroutine meets what waits for its result: a joiner, a waker, or nothing.
//!
//! There are two parties: the goroutine, which ends once, and the holder of its handle. The holder
//! is one at a time, as its steps need the handle by value or by `&mut`. (By `&`, it only looks
//! whether the goroutine has ended.)
//!
//! # States
//! ```text
//!                    enrol                          end                      take
//!              ┌───────────────▶ JOINER ──────────────────────┬──▶ DONE ───────────────▶ TAKEN
//!              │ ◀─── withdraw ────┘                          │     │ ▲
//!   RUNNING ───┼──────────────────────────────────────────────┤     └─┘ the goroutine came too
//!              │   enrol_waker                                │         late for the joiner
//!              ├───────────────▶ WAKER ───────────────────────┘
//!              │ ◀── take_waker ───┤
//!              │      detach       │     end
//!              └───────────────────┴──────▶ DETACHED ─────▶ (the result is the goroutine's)
//! ```
//! | state    | the word                         | the result is               | moved on by      |
//! | -------- | -------------------------------- | --------------------------- | ---------------- |
//! | RUNNING  | 0                                | the goroutine's, if there   | both             |
//! | JOINER   | the address of a waiter          | the same                    | both             |
//! | WAKER    | the address of a boxed waker     | the same                    | both             |
//! | DONE     | the address of a boxed result, or 0 | the holder's             | the holder       |
//! | TAKEN    | a constant                       | given out                   | nothing          |
//! | DETACHED | a constant                       | the goroutine's             | nothing          |
//!
//! The lowest three bits say which state it is. DONE with 0: the result is in the storage.
//!
//! # Invariants
//! 1. One party at a time owns what the word points to. The holder makes a waker's box and puts
//!    its address into the word; the party whose compare-and-swap takes the address out owns the
//!    box: the holder by `take_waker` or `detach`, the goroutine by `end`. So the box is freed
//!    once, and neither party looks into it while its address is in the word.
//! 2. Of `end` and `detach` one comes first. The second party sees the other's step, and drops the
//!    result.
//! 3. The goroutine that takes a waker has its result in a box. Wakers are user code, which may
//!    park, and nodes of waits are placed in the storage ([`WaiterRef::place_node`]). So the
//!    result must not be there.
//! 4. The joiner's waiter is alive until it is selected, by the goroutine or by its deadline. After
//!    its deadline the joiner withdraws its waiter. If it cannot, the goroutine has it, and says by
//!    `came_too_late` when it has looked. The joiner stays until then.
//!
//! # Why no wake-up is lost
//! A poll that returns pending has put its waker into the word by a compare-and-swap from RUNNING.
//! A goroutine ends by a compare-and-swap to DONE. Both are on one word, so one comes first:
//!
//! - The poll: then `end` finds the waker in the word, takes it and wakes it, unless the holder has
//!   taken it out before. The holder takes it out to put another in, whose enrolment is again such
//!   a compare-and-swap; to join; or to detach, after which nothing waits.
//! - The end: then the enrolment fails, and the poll takes the result instead.
//!
//! The woken task polls again and sees DONE, because the wake comes after the compare-and-swap.
//!
//! A waker that was taken out, by `take_waker` or `detach`, is woken by nothing: the goroutine has
//! not seen it. A handle that is dropped when the goroutine has ended already may see a wake after
//! its drop: the goroutine took the waker at its end.
//!
//! Model: `crates/gort-models/tests/join.rs`.
//!
//! # Rejected
//! - A lock around the waker: each end of a goroutine would take it.
//! - The waker in the handle: it would have to be pinned, and `select`s need `&mut handle`.
//! - A wake before DONE, with the result still on the goroutine's stack: a waker may poll at once,
//!   and that poll would have to wait for the goroutine that is waiting for the waker.
//!
//! [`WaiterRef::place_node`]: super::waiter::WaiterRef::place_node

use crate::sys::sync::{AtomicUsize, Ordering::*};
use std::ptr::NonNull;

const RUNNING: usize = 0;
/// The lowest three bits. JOINER, and RUNNING, have none of them.
const TAG: usize = 7;
const WAKER: usize = 1;
const DONE: usize = 2;
const DETACHED: usize = 3;
const TAKEN: usize = 5;
/// Besides DONE: the goroutine has found that the joiner's wait was over.
const TOO_LATE: usize = 4;

/// See the module's head.
pub(crate) struct JoinWord(AtomicUsize);

/// Where the result of a goroutine is that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the descriptor.
    Storage,
    /// In a box, whose address this is.
    Box(NonNull<()>),
}

/// What a goroutine owes at its end.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what waits would wait for ever"]
pub(crate) enum Ended {
    /// Nothing: nothing waits yet.
    Alone,
    /// To select this waiter, or to say that it [`came_too_late`](JoinWord::came_too_late).
    Joiner(NonNull<()>),
    /// To wake the waker in this box, and to free it.
    Waker(NonNull<()>),
    /// To drop the result.
    Detached(Place),
}

/// What the holder sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Running,
    /// A waker is enrolled.
    Polled,
    Done(Place),
    Taken,
}

/// What the holder owes when it gives its handle up.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the result or the waker would leak"]
pub(crate) enum Detached {
    /// To free this waker, if there is one. The goroutine drops its result.
    Running(Option<NonNull<()>>),
    /// To drop the result.
    Done(Place),
    /// Nothing.
    Taken,
}

impl JoinWord {
    pub(crate) fn new() -> JoinWord {
        JoinWord(AtomicUsize::new(RUNNING))
    }

    /// A goroutine begins. Its maker, before anything else knows of it.
    pub(crate) fn begin(&self) {
        self.0.store(RUNNING, Relaxed);
    }

    /// A goroutine without a handle begins. Its maker, before anything else knows of it.
    pub(crate) fn begin_detached(&self) {
        self.0.store(DETACHED, Relaxed);
    }

    /// Whether the handle was given up. The answer "yes" is final.
    pub(crate) fn is_detached(&self) -> bool {
        self.0.load(Acquire) == DETACHED
    }

    /// The goroutine has ended, and its result is in the storage. `into_box` moves it into a box;
    /// it is called once at most. From here on the result is the holder's, unless the answer says
    /// otherwise.
    #[inline]
    pub(crate) fn end(&self, into_box: impl FnOnce() -> NonNull<()>) -> Ended {
        let mut into_box = Some(into_box);
        let mut done = DONE;
        let mut now = self.0.load(Acquire);
        loop {
            if now == DETACHED {
                return Ended::Detached(place_of(done));
            }
            if now & TAG == WAKER
                && let Some(into_box) = into_box.take()
            {
                done = address(into_box()) | DONE;
            }
            match self.0.compare_exchange(now, done, AcqRel, Acquire) {
                Ok(_) => break,
                Err(seen) => now = seen,
            }
        }
        match pointer(now) {
            None => Ended::Alone,
            Some(joiner) if now & TAG == RUNNING => Ended::Joiner(joiner),
            Some(waker) => Ended::Waker(waker),
        }
    }

    /// The goroutine has looked at the joiner it got from [`end`](JoinWord::end), whose wait was
    /// over. It does not touch the joiner's waiter any more.
    pub(crate) fn came_too_late(&self) {
        self.0.fetch_or(TOO_LATE, Release);
    }

    /// Whether the goroutine has said so.
    pub(crate) fn has_come_too_late(&self) -> bool {
        self.0.load(Acquire) & TAG == DONE | TOO_LATE
    }

    /// Whether the goroutine has ended. Anything may ask.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.look(), Look::Done(_) | Look::Taken)
    }

    /// What the holder sees.
    #[inline]
    pub(crate) fn look(&self) -> Look {
        let now = self.0.load(Acquire);
        // The usual ones first.
        if now & TAG == RUNNING {
            Look::Running
        } else if now & (TAG & !TOO_LATE) == DONE {
            Look::Done(place_of(now))
        } else if now & TAG == WAKER {
            Look::Polled
        } else {
            Look::Taken
        }
    }

    /// The holder wants `joiner` selected. False: the goroutine has ended. No waker is enrolled.
    #[inline]
    pub(crate) fn enrol(&self, joiner: NonNull<()>) -> bool {
        self.0.compare_exchange(RUNNING, address(joiner), AcqRel, Acquire).is_ok()
    }

    /// The holder takes `joiner` back. False: the goroutine has it.
    pub(crate) fn withdraw(&self, joiner: NonNull<()>) -> bool {
        self.0.compare_exchange(address(joiner), RUNNING, AcqRel, Acquire).is_ok()
    }

    /// The holder gives the waker in the box `waker` away. False: the goroutine has ended, and the
    /// box is still the holder's. No other one is enrolled.
    pub(crate) fn enrol_waker(&self, waker: NonNull<()>) -> bool {
        self.0.compare_exchange(RUNNING, address(waker) | WAKER, AcqRel, Acquire).is_ok()
    }

    /// The holder takes its waker back. `None`: there is none, or the goroutine has ended and has
    /// it.
    pub(crate) fn take_waker(&self) -> Option<NonNull<()>> {
        let now = self.0.load(Acquire);
        let enrolled = now & TAG == WAKER;
        let taken = enrolled && self.0.compare_exchange(now, RUNNING, AcqRel, Acquire).is_ok();
        if taken { pointer(now) } else { None }
    }

    /// The holder gives the handle up.
    #[inline]
    pub(crate) fn detach(&self) -> Detached {
        let Err(mut now) = self.0.compare_exchange(RUNNING, DETACHED, AcqRel, Acquire) else {
            return Detached::Running(None);
        };
        if now & TAG == WAKER {
            match self.0.compare_exchange(now, DETACHED, AcqRel, Acquire) {
                Ok(_) => return Detached::Running(pointer(now)),
                Err(seen) => now = seen,
            }
        }
        if now == TAKEN { Detached::Taken } else { Detached::Done(place_of(now)) }
    }

    /// The holder has taken the result of a goroutine that is done, and keeps the handle.
    pub(crate) fn taken(&self) {
        debug_assert!(matches!(self.look(), Look::Done(_)));
        self.0.store(TAKEN, Relaxed);
    }
}

/// The address, which leaves room for the tag.
fn address(pointer: NonNull<()>) -> usize {
    let address = pointer.as_ptr() as usize;
    debug_assert!(address & TAG == 0);
    address
}

/// What the word points to.
fn pointer(word: usize) -> Option<NonNull<()>> {
    NonNull::new((word & !TAG) as *mut ())
}

/// Where the word of a goroutine that is done says that the result is.
fn place_of(word: usize) -> Place {
    pointer(word).map_or(Place::Storage, Place::Box)
}
