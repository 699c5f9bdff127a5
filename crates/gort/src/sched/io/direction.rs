//! One direction of a socket: where the reader (or writer) meets the poller, the deadline and
//! `close`.
//!
//! # Role
//! `netpoll.rs` has two of these in each poll descriptor. This file knows nothing of goroutines: a
//! waiter is an opaque pointer here. So the model can run this file with waiters of its own.
//!
//! # States
//! ```text
//!                       event                        enrol
//!            READY ◀──────────────── NIL ─────────────────────────▶ waiter
//!              │                     ▲ ▲                             │ │ │
//!              └─────────────────────┘ └───── withdraw, fail, take ──┘ │ │
//!                 enrol, clear                                         │ │
//!              READY ◀────────────────────────── event ────────────────┘ │
//!                            (what takes the pointer out owes the waiter one `try_select`)
//! ```
//! | word   | means                               | what moves it on                              |
//! | ------ | ----------------------------------- | --------------------------------------------- |
//! | NIL    | no edge since `clear`, no waiter    | an event; the operation in progress           |
//! | READY  | an edge came that nothing has seen  | the operation in progress                     |
//! | waiter | it has [`enrol`]ed, and stays valid | exactly one of event, deadline, close, itself |
//!
//! Beside the word stand the flags: EXPIRED (the deadline has passed), CLOSED, and LASTING (see
//! [`Direction::is_lasting`]).
//!
//! # Invariants
//! 1. At most one operation at a time uses a direction (`net/` has a lock per direction). So there
//!    is at most one waiter.
//! 2. A waiter's pointer is taken out by a compare-and-swap or a swap, so by one party only. If
//!    that is the waiter itself, the wait is over. Else the waiter stays in its wait until that
//!    party has selected it, so the pointer is valid for that party (`core/wait_word.rs`, invariant
//!    3).
//! 3. A flag is set before the word is looked at. A waiter looks at the flags after it has
//!    enrolled.
//!
//! # Why no readiness is lost
//! An operation takes these steps: `clear`, then the system call; on EAGAIN `enrol` and wait, then
//! the system call again. Suppose that data comes after the system call has looked.
//!
//! 1. The kernel then reports an edge, and the poller swaps READY in.
//! 2. That swap comes after `clear`. For an edge before `clear` was about data that the later
//!    system call has seen: the swap and `clear` are read-modify-writes of one word, so `clear`
//!    acquires what the poller knew.
//! 3. If the swap comes before `enrol`, `enrol` finds READY, and the operation tries again. If it
//!    comes after `enrol`, it takes the waiter out, and the poller wakes the waiter.
//!
//! # Why no deadline and no close is lost
//! `fail` sets its flag, and then does a read-modify-write of the word, even if that changes
//! nothing. `enrol` does its compare-and-swap of the word, and then reads the flags. Of these two
//! steps on one word, one comes first:
//!
//! - If `fail`'s step is first, `enrol` acquires from it and sees the flag.
//! - If `enrol`'s step is first, `fail` sees the waiter and takes it out.
//!
//! Model: `crates/gort-models/tests/netpoll.rs`.
//!
//! # Rejected
//! - Giving `WaiterRef::wait` the deadline. It would end the wait while an event holds the pointer
//!   that it has taken out.
//! - Skipping the swap when the word reads READY already, as Go does. That saves nothing measurable
//!   beside the kernel's work for the event, and the argument above would need the total order of
//!   x86.
//!
//! [`enrol`]: Direction::enrol

use crate::sys::sync::{AtomicPtr, AtomicU32, Ordering::*};
use std::ptr::{NonNull, null_mut, without_provenance_mut};

/// No waiter is at this address, since a waiter is larger than one byte.
const READY: *mut () = without_provenance_mut(1);

const EXPIRED: u32 = 1;
const CLOSED: u32 = 1 << 1;
const LASTING: u32 = 1 << 2;

/// Why a direction does not let operations through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    Closed,
    Expired,
}

impl Barred {
    fn flag(self) -> u32 {
        match self {
            Barred::Closed => CLOSED,
            Barred::Expired => EXPIRED,
        }
    }
}

/// What [`Direction::enrol`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Enrolled {
    /// An edge was there, and is consumed. Try the system call again.
    Ready,
    /// No wait: the direction is closed, or its deadline has passed.
    Barred(Barred),
    /// The waiter is in the word, or was: it must wait, since it will be selected.
    Waits,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Direction {
    word: AtomicPtr<()>,
    flags: AtomicU32,
}

impl Direction {
    pub(crate) fn new() -> Direction {
        Direction { word: AtomicPtr::new(null_mut()), flags: AtomicU32::new(0) }
    }

    /// Makes the direction new, for the next socket. No operation and no timer uses it. A stale
    /// event may.
    pub(crate) fn reset(&self) {
        self.flags.store(0, Relaxed);
        self.word.store(null_mut(), Release);
    }

    // ---- the operation's side ----

    /// Whether operations may go on.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Barred> {
        let flags = self.flags.load(Acquire);
        if flags & (CLOSED | EXPIRED) == 0 {
            Ok(())
        } else if flags & CLOSED != 0 {
            Err(Barred::Closed)
        } else {
            Err(Barred::Expired)
        }
    }

    /// Forgets the edges so far. A system call after this sees what they announced.
    #[inline]
    pub(crate) fn clear(&self) {
        if !self.word.load(Relaxed).is_null() {
            let was = self.word.swap(null_mut(), AcqRel);
            debug_assert!(was == READY, "an operation began while another one waits");
        }
    }

    /// Puts `waiter` into the word, unless an edge is there or operations are barred.
    ///
    /// The waiter is armed. After `Waits` it stays valid, and waits until it has been selected.
    pub(crate) fn enrol(&self, waiter: NonNull<()>) -> Enrolled {
        let waiter = waiter.as_ptr();
        match self.word.compare_exchange(null_mut(), waiter, AcqRel, Acquire) {
            Ok(_) => {}
            Err(now) => {
                assert!(now == READY, "two operations wait in one direction");
                self.clear();
                return Enrolled::Ready;
            }
        }
        let Err(barred) = self.check() else { return Enrolled::Waits };
        match self.word.compare_exchange(waiter, null_mut(), AcqRel, Acquire) {
            Ok(_) => Enrolled::Barred(barred),
            Err(_) => Enrolled::Waits, // taken out meanwhile, and about to be selected
        }
    }

    /// True once an event has reported what no later edge will report again: the peer's end, an
    /// error, urgent data. From then on an operation must try before it waits for an edge.
    #[inline]
    pub(crate) fn is_lasting(&self) -> bool {
        self.flags.load(Acquire) & LASTING != 0
    }

    // ---- the wakers' side ----

    /// Called when the poller saw an edge. The waiter in the answer must be selected.
    #[must_use]
    pub(crate) fn event(&self, lasting: bool) -> Option<NonNull<()>> {
        if lasting {
            self.flags.fetch_or(LASTING, Release);
        }
        let was = self.word.swap(READY, AcqRel);
        if was == READY { None } else { NonNull::new(was) }
    }

    /// Bars operations from now on. The waiter in the answer must be selected.
    #[must_use]
    pub(crate) fn fail(&self, barred: Barred) -> Option<NonNull<()>> {
        self.flags.fetch_or(barred.flag(), Release);
        self.take()
    }

    /// Takes the waiter out, if there is one, and leaves an edge where it is. The waiter must be
    /// selected.
    #[must_use]
    pub(crate) fn take(&self) -> Option<NonNull<()>> {
        let mut now = self.word.load(Relaxed);
        loop {
            let waiter = if now == READY { None } else { NonNull::new(now) };
            let new = if waiter.is_some() { null_mut() } else { now };
            match self.word.compare_exchange(now, new, AcqRel, Relaxed) {
                Ok(_) => return waiter,
                Err(seen) => now = seen,
            }
        }
    }

    /// Called when the deadline was moved, so that it has not passed after all. The caller makes
    /// sure that nothing sets EXPIRED at the same time.
    pub(crate) fn renew(&self) {
        self.flags.fetch_and(!EXPIRED, Release);
    }
}
