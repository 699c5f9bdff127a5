//! The end of a time slice: noticed by the goroutine in gort's calls, or by a signal in the middle of its computing.
//!
//! # How a goroutine is stopped without help of a compiler
//! It is not taken off its thread: the **thread is stopped with it**, as an operating system would. It gives its P away, is queued among
//! the *expired*, bound to its M, and the M sleeps until another M finds it there and hands over
//! its P. To the program nothing has happened: locks of malloc and std stay held by their thread,
//! thread-locals stay where they are, unwinding stays on its stack. The price is a thread for each
//! goroutine that is stopped.
//!
//! ```text
//!   sysmon: the slice is over, others want to run           the thread: SIGURG, on its signal stack (handler.rs)
//!   ──────────────────────────────────────────────          ─────────────────────────────────────────────────
//!   m.preempt := (P, run); tgkill ─────────────────────────▶ is this run still on?  in user code? not pinned?
//!                                                             hold: join the expired, hand the P off, sleep
//!   some M finds it there, hands it its P ──────────────────▶ wake up, return from the handler
//! ```
//!
//! Where the one that goes on was stopped too, the P goes straight to it: a *swap*, for which no
//! other M is needed.
//!
//! # Two ways into `stop`
//! 1. The handler, at any instruction of user code.
//! 2. [`checkpoint`]: gort's calls that do not park count against a budget, and look at the mark that sysmon sets (`P::preempt`): a
//!    loop around `try_recv` must not keep the goroutine that would send from running, nor timers from firing. These calls
//!    are not documented to migrate the goroutine. Calls that may park anyway go behind the others by a plain switch.
//!
//! # Why this is safe at any instruction
//! Whoever holds a lock of the runtime, works on its P's own fields, or has claimed an idle P for another M, is pinned (`sys/pin.rs`), and so
//! is left alone. Everything else that the runtime does on a goroutine's stack could as well be interrupted by the kernel's scheduler.
//!
//! # How many threads, and why no lock's owner starves
//! What is stopped joins the expired, which have turns of one slice each (`policy/`): so the
//! owner of a lock always gets its turn, even where others wait for that lock with a P. Each
//! goroutine that is stopped for the first time may need a thread: under overload newcomers are let in
//! ever more slowly. While no thread is to be had ([`threads::are_short`]) all are swaps: a P that
//! waits for a thread runs nobody, and what was stopped has one.
//!
//! # A lock's owner is stopped, and the runtime itself waits for that lock
//! malloc's locks are the case: an M inside the scheduler waits, pinned, with its P, for a goroutine that waits for a P. See
//! `rescue.rs`. So that sysmon can see to it, it never waits for such a lock itself, nor for one under which somebody allocates.
//!
//! # Rejected
//! Switching to the next goroutine inside the handler, on the same thread: what was stopped may hold malloc's or std's locks, which
//! belong to the thread, and could only ever go on there.

pub(crate) mod handler;
mod rescue;

use crate::sched::core::g::{G, Runnable};
use crate::sched::core::m::{Action, M};
use crate::sched::core::owner::Owner;
use crate::sched::core::p::{self, P};
use crate::sched::core::waiter::WaiterRef;
use crate::sched::handoff;
use crate::sched::policy::BUDGET;
use crate::sched::policy::Class;
use crate::sched::ready::{self, pinned};
use crate::sched::run::slice;
use crate::sched::shared::{self};
use crate::sched::threads::pool;
use crate::sched::trace::{self, EventKind::*};
use crate::sched::wait::park;
use crate::sys::clock;
use crate::sys::sync::{AtomicU64, Ordering::*};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

pub(super) use handler::{has_declined, request};
pub(super) use rescue::Rescue;

/// Begins a gort call, with no lock held. `parks`: it may park anyway, so it may migrate too.
#[inline]
pub(crate) fn checkpoint(parks: bool) {
    let Some(here) = pinned() else { return };
    if is_over(here.p) && is_wanted(here.p) {
        let Some(g) = here.m.g() else { return };
        if parks {
            let m = here.m;
            drop(here);
            // SAFETY: `g` runs here; that is us.
            unsafe { park::leave(m, g, Action::Yield) };
        } else {
            let over = here.p.preempt.load(Relaxed);
            stop(here.m, g, here.p, if over { Why::SliceIsOver } else { Why::GivesWay });
        }
    }
}

/// What a small goroutine takes, roughly: start, run, end.
const SMALL_NS: u64 = 50;
/// So many queued goroutines are what one spawner leads to.
const FEW: u64 = 2 * BUDGET as u64;
/// A pause of a spawner that is not worth its timer.
const SHORTEST_PAUSE_NS: u64 = 10_000;
/// The longest.
const LONGEST_PAUSE_NS: u64 = 2_000_000;

/// Ends a call that has started a goroutine, with no lock held. Every so often the caller pauses for as long as those who are queued
/// should take if they are small: who starts a million is ahead of them by some thousand descriptors then, which stay in the cache, not by a
/// million. If they are not small it does not help, but the pause is short, and it ends by a timer, so it is not behind those who compute.
///
/// Not in shared mode, where starting a goroutine does not park.
#[inline]
pub(crate) fn checkpoint_of_spawner() {
    let Some(here) = pinned() else { return };
    if is_over(here.p) {
        let_others_run(here);
    }
}

#[cold]
fn let_others_run(here: ready::Pinned) {
    debug_assert_eq!(crate::sys::pin::depth(), 1, "a goroutine was started under a lock");
    here.p.budget.set(BUDGET);
    let Some(g) = here.m.g() else { return };
    let waiting = (here.p.runq.len() + shared::active_len()) as u64;
    // Where several start many, each has to wait for the others' too.
    let pause_ns = waiting * SMALL_NS * (waiting / FEW).max(1) / p::procs() as u64;
    let may_park = here.m.fixed.blocks.move_with_goroutines() && g.no_preempt.load(Relaxed) == 0;
    drop(here);
    if may_park && pause_ns >= SHORTEST_PAUSE_NS {
        let me = WaiterRef::of(g);
        me.arm();
        me.sleep(Instant::now().checked_add(Duration::from_nanos(pause_ns.min(LONGEST_PAUSE_NS))));
    }
}

#[inline]
fn is_over(p: &P) -> bool {
    let left = p.budget.get().saturating_sub(1);
    p.budget.set(left);
    left == 0 || p.preempt.load(Relaxed)
}

/// Whether somebody else wants to run on `p`, which is the caller's; if not, a new slice begins.
#[cold]
fn is_wanted(p: &P) -> bool {
    p.budget.set(BUDGET);
    let due = || p.timers.next_ns() <= clock::now_ns();
    let wanted = p.is_over() || !p.runq.is_empty() || !shared::global_is_empty() || due();
    if !wanted {
        p.begin_slice();
    }
    wanted
}

/// Why a goroutine is stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    SliceIsOver,
    /// For goroutines that I/O or time has readied: its slice goes on afterwards.
    Urgent,
    /// It has called gort often, and others want to run.
    GivesWay,
}

/// How often goroutines were stopped so.
static STOPS: AtomicU64 = AtomicU64::new(0);

/// See [`STOPS`].
pub(crate) fn count() -> u64 {
    STOPS.load(Relaxed)
}

/// Gives `p` to others and waits, on this thread, until `g`, which runs here, gets a P again. The caller is pinned, or the handler.
/// Allocates nothing.
#[cold]
fn stop(m: &'static M, g: &'static G, p: &'static P, why: Why) {
    STOPS.fetch_add(1, Relaxed);
    let bound = !g.bound_m.load(Relaxed).is_null();
    g.bound_m.store(std::ptr::from_ref(m).cast_mut(), Release);
    m.p.set(None);
    trace::point(Preempt, Some(g), Some(m), Some(p));
    // SAFETY: `g` runs here, so it is ours, and from here on it does nothing but wait for a P.
    let stopped = unsafe { g.become_runnable() };
    let (submitted, first) = queue_and_swap(stopped, p, why);
    match first {
        Some(first) => handoff::resume_preempted(first, p),
        None => handoff::hand_off(p),
    }
    // Behind the hand-off: `p` may idle now.
    ready::tell(submitted);
    m.sleep(None);
    if let Some(p) = m.p.get() {
        p.begin_run(); // it may have taken the thread as long as a slice to come back
    }
    trace::point(Resume, Some(g), Some(m), m.p.get());
    if !bound {
        g.bound_m.store(null_mut(), Relaxed);
    }
    g.go_on();
}

/// Queues `g`, which is stopped on `p`; the caller tells an M. Gives was stopped and that `p` is to go straight
/// to, if there is one.
fn queue_and_swap(g: Runnable, p: &P, why: Why) -> (shared::Submitted, Option<Runnable>) {
    let mut s = shared::lock();
    let is_short = pool::are_short(&s);
    let swaps = |s: &shared::Shared| {
        let active =
            !p.runq.is_empty() || !shared::active_is_empty() || p.timers.next_ns() <= clock::now_ns();
        let expired_first = match p.slice.get().first {
            Class::Expired => true,
            Class::Newcomers => false,
            Class::Active | Class::Readable => !active,
        };
        !p.is_over() && s.stopped() > 0 && (is_short || expired_first && s.stopped_is_first())
    };
    let submitted = match why {
        // The rescue lets one after the other run on a spare, so this one goes behind the others.
        Why::SliceIsOver if p.is_over() => s.push_expired(g, true),
        Why::SliceIsOver => slice::end(p, &mut s, Some(g)),
        // No thread is there to run the urgent ones, and in front of the others this one would only
        // be resumed and stopped again.
        Why::Urgent if is_short => s.push_expired(g, true),
        Why::Urgent => {
            p.interrupted_ns.set(clock::now_ns());
            s.push_expired_front(g, true)
        }
        Why::GivesWay => s.push_expired(g, true),
    };
    // That may be `g` itself.
    let first = if (why != Why::Urgent || is_short) && swaps(&s) { s.pop_stopped() } else { None };
    (submitted, first)
}

/// The goroutine is not stopped in the middle of computing while this lives, see [`no_preempt`].
#[must_use = "the goroutine can be preempted again when this is dropped"]
#[derive(Debug)]
pub struct NoPreempt {
    owner: Owner,
}

/// Keeps gort from stopping the calling goroutine by a signal, in the middle of its code, until the
/// guard is dropped. Guards nest.
///
/// The thread may still get a `SIGURG`: its handler then leaves the goroutine alone, but a system
/// call may see `EINTR`. On a plain thread this does nothing, nor does a guard that outlives its
/// goroutine, in a `thread_local!`.
///
/// The goroutine keeps its P meanwhile, so others may have to wait: keep it short. Calls of gort
/// that park do so as always, and other calls of gort may still let other goroutines run.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let _guard = gort::no_preempt();
///     // no signal stops the goroutine here
/// })
/// ```
pub fn no_preempt() -> NoPreempt {
    let guard = NoPreempt { owner: Owner::current() };
    if let Some(g) = guard.owner.goroutine() {
        g.no_preempt.store(g.no_preempt.load(Relaxed) + 1, Relaxed);
    }
    guard
}

impl Drop for NoPreempt {
    fn drop(&mut self) {
        if let Some(g) = self.owner.goroutine() {
            g.no_preempt.store(g.no_preempt.load(Relaxed) - 1, Relaxed);
        }
    }
}
