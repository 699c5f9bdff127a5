//! Making goroutines run: where a runnable one is queued, and which M is told.

use super::g::{G, State};
use super::m::{self, M};
use super::p::P;
use super::runq::global::GList;
use super::state::{self, WAKE};
use super::threads;

/// The M of this thread if it holds a P: then the P's owner fields are the caller's until the next switch.
#[inline]
pub(crate) fn current_m_with_p() -> Option<(&'static M, &'static P)> {
    let m = m::current()?;
    Some((m, m.p.get()?))
}

/// Queues a goroutine that the caller made runnable, to run soon: in front of the others where a P is at hand.
/// Takes the scheduler's lock; G, M and P go on.
#[inline]
pub(crate) fn ready(g: &'static G) {
    g.set_state(State::Runnable);
    let g = std::ptr::from_ref(g).cast_mut();
    match current_m_with_p() {
        Some((_, p)) => {
            if let Some(old) = p.runq.replace_next(g) {
                push_behind(p, old);
            }
        }
        None => state::lock().push_global_one(g),
    }
    if WAKE.must_wake() {
        wake_p();
    }
}

/// Puts a runnable goroutine behind the others of `p`, whose owner is the caller. Half a full ring goes to the
/// global queue.
#[inline]
pub(crate) fn push_behind(p: &P, g: *mut G) {
    if let Some(overflow) = p.runq.push(g) {
        let mut list = GList::new();
        overflow.items().iter().for_each(|&g| list.push_back(g));
        state::lock().push_global(&mut list);
    }
}

/// After [`WakeState::must_wake`](super::wake::WakeState::must_wake) said so: starts a spinning M with an idle P.
#[cold]
pub(crate) fn wake_p() {
    loop {
        let idle = state::lock().take_idle_p();
        if let Some(p) = idle {
            return threads::start_m(p, true);
        }
        // Somebody was faster. Had a P come to the list since, its M would have seen the work; but look.
        WAKE.end_spinning();
        if !WAKE.must_wake() {
            return;
        }
    }
}
