//! Switching from one goroutine straight to the next, without the scheduler's loop in between.
//!
//! Going through g0 costs two switches and two writes of the FS base. Where the next goroutine is
//! at hand, the goroutine that leaves switches to it:
//!
//! ```text
//!   predecessor, pinned                             successor: a goroutine, or g0
//!   ───────────────────                             ─────────────────────────────
//!   takes the successor from its P's queue
//!   m.left := itself; m.action := what it wants
//!   saves its registers, switches ───────────────▶  settles: commits the park of `m.left`,
//!                                                   or queues it
//! ```
//!
//! # Invariants
//! 1. `m.left` is set right before a switch and taken right after it, on the same M, by what runs
//!    next: by g0 after [`M::resume`], by a goroutine in [`arrive`]. So a park is committed, and a
//!    goroutine that yields is queued, only when its registers are saved and nothing runs on its
//!    stack any more: as if g0 had done it.
//! 2. The thread is pinned from before the successor is taken until it has arrived: no signal stops
//!    the thread in between. The pin depth is a thread-local. So a goroutine that is suspended by
//!    its own switch has a depth of one in its block (in shared mode, the thread has it). `arrive`
//!    takes that one back, g0 adds it before it resumes (`schedule.rs`), and a fresh block is given
//!    it (`attach`).
//! 3. A successor is taken only where `find` would have taken the same one: first `next`, then the
//!    ring, unless the slice is for others (`policy/`). Nothing may be due before them (a timer may
//!    be some microseconds late). The successor must be bound to no M, and must have a stack that
//!    is there or get a warm one. Else g0 gets it, as `m.found`, and runs it before it resumes any
//!    other goroutine on this M.
//! 4. A goroutine that yields while none is queued goes on at once, as `find` would have let it.
//!    Every 61st time it goes through g0 all the same, which looks elsewhere.
//! 5. A goroutine that ends here is bound to no M and keeps its slot warm. The successor, on
//!    another stack, puts that slot away.
//!
//! Model: `crates/gort-models/tests/direct.rs`, which includes this file.

use crate::sched::core::frozen;
use crate::sched::core::g::G;
use crate::sched::core::m::{self, Action, M};
use crate::sched::core::p::P;
use crate::sched::core::timers::NEVER;
use crate::sched::handoff;
use crate::sched::policy::{AfterYield, LOOK_EVERY, SliceState};
use crate::sched::ready;
use crate::sched::run::stacks;
use crate::sched::shared::{self, WAKE, monitor};
use crate::sys::membarrier::fence_light;
use crate::sys::sync::Ordering::*;
use crate::sys::{clock, pin};
use std::ptr::from_ref;

/// Switches away from `g`; `action` says what it wants. Returns when `g` goes on, perhaps on
/// another M.
///
/// # Safety
/// The caller is `g`, on the M `m`.
#[inline]
pub(crate) unsafe fn switch_away(m: &'static M, g: &'static G, action: Action) {
    pin::enter();
    if m.p.hold().is_none() {
        handoff::acquire_p(m, g, false); // sysmon has taken the P
    }
    // SAFETY: the caller's promise.
    unsafe { leave(m, g, action) };
    arrive();
}

/// The predecessor's part, pinned, with a P that is held.
///
/// # Safety
/// The caller is `g`, on the M `m`.
#[inline(always)]
unsafe fn leave(m: &'static M, g: &'static G, action: Action) {
    m.left.set(Some(g));
    m.action.set(action);
    // SAFETY: the caller's promise; a successor came from this M's queue, so this M owns it.
    unsafe {
        match successor(m, g) {
            Next::Goroutine(next) => m.switch_between(g, next),
            Next::Nothing if action == Action::Yield && shared::active_is_empty() => {
                m.left.set(None);
                m.p.get().expect("a goroutine runs with a P").begin_run();
            }
            Next::Nothing => m.switch_to_g0(g),
            Next::G0 => {
                if action == Action::Park {
                    charge_if_over(m, g);
                }
                m.switch_to_g0(g);
            }
        }
    }
}

/// Charges a slice that ends as `g` begins to wait to `g`, unless `g` has handed over to a
/// goroutine in `next`.
fn charge_if_over(m: &M, g: &G) {
    let p = m.p.get().expect("a goroutine runs with a P");
    if p.preempt.load(Relaxed) && p.runq.peek_next().is_none() {
        g.charge(monitor::coarse_ns());
    }
}

/// Called where a goroutine begins or goes on: settles what its predecessor left, and unpins.
#[inline]
pub(crate) fn arrive() {
    let m = m::current().expect("a goroutine runs on an M");
    if let Some(left) = m.left.take() {
        settle(m, left);
    }
    pin::leave();
}

/// Does what `left` wants. It ran on this M before, and is bound to none.
#[inline]
fn settle(m: &'static M, left: &'static G) {
    match m.action.get() {
        Action::Park => {
            left.begin_waiting();
            if !left.waiter.commit_park() {
                // SAFETY: it has left its stack, and is not parked: a waker was first.
                unsafe { ready::not_parked(left) };
            }
        }
        Action::Yield => {
            let p = m.p.get().expect("a goroutine runs with a P");
            // SAFETY: it has left its stack to this M, which has `p`.
            let submitted = unsafe { ready::yielded(p, left, AfterYield::Queues, false) };
            // The ring may have been empty from when the successor was taken until now. See "What
            // yields" in `wake/README.md`.
            if WAKE.idle_ps() != 0 { _ = ready::tell(submitted) } else { submitted.seen_to() }
        }
        Action::Exit => stacks::put_away(m.p.get().expect("a goroutine runs with a P"), left),
    }
}

/// The end of `g`.
///
/// # Safety
/// The caller is `g`, and nothing on its stack needs to be dropped.
pub(crate) unsafe fn end(g: &'static G) -> ! {
    pin::enter();
    let m = m::current().expect("a goroutine runs on an M");
    if m.p.hold().is_none() {
        handoff::acquire_p(m, g, false);
    }
    // SAFETY: the caller's promise.
    unsafe { leave(m, g, Action::Exit) };
    unreachable!("an ended goroutine was resumed")
}

/// If the timers of a P were looked at less than this ago, the clock need not be asked again. One
/// to three microseconds.
const RECENT_CYCLES: u64 = 5_000;

/// Whether no timer is due, as far as a recent look can tell, and the sleeper in the poll knows of
/// all of them.
#[inline]
fn timers_can_wait(p: &P) -> bool {
    let next = p.timers.next_ns();
    next == NEVER
        || next > p.looked_ns.get()
            && !p.unannounced.get()
            && clock::cycles().wrapping_sub(p.looked_cycles.get()) < RECENT_CYCLES
}

/// What to switch to.
enum Next {
    /// Counted as running already.
    Goroutine(&'static G),
    /// No goroutine is queued here, and nothing else is to be done before `find` would look
    /// elsewhere.
    Nothing,
    G0,
}

/// What to switch to from `g`. The caller is pinned.
#[inline]
fn successor(m: &'static M, g: &'static G) -> Next {
    let p = m.p.get().expect("a goroutine runs with a P");
    let straight = g.bound_m.load(Relaxed).is_null()
        && !g.gives_up_slot()
        && !p.preempt.load(Relaxed)
        && timers_can_wait(p)
        && !p.stats.schedules.get().is_multiple_of(u64::from(LOOK_EVERY))
        && !shared::is_urgent()
        && !p.is_over()
        && !frozen::is_frozen();
    debug_assert!(!m.has_found(), "a goroutine that was found is lost");
    if !straight {
        return Next::G0;
    }
    let next = match p.runq.take_next() {
        Some(next) => next,
        None if p.slice.get() != SliceState::ACTIVE => return Next::G0,
        None => match p.pop() {
            Some(next) => next,
            None => return Next::Nothing,
        },
    };
    let g = next.g();
    let is_ready = g.bound_m.load(Acquire).is_null() && {
        g.begin_running(); // before the look, see `core/swap_word.rs`
        fence_light();
        g.swap.is_home() && (g.sp.load(Relaxed) != 0 || stacks::attach_warm(p, g))
    };
    if !is_ready {
        m.found.set(Some(next));
        return Next::G0;
    }
    p.begin_run();
    m.g.store(from_ref(g).cast_mut(), Release); // see `syscall/outside.rs`
    Next::Goroutine(next.claim())
}
