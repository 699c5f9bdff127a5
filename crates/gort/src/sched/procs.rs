//! GOMAXPROCS while the program runs.
//!
//! Nobody is stopped who need not be: new Ps go into the idle list, and a P above the new number is *surrendered* by whoever owns
//! it when that M next comes through the scheduler, its queue goes to the global one; a goroutine that computes on it is preempted. The
//! template thread *drains* it: its timers go to the first P. The caller waits until that has happened to all, so when
//! it returns no more goroutines run than it asked for.
//!
//! # Rejected
//! Stopping the world, as Go does: it waits for the same goroutines, and all others wait with it.

use super::config::{Limits, MAX_PROCS};
use super::p::{self, P};
use super::runq::global::GList;
use super::state::{self, WAKE};
use super::{find, preempt, ready, syscall, task, threads};
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicBool, AtomicU32, Ordering::*};
use crate::sys::{clock, futex, thread};
use std::sync::OnceLock;
use std::time::Duration;

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
        IS_DEFAULT.store(false, Relaxed);
        resize(n.min(MAX_PROCS))
    })
}

/// Sets how many goroutines may run at once to what affinity and control groups allow now, whatever the environment says, and
/// has it follow them from here on (about once a second while the program is busy). Returns the number before.
///
/// This is what the runtime does from its start, unless `GOMAXPROCS`, [`RuntimeBuilder::gomaxprocs`](crate::RuntimeBuilder::gomaxprocs)
/// or [`set_gomaxprocs`] said a number. `GORT_DEBUG=updatemaxprocs=0` keeps it from following, `containermaxprocs=0` leaves control groups
/// out.
///
/// # Blocking
///
/// As [`set_gomaxprocs`].
///
/// # Panics
///
/// If the runtime was not started.
pub fn set_default_gomaxprocs() -> usize {
    super::start::require_started("set_default_gomaxprocs");
    syscall::blocking(|| {
        let _one = RESIZER.lock();
        IS_DEFAULT.store(true, Relaxed);
        resize(Limits::now().procs())
    })
}

/// Whether nobody said a number.
static IS_DEFAULT: AtomicBool = AtomicBool::new(false);

/// Notes at the start whether nobody said a number, so that it follows the limits.
pub(crate) fn follow_limits(follow: bool) {
    IS_DEFAULT.store(follow, Relaxed);
}

/// Whether the number of Ps is to follow the limits.
pub(crate) fn follows_limits() -> bool {
    IS_DEFAULT.load(Relaxed)
}

/// Looks whether the limits have changed. On the template thread; a goroutine of its own does what is needed.
pub(crate) fn look_at_limits() {
    if follows_limits() && Limits::now().procs() != p::procs() {
        task::spawn_system(|| {
            syscall::blocking(|| {
                let _one = RESIZER.lock();
                // Somebody may have said a number meanwhile.
                if follows_limits() {
                    resize(Limits::now().procs());
                }
            });
        });
    }
}

/// What was spent on changing the number of Ps.
static RESIZES: Lock<Resizes> =
    Lock::new(Resizes { count: 0, total: Duration::ZERO, longest: Duration::ZERO });

/// See `metrics::Snapshot`.
#[derive(Clone, Copy)]
pub(crate) struct Resizes {
    pub(crate) count: u64,
    pub(crate) total: Duration,
    pub(crate) longest: Duration,
}

/// See [`Resizes`].
pub(crate) fn resizes() -> Resizes {
    *RESIZES.lock()
}

fn resize(n: usize) -> usize {
    let begun = clock::now_ns();
    let old = change(n);
    if old != n {
        let took = Duration::from_nanos(clock::now_ns() - begun);
        let mut resizes = RESIZES.lock();
        resizes.count += 1;
        resizes.total += took;
        resizes.longest = resizes.longest.max(took);
    }
    old
}

/// CPUs' worth of time that the control groups of this process allow (the smallest quota of the hierarchy); `None` for no limit.
///
/// # Blocking
///
/// G: no. M: for reads of `/proc` and `/sys`. P: no.
pub fn cgroup_cpu_limit() -> Option<f64> {
    Limits::now().cgroup
}

/// How often the resizer asks again those that run on Ps which are to go.
const ASK_AGAIN: Duration = Duration::from_millis(2);

fn change(n: usize) -> usize {
    wait_for_drained(p::procs());
    let old = p::procs();
    // One more than asked for: the spare.
    p::make(n + 1);
    if n > old {
        let mut s = state::lock();
        p::set_procs(n);
        (old..n).for_each(|id| s.put_idle_p(p::get(id)));
    } else if n < old {
        {
            let mut s = state::lock();
            p::set_procs(n);
            s.dying_ps = old - n;
            s.surrender_idle_from(n);
        }
        threads::call_template(threads::DRAIN);
        wait_for_drained(old);
    }
    // Whoever waits for a P, or for more of them, gets one.
    if WAKE.must_wake() {
        ready::wake_p();
    }
    old
}

/// Waits until no P above GOMAXPROCS and below `end` is in use.
fn wait_for_drained(end: usize) {
    loop {
        let seen = DRAINED.load(Acquire);
        if state::lock().dying_ps == 0 {
            return;
        }
        for p in (p::procs()..end).map(p::get) {
            // Those inside `blocking` may stay there for long, ours among them.
            if let Some(stay) = syscall::stay(p)
                && syscall::retake(p, stay)
            {
                surrender(p);
            }
            preempt::request(p);
        }
        // Sysmon takes those that go into `blocking` after our look.
        futex::wait(&DRAINED, seen, Some(clock::now_ns() + ASK_AGAIN.as_nanos() as u64));
    }
}

/// Calls `f` with a P above GOMAXPROCS that nobody uses, if there is one just now. Unless `f` uses it (`Some`) it is put back; else it
/// is in use until it is surrendered. Allocates nothing.
pub(crate) fn with_spare(f: impl FnOnce(&'static P) -> Option<()>) {
    let Some(_one) = RESIZER.try_lock() else { return };
    {
        let mut s = state::lock();
        if s.dying_ps != 0 {
            return;
        }
        s.dying_ps = 1;
        s.spare_in_use = true;
    }
    if f(p::get(p::procs())).is_none() {
        let mut s = state::lock();
        s.dying_ps = 0;
        s.spare_in_use = false;
    }
}

/// Lets go of a P above GOMAXPROCS, whose owner the caller is, for good. Allocates nothing.
pub(crate) fn surrender(p: &'static P) {
    p.m.store(std::ptr::null_mut(), Release);
    p.unannounced.set(false);
    let mut list = take_queue(p);
    let mut s = state::lock();
    s.push_global(&mut list);
    if s.spare_in_use {
        // It will be needed again, perhaps before the template thread can go on. Others look after its timers.
        s.spare_in_use = false;
        s.dying_ps = 0;
        drop(s);
        DRAINED.fetch_add(1, Release);
        futex::wake(&DRAINED, 1);
    } else {
        s.surrendered.push(p);
        drop(s);
        threads::call_template(threads::DRAIN);
    }
    if WAKE.must_wake() {
        ready::wake_p();
    }
    find::announce_all();
}

fn take_queue(p: &P) -> GList {
    let mut list = GList::new();
    while let Some(g) = p.runq.take_next().or_else(|| p.runq.pop()) {
        list.push_back(g);
    }
    list
}

/// Takes the timers and what is cached from the Ps that were surrendered. On the template thread.
pub(crate) fn drain() {
    loop {
        let Some(p) = state::lock().surrendered.pop() else { return };
        p.timers.move_all_to(&p::get(0).timers);
        p.flush();
        {
            let mut s = state::lock();
            // Those that waited for a thread have theirs still.
            s.push_global(&mut take_queue(p));
            s.dying_ps -= 1;
        }
        if WAKE.must_wake() {
            ready::wake_p();
        }
        DRAINED.fetch_add(1, Release);
        futex::wake(&DRAINED, 1);
        find::announce_all();
    }
}

/// The CPUs that this process could run on when somebody first asked, or the runtime started.
///
/// # Blocking
///
/// G: no. M: no. P: no.
pub fn num_cpu() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(thread::cpus)
}
