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

/// What the runtime counts, at one moment. The numbers are read one after the other, so they may
/// differ a little in time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many goroutines there are.
    pub goroutines: usize,
    /// How many goroutines were ever made.
    pub goroutines_created: u64,
    /// How many goroutines are queued to run.
    pub runnable: usize,
    /// OS threads that run goroutines, or could, and the runtime's own (monitor, template,
    /// swapper).
    pub threads: usize,
    /// Those of the threads that sleep for want of work.
    pub threads_idle: usize,
    /// GOMAXPROCS.
    pub gomaxprocs: usize,
    /// Those of the Ps (as many as GOMAXPROCS) that are not in use.
    pub procs_idle: usize,
    /// How often GOMAXPROCS was changed while the program ran.
    pub resizes: u64,
    /// The time that these changes took in all: until goroutines on Ps that were to go had given
    /// them up. Other goroutines go on meanwhile.
    pub resize_time: Duration,
    /// The longest of these changes.
    pub resize_longest: Duration,
    /// How often the world was stopped, to look at all goroutines at one moment.
    pub stops: u64,
    /// The time from the order to stop until no goroutine ran, in all.
    pub stop_stopping_time: Duration,
    /// The longest of these.
    pub stop_stopping_longest: Duration,
    /// The time from the order to stop until goroutines went on, in all.
    pub stop_time: Duration,
    /// The longest of these.
    pub stop_longest: Duration,
    /// How often a goroutine was switched to, or yielded while no other was queued.
    pub schedules: u64,
    /// How often a P took work from another.
    pub steals: u64,
    /// How often a goroutine was stopped in the middle of its code, to go on on its own thread
    /// later.
    pub preemptions: u64,
    /// Goroutines that are stopped like that at present. Each holds a thread.
    pub preempted: usize,
    /// Blocking calls that still run, though a [context](crate::context::Context::blocking) has
    /// given them up.
    pub blocking_abandoned: usize,
    /// Goroutines and threads that wait for I/O.
    pub io_waiters: usize,
    /// How often the kernel was asked for I/O events.
    pub polls: u64,
    /// How many events the kernel gave.
    pub poll_events: u64,
    /// Pending timers.
    pub timers: usize,
    /// Stack slots that exist, in use or not.
    pub stacks: usize,
    /// Stack slots that wait to be used again (not counting those that Ps keep warm).
    pub stacks_free: usize,
    /// The bytes of a goroutine's block of thread-locals, which shares a page with the beginning of
    /// its stack; 0 in shared mode.
    ///
    /// libc keeps some 1.6 KB of a block free for libraries that are opened later. That room counts
    /// here, and a parked goroutine takes a page more, if the program has
    /// [reserved](crate::RuntimeBuilder::reserve_static_tls) it, or if it could not be taken
    /// (`GORT_DEBUG=logtls=1` says why).
    pub block_bytes: usize,
    /// How often the stack of a parked goroutine was swapped out.
    pub swap_outs: u64,
    /// How often such a stack was brought back.
    pub swap_ins: u64,
    /// The bytes in which the stacks that are swapped out are kept.
    pub swapped_bytes: usize,
}

/// Blocking calls that their callers have given up. They are counted as two sums, so an end may be
/// counted before its beginning.
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

/// The numbers of this moment. Before the runtime was started they are zero, except `gomaxprocs`.
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
