//! The scheduler's loop: what an M does on g0.
//!
//! ```text
//!   find a goroutine ──▶ execute: attach a stack, switch ──▶ it parks │ yields │ exits ──▶ settle ──▶ find ...
//! ```
//!
//! # Bound goroutines
//! A G with `bound_m` runs on that M alone: it comes out of `blocking` without a P, holds `lock_os_thread`, or unwinds in
//! shared mode. Whoever finds it in a queue hands its own P to that M ([`M::give`]) and stops. An M whose bound goroutine
//! has parked hands its P off and sleeps until somebody does that.
//!
//! Goroutines also switch to each other, past this loop (`direct.rs`): who comes back to g0 need not be who was resumed.
//!
//! # Invariants
//! 1. After a park is committed nobody here touches the G: it may run on another M already.
//! 2. A stack is put away on another one, when the goroutine has left it for good.

use super::find;
use super::g::{G, State};
use super::m::{Action, M};
use super::p::P;
use super::policy::AfterYield;
use super::preempt::BUDGET;
use super::start::fixed;
use super::state::{self, WAKE};
use super::{ready, slice, swap, syscall, task, threads};
use crate::stack::slab::{self, Slot};
use crate::stack::switch;
use crate::sys::membarrier::fence_light;
use crate::sys::pin;
use crate::sys::sync::{AtomicBool, Ordering::*};
use std::ptr::null_mut;
use std::time::Duration;

/// The process is about to end, and those who report why look at suspended stacks: no goroutine is resumed any more.
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Keeps every goroutine that is suspended as it is, for good. Those that run go on to their next park.
pub(crate) fn freeze() {
    FROZEN.store(true, SeqCst);
    // Who has just looked at the word is on its way; give it time to be seen as running.
    std::thread::sleep(Duration::from_millis(2));
}

/// Whether [`freeze`] was called.
#[inline]
pub(crate) fn is_frozen() -> bool {
    FROZEN.load(Relaxed)
}

/// Runs goroutines until the thread is to end. On g0, with a P.
pub(crate) fn schedule(m: &'static M) {
    while let Some(g) = find::find(m) {
        // SAFETY: descriptors are never freed.
        let g: &'static G = unsafe { &*g };
        let bound = g.bound_m.load(Acquire);
        if bound.is_null() || std::ptr::eq(bound, m) {
            if !execute(m, g) {
                return;
            }
            continue;
        }
        let p = m.p.take().expect("`find` returns with a P");
        begin_turn(p);
        end_spinning(m);
        // SAFETY: descriptors of Ms are never freed.
        unsafe { &*bound }.give(p, false);
        if !threads::stop_m(m) {
            return;
        }
    }
}

/// Counts a goroutine that is about to run on `p`, here or on the M it is bound to.
#[inline]
pub(crate) fn begin_turn(p: &P) {
    p.budget.set(BUDGET);
    p.stats.schedules.add(1);
}

/// An M that has found work is no longer looking for it; if others should, it starts one (steps F1 to S4 of the wake
/// protocol).
pub(crate) fn end_spinning(m: &M) {
    if m.spinning.replace(false) {
        WAKE.end_spinning();
        if WAKE.must_wake() {
            ready::wake_p();
        }
    }
}

/// Runs `g`, which we took from a queue, and those that it switches to, until one comes back that parks, yields or ends. False:
/// the thread is to end.
fn execute(m: &'static M, mut g: &'static G) -> bool {
    end_spinning(m);
    loop {
        let p = m.p.get().expect("an M that executes has a P");
        begin_turn(p);
        if g.sp.load(Relaxed) == 0 {
            attach(p, g);
        }
        if is_frozen() {
            m.sleep_for_good();
        }
        g.set_state(State::Running); // before the look, see `swap/word.rs`
        fence_light();
        if !g.swap.is_home() {
            swap::bring_back(g);
        }
        m.g.store(std::ptr::from_ref(g).cast_mut(), Relaxed);
        pin::enter(); // `direct.rs`, invariant 2
        // SAFETY: we took `g` from a queue (or resumed it below), so it is ours; this is g0.
        unsafe { m.resume(g) };
        m.g.store(null_mut(), Relaxed);
        pin::leave();
        g = m.left.take().expect("somebody left");
        let bound = std::ptr::eq(g.bound_m.load(Relaxed), m);
        match m.action.get() {
            Action::Park => {
                g.set_state(State::Waiting);
                if !g.waiter.commit_park() {
                    // A waker was first. It goes on as if nothing had been; but behind the one that it took from a queue for us
                    // (then it is not bound).
                    if m.found.get().is_some() {
                        ready::ready(g);
                        return true;
                    }
                    continue;
                }
            }
            Action::Yield => {
                g.set_state(State::Runnable);
                let p = m.p.get().expect("it yielded with a P");
                let ptr = std::ptr::from_ref(g).cast_mut();
                match slice::after_yield(p) {
                    AfterYield::Runs if m.found.get().is_none() => continue,
                    AfterYield::Expires => state::lock().push_expired(ptr, false),
                    // Its own M must find it.
                    _ if bound => state::lock().push_global_one(ptr),
                    _ => ready::push_behind(p, ptr),
                }
            }
            Action::Exit => return retire(m, g),
        }
        if !bound {
            return true;
        }
        // Not ours any more, but nobody else may run it.
        state::lock().waiting_bound += 1;
        syscall::hand_off(m.p.take().expect("it parked with a P"));
        m.sleep(None);
        state::lock().waiting_bound -= 1;
    }
}

/// Gives a goroutine that has not run yet its stack.
fn attach(p: &P, g: &'static G) {
    let fixed = fixed();
    // SAFETY: `g` is ours.
    let given = unsafe { (*g.slot.get()).take() };
    let class = g.class.get();
    let mut slot =
        given.or_else(|| p.take_slot_but_one(class)).unwrap_or_else(|| match slab::allocate(class) {
            Ok(slot) => slot,
            Err(e) => super::fatal::throw(&format!(
                "gort: cannot allocate a stack for goroutine {}: {e}{}\nfatal error: out of memory (stack)",
                g.id(),
                slab::advice()
            )),
        });
    if let Some(layout) = &fixed.layout
        && !slot.ensure_block(layout)
    {
        super::fatal::throw("fatal error: out of memory (a goroutine's thread-locals)");
    }
    put_on(g, slot);
}

/// As [`attach`], if that takes no more than a warm slot.
#[inline]
pub(super) fn attach_warm(p: &P, g: &'static G) -> bool {
    // SAFETY: `g` is ours.
    if unsafe { (*g.slot.get()).is_some() } {
        return false;
    }
    let Some(slot) = p.take_slot(g.class.get()) else { return false };
    if fixed().layout.is_some() && slot.tp() == 0 {
        p.put_slot(slot, fixed().class);
        return false;
    }
    put_on(g, slot);
    true
}

/// Makes `slot`, which has its block, the stack of `g`, ours.
#[inline]
fn put_on(g: &'static G, slot: Slot) {
    // SAFETY: the slot is ours, nobody is on its stack or block, and its top is aligned; so is `g`.
    unsafe {
        let sp = switch::prepare(slot.stack_top(), task::entry, std::ptr::from_ref(g) as usize);
        g.sp.store(sp, Relaxed);
        g.tp.store(slot.tp(), Relaxed);
        if slot.tp() != 0 {
            pin::begin_suspended(slot.tp()); // `direct.rs`, invariant 2
        }
        *g.slot.get() = Some(slot);
    }
}

/// Puts an ended goroutine and its stack away. Not on that stack.
#[inline]
pub(super) fn put_away(p: &P, g: &'static G) {
    let fixed = fixed();
    // SAFETY: the goroutine has left the stack and will not come back.
    let mut slot = unsafe { (*g.slot.get()).take() }.expect("it ran");
    if g.gives_up_slot() {
        // SAFETY: running its destructors is what this goroutine was for.
        unsafe { slot.give_up(fixed.layout.as_ref()) };
        slab::free(std::iter::once(slot));
    } else {
        p.put_slot(slot, fixed.class);
    }
    g.bound_m.store(null_mut(), Relaxed);
    g.set_state(State::Dead);
    task::release(g);
}

/// A goroutine has ended. False: the thread was locked to it and ends too.
fn retire(m: &'static M, g: &'static G) -> bool {
    let locked = g.is_locked_to_thread();
    put_away(m.p.get().expect("it exited with a P"), g);
    if !locked {
        return true;
    }
    let p = m.p.take().expect("as above");
    state::lock().staff.end_busy();
    syscall::hand_off(p);
    false
}
