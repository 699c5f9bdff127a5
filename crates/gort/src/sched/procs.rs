//! GOMAXPROCS while the program runs.
//!
//! Nobody is stopped: new Ps go into the idle list, and a P above the new number is *drained* by whoever owns it when
//! that M next comes through the scheduler (its queue goes to the global one, its timers to the first P). The caller
//! waits until that has happened to all, so when it returns no more goroutines run than it asked for.
//!
//! # Rejected
//! Stopping the world, as Go does: it waits for the same goroutines, and all others wait with it.

use super::config::MAX_PROCS;
use super::p::{self, P};
use super::runq::global::GList;
use super::state::{self, WAKE};
use super::{find, ready, syscall};
use crate::sys::futex;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU32, Ordering::*};

/// Counts drained Ps; the resizer sleeps on it.
static DRAINED: AtomicU32 = AtomicU32::new(0);

/// One resizer at a time.
static RESIZER: Lock<()> = Lock::new(());

/// How many goroutines may run at once: the number of Ps.
///
/// Before the runtime was started, what it would be: `GOMAXPROCS`, or the CPUs that the process may use (affinity and
/// cgroup quota).
///
/// # Blocking
///
/// G: no. M: no. P: no.
pub fn gomaxprocs() -> usize {
    match p::procs() {
        0 => super::config::Config::default_procs(),
        n => n,
    }
}

/// Sets how many goroutines may run at once, at least 1 and at most 1024; returns the number before. Zero changes nothing.
///
/// When it returns no more than `n` goroutines run. So it waits for goroutines to come to a gort call if there are to
/// be fewer.
///
/// # Blocking
///
/// G: yes. M: yes, as inside [`blocking`](crate::blocking). P: no.
///
/// # Panics
///
/// If the runtime was not started.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let before = gort::set_gomaxprocs(3);
///     assert_eq!(gort::gomaxprocs(), 3);
///     assert_eq!(gort::set_gomaxprocs(before), 3);
/// })
/// ```
pub fn set_gomaxprocs(n: usize) -> usize {
    super::start::require_started("set_gomaxprocs");
    if n == 0 {
        return p::procs();
    }
    syscall::blocking(|| {
        let _one = RESIZER.lock();
        resize(n.min(MAX_PROCS))
    })
}

fn resize(n: usize) -> usize {
    let old = p::procs();
    if n > old {
        p::make(n);
        let mut s = state::lock();
        p::set_procs(n);
        (old..n).for_each(|id| s.put_idle_p(p::get(id)));
    } else if n < old {
        let idle = {
            let mut s = state::lock();
            p::set_procs(n);
            s.dying_ps = old - n;
            s.take_idle_from(n)
        };
        idle.into_iter().for_each(drain);
        loop {
            let seen = DRAINED.load(Acquire);
            for p in (n..old).map(p::get) {
                // Those inside `blocking` may stay there for long, ours among them.
                if let Some(stay) = syscall::stay(p)
                    && syscall::retake(p, stay)
                {
                    drain(p);
                }
            }
            if state::lock().dying_ps == 0 {
                break;
            }
            // Sysmon takes those that go into `blocking` after our look.
            futex::wait(&DRAINED, seen, None);
        }
    }
    // Whoever waits for a P, or for more of them, gets one.
    if WAKE.must_wake() {
        ready::wake_p();
    }
    old
}

/// Empties a P above GOMAXPROCS, whose owner the caller is, and lets go of it for good.
pub(crate) fn drain(p: &'static P) {
    let mut list = GList::new();
    while let Some(g) = p.runq.take_next().or_else(|| p.runq.pop()) {
        list.push_back(g);
    }
    p.timers.move_all_to(&p::get(0).timers);
    p.flush();
    p.unannounced.set(false);
    p.m.store(std::ptr::null_mut(), Release);
    {
        let mut s = state::lock();
        s.push_global(&mut list);
        s.dying_ps -= 1;
    }
    DRAINED.fetch_add(1, Release);
    futex::wake(&DRAINED, 1);
    if WAKE.must_wake() {
        ready::wake_p();
    }
    find::announce_all();
}

/// The CPUs that this process may run on.
///
/// # Blocking
///
/// G: no. M: no. P: no.
pub fn num_cpu() -> usize {
    crate::sys::thread::cpus()
}
