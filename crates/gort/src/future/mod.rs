//! Futures on goroutines: waiting for one is a call that parks.
//!
//! # Blocking
//!
//! [`block_on`]: G: yes. M: no. P: no.
//!
//! # Protocol
//!
//! Each call of [`block_on`] has a `Signal` of its own, which it shares with its wakers. A wake
//! sets `woken` under the lock of the signal, and selects the waiter if it is there. Before the
//! caller parks, it looks at `woken` and puts its waiter there, under the same lock. So it sees a
//! wake during the poll, and a later wake finds the waiter. The caller clears `woken` on the way to
//! the next poll, and that poll sees the results of all wakes so far.
//!
//! The waiter is in the signal only while the caller is between these two passages of the lock.
//! Wakers that come later, even after the call has returned, find no waiter. They touch only the
//! signal, which they own together.
#![forbid(unsafe_code)]

use crate::sched::{FIRST_TOKEN, WaitReason, WaiterRef, lend_stack};
use crate::sys::lock::Lock;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Runs a future to its end, and returns its output.
///
/// The goroutine parks while the future waits. (On a plain OS thread, the thread blocks.) The
/// future is polled where this is called, so it needs to be neither `Send` nor `'static`. Calls
/// nest to any depth: a future may call plain code that calls `block_on` again.
///
/// This works for any future that needs no particular runtime: channels, locks and timers of other
/// crates. A future that belongs to a runtime (such as tokio's sockets and timers) needs that
/// runtime to be running, on threads of its own, and to be entered here.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Panics
///
/// If the future panics; and in a [forked child](crate#forks), if the future has to wait.
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
    // Other code may have links into the future, also while it parks in plain code.
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
    /// Parks until woken. A wake since the last return counts.
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
