//! Where a goroutine becomes runnable, and which M is told: the one place for both.
//!
//! | what has happened                        | function                                          |
//! | ---------------------------------------- | ------------------------------------------------- |
//! | its wait was ended                       | [`Wake::ready`]                                   |
//! | it was started                           | [`started`]                                       |
//! | it wanted to park, and a waker was first | [`not_parked`]                                    |
//! | it yields                                | [`yielded`]                                       |
//! | its P was taken as it blocked its thread | [`came_without_p`]                                |
//! | it is preempted                          | `preempt::stop`, which takes the scheduler's lock |
//! |                                          | for more than that                                |
//! | I/O or time has woken many               | `io::poll::collect`, which queues them together   |
//!
//! A runnable goroutine is a [`Runnable`]: the right to queue it or to run it. There is one of
//! these at a time.

use crate::sched::core::g::{G, GList, Runnable};
use crate::sched::core::m::{self, M};
use crate::sched::core::p::P;
use crate::sched::core::waiter::Wake;
use crate::sched::policy::AfterYield;
use crate::sched::shared::{self, Submitted, WAKE};
use crate::sched::threads::pool;
use crate::sys::pin;
use crate::sys::sync::is_child;

/// The M of this thread and the P that it holds. While this lives, the caller may use their owner
/// fields, for neither a signal nor sysmon takes the P away. To be dropped before a switch.
pub(crate) struct Pinned {
    pub(crate) m: &'static M,
    pub(crate) p: &'static P,
}

/// See [`Pinned`]; `None` where there is no P.
#[inline]
pub(crate) fn pinned() -> Option<Pinned> {
    pin::enter();
    if let Some(m) = m::current()
        && let Some(p) = m.p.hold()
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

/// Queues a runnable goroutine, to run soon: in front of the others, where a P is at hand. Takes
/// the scheduler's lock; G, M and P go on.
#[inline]
pub(crate) fn ready(g: Runnable) {
    let expires = g.g().take_expires();
    // Pinned to the end: an idle P that was claimed must be given to an M before this thread can be
    // stopped.
    let here = pinned();
    match &here {
        // A goroutine on the queue of a spare would not be stolen.
        Some(here) if !here.p.is_spare() && !expires => match here.p.runq.replace_next(g) {
            None if WAKE.must_wake_after_rmw() => wake_p(),
            None => {}
            // The swap is no fence for the store behind it.
            Some(old) => _ = tell(push_behind(here.p, old)),
        },
        None if is_child() => {} // in a forked child no goroutine runs
        _ => {
            let mut s = shared::lock();
            let submitted = if expires { s.push_expired(g, false) } else { s.push_global_one(g) };
            drop(s);
            tell(submitted);
        }
    }
}

/// Makes a new goroutine runnable.
///
/// # Safety
/// The caller has made `g`, and nothing else has it.
#[inline]
pub(crate) unsafe fn started(g: &'static G) {
    // SAFETY: the caller's promise.
    ready(unsafe { g.become_runnable() });
}

/// `g` was about to park on this M, and a waker was first: it is queued, to go on when its turn
/// comes.
///
/// # Safety
/// The caller is the M that `g` has just left, and its park was not committed.
#[inline]
pub(crate) unsafe fn not_parked(g: &'static G) {
    // SAFETY: the caller's promise.
    ready(unsafe { g.become_runnable() });
}

/// Queues `g`, which yields on `p`, where it `goes`. `bound`: its own M must find it. "What yields"
/// in `wake/README.md` says whether an M need be told.
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

/// Queues `g`, which has blocked its thread, and whose P was taken meanwhile. It is bound to its M.
/// `computed`: it has computed without a P.
///
/// # Safety
/// The caller is `g`, and on no queue.
pub(crate) unsafe fn came_without_p(g: &'static G, computed: bool) {
    // SAFETY: the caller's promise.
    let g = unsafe { g.become_runnable() };
    let submitted = match computed {
        true => shared::lock().push_expired(g, true),
        false => shared::lock().push_global_one(g),
    };
    // A P may have come to the idle list since the caller looked.
    tell(submitted);
}

/// The caller parks next, until `g` ends. If `g` is the last goroutine that was queued, it goes
/// before the others, as one that the caller has made ready. So a caller that forks and joins has
/// its last child run first, whose stack and data are warm, and not all children of all callers at
/// once.
#[inline]
pub(crate) fn prefer(g: &'static G) {
    // Pinned to the end: a thread that has taken `g` out must not be stopped.
    if let Some(here) = pinned()
        && here.p.runq.peek_next().is_none()
        && let Some(g) = here.p.runq.take_last(std::ptr::from_ref(g).cast_mut())
    {
        ready(g);
    }
}

/// Puts a runnable goroutine behind the others of `p`, whose owner is the caller. If the ring is
/// full, half of it goes to the global queue. Under overload a newcomer goes there at once, and
/// waits for slices of its own.
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

/// Sees to it that some M looks at what was submitted (steps S2 to S4 of the wake protocol). Called
/// with the scheduler's lock dropped. True: an M was started. False: nothing was submitted, some M
/// looks already, or all Ps are busy.
#[inline]
pub(crate) fn tell(submitted: Submitted) -> bool {
    submitted.any() && tell_of_work()
}

/// As [`tell`], for work that was there before, such as the work of a P that changes hands.
#[inline]
pub(crate) fn tell_of_work() -> bool {
    let must_wake = WAKE.must_wake();
    if must_wake {
        wake_p();
    }
    must_wake
}

/// Starts a spinning M with an idle P. For after
/// [`WakeState::must_wake`](crate::sched::wake::WakeState::must_wake) has returned true.
#[cold]
fn wake_p() {
    loop {
        let idle = shared::lock().take_idle_p();
        if let Some(p) = idle {
            return pool::start_m(p, true);
        }
        // Another thread was faster. Had a P come to the list since, its M would have seen the
        // work; but look.
        WAKE.end_spinning();
        if !WAKE.must_wake() {
            return;
        }
    }
}

/// `m` has found work, and looks no longer. If another M should look, starts one (steps F1 to S4 of
/// the wake protocol).
pub(crate) fn end_spinning(m: &M) {
    if m.spinning.replace(false) {
        WAKE.end_spinning();
        tell_of_work();
    }
}

impl Wake {
    /// Makes the waiter go on. Takes the scheduler's locks; call it with no locks of yours held
    /// where you can.
    pub(crate) fn ready(self) {
        if let Some(g) = self.into_goroutine() {
            ready(g);
        }
    }
}
