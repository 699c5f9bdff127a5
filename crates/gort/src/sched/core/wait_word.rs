//! One wait: of a goroutine or of an OS thread, ended by exactly one waker.
//!
//! # Role
//! Channels, locks, timers and sockets enrol a [`WaiterRef`] in their own queues; whoever wants to end the wait
//! calls [`WaiterRef::try_select`] with a token that says why.
//!
//! # States
//! ```text
//!            arm                 park committed
//!   (token) ─────▶ ARMED ───────────────────────▶ PARKED
//!                    │ try_select(token)            │ try_select(token)  → the winner owes `ready`
//!                    ▼                              ▼
//!                  token                          token
//! ```
//! | state  | the waiter is                     | who moves it on                          |
//! | ------ | --------------------------------- | ---------------------------------------- |
//! | ARMED  | still running, enrolling itself   | a waker (no `ready` owed), or the park   |
//! | PARKED | off its thread, or asleep         | exactly one waker, who owes one `ready`  |
//! | token  | selected; running, or made ready  | the waiter, by the next `arm`            |
//!
//! # Invariants
//! 1. Each armed wait is ended by exactly one `try_select` that returns `Some`.
//! 2. A wake that was won against PARKED carries one `ready`; one won against ARMED carries none, because the
//!    park's commit will fail and the waiter goes on by itself.
//! 3. A waker touches a waiter only under a lock (or after an exchange) which the waiter itself must pass before
//!    it can leave the wait: queues hold their lock, timers theirs, the poller exchanges the pointer out of its
//!    word. So a `WaiterRef` taken from a queue is alive for the length of `try_select`.
//! 4. From a won PARKED until its `ready`, the waiter cannot run, so the winner may touch it freely.
//!
//! # Why no wake-up is lost
//! ARMED → PARKED and ARMED → token are compare-and-swaps on one word: one of them comes first. If the park comes
//! first, the waker sees PARKED and owes the `ready`; if the waker comes first, the park fails and the waiter
//! goes on. The park commits only after the goroutine's registers are saved (`run/direct.rs`), so a `ready` never
//! finds a goroutine that is still on its stack. Model: `crates/gort-models/tests/waiter.rs`.

use crate::sys::sync::{AtomicUsize, Ordering::*};

/// The wait is on; nobody has ended it.
const ARMED: usize = 0;
/// The waiter is off its thread (or asleep in the kernel).
const PARKED: usize = 1;
/// The token of a wait whose deadline passed.
pub(crate) const TIMED_OUT: usize = 2;
/// Tokens that users of the waist choose start here. A token's low 32 bits must not be 1.
pub(crate) const FIRST_TOKEN: usize = 3;

/// The word of one wait, in the goroutine's descriptor or in an OS thread's thread-local.
#[derive(Debug)]
pub(crate) struct WaitWord(AtomicUsize);

/// What winning a wait obliges to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Won {
    /// The waiter had not parked; it will see the token by itself.
    Running,
    /// The waiter is parked: make it ready, once.
    Parked,
}

impl WaitWord {
    pub(crate) fn new() -> WaitWord {
        WaitWord(AtomicUsize::new(TIMED_OUT))
    }

    /// Begins a wait. Only the waiter calls this, while it is in no queue.
    #[inline]
    pub(crate) fn arm(&self) {
        self.0.store(ARMED, Relaxed);
    }

    /// Ends the wait with `token`, unless somebody else did.
    #[inline]
    pub(crate) fn try_select(&self, token: usize) -> Option<Won> {
        debug_assert!(token as u32 != PARKED as u32 && token != ARMED);
        let mut now = self.0.load(Relaxed);
        loop {
            let won = match now {
                ARMED => Won::Running,
                PARKED => Won::Parked,
                _ => return None,
            };
            match self.0.compare_exchange_weak(now, token, AcqRel, Relaxed) {
                Ok(_) => return Some(won),
                Err(seen) => now = seen,
            }
        }
    }

    /// The token, if the wait has ended.
    #[inline]
    pub(crate) fn selected(&self) -> Option<usize> {
        match self.0.load(Acquire) {
            ARMED | PARKED => None,
            token => Some(token),
        }
    }

    /// The park's commit: false if a waker was first. For a goroutine this runs on another stack, after the switch.
    #[inline]
    pub(crate) fn commit_park(&self) -> bool {
        self.0.compare_exchange(ARMED, PARKED, AcqRel, Acquire).is_ok()
    }
}
