//! Where Ms come from, where they sleep, and when they end.
//!
//! An M that has no P and nothing to do sleeps in the idle list. If it is not needed for some
//! seconds it ends, unless there are no more than GOMAXPROCS + 1 Ms: an idle process makes no
//! wake-ups.
//!
//! # The template thread
//! Code that has a P and no M for it puts the P into the list of Ps that want one
//! (`shared/m_pool.rs`), and the template thread makes an M. The P goes to whichever comes first:
//! the new M, or the next M that would go to sleep. A new M that finds no P ends at once. All Ms
//! come from the template thread, which runs no goroutines, for two reasons:
//! - A thread inherits its maker's signal mask, affinity, namespaces and credentials. A goroutine
//!   with `lock_os_thread` may have changed those of its M; they must not spread.
//! - Making a thread takes locks of libc. A goroutine that was stopped by a signal may hold them.
//!   Code that gives Ps away (the signal handler and sysmon among it) never waits for such locks;
//!   the template thread may. So the template thread also does other work that takes memory: it
//!   gives stacks back, and looks at limits.
//!
//! # When the system refuses a thread
//! The P stays in the list, where any M that becomes free finds it, or it goes to a stopped
//! goroutine, which has its thread. The template thread tries again, and says so. If for some
//! seconds no P has a thread at all, all threads are in calls that block, perhaps waiting for a
//! goroutine that cannot run: that is a fatal error.

use super::call::Calls;
use super::service::{self, PendingThreads};
use crate::sched::core::config::IDLE_M;
use crate::sched::core::fixed::fixed;
use crate::sched::core::m::M;
use crate::sched::core::p::{self, P};
use crate::sched::shared::m_pool::NewThread;
use crate::sched::shared::{self, Shared};
use crate::sys::fatal::say;
use crate::sys::signal::{self, AltStack};
use crate::sys::sync::{AtomicU32, Ordering::*};
use crate::sys::{clock, fs, futex, thread};
use std::time::Duration;
use std::{fmt, io};

/// The stack of an M's thread: g0 runs the scheduler.
const G0_STACK_BYTES: usize = 256 << 10;

/// How long the template thread waits after the system has refused a thread.
const RETRY: Duration = Duration::from_millis(10);

/// How often the template thread says that it was refused.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// How long all Ps may be without a thread, when none can be made, before that is a fatal error.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the template thread has to do: the bits below.
static TEMPLATE: Calls = Calls::new(AtomicU32::new(0));
/// Ps want Ms.
const WANTED: u32 = 1;
/// Stacks are left from a peak.
pub(crate) const TRIM: u32 = 2;
/// It is time to look at affinity and control groups.
pub(crate) const LIMITS: u32 = 4;
/// A signal handler has begun a fatal error.
pub(crate) const DUMP: u32 = 8;

/// Asks the template thread to do `what`.
pub(crate) fn call_template(what: u32) {
    if TEMPLATE.call(what) {
        futex::wake(TEMPLATE.futex(), 1);
    }
}

/// Gives `p` to an idle M, or to a new one. `spinning` says that this M is counted as spinning
/// already. Allocates nothing, and waits for no lock but the scheduler's.
pub(crate) fn start_m(p: &'static P, spinning: bool) {
    p.m.store(std::ptr::null_mut(), Release);
    let idle = shared::lock().m_pool.m_for(p, spinning);
    match idle {
        Some(m) => m.give(p, spinning),
        None => call_template(WANTED),
    }
}

/// Whether a P that wants an M now would wait: no M idles, and threads that were asked for before
/// have not arrived (the Ps they are for still wait, or have gone on without them).
pub(crate) fn are_short(s: &Shared) -> bool {
    s.m_pool.idle() == 0 && (s.m_pool.starting() != 0 || TEMPLATE.has(WANTED))
}

/// What the floors above do on the threads that are made here.
#[derive(Clone, Copy)]
pub(crate) struct Duties {
    /// The life of an M that has a P: the scheduler's loop.
    pub(crate) schedule: fn(&'static M),
    /// Called when the system refuses threads: gives a preempted goroutine a P that waits for a
    /// thread. False means that there is no such pair.
    pub(crate) go_on_without: fn() -> bool,
    /// Gives back stacks that a peak left behind.
    pub(crate) trim: fn(),
    /// Looks at affinity and control groups.
    pub(crate) look_at_limits: fn(),
    /// A fatal error: prints it, with what all goroutines do, and ends the process.
    pub(crate) throw_with_dump: fn(&str) -> !,
    /// The same, where the error was printed already.
    pub(crate) dump_and_exit: fn() -> !,
}

/// Makes the template thread.
pub(crate) fn make_template(pending: &mut PendingThreads, duties: Duties) -> io::Result<()> {
    pending.add("gort-template", 256 << 10, move || {
        let mut refused = false;
        let (mut last_ran_ns, mut say_again_ns) = (0, 0);
        loop {
            let deadline = refused.then(|| clock::now_ns() + RETRY.as_nanos() as u64);
            let mut what = TEMPLATE.take();
            while what == 0 && deadline.is_none_or(|d| clock::now_ns() < d) {
                futex::wait(TEMPLATE.futex(), 0, deadline);
                what = TEMPLATE.take();
            }
            if what & DUMP != 0 {
                (duties.dump_and_exit)();
            }
            let result = start_wanted(duties);
            if what & TRIM != 0 {
                (duties.trim)();
            }
            if what & LIMITS != 0 {
                (duties.look_at_limits)();
            }
            if let Err((threads, e)) = &result
                && clock::now_ns() >= say_again_ns
            {
                say_again_ns = clock::now_ns() + SAY_AGAIN.as_nanos() as u64;
                say(format_args!(
                    "the system refuses another OS thread (there are {threads}; {e}). Goroutines go on with \
                     those there are; raise the limit (ulimit -u, the cgroup's pids.max), or bound the threads in \
                     `blocking` by Runtime::builder().blocking_limit or GORT_BLOCKING_LIMIT."
                ));
            }
            refused = result.is_err();
            if let Err((threads, e)) = result {
                // The threads of preempted goroutines are as good as any.
                while (duties.go_on_without)() {}
                let now = clock::now_ns();
                if last_ran_ns == 0 || some_p_runs() {
                    last_ran_ns = now;
                } else if now > last_ran_ns + PATIENCE.as_nanos() as u64 {
                    (duties.throw_with_dump)(&format!(
                        "gort: failed to create new OS thread (have {threads} already; {e}), and all there are wait in calls that \
                         block\ngort: may need to increase max user processes (ulimit -u)\nfatal error: newosproc"
                    ));
                }
            } else {
                last_ran_ns = 0;
            }
        }
    })
}

/// Whether some thread has a P, or could get one.
fn some_p_runs() -> bool {
    let s = shared::lock();
    s.m_pool.wanting() < p::procs() || s.m_pool.idle() != 0
}

/// Starts an M for each P that wants one. The error says how many threads there were.
fn start_wanted(duties: Duties) -> Result<(), (usize, io::Error)> {
    while let Some(m) = next_m(duties) {
        if let Err(e) =
            service::spawn(format!("gort-m{}", m.id), G0_STACK_BYTES, move || m_main(m, duties.schedule))
        {
            let mut s = shared::lock();
            s.m_pool.refused();
            s.free_ms.push(m);
            return Err((s.m_pool.threads(), e));
        }
    }
    Ok(())
}

/// A descriptor for one more thread, if one is to be made. Past the cap that is a fatal error.
fn next_m(duties: Duties) -> Option<&'static M> {
    let cap = fixed().thread_cap;
    let mut s = shared::lock();
    match s.m_pool.begin_thread(cap) {
        NewThread::NotNeeded => return None,
        NewThread::Needed => {}
        NewThread::TooMany => {
            let whereabouts = Whereabouts::of(&s);
            drop(s);
            (duties.throw_with_dump)(&format!(
                "gort: program exceeds {cap}-thread limit\nfatal error: thread exhaustion\n\
                 The threads: {whereabouts}.\nBound them by Runtime::builder().blocking_limit (GORT_BLOCKING_LIMIT), or raise .thread_cap (GORT_THREAD_CAP)."
            ));
        }
    }
    if let Some(m) = s.free_ms.pop() {
        return Some(m);
    }
    let id = s.all_ms.len();
    drop(s);
    // Only this thread makes descriptors, so the number is still free.
    let m: &'static M = Box::leak(Box::new(M::new(id as u32)));
    shared::lock().all_ms.push(m);
    Some(m)
}

/// What the threads do, for the message that there are too many.
struct Whereabouts {
    blocking: usize,
    outside: usize,
    held: usize,
    locked: usize,
    idle: usize,
    rest: usize,
}

impl Whereabouts {
    fn of(s: &Shared) -> Whereabouts {
        let blocking = s.all_ms.iter().filter(|m| m.in_blocking.load(Relaxed)).count();
        let outside = s.all_ms.iter().filter(|m| m.p.is_taken()).count();
        let (held, locked, idle) = (s.stopped(), s.waiting_bound, s.m_pool.idle());
        let rest = s.m_pool.threads().saturating_sub(blocking + outside + held + locked + idle);
        Whereabouts { blocking, outside, held, locked, idle, rest }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Whereabouts { blocking, outside, held, locked, idle, rest } = self;
        write!(
            f,
            "{blocking} inside `blocking`, {outside} in other calls that block, {held} held by preemption, {locked} waiting for the goroutine that is locked to them, \
             {idle} idle, {rest} running"
        )
    }
}

/// A thread's life as an M.
fn m_main(m: &'static M, schedule: fn(&'static M)) {
    m.fs.store(fs::read(), Release);
    m.tid.store(thread::tid(), Release);
    M::bind(Some(m));
    let alt_stack = AltStack::install();
    signal::unblock_ours();
    // glibc's malloc makes its cache for this thread now, so that the words a goroutine carries are
    // never null.
    drop(std::hint::black_box(Box::new(0u64)));
    // An older M may have taken the P that this one was made for.
    let wanting = shared::lock().m_pool.arrive();
    if let Some((p, spinning)) = wanting {
        m.wire(p);
        m.spinning.set(spinning);
        schedule(m);
    }
    m.tid.store(0, Release);
    M::bind(None);
    drop(alt_stack);
    shared::lock().free_ms.push(m);
}

/// Sleeps in the idle list until `m` is given a P. False means that the thread is to end. Called on
/// g0, without a P.
pub(crate) fn stop_m(m: &'static M) -> bool {
    let wanting = shared::lock().m_pool.p_for(m);
    if let Some((p, spinning)) = wanting {
        m.wire(p);
        m.spinning.set(spinning);
        return true;
    }
    loop {
        let enough = p::procs() + 1;
        let surplus = shared::lock().m_pool.threads() > enough;
        let deadline = surplus.then(|| clock::now_ns() + IDLE_M.as_nanos() as u64);
        if m.sleep(deadline) {
            return true;
        }
        if shared::lock().m_pool.end_idle(m, enough) {
            return false;
        }
    }
}
