//! Numbers, for observers.

use crate::sched::core::fixed;
use crate::sched::core::p;
use crate::sched::io::netpoll;
use crate::sched::spawn::task;
use crate::sched::world::{procs, stop};
use crate::sched::{preempt, shared, swap};
use crate::stack::slab;
use crate::stack::tls::Layout;
use crate::sys::sync::AtomicUsize;
use crate::sys::sync::Ordering::Relaxed;
use std::time::Duration;

/// What the runtime counts, at one moment (roughly: the numbers are read one after the other).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Goroutines that there are.
    pub goroutines: usize,
    /// Goroutines ever made.
    pub goroutines_created: u64,
    /// Goroutines that are queued to run.
    pub runnable: usize,
    /// OS threads that run goroutines, or could, and the runtime's own (monitor, template, swapper).
    pub threads: usize,
    /// Those of them that sleep for want of work.
    pub threads_idle: usize,
    /// GOMAXPROCS.
    pub gomaxprocs: usize,
    /// Those of GOMAXPROCS that nobody uses.
    pub procs_idle: usize,
    /// How often GOMAXPROCS was changed while the program ran.
    pub resizes: u64,
    /// The time that took in all: until those who ran on Ps that were to go had given them up. The others go on meanwhile.
    pub resize_time: Duration,
    /// The longest of them.
    pub resize_longest: Duration,
    /// How often the world was stopped, so that somebody could look at all goroutines at one moment.
    pub stops: u64,
    /// From the order to stop until no goroutine ran, in all.
    pub stop_stopping_time: Duration,
    /// The longest of these.
    pub stop_stopping_longest: Duration,
    /// From the order to stop until they went on, in all.
    pub stop_time: Duration,
    /// The longest of these.
    pub stop_longest: Duration,
    /// How often a goroutine was switched to, or has yielded with nobody to yield to.
    pub schedules: u64,
    /// How often a P took work from another.
    pub steals: u64,
    /// How often a goroutine was stopped in the middle of computing, to go on on its own thread later.
    pub preemptions: u64,
    /// Goroutines that are stopped so just now; each holds a thread.
    pub preempted: usize,
    /// Blocking calls that still run though a [context](crate::context::Context::blocking) has given them up.
    pub blocking_abandoned: usize,
    /// Goroutines and threads that wait for I/O.
    pub io_waiters: usize,
    /// How often the kernel was asked for I/O events.
    pub polls: u64,
    /// How many events it gave.
    pub poll_events: u64,
    /// Pending timers.
    pub timers: usize,
    /// Stack slots that exist, in use or not.
    pub stacks: usize,
    /// Stack slots that wait to be used again (not counting those that Ps keep warm).
    pub stacks_free: usize,
    /// The bytes of a goroutine's block of thread-locals, which shares a page with the beginning of
    /// its stack; 0 in shared mode. In a block is also what libc keeps free for libraries that are
    /// opened later, some 1.6 KB, if the program has
    /// [reserved](crate::RuntimeBuilder::reserve_static_tls) it or it could not be taken
    /// (`GORT_DEBUG=logtls=1` says why): then a parked goroutine takes a page more.
    pub block_bytes: usize,
    /// How often the stack of a parked goroutine was swapped out.
    pub swap_outs: u64,
    /// How often one was brought back.
    pub swap_ins: u64,
    /// Bytes in which those that are out are kept.
    pub swapped_bytes: usize,
}

/// Blocking calls whose callers have given them up. Counted as two sums: an end may be counted before its beginning.
pub(crate) struct AbandonedCalls {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

/// See [`AbandonedCalls`].
pub(crate) static ABANDONED_CALLS: AbandonedCalls =
    AbandonedCalls { begun: AtomicUsize::new(0), ended: AtomicUsize::new(0) };

impl AbandonedCalls {
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Relaxed);
    }

    fn running(&self) -> usize {
        self.begun.load(Relaxed).saturating_sub(self.ended.load(Relaxed))
    }
}

/// The numbers of this moment. Before the runtime was started they are zero, but for `gomaxprocs`.
///
/// # Blocking
///
/// G: no. M: no. P: no; it takes the runtime's locks for a moment, one after the other.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let s = gort::metrics::snapshot();
///     assert!(s.goroutines >= 1 && s.threads >= 1);
/// })
/// ```
pub fn snapshot() -> Snapshot {
    if p::procs() == 0 {
        return Snapshot { gomaxprocs: procs::gomaxprocs(), ..Snapshot::default() };
    }
    debug_assert!(fixed::fixed().thread_cap > 0);
    let (threads, threads_idle, preempted) = {
        let s = shared::lock();
        (s.m_pool.threads() + 2 + swap::threads(), s.m_pool.idle(), s.stopped())
    };
    let resizes = procs::resizes();
    let (stopping, stopped) = stop::stops();
    let (stacks, stacks_free) = slab::counts();
    let (polls, poll_events) = netpoll::counters();
    let swapped = swap::counts();
    Snapshot {
        goroutines: task::num_goroutine(),
        goroutines_created: task::created(),
        runnable: shared::global_len() + p::all().map(|p| p.runq.len()).sum::<usize>(),
        threads,
        threads_idle,
        gomaxprocs: p::procs(),
        procs_idle: shared::WAKE.idle_ps() as usize,
        resizes: resizes.count,
        resize_time: resizes.total,
        resize_longest: resizes.longest,
        stops: stopped.count,
        stop_stopping_time: stopping.total,
        stop_stopping_longest: stopping.longest,
        stop_time: stopped.total,
        stop_longest: stopped.longest,
        schedules: p::all_ever().map(|p| p.stats.schedules.get()).sum(),
        steals: p::all_ever().map(|p| p.stats.steals.get()).sum(),
        preemptions: preempt::count(),
        preempted,
        blocking_abandoned: ABANDONED_CALLS.running(),
        io_waiters: netpoll::waiters(),
        polls: polls as u64,
        poll_events: poll_events as u64,
        timers: p::all_ever().map(|p| p.timers.len()).sum(),
        stacks,
        stacks_free,
        block_bytes: fixed::layout().map_or(0, Layout::block_bytes),
        swap_outs: swapped.outs,
        swap_ins: swapped.ins,
        swapped_bytes: swapped.bytes,
    }
}
