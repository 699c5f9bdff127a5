//! The end of a time slice: the goroutine notices it in gort's calls, or a signal stops it in the
//! middle of its code.
//!
//! # How a goroutine is stopped without help of a compiler
//! The goroutine is not taken off its thread: the **thread is stopped with it**, as an operating
//! system would do.
//!
//! 1. The goroutine gives its P away.
//! 2. It is queued among the *expired*, bound to its M.
//! 3. The M sleeps until another M finds the goroutine there and hands over its P.
//!
//! To the program nothing has happened: its thread still holds the locks of malloc and std,
//! thread-locals stay where they are, unwinding stays on its stack. The price is a thread for each
//! goroutine that is stopped.
//!
//! ```text
//!   sysmon: the slice is over, others want to run   the thread, on its signal stack (handler.rs)
//!   ─────────────────────────────────────────────   ────────────────────────────────────────────
//!   m.preempt := (P, run); tgkill ───────────────▶  is this run still on? in user code? pinned?
//!                                                   stop: join the expired, hand P off, sleep
//!   some M finds it there, hands it its P ───────▶  wake up, return from the handler
//! ```
//!
//! If the goroutine that runs next was stopped too, the P goes straight to it. This is called a
//! *swap*: no other M is needed for it.
//!
//! # Two ways into `stop`
//! 1. The handler, at any instruction of user code.
//! 2. [`checkpoint`]. Calls of gort that do not park count against a budget, and look at the mark
//!    that sysmon sets (`P::preempt`). Otherwise a loop around `try_recv` could keep the goroutine
//!    that would send from running, and timers from firing. These calls stop the goroutine with its
//!    thread, because they are not documented to migrate it. Calls that may park anyway use a plain
//!    switch, which puts the goroutine behind the others.
//!
//! # Why this is safe at any instruction
//! Code is pinned (`sys/pin.rs`), and so is left alone, while it does one of these:
//! - it holds a lock of the runtime;
//! - it works on its P's own fields;
//! - it has claimed an idle P for another M.
//!
//! Everything else that the runtime does on a goroutine's stack could as well be interrupted by the
//! kernel's scheduler.
//!
//! # How many threads, and why no lock's owner starves
//! A goroutine that is stopped joins the expired, which take turns of one slice each (`policy/`).
//! So the owner of a lock always gets its turn, even where others wait for that lock with a P.
//!
//! Each goroutine that is stopped for the first time may need a thread. So newcomers are let in
//! ever more slowly under overload. While no thread is to be had ([`pool::are_short`]), every stop
//! is a swap: a P that waits for a thread runs nothing, but a stopped goroutine has its thread.
//!
//! # When the owner of a lock is stopped, and the runtime itself waits for that lock
//! This happens with malloc's locks: an M inside the scheduler waits, pinned and with its P, for a
//! goroutine that waits for a P. Sysmon resolves that, see `rescue.rs`. So sysmon itself never
//! waits for such a lock, nor for a lock under which other code allocates.
//!
//! # Rejected
//! Switching to the next goroutine inside the handler, on the same thread. The stopped goroutine
//! may hold malloc's or std's locks. They belong to the thread, so the goroutine could only ever go
//! on there.

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

pub(super) use handler::{has_declined, note_declined, request, request_without_p};
pub(super) use rescue::Rescue;

/// Called at the beginning of a gort call, with no lock held. `parks` says that the call may park
/// anyway, so that it may migrate the goroutine too.
#[inline]
pub(crate) fn checkpoint(parks: bool) {
    let Some(here) = pinned() else { return handoff::get_p_if_taken() };
    if is_over(here.p) {
        give_way(here, parks);
    }
}

/// Lets others run, if they want to.
#[cold]
fn give_way(here: ready::Pinned, parks: bool) {
    if !is_wanted(here.p) {
        return;
    }
    let Some(g) = here.m.g() else { return };
    if parks {
        let m = here.m;
        drop(here);
        // SAFETY: `g` is the caller, and runs here.
        unsafe { park::leave(m, g, Action::Yield) };
    } else {
        let over = here.p.preempt.load(Relaxed);
        stop(here.m, g, here.p, if over { Why::SliceIsOver } else { Why::GivesWay });
    }
}

/// What a small goroutine takes, roughly, to start, run and end.
const SMALL_NS: u64 = 50;
/// One spawner alone leads to about so many queued goroutines.
const FEW: u64 = 2 * BUDGET as u64;
/// A spawner's pause that is shorter is not worth its timer.
const SHORTEST_PAUSE_NS: u64 = 10_000;
/// A spawner's longest pause.
const LONGEST_PAUSE_NS: u64 = 2_000_000;

/// Called at the end of a call that has started a goroutine, with no lock held. Every so often the
/// caller pauses for as long as the queued goroutines should take if they are small.
///
/// So a goroutine that starts a million others is only some thousand descriptors ahead of them,
/// which stay in the cache. If the goroutines are not small this does not help. But the pause is
/// short, and a timer ends it, so the caller does not queue behind goroutines that compute.
///
/// In shared mode this does nothing, since starting a goroutine does not park there.
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
    // Where several goroutines start many, each has to wait for those of the others, too.
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

/// Whether others want to run on `p`, which is the caller's. If not, a new slice begins.
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
    /// It makes room for goroutines that I/O or time has readied. Its slice goes on afterwards.
    Urgent,
    /// It has called gort often, and others want to run.
    GivesWay,
}

/// How often a goroutine was stopped with its thread.
static STOPS: AtomicU64 = AtomicU64::new(0);

/// See [`STOPS`].
pub(crate) fn count() -> u64 {
    STOPS.load(Relaxed)
}

/// Gives `p` away and waits, on this thread, until `g`, which runs here, gets a P again. The caller
/// is pinned. Allocates nothing.
#[cold]
fn stop(m: &'static M, g: &'static G, p: &'static P, why: Why) {
    STOPS.fetch_add(1, Relaxed);
    let bound = !g.bound_m.load(Relaxed).is_null();
    g.bound_m.store(std::ptr::from_ref(m).cast_mut(), Release);
    m.p.set(None);
    trace::point(Preempt, Some(g), Some(m), Some(p));
    // SAFETY: `g` runs here, so this owns it. From here on `g` does nothing but wait for a P.
    let stopped = unsafe { g.become_runnable() };
    let (submitted, first) = queue_and_swap(stopped, p, why);
    match first {
        Some(first) => handoff::resume_preempted(first, p),
        None => handoff::hand_off(p),
    }
    // After the hand-off, since `p` may idle now.
    ready::tell(submitted);
    m.sleep(None);
    if let Some(p) = m.p.get() {
        p.begin_run(); // the thread may have taken as long as a slice to come back
    }
    trace::point(Resume, Some(g), Some(m), m.p.get());
    if !bound {
        g.bound_m.store(null_mut(), Relaxed);
    }
    g.go_on();
}

/// Queues `g`, which is stopped on `p`; the caller tells an M. Also returns the stopped goroutine
/// to which `p` is to go straight, if there is one.
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
        // The rescue lets one goroutine after the other run on a spare. So this one goes behind the
        // others.
        Why::SliceIsOver if p.is_over() => s.push_expired(g, true),
        Why::SliceIsOver => slice::end(p, &mut s, Some(g)),
        // There is no thread to run the urgent ones. In front of the others this one would only be
        // resumed and stopped again.
        Why::Urgent if is_short => s.push_expired(g, true),
        Why::Urgent => {
            p.interrupted_ns.set(clock::now_ns());
            s.push_expired_front(g, true)
        }
        Why::GivesWay => s.push_expired(g, true),
    };
    // The first of the stopped may be `g` itself.
    let first = if (why != Why::Urgent || is_short) && swaps(&s) { s.pop_stopped() } else { None };
    (submitted, first)
}

/// While this lives, the goroutine is not stopped in the middle of its code; see [`no_preempt`].
#[must_use = "the goroutine can be preempted again when this is dropped"]
#[derive(Debug)]
pub struct NoPreempt {
    owner: Owner,
}

/// Keeps gort from stopping the calling goroutine by a signal, in the middle of its code, until the
/// guard is dropped. Guards nest.
///
/// A thread that computes may still get a `SIGURG`. Its handler then leaves the goroutine alone. One
/// that sleeps in the kernel gets none, so no system call sees `EINTR`, but for one that begins in
/// the moment in which the signal is sent. On a plain thread a guard does nothing; so does one that
/// outlives its goroutine, in a `thread_local!`.
///
/// The goroutine keeps its P meanwhile, unless its thread sleeps. So others may have to wait: drop
/// the guard soon. Calls of gort that park do so as always, and other calls of gort may still let other goroutines run.
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
