//! Making goroutines run: where a runnable one is queued, and which M is told.

use crate::sched::core::g::{G, GList, State};
use crate::sched::core::m::{self, M};
use crate::sched::core::p::P;
use crate::sched::core::waiter::Wake;
use crate::sched::shared::{self, WAKE};
use crate::sched::threads::pool;
use crate::sys::pin;
use crate::sys::sync::is_child;

/// The M of this thread and the P it holds, whose owner fields are the caller's as long as this lives: no signal takes
/// the P away. To be dropped before a switch.
pub(crate) struct Pinned {
    pub(crate) m: &'static M,
    pub(crate) p: &'static P,
}

/// See [`Pinned`]; `None` where there is no P.
#[inline]
pub(crate) fn pinned() -> Option<Pinned> {
    pin::enter();
    if let Some(m) = m::current()
        && let Some(p) = m.p.get()
    {
        return Some(Pinned { m, p });
    }
    pin::leave();
    None
}

impl Drop for Pinned {
    #[inline]
    fn drop(&mut self) {
        pin::leave();
    }
}

/// Queues a goroutine that the caller made runnable, to run soon: in front of the others where a P is at hand.
/// Takes the scheduler's lock; G, M and P go on.
#[inline]
pub(crate) fn ready(g: &'static G) {
    g.set_state(State::Runnable);
    let expires = g.take_expires();
    let g = std::ptr::from_ref(g).cast_mut();
    // Pinned to the end: who has claimed an idle P must not be stopped before he has given it to an M.
    let here = pinned();
    let must_wake = match &here {
        // What is on a spare's queue nobody would steal.
        Some(here) if !here.p.is_spare() && !expires => {
            match here.p.runq.replace_next(g) {
                None => WAKE.must_wake_after_rmw(),
                Some(old) => {
                    push_behind(here.p, old);
                    WAKE.must_wake() // the swap does nothing for a store behind it
                }
            }
        }
        None if is_child() => false, // nobody runs
        _ => {
            let mut s = shared::lock();
            if expires {
                s.push_expired(g, false)
            } else {
                s.push_global_one(g)
            }
            drop(s);
            WAKE.must_wake()
        }
    };
    if must_wake {
        wake_p();
    }
}

/// The caller parks next, until `g` ends. Where that was queued last of all, it goes before the others, as one that the caller has readied: who forks and joins has the last child
/// run first, whose stack and data are warm, and not all children of all at once.
#[inline]
pub(crate) fn prefer(g: &'static G) {
    // Pinned to the end: who has `g` in hand must not be stopped.
    if let Some(here) = pinned()
        && here.p.runq.peek_next().is_none()
        && here.p.runq.take_last(std::ptr::from_ref(g).cast_mut())
    {
        ready(g);
    }
}

/// Puts a runnable goroutine behind the others of `p`, whose owner is the caller. Half a full ring goes to the
/// global queue. In a crowd newcomers go there at once, where they wait for slices of their own.
#[inline]
pub(crate) fn push_behind(p: &P, g: *mut G) {
    // SAFETY: descriptors are never freed.
    if shared::is_crowded() && unsafe { (*g).is_newcomer() } {
        return shared::lock().push_global_one(g);
    }
    if let Some(overflow) = p.runq.push(g) {
        let mut list = GList::new();
        overflow.items().iter().for_each(|&g| list.push_back(g));
        shared::lock().push_global(&mut list);
    }
}

/// After [`WakeState::must_wake`](crate::sched::wake::WakeState::must_wake) said so: starts a spinning M with an idle P.
#[cold]
pub(crate) fn wake_p() {
    loop {
        let idle = shared::lock().take_idle_p();
        if let Some(p) = idle {
            return pool::start_m(p, true);
        }
        // Somebody was faster. Had a P come to the list since, its M would have seen the work; but look.
        WAKE.end_spinning();
        if !WAKE.must_wake() {
            return;
        }
    }
}

/// An M that has found work is no longer looking for it; if others should, it starts one (steps F1 to S4 of the wake
/// protocol).
pub(crate) fn end_spinning(m: &M) {
    if m.spinning.replace(false) {
        WAKE.end_spinning();
        if WAKE.must_wake() {
            wake_p();
        }
    }
}

impl Wake {
    /// Makes the waiter go on. Takes the scheduler's locks; call it with none of yours held where you can.
    pub(crate) fn ready(self) {
        if let Some(g) = self.into_goroutine() {
            ready(g);
        }
    }
}
