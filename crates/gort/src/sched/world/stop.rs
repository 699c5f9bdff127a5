//! Stopping the world: for a moment no goroutine runs, so that code can look at all of them
//! together.
//!
//! # Protocol
//! 1. Under the scheduler's lock: no P may be used any more ([`p::set_stopped`]). The Ps that no M
//!    uses are taken out of their lists and counted.
//! 2. Each other P is released by what owns it, at the next opportunity, as when GOMAXPROCS goes
//!    down ([`procs::collect`]). A queue stays on its P.
//!    - An M in the scheduler releases its P itself.
//!    - From an M inside `blocking` the stopper takes the P.
//!    - A goroutine that computes is stopped by the signal, with its thread.
//! 3. When all Ps are counted, and no spare of `preempt/rescue.rs` is in use, the world stands
//!    still.
//! 4. Under the lock: Ps may be used again. Then those with a queue are given to Ms, and the others
//!    idle. For what came to the global queue from timers or I/O meanwhile, Ms are asked for as
//!    after any submission.
//!
//! Meanwhile OS threads go on, and so do goroutines inside `blocking`, up to its end. What they
//! make ready is queued globally.
//!
//! # Why no P is lost, and no work
//! - From step 1 on no P comes to the idle list: code that would put it there asks `is_over` under
//!   the lock.
//! - A P may still come to the list of Ps that want an M, by code that asked before. Either the
//!   stopper takes it out at its next look, or an M has taken it and releases it.
//! - So each of the GOMAXPROCS Ps has one owner, which releases it once.
//! - At step 4 the stopper owns all Ps. Each goes to an M or into the idle list. Then the stopper
//!   asks `must_wake` and tells of timers, as the wake protocol asks of a submitter.
//!
//! Model: `crates/gort-models/tests/world.rs`.
//!
//! # What may be done while the world stands still
//! A stopped goroutine may hold malloc's locks, or any others but the runtime's raw ones. So there
//! may be no allocation (except mappings, `sys/map_vec.rs`), and no locks of other code may be
//! taken.

use super::procs::{self, RESIZER, Times};
use crate::sched::core::p;
use crate::sched::io::{netpoll, poll};
use crate::sched::shared::{self};
use crate::sched::threads::pool;
use crate::sched::trace::{self, EventKind};
use crate::sched::{ready, syscall};
use crate::sys::clock;
use crate::sys::lock::Lock;
use std::time::Duration;

/// The times from the order to stop until the world stood still.
static STOPPING: Lock<Times> = Lock::new(Times::ZERO);
/// The times from the order to stop until the world went on.
static STOPPED: Lock<Times> = Lock::new(Times::ZERO);

/// The time spent on stopping the world: until it stood still, and until it went on.
pub(crate) fn stops() -> (Times, Times) {
    (*STOPPING.lock(), *STOPPED.lock())
}

/// Stops the world and calls `f`, which must neither allocate, nor wait, nor panic.
pub(crate) fn stopped<R>(f: impl FnOnce() -> R) -> R {
    syscall::blocking(|| {
        let _one = RESIZER.lock();
        let begun = clock::now_ns();
        trace::procs_point(EventKind::StopBegin, None);
        stop();
        let stands = clock::now_ns();
        let result = f();
        start();
        trace::procs_point(EventKind::StopEnd, None);
        STOPPING.lock().add(Duration::from_nanos(stands - begun));
        STOPPED.lock().add(Duration::from_nanos(clock::now_ns() - begun));
        result
    })
}

fn stop() {
    {
        let _s = shared::lock();
        p::set_stopped(true);
    }
    procs::collect(0..p::procs(), || {
        let mut s = shared::lock();
        s.withdraw_over(|s, _| s.stopped_ps += 1);
        s.world_stands()
    });
}

fn start() {
    {
        let mut s = shared::lock();
        p::set_stopped(false);
        s.stopped_ps = 0;
    }
    for p in p::all() {
        if p.runq.is_empty() {
            shared::lock().put_idle_p(p);
        } else {
            pool::start_m(p, false);
        }
    }
    ready::tell_of_work();
    if netpoll::waiters() != 0 {
        poll::announce(poll::SOON_ENOUGH);
    }
    poll::announce_all();
}
