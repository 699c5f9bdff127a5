//! [`Interrupt`]: ends a wait from outside its queue. A cancelled context reaches a waiter this
//! way.
//!
//! # Protocol
//! The waiter calls [`Interrupt::enter`] after it is armed and queued, and [`Interrupt::leave`]
//! before its frame ends. [`Interrupt::fire`] selects the waiter under the lock that `leave`
//! passes, so it never touches a waiter that is gone (waiter.rs, invariant 3). If `fire` comes
//! first, every later `enter` ends its wait at once.

use super::wait_queue::INTERRUPTED;
use crate::sched::{WaiterRef, Wake};
use crate::sys::lock::Lock;

/// Fires once, and ends the wait of the waiter that entered.
pub(crate) struct Interrupt(Lock<State>);

enum State {
    Idle,
    Waiting(WaiterRef),
    Fired,
}

impl Interrupt {
    pub(crate) const fn new() -> Interrupt {
        Interrupt(Lock::new(State::Idle))
    }

    /// Ends the wait in progress, or the next one.
    pub(crate) fn fire(&self) {
        let before = {
            let mut state = self.0.lock();
            match std::mem::replace(&mut *state, State::Fired) {
                State::Waiting(waiter) => waiter.try_select(INTERRUPTED),
                State::Idle | State::Fired => None,
            }
        };
        before.unwrap_or(Wake::NONE).ready();
    }

    /// Registers the caller, which is armed.
    pub(crate) fn enter(&self, waiter: WaiterRef) {
        let mut state = self.0.lock();
        match *state {
            State::Fired => {
                let wake = waiter.try_select(INTERRUPTED);
                debug_assert!(wake.is_none_or(|w| w.is_none()), "a running waiter is owed no ready");
            }
            State::Idle | State::Waiting(_) => *state = State::Waiting(waiter),
        }
    }

    /// Removes the waiter, before its frame ends. After that, nothing reaches it through here.
    pub(crate) fn leave(&self) {
        let mut state = self.0.lock();
        if let State::Waiting(_) = *state {
            *state = State::Idle;
        }
    }
}
