//! Where a goroutine becomes runnable, and which M is told: the one place for both.
//!
//! | what has happened                                     | function             |
//! | ----------------------------------------------------- | -------------------- |
//! | its wait was ended                                    | [`Wake::ready`]      |
//! | it was started                                        | [`started`]          |
//! | it wanted to park, and a waker was first              | [`not_parked`]       |
//! | it yields                                             | [`yielded`]          |
//! | it comes out of `blocking` and has no P               | [`came_out`]         |
//! | it is preempted                                       | `preempt::stop`, which takes the scheduler's lock for more than that |
//! | I/O or time has woken many                            | `io::poll::collect`, which queues them together |
//!
//! A runnable goroutine is a [`Runnable`]: the right to queue it or to run it, of which there is one.

use crate::sched::core::g::{G, GList, Runnable};
use crate::sched::core::m::{self, M};
use crate::sched::core::p::P;
use crate::sched::core::waiter::Wake;
use crate::sched::policy::AfterYield;
use crate::sched::shared::{self, Submitted, WAKE};
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

/// Queues a runnable goroutine, to run soon: in front of the others where a P is at hand. Takes the
/// scheduler's lock; G, M and P go on.
#[inline]
pub(crate) fn ready(g: Runnable) {
    let expires = g.g().take_expires();
    // Pinned to the end: a claimed idle P must be given to an M before this thread can be stopped.
    let here = pinned();
    match &here {
        // What is on a spare's queue would not be stolen.
        Some(here) if !here.p.is_spare() && !expires => match here.p.runq.replace_next(g) {
            None if WAKE.must_wake_after_rmw() => wake_p(),
            None => {}
            // The swap does nothing for a store behind it.
            Some(old) => _ = tell(push_behind(here.p, old)),
        },
        None if is_child() => {} // nothing runs
        _ => {
            let mut s = shared::lock();
            let submitted = if expires { s.push_expired(g, false) } else { s.push_global_one(g) };
            drop(s);
            tell(submitted);
        }
    }
}

/// A new goroutine begins.
///
/// # Safety
/// The caller has made it, and nothing else has it.
#[inline]
pub(crate) unsafe fn started(g: &'static G) {
    // SAFETY: the caller's promise.
    ready(unsafe { g.become_runnable() });
}

/// `g` was about to park on this M, and a waker was first: it goes on when its turn comes.
///
/// # Safety
/// The caller is the M that `g` has just left, and its park was not committed.
#[inline]
pub(crate) unsafe fn not_parked(g: &'static G) {
    // SAFETY: the caller's promise.
    ready(unsafe { g.become_runnable() });
}

/// Queues `g`, which yields on `p`, where it `goes`; `bound`: its own M must find it. Whether an M need
/// be told: "What yields" in `wake/README.md`.
///
/// # Safety
/// The caller is the M of `p`, and `g` has just left it.
#[inline]
pub(crate) unsafe fn yielded(p: &P, g: &'static G, goes: AfterYield, bound: bool) -> Submitted {
    // SAFETY: the caller's promise.
    let g = unsafe { g.become_runnable() };
    match goes {
        AfterYield::Expires => shared::lock().push_expired(g, false),
        _ if bound => shared::lock().push_global_one(g),
        _ => push_behind(p, g),
    }
}

/// Queues `g`, which comes out of `blocking` on its own thread and has no P, bound to that M.
///
/// # Safety
/// The caller is `g`.
pub(crate) unsafe fn came_out(g: &'static G) {
    // SAFETY: the caller's promise.
    let g = unsafe { g.become_runnable() };
    let submitted = shared::lock().push_global_one(g);
    tell(submitted);
}

/// The caller parks next, until `g` ends. If `g` was queued last of all, it goes before the others, as
/// one that the caller has made ready: a caller that forks and joins has the last child run first, whose
/// stack and data are warm, and not all children of all at once.
#[inline]
pub(crate) fn prefer(g: &'static G) {
    // Pinned to the end: a thread that has `g` in hand must not be stopped.
    if let Some(here) = pinned()
        && here.p.runq.peek_next().is_none()
        && let Some(g) = here.p.runq.take_last(std::ptr::from_ref(g).cast_mut())
    {
        ready(g);
    }
}

/// Puts a runnable goroutine behind the others of `p`, whose owner is the caller. Half a full ring goes
/// to the global queue. under overload newcomers go there at once, where they wait for slices of their own.
#[inline]
pub(crate) fn push_behind(p: &P, g: Runnable) -> Submitted {
    if shared::is_overloaded() && g.g().is_newcomer() {
        return shared::lock().push_global_one(g);
    }
    match p.runq.push(g) {
        None => Submitted::ON_A_RING,
        Some(overflow) => {
            let mut list = GList::new();
            overflow.into_handles().for_each(|g| list.push_back(g));
            shared::lock().push_global(&mut list)
        }
    }
}

/// Sees to it that some M looks at what was submitted (steps S2 to S4 of the wake protocol). With the
/// scheduler's lock dropped. True if one was started; else some look already, or all Ps are busy.
#[inline]
pub(crate) fn tell(submitted: Submitted) -> bool {
    submitted.any() && tell_of_work()
}

/// As [`tell`], for work that was there before, such as that of a P that changes hands.
#[inline]
pub(crate) fn tell_of_work() -> bool {
    let must_wake = WAKE.must_wake();
    if must_wake {
        wake_p();
    }
    must_wake
}

/// After [`WakeState::must_wake`](crate::sched::wake::WakeState::must_wake) said so: starts a spinning M with an idle P.
#[cold]
fn wake_p() {
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
        tell_of_work();
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
