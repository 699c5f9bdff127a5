//! A way to end somebody's wait from outside its queue: how a cancelled context reaches a waiter.
//!
//! # Protocol
//! The waiter calls [`Interrupt::enter`] once it is armed and queued, and [`Interrupt::leave`] before its
//! frame ends; [`Interrupt::fire`] selects it under the lock that `leave` passes, so it never touches a
//! waiter that is gone (waiter.rs, invariant 3). Firing first makes every later `enter` end its wait at once.

use super::waitq::INTERRUPTED;
use crate::sched::{WaiterRef, Wake};
use crate::sys::lock::Lock;

/// Fires once; ends the wait of the one who entered.
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

    /// Called by the waiter itself, which is armed.
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

    /// Called by the waiter before it leaves. Afterwards nobody reaches it through here.
    pub(crate) fn leave(&self) {
        let mut state = self.0.lock();
        if let State::Waiting(_) = *state {
            *state = State::Idle;
        }
    }
}
