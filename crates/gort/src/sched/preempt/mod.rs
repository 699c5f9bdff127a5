//! The end of a time slice: noticed by the goroutine in gort's calls, or by a signal in the middle of its computing.
//!
//! # How a goroutine is stopped without help of a compiler
//! It is not taken off its thread: the **thread is stopped with it**, as an operating system would. It gives its P away, is queued among
//! the *preempted*, bound to its M, and the M sleeps until somebody who finds it there hands over a P. To the program nothing has
//! happened: locks of malloc and std stay held by their thread, thread-locals stay where they are, unwinding stays on its stack.
//! The price is a thread for each goroutine that is stopped.
//!
//! ```text
//!   sysmon: 10 ms on one slice, others want to run          the thread: SIGURG, on its signal stack (handler.rs)
//!   ──────────────────────────────────────────────          ─────────────────────────────────────────────────
//!   m.preempt := (P, slice); tgkill ───────────────────────▶ is this slice still on? in user code? not pinned?
//!                                                             hold: push to `preempted`, hand the P off, sleep
//!   some M finds it in `preempted`, hands it its P ─────────▶ wake up, return from the handler
//! ```
//!
//! If nobody waits but others that were stopped, the P goes straight to the one that was stopped first: a *swap*, for which no other M is
//! needed.
//!
//! # Two ways into `hold`
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
//! From [`HELD_LIMIT`] on most preemptions are swaps whoever is queued, and the number stays. So the owner of a lock always gets its turn,
//! whoever waits for that lock with a P. The others, where the P goes to those who are queued, become rarer as the number grows: every second
//! one at the limit, every 32nd at twice that, every 512th at three times, see [`one_in`]. If those who are queued
//! compute for ever too, each needs a thread in the end, but the number grows ever more slowly; if they do not, they
//! park soon and have lost nothing. By chance, not in turn: preemptions of several Ps come in step.
//!
//! Whoever is no newcomer (`G::is_newcomer`) does not wait behind them: from the limit on those of the global queue are among the *urgent*, whenever they
//! came there, and whoever is stopped empties its P's ring into that queue. While one of them is there, or is `next`, every second preemption is a
//! *visit*: the P goes to some of them and to those whom they ready, up to [`VISIT`], and then to who was stopped first ([`Owes::Stopped`]). So no
//! newcomer begins whose turn it is not, and it takes threads only if those whom it is for compute for long; so from four times the limit on visits become
//! rarer in the same way.
//!
//! While no thread is to be had ([`threads::are_short`]) all are swaps: a P that waits for a thread runs nobody, and who was stopped has one.
//!
//! # A lock's owner is stopped, and the runtime itself waits for that lock
//! malloc's locks are the case: an M inside the scheduler waits, pinned, with its P, for a goroutine that waits for a P. See
//! `rescue.rs`. So that sysmon can see to it, it never waits for such a lock itself, nor for one under which somebody allocates.
//!
//! # Rejected
//! Switching to the next goroutine inside the handler, on the same thread: what was stopped may hold malloc's or std's locks, which
//! belong to the thread, and could only ever go on there.

pub(super) mod handler;
mod rescue;

use super::config::{HELD_LIMIT, ThreadLocals};
use super::g::{G, State};
use super::m::{self, Action, M};
use super::p::{self, Owes, P};
use super::park::{self, WaiterRef};
use super::ready::{self, pinned};
use super::state::{self, WAKE};
use super::trace::{self, EventKind::*};
use super::{syscall, threads};
use crate::sys::clock;
use crate::sys::sync::{AtomicU64, Ordering::*};
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

pub(super) use handler::request;
pub(super) use rescue::Rescue;

/// Calls between two looks at who else wants to run: long enough that a hand-off (some 10 µs) is a small part.
pub(crate) const BUDGET: u32 = 1024;

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
            hold(here.m, g, here.p);
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
    let waiting = (here.p.runq.len() + state::global_len()) as u64;
    // Where several start many, each has to wait for the others' too.
    let pause_ns = waiting * SMALL_NS * (waiting / FEW).max(1) / p::procs() as u64;
    let may_park = here.m.fixed.thread_locals == ThreadLocals::Own && g.no_preempt.load(Relaxed) == 0;
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
    let wanted = p.is_over() || !p.runq.is_empty() || !state::global_is_empty() || due();
    if !wanted {
        p.begin_slice();
    }
    wanted
}

/// Turns in one visit.
const VISIT: u8 = 32;

/// While `held` goroutines are stopped, one in so many preemptions is for those who are queued, by chance; all, below the limit.
fn one_in(held: usize) -> u32 {
    let Some(over) = held.checked_sub(HELD_LIMIT) else { return 1 };
    2 << (over / (HELD_LIMIT / 4)).min(30)
}

/// What is done with the P of a goroutine that is stopped.
#[derive(PartialEq, Eq)]
enum Instead {
    /// It goes to those who are queued.
    Queued,
    /// It goes to some of those who do not wait, then to the one that was stopped first.
    Visit,
    /// It goes to the one that was stopped first.
    Swap,
}

/// See the module's head. The owner of `p`.
fn instead(p: &P, s: &state::Shared) -> Instead {
    if p.is_over() {
        return Instead::Queued; // they get another one
    }
    if threads::are_short(s) {
        return Instead::Swap;
    }
    let due = p.timers.next_ns() <= clock::now_ns();
    if p.random(one_in(s.preempted())) == 0 {
        let only_stopped = p.runq.is_empty() && s.queue_is_empty() && !due;
        return if only_stopped { Instead::Swap } else { Instead::Queued };
    }
    // SAFETY: descriptors are never freed.
    let next_is_wanted = p.runq.peek_next().is_some_and(|g| unsafe { !(*g).is_newcomer() });
    let wanted = due || state::is_urgent() || next_is_wanted;
    let visits = one_in(s.preempted().saturating_sub(3 * HELD_LIMIT)).max(2);
    if wanted && p.random(visits) == 0 { Instead::Visit } else { Instead::Swap }
}

/// How often goroutines were stopped so.
static HELD: AtomicU64 = AtomicU64::new(0);

/// See [`HELD`].
pub(crate) fn count() -> u64 {
    HELD.load(Relaxed)
}

/// Gives `p` to others and waits, on this thread, until `g`, which runs here, gets a P again. The caller is pinned, or the handler.
/// Allocates nothing.
#[cold]
fn hold(m: &'static M, g: &'static G, p: &'static P) {
    HELD.fetch_add(1, Relaxed);
    let bound = !g.bound_m.load(Relaxed).is_null();
    g.bound_m.store(std::ptr::from_ref(m).cast_mut(), Release);
    g.set_state(State::Runnable);
    m.p.set(None);
    trace::point(Preempt, Some(g), Some(m), Some(p));
    let (instead, first) = {
        let mut s = state::lock();
        if s.is_crowded() {
            s.push_global(&mut p.take_ring());
        }
        let instead = instead(p, &s);
        let first = if instead == Instead::Swap { s.pop_preempted() } else { None };
        s.push_preempted(std::ptr::from_ref(g).cast_mut());
        (instead, first)
    };
    match first {
        Some(first) => threads::resume_preempted(first, p),
        None => {
            if instead == Instead::Visit {
                p.owes.set(Owes::Stopped(VISIT));
            }
            syscall::hand_off(p);
        }
    }
    // A P may have come to the idle list since we, or those of the ring, were queued globally.
    if WAKE.must_wake() {
        ready::wake_p();
    }
    m.sleep(None);
    if let Some(p) = m.p.get() {
        p.begin_slice(); // it may have taken the thread as long as a slice to come back
    }
    trace::point(Resume, Some(g), Some(m), m.p.get());
    if !bound {
        g.bound_m.store(null_mut(), Relaxed);
    }
    g.set_state(State::Running);
}

/// The goroutine is not stopped in the middle of computing while this lives, see [`no_preempt`].
#[must_use = "the goroutine can be preempted again when this is dropped"]
#[derive(Debug)]
pub struct NoPreempt(PhantomData<*const ()>);

/// Keeps the calling goroutine from being preempted by a signal until the guard is dropped: for code that must not be interrupted
/// by `SIGURG`, such as system calls that do not restart. Guards nest. On a plain thread this does nothing.
///
/// The goroutine keeps its P meanwhile, so others may have to wait: keep it short. Calls of gort that park do so as always.
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
///     // nothing here sees EINTR because of gort
/// })
/// ```
pub fn no_preempt() -> NoPreempt {
    if let Some(g) = m::current().and_then(M::g) {
        g.no_preempt.store(g.no_preempt.load(Relaxed) + 1, Relaxed);
    }
    NoPreempt(PhantomData)
}

impl Drop for NoPreempt {
    fn drop(&mut self) {
        if let Some(g) = m::current().and_then(M::g) {
            g.no_preempt.store(g.no_preempt.load(Relaxed) - 1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Below the limit none is a swap; above, ever more are.
    #[test]
    fn swaps() {
        assert_eq!(one_in(HELD_LIMIT - 1), 1);
        assert_eq!(one_in(HELD_LIMIT), 2);
        assert_eq!(one_in(2 * HELD_LIMIT), 32);
        assert_eq!(one_in(3 * HELD_LIMIT), 512);
        assert_eq!(one_in(usize::MAX), 1 << 31);
    }
}
