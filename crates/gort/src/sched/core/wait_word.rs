//! The word of one wait, of a goroutine or of an OS thread. Exactly one waker ends the wait.
//!
//! # Role
//! Channels, locks, timers and sockets enrol a [`WaiterRef`] in their own queues. Code that wants
//! to end the wait calls [`WaiterRef::try_select`] with a token that says why.
//!
//! # States
//! ```text
//!            arm                 park committed
//!   (token) ─────▶ ARMED ───────────────────────▶ PARKED
//!                    │ try_select(token)            │ try_select(token)  → the winner owes `ready`
//!                    ▼                              ▼
//!                  token                          token
//! ```
//! | state  | the waiter is                    | moved on by                             |
//! | ------ | -------------------------------- | --------------------------------------- |
//! | ARMED  | still running, enrolling itself  | a waker (owes no `ready`), or the park  |
//! | PARKED | off its thread, or asleep        | exactly one waker, which owes a `ready` |
//! | token  | selected; running, or made ready | the waiter, by the next `arm`           |
//!
//! # Invariants
//! 1. Each armed wait is ended by exactly one `try_select` that returns `Some`.
//! 2. A wake that was won against PARKED carries one `ready`. One that was won against ARMED
//!    carries none: the park's commit will fail, and the waiter goes on by itself.
//! 3. A waker touches a waiter only under a lock (or after an exchange) that the waiter itself must
//!    pass before it can leave the wait: queues hold their lock, timers hold theirs, the poller
//!    exchanges the pointer out of its word. So a `WaiterRef` taken from a queue is alive for the
//!    length of `try_select`.
//! 4. From a won PARKED until its `ready` the waiter cannot run, so the winner may touch it freely.
//!
//! # Why no wake-up is lost
//! ARMED → PARKED and ARMED → token are compare-and-swaps on one word, so one of them comes first:
//!
//! - If the park comes first, the waker sees PARKED and owes the `ready`.
//! - If the waker comes first, the park fails and the waiter goes on.
//!
//! The park commits only after the goroutine's registers are saved (`run/direct.rs`). So a `ready`
//! never finds a goroutine that is still on its stack. Model: `crates/gort-models/tests/waiter.rs`.

use crate::sys::sync::{AtomicUsize, Ordering::*};

/// The wait is on, and has not been ended.
const ARMED: usize = 0;
/// The waiter is off its thread (or asleep in the kernel).
const PARKED: usize = 1;
/// The token of a wait whose deadline has passed.
pub(crate) const TIMED_OUT: usize = 2;
/// The tokens that users of `sched/mod.rs` choose start here. A token's low 32 bits must not be 1.
pub(crate) const FIRST_TOKEN: usize = 3;

/// The word of one wait, in the goroutine's descriptor or in an OS thread's thread-local.
#[derive(Debug)]
pub(crate) struct WaitWord(AtomicUsize);

/// What the winner of a wait has to do.
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

    /// Ends the wait with `token`, unless another waker has ended it.
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

    /// The park's commit; false if a waker was first. For a goroutine it runs on another stack,
    /// after the switch.
    #[inline]
    pub(crate) fn commit_park(&self) -> bool {
        self.0.compare_exchange(ARMED, PARKED, AcqRel, Acquire).is_ok()
    }
}
