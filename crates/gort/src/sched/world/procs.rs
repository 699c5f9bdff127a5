//! GOMAXPROCS while the program runs.
//!
//! Nobody is stopped who need not be: new Ps go into the idle list, and a P above the new number is *released_ps* by whoever owns
//! it when that M next comes through the scheduler, its queue goes to the global one; a goroutine that computes on it is preempted. The
//! caller *drains* it: its timers go to the first P, what it has cached goes back. He waits until that has happened to all, so when
//! `set_gomaxprocs` returns no more goroutines run than it asked for.
//!
//! # Rejected
//! Stopping the world, as Go does: it waits for the same goroutines, and all others wait with it. (`stop.rs` can, for those who want to
//! look at all goroutines at one moment; it collects Ps in the same way.)

use crate::sched::core::config::{Limits, MAX_PROCS};
use crate::sched::core::p::{self, P};
use crate::sched::handoff::{RELEASED, release_p, take_queue};
use crate::sched::io::poll;
use crate::sched::shared::{self};
use crate::sched::spawn::task;
use crate::sched::trace::{self, EventKind};
use crate::sched::{preempt, ready, syscall};
use crate::sys::fork::refuse;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicBool, Ordering::*};
use crate::sys::{clock, futex, thread};
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

/// One at a time changes the number of Ps, or stops the world.
pub(crate) static RESIZER: Lock<()> = Lock::new(());

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
        0 => crate::sched::core::config::Config::default_procs(),
        n => n,
    }
}

/// Sets how many goroutines may run at once, at least 1 and at most 1024; returns the number before. Zero changes nothing.
///
/// When it returns no more than `n` goroutines run. So if there are to be fewer it waits until those beyond have come to a gort
/// call or were stopped.
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
    crate::sched::core::fixed::require_started("set_gomaxprocs");
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
    crate::sched::core::fixed::require_started("set_default_gomaxprocs");
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

/// How often something was done that takes time, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) total: Duration,
    pub(crate) longest: Duration,
}

impl Times {
    pub(crate) const ZERO: Times = Times { count: 0, total: Duration::ZERO, longest: Duration::ZERO };

    pub(crate) fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total += took;
        self.longest = self.longest.max(took);
    }
}

static RESIZES: Lock<Times> = Lock::new(Times::ZERO);

/// What was spent on changing the number of Ps.
pub(crate) fn resizes() -> Times {
    *RESIZES.lock()
}

fn resize(n: usize) -> usize {
    refuse("another number of Ps");
    let begun = clock::now_ns();
    let old = change(n);
    if old != n {
        trace::procs_point(EventKind::ProcsChange, Some(n));
        RESIZES.lock().add(Duration::from_nanos(clock::now_ns() - begun));
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
    let old = p::procs();
    p::make(n);
    if n > old {
        let mut s = shared::lock();
        p::set_procs(n);
        (old..n).for_each(|id| s.put_idle_p(p::get(id)));
    } else if n < old {
        {
            let mut s = shared::lock();
            p::set_procs(n);
            s.dying_ps = old - n;
        }
        collect(n..old, || {
            shared::lock().withdraw_over(|s, p| s.released_ps.push(p));
            drain();
            shared::lock().dying_ps == 0
        });
    }
    // Whoever waits for a P, or for more of them, gets one.
    ready::tell_of_work();
    old
}

/// Has all those who own one of the Ps `ids`, which are over, release_p it, until `done` says so.
pub(crate) fn collect(ids: Range<usize>, mut done: impl FnMut() -> bool) {
    let mut ask_at_ns = 0;
    loop {
        let seen = RELEASED.load(Acquire);
        if done() {
            return;
        }
        let now = clock::now_ns();
        if now >= ask_at_ns {
            ask_at_ns = now + ASK_AGAIN.as_nanos() as u64;
            ids.clone().map(p::get).for_each(ask_for);
        }
        futex::wait(&RELEASED, seen, Some(ask_at_ns));
    }
}

/// Takes `p` from an M that is inside `blocking` with it (it may stay there for long; ours is one of them), or asks the goroutine that runs
/// on it to stop.
fn ask_for(p: &'static P) {
    if let Some(stay) = syscall::stay(p)
        && syscall::retake(p, stay)
    {
        release_p(p);
    }
    preempt::request(p);
}

/// Takes the timers and what is cached from the Ps that were released_ps.
fn drain() {
    loop {
        let Some(p) = shared::lock().released_ps.pop() else { return };
        p.timers.move_all_to(&p::get(0).timers);
        p.flush();
        let submitted = {
            let mut s = shared::lock();
            s.dying_ps -= 1;
            // Those that waited for a thread have theirs still.
            s.push_global(&mut take_queue(p))
        };
        ready::tell(submitted);
        poll::announce_all();
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
