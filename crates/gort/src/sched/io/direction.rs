//! One direction of a socket: where the reader (or writer) meets the poller, the deadline and `close`.
//!
//! # Role
//! `netpoll.rs` has two of these in each poll descriptor. The file knows no goroutine, so that the model can run it
//! with waiters of its own: a waiter is an opaque pointer here.
//!
//! # States
//! ```text
//!                       event                        enrol
//!            READY ◀──────────────── NIL ─────────────────────────▶ waiter
//!              │                     ▲ ▲                             │ │ │
//!              └─────────────────────┘ └───── withdraw, fail, take ──┘ │ │
//!                 enrol, clear                                         │ │
//!              READY ◀────────────────────────── event ────────────────┘ │
//!                                            (whoever takes the pointer out owes it one `try_select`)
//! ```
//! | word   | means                                          | who moves it on                                |
//! | ------ | ---------------------------------------------- | ---------------------------------------------- |
//! | NIL    | no edge since the last `clear`, nobody waits   | an event; the operation in progress            |
//! | READY  | an edge came that nobody has looked at         | the operation in progress                      |
//! | waiter | that waiter is in [`enrol`]ed, and stays valid | exactly one of event, deadline, close, itself  |
//!
//! Beside the word stand the flags: EXPIRED (the deadline passed), CLOSED, LASTING (see [`Direction::is_lasting`]).
//!
//! # Invariants
//! 1. At most one operation at a time uses a direction (`net/` has a lock per direction), so at most one waiter.
//! 2. A waiter's pointer is taken out by a compare-and-swap or swap, so by one party. If it is the waiter itself, the
//!    wait is over; else the waiter stays in its wait until that party has selected it, so the pointer is valid for
//!    that party (`core/wait_word.rs`, invariant 3).
//! 3. A flag is set before the word is looked at; a waiter looks at the flags after it has enrolled.
//!
//! # Why no readiness is lost
//! An operation goes: `clear`, system call, and on EAGAIN `enrol` and wait, then again from the system call.
//! Say data comes after the system call looked. The kernel then reports an edge, and the poller swaps READY in. That
//! swap comes after `clear` (an edge before `clear` was about data that the system call, later, has seen: the two
//! steps are read-modify-writes of one word, so `clear` acquires what the poller knew). If the swap comes before
//! `enrol`, `enrol` finds READY and the operation tries again; if after, the swap takes the waiter out and wakes it.
//!
//! # Why no deadline and no close is lost
//! `fail` sets its flag, then does a read-modify-write of the word, even if it changes nothing. `enrol` does its
//! compare-and-swap of the word, then reads the flags. Of these two steps on one word, one comes first. If `fail`'s,
//! `enrol` acquires from it and sees the flag. If `enrol`'s, `fail` sees the waiter and takes it out.
//!
//! Model: `crates/gort-models/tests/netpoll.rs`.
//!
//! # Rejected
//! Giving `WaiterRef::wait` the deadline: it would end the wait while an event holds the pointer it has taken out.
//! Skipping the swap when the word reads READY already, as Go does: it saves nothing measurable beside the kernel's work
//! for the event, and the argument above would need the total order of x86.
//!
//! [`enrol`]: Direction::enrol

use crate::sys::sync::{AtomicPtr, AtomicU32, Ordering::*};
use std::ptr::{NonNull, null_mut, without_provenance_mut};

/// Waiters are no one-byte things, so no waiter is at this address.
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

/// What `enrol` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Enrolled {
    /// An edge was waiting; it is consumed. Try the system call again.
    Ready,
    /// No wait: the direction is closed or its deadline passed.
    Barred(Barred),
    /// The waiter is, or was, in the word: it must wait, somebody selects it.
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

    /// Makes the direction new, for the next socket. No operation and no timer uses it; a stale event may.
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

    /// Forgets the edges so far; what they announced is seen by a system call after this.
    #[inline]
    pub(crate) fn clear(&self) {
        if !self.word.load(Relaxed).is_null() {
            let was = self.word.swap(null_mut(), AcqRel);
            debug_assert!(was == READY, "an operation began while another one waits");
        }
    }

    /// Puts `waiter` into the word, unless an edge is there or operations are barred.
    ///
    /// The waiter is armed. After `Waits` it stays valid and waits until somebody has selected it.
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
            Err(_) => Enrolled::Waits, // taken out meanwhile: the select is under way
        }
    }

    /// True once an event reported what no later edge will report again: the peer's end, an error, urgent data. Then
    /// an operation must not wait for an edge without having tried.
    #[inline]
    pub(crate) fn is_lasting(&self) -> bool {
        self.flags.load(Acquire) & LASTING != 0
    }

    // ---- the side of those who wake ----

    /// The poller saw an edge. The waiter in the answer must be selected.
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

    /// Takes the waiter out, if there is one, and leaves an edge where it is. The waiter must be selected.
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

    /// The deadline was moved: it has not passed after all. Nobody may be setting it at the same time.
    pub(crate) fn renew(&self) {
        self.flags.fetch_and(!EXPIRED, Release);
    }
}
