//! GOMAXPROCS while the program runs.
//!
//! A goroutine is stopped only where it must be:
//! - New Ps go into the idle list.
//! - A P above the new number is *released* by the M that owns it, when that M next comes through
//!   the scheduler. Its queue goes to the global one. A goroutine that computes on it is preempted.
//! - The caller *drains* each P that was released: its timers go to the first P, and what it has
//!   cached goes back.
//!
//! The caller waits until all are drained. So when `set_gomaxprocs` returns, no more goroutines run
//! than it asked for.
//!
//! # Rejected
//! Stopping the world, as Go does. That waits for the same goroutines, and all others wait with it.
//! (`stop.rs` can stop the world, to look at all goroutines at one moment. It collects Ps in the
//! same way.)

use crate::sched::core::config::{Limits, MAX_PROCS};
use crate::sched::core::p::{self, P};
use crate::sched::handoff::{RELEASED, release_p, take_queue};
use crate::sched::io::poll;
use crate::sched::shared::{self, monitor};
use crate::sched::spawn::task;
use crate::sched::syscall::{self, outside};
use crate::sched::trace::{self, EventKind};
use crate::sched::wake::sysmon_word::TIMED;
use crate::sched::{preempt, ready};
use crate::sys::fork::refuse;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicBool, Ordering::*};
use crate::sys::{clock, futex, thread};
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

/// Held by the one thread that changes the number of Ps, or stops the world.
pub(crate) static RESIZER: Lock<()> = Lock::new(());

/// How many goroutines may run at once: the number of Ps.
///
/// Before the runtime was started, this is what the number would be: `GOMAXPROCS`, or the CPUs that
/// the process may use (affinity and cgroup quota).
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

/// Sets how many goroutines may run at once, at least 1 and at most 1024. Returns the number
/// before. Zero changes nothing.
///
/// When this returns, no more than `n` goroutines run. So if the number goes down, it waits until
/// the goroutines beyond it have come to a gort call or were stopped.
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

/// Sets how many goroutines may run at once to what affinity and control groups allow now, whatever
/// the environment says. From then on the number follows them (about once a second, while the
/// program is busy). Returns the number before.
///
/// The runtime does this from its start, unless a number was given by `GOMAXPROCS`,
/// [`RuntimeBuilder::gomaxprocs`](crate::RuntimeBuilder::gomaxprocs) or [`set_gomaxprocs`].
/// `GORT_DEBUG=updatemaxprocs=0` keeps the number from following; `containermaxprocs=0` leaves
/// control groups out.
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

/// Whether no number was given.
static IS_DEFAULT: AtomicBool = AtomicBool::new(false);

/// Called at the start: notes whether no number was given, so that the number of Ps follows the
/// limits.
pub(crate) fn follow_limits(follow: bool) {
    IS_DEFAULT.store(follow, Relaxed);
}

/// Whether the number of Ps is to follow the limits.
pub(crate) fn follows_limits() -> bool {
    IS_DEFAULT.load(Relaxed)
}

/// Looks whether the limits have changed. Runs on the template thread; a goroutine made for that
/// does what is needed.
pub(crate) fn look_at_limits() {
    if follows_limits() && Limits::now().procs() != p::procs() {
        task::spawn_system(|| {
            syscall::blocking(|| {
                let _one = RESIZER.lock();
                // A number may have been given meanwhile.
                if follows_limits() {
                    resize(Limits::now().procs());
                }
            });
        });
    }
}

/// How often something that takes time was done, and how long it took.
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

/// The time spent on changing the number of Ps.
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

/// How many CPUs' worth of time the control groups of this process allow (the smallest quota of the
/// hierarchy); `None` if there is no limit.
///
/// # Blocking
///
/// G: no. M: for reads of `/proc` and `/sys`. P: no.
pub fn cgroup_cpu_limit() -> Option<f64> {
    Limits::now().cgroup
}

/// How often goroutines on Ps that are to go are asked again.
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
    // Gives Ps to what waits for one, or for more of them.
    ready::tell_of_work();
    old
}

/// Has the Ps `ids`, which are over, released by the Ms that own them. Returns when `done` says so.
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

/// Takes `p` from an M that is inside `blocking` with it, or asks the goroutine that runs on it to
/// stop. (An M may stay inside for long. The M that runs this is inside, too.) If that one's thread
/// sleeps, sysmon takes the P.
fn ask_for(p: &'static P) {
    if let Some(stay) = syscall::stay(p)
        && syscall::retake(p, stay)
    {
        release_p(p);
    }
    if outside::is_asleep(p) {
        monitor::interrupt(TIMED);
    } else {
        preempt::request(p);
    }
}

/// Drains the Ps that were released: takes their timers, and what is cached there.
fn drain() {
    loop {
        let Some(p) = shared::lock().released_ps.pop() else { return };
        p.timers.move_all_to(&p::get(0).timers);
        p.flush();
        let submitted = {
            let mut s = shared::lock();
            s.dying_ps -= 1;
            // A P that waited for a thread still has its queue.
            s.push_global(&mut take_queue(p))
        };
        ready::tell(submitted);
        poll::announce_all();
    }
}

/// The CPUs that this process could run on when this was first called, or when the runtime started.
///
/// # Blocking
///
/// G: no. M: no. P: no.
pub fn num_cpu() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(thread::cpus)
}
