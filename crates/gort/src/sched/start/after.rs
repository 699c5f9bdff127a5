//! A function that runs at a given time: a goroutine that waits without a stack until its timer
//! starts it.
//!
//! # What owns the goroutine
//! The timer owns it until one of two things happens:
//! - the timer fires: then the goroutine runs;
//! - `stop` takes the timer out: then `stop` drops the closure.
//!
//! Exactly one of the two happens, and `TimerNode::stop` says which. The node lives in an `Arc`
//! that the closure and the handle share. A running closure first passes `stop` itself, which waits
//! until the firing no longer touches the node.

use crate::sched::core::g::G;
use crate::sched::core::p;
use crate::sched::core::timers::TimerNode;
use crate::sched::core::wait_word::FIRST_TOKEN;
use crate::sched::core::waiter::{WaiterRef, Wake};
use crate::sched::io::poll::TimerHost;
use crate::sched::spawn::task;
use crate::sys::clock;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

struct Pending {
    timer: TimerNode,
    g: OnceLock<&'static G>,
}

/// A pending [`after_func`]. Dropping it does not stop it.
pub(crate) struct AfterFunc(Arc<Pending>);

/// Runs `f` in a goroutine of its own at `when`, unless it is stopped before.
#[track_caller]
pub(crate) fn after_func(when: Instant, f: Box<dyn FnOnce() + Send>) -> AfterFunc {
    ensure_started();
    let pending = Arc::new(Pending { timer: TimerNode::new(), g: OnceLock::new() });
    let own = pending.clone();
    let start = move || {
        own.timer.stop();
        drop(own);
        task::begin_counting();
        f();
    };
    // SAFETY: the timer selects it, or `stop` cancels it, see the module's head.
    let g = unsafe { task::make_waiting(start, Location::caller()) };
    pending.g.set(g).unwrap_or_else(|_| unreachable!("set once"));
    let arg = WaiterRef::of(g).to_ptr().as_ptr();
    // SAFETY: the closure keeps the node alive until it has passed `stop`, or until
    // `AfterFunc::stop` has.
    unsafe { TimerHost::start(&pending.timer, clock::ns_of(when), fire, arg, 0) };
    AfterFunc(pending)
}

/// # Safety
/// `arg` is a waiter of `make_waiting`.
unsafe fn fire(arg: *const (), _seq: usize) -> Wake {
    // SAFETY: the caller's promise; a waiter of a goroutine lives for ever.
    let waiter = unsafe { WaiterRef::from_ptr(std::ptr::NonNull::new_unchecked(arg.cast_mut())) };
    waiter.try_select(FIRST_TOKEN).expect("a timer fires once")
}

impl AfterFunc {
    /// True if this kept `f` from running.
    pub(crate) fn stop(&self) -> bool {
        if !self.0.timer.stop() {
            return false;
        }
        let g = self.0.g.get().expect("set before the timer was started");
        // SAFETY: `stop` said that the timer will not fire, and it says so only once.
        unsafe { task::cancel(g) };
        true
    }
}

/// Starts the runtime if need be: timers need it, and a plain thread may use one before anything
/// else.
fn ensure_started() {
    if p::procs() == 0
        && let Err(e) = super::start()
    {
        panic!("a timer needs the gort runtime, which cannot start: {e}");
    }
}
