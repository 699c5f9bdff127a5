//! A goroutine gets its stack when it first runs, and gives it up at its end.

use crate::sched::core::fixed::fixed;
use crate::sched::core::g::{self, G};
use crate::sched::core::p::P;
use crate::sched::ready::pinned;
use crate::stack::slab::{self, Slot};
use crate::stack::switch;
use crate::sys::sync::Ordering::*;
use crate::sys::{fatal, pin};
use std::ptr::null_mut;

/// Gives a stack to a goroutine that has not run yet.
pub(crate) fn attach(p: &P, g: &'static G) {
    let fixed = fixed();
    // SAFETY: the caller owns `g`.
    let given = unsafe { (*g.slot.get()).take() };
    let class = g.class.get();
    let mut slot =
        given.or_else(|| p.take_slot_but_one(class)).unwrap_or_else(|| match slab::allocate(class) {
            Ok(slot) => slot,
            Err(e) => fatal::throw(&format!(
                "gort: cannot allocate a stack for goroutine {}: {e}{}\nfatal error: out of memory (stack)",
                g.id(),
                slab::advice()
            )),
        });
    if !fixed.blocks.ensure(&mut slot) {
        fatal::throw("fatal error: out of memory (a goroutine's thread-locals)");
    }
    put_on(g, slot);
}

/// As [`attach`], but only if a warm slot is all that it takes. False means that `g` still has no
/// stack.
#[inline]
pub(crate) fn attach_warm(p: &P, g: &'static G) -> bool {
    // SAFETY: the caller owns `g`.
    if unsafe { (*g.slot.get()).is_some() } {
        return false;
    }
    let Some(slot) = p.take_slot(g.class.get()) else { return false };
    if !fixed().blocks.are_ready_in(&slot) {
        p.put_slot(slot, fixed().class);
        return false;
    }
    put_on(g, slot);
    true
}

/// Makes `slot`, which has its block, the stack of `g`. The caller owns both.
#[inline]
fn put_on(g: &'static G, slot: Slot) {
    slot.forget_frames();
    // SAFETY: the caller owns the slot, nothing runs on its stack or uses its block, and its top is
    // aligned; so is `g`.
    unsafe {
        let sp = switch::prepare(slot.stack_top(), fixed().entry, std::ptr::from_ref(g) as usize);
        g.sp.store(sp, Relaxed);
        g.tp.store(slot.tp(), Relaxed);
        if slot.tp() != 0 {
            pin::begin_suspended(slot.tp()); // `direct.rs`, invariant 2
        }
        *g.slot.get() = Some(slot);
    }
}

/// Puts an ended goroutine and its stack away. Must not run on that stack.
#[inline]
pub(crate) fn put_away(p: &P, g: &'static G) {
    let fixed = fixed();
    // SAFETY: the goroutine has left the stack and will not come back.
    let mut slot = unsafe { (*g.slot.get()).take() }.expect("it ran");
    if g.gives_up_slot() {
        // SAFETY: running its destructors is what this goroutine was for.
        unsafe { slot.give_up(fixed.blocks.layout()) };
        slab::free(std::iter::once(slot));
    } else {
        p.put_slot(slot, fixed.class);
    }
    g.bound_m.store(null_mut(), Relaxed);
    g.end();
    release(g);
}

/// Gives up one reference to the descriptor; the last one recycles it.
pub(crate) fn release(g: &'static G) {
    if g.refs.fetch_sub(1, AcqRel) != 1 {
        return;
    }
    let g = std::ptr::from_ref(g).cast_mut();
    match pinned() {
        Some(here) => here.p.put_g(g),
        None => g::free(std::iter::once(g)),
    }
}
