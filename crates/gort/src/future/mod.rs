//! Futures on goroutines: waiting for one is just a call that parks.
//!
//! # Protocol
//! Each call of [`block_on`] has a `Signal` of its own, shared with its wakers. A wake sets `woken` under
//! the signal's lock and selects the waiter if it is there. Before the caller parks, it looks at `woken` and
//! puts its waiter there under the same lock: so a wake during the poll is seen by the look, and a later one
//! finds the waiter. It clears `woken` on the way to the next poll, which sees whatever the wakes so far were
//! about.
//!
//! The waiter is in the signal only while the caller is between these two passages of the lock; wakers that
//! come later, even after the call has returned, find none and touch only the signal, which they own
//! together.
#![forbid(unsafe_code)]

use crate::sched::{FIRST_TOKEN, WaitReason, WaiterRef, lend_stack};
use crate::sys::lock::Lock;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Runs a future to its end, parking the goroutine (or blocking the OS thread) while it waits.
///
/// Any future will do that needs no particular runtime: channels, locks, timers of other crates. It runs
/// where it is called, so it needs to be neither `Send` nor `'static`. Calls nest to any depth: a future may
/// call plain code that calls `block_on` again.
///
/// A future that belongs to a runtime (tokio's sockets and timers) needs that runtime to be running, on
/// threads of its own, and entered here.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Panics
///
/// If the future panics.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let n = 20;
///     let borrowed = &n;
///     assert_eq!(gort::future::block_on(async { *borrowed + 1 }), 21);
/// })
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    // Others may be linked with the future, also while it parks in plain code.
    let _loan = lend_stack();
    let mut future = pin!(future);
    let signal = Arc::new(Signal(Lock::new(State { woken: false, waiter: None })));
    let waker = Waker::from(signal.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        signal.wait();
    }
}

/// What a call of `block_on` shares with its wakers.
struct Signal(Lock<State>);

struct State {
    woken: bool,
    waiter: Option<WaiterRef>,
}

impl Signal {
    /// Parks until woken; a wake since the last return counts.
    fn wait(&self) {
        let me = WaiterRef::current();
        me.arm();
        {
            let mut state = self.0.lock();
            if state.woken {
                state.woken = false;
                return;
            }
            state.waiter = Some(me);
        }
        me.wait(WaitReason::BlockOn, None);
        let mut state = self.0.lock();
        state.waiter = None;
        state.woken = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wake = {
            let mut state = self.0.lock();
            state.woken = true;
            state.waiter.take().and_then(|waiter| waiter.try_select(FIRST_TOKEN))
        };
        if let Some(wake) = wake {
            wake.ready();
        }
    }
}
