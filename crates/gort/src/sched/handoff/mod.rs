//! What becomes of a P that its M cannot go on with, or that is not in use.
//!
//! | a P that                                   | goes to                                       |
//! | ------------------------------------------ | --------------------------------------------- |
//! | has work, or would be the only one to look | an M: one that idles, or a new one            |
//! | for some                                   | ([`hand_off`])                                |
//! | has none                                   | the idle list ([`hand_off`])                  |
//! | is over: GOMAXPROCS went down, the world   | its collector ([`release_p`])                 |
//! | stops, it was a spare                      |                                               |
//! | wants an M, where none is to be had        | a goroutine that was preempted, which has its |
//! |                                            | thread ([`resume_preempted_on_unused`])       |
//! | idles, or wants an M, as an M whose P was  | that M ([`acquire_p`])                        |
//! | taken needs one                            |                                               |

use crate::sched::core::g::{G, GList, Runnable};
use crate::sched::core::m::{self, M};
use crate::sched::core::p::{self, P};
use crate::sched::io::{netpoll, poll};
use crate::sched::policy::{Class, SliceState};
use crate::sched::ready::{self, Pinned};
use crate::sched::shared::{self, WAKE};
use crate::sched::threads::pool;
use crate::sched::trace::{self, EventKind::*};
use crate::sys::sync::{AtomicU32, Ordering::*};
use crate::sys::{clock, futex, pin};

/// Counts the Ps that were released. Code that waits for them sleeps on it.
pub(crate) static RELEASED: AtomicU32 = AtomicU32::new(0);

/// Finds a use for a P whose M cannot go on with it, or puts it into the idle list.
pub(crate) fn hand_off(p: &'static P) {
    if p.is_over() {
        return release_p(p);
    }
    if !p.runq.is_empty() || !shared::global_is_empty() || p.timers.next_ns() <= clock::now_ns() {
        return give_to_m(p, false);
    }
    if WAKE.begin_spinning_alone() {
        return give_to_m(p, true);
    }
    {
        let mut s = shared::lock();
        if p.is_over() {
            drop(s);
            return release_p(p);
        }
        if !s.global_is_empty() {
            drop(s);
            return give_to_m(p, false);
        }
        p.unannounced.set(false);
        s.put_idle_p(p);
    }
    trace::point(ProcIdle, None, None, Some(p));
    let work = !shared::global_is_empty() || p::all().any(|p| !p.runq.is_empty());
    if work {
        ready::tell_of_work();
    }
    if netpoll::waiters() != 0 {
        poll::announce(poll::SOON_ENOUGH);
    }
    poll::announce_all();
}

fn give_to_m(p: &'static P, spinning: bool) {
    trace::point(ProcHandOff, None, None, Some(p));
    pool::start_m(p, spinning);
}

/// Gives a P that wants an M, or idles, to the goroutine that was stopped first, which has an M.
/// False: there is no such pair. Allocates nothing.
pub(crate) fn resume_preempted_on_unused() -> bool {
    let (g, (p, spinning)) = {
        let mut s = shared::lock();
        if s.stopped() == 0 {
            return false;
        }
        let unused = s.m_pool.take_wanting().or_else(|| s.take_idle_p().map(|p| (p, false)));
        let Some(unused) = unused else { return false };
        (s.pop_stopped().expect("asked above"), unused)
    };
    resume_preempted(g, p);
    if spinning {
        // The M does not look for work after all; another one may have to.
        WAKE.end_spinning();
        ready::tell_of_work();
    }
    true
}

/// Lets `g` go on with `p`. It was stopped, and the caller has taken it out of the list.
pub(crate) fn resume_preempted(g: Runnable, p: &'static P) {
    p.begin_run();
    p.slice.set(SliceState { running: Class::Expired, ..p.slice.get() });
    g.run_on_its_m().give(p, false);
}

/// Gets a P for `m`, whose P was taken while its goroutine `g` blocked the thread: one that is not
/// in use; else `g` is queued, and its thread sleeps until another M hands it a P. `computed`: `g`
/// has computed without a P, so it queues among the expired.
///
/// The caller is `g`, inside `blocking` or pinned. Allocates nothing.
#[cold]
pub(crate) fn acquire_p(m: &'static M, g: &'static G, computed: bool) {
    m.p.set(None); // so a signal finds nothing to do
    trace::point(SyscallEndBlocked, Some(g), Some(m), None);
    if !take_unused_p(m) {
        let bound = !g.bound_m.load(Relaxed).is_null();
        g.bound_m.store(std::ptr::from_ref(m).cast_mut(), Release);
        // SAFETY: the caller is `g`, on no queue, and waits for a P next.
        unsafe { ready::came_without_p(g, computed) };
        m.sleep(None);
        if !bound {
            g.bound_m.store(std::ptr::null_mut(), Relaxed);
        }
    }
    g.go_on();
    if let Some(p) = m.p.get() {
        p.begin_run(); // the thread may have taken long to come back
    }
    trace::point(Resume, Some(g), Some(m), m.p.get());
}

/// If sysmon has taken the P of the calling goroutine, gets another one.
#[cold]
pub(crate) fn get_p_if_taken() {
    pin::enter();
    if let Some(m) = m::current()
        && m.p.is_taken()
        && let Some(g) = m.g()
    {
        acquire_p(m, g, false);
    }
    pin::leave();
}

/// As [`pinned`](ready::pinned), for a goroutine outside `blocking`, which is to have a P.
pub(crate) fn pinned_with_p() -> Pinned {
    loop {
        if let Some(here) = ready::pinned() {
            return here;
        }
        get_p_if_taken();
    }
}

/// Gives `m` a P that idles or wants an M, if there is one. On the thread of `m`.
fn take_unused_p(m: &'static M) -> bool {
    let found = {
        let mut s = shared::lock();
        s.take_idle_p().map(|p| (p, false)).or_else(|| s.m_pool.take_wanting())
    };
    let Some((p, spinning)) = found else { return false };
    m.wire(p);
    m.spinning.set(spinning);
    ready::end_spinning(m);
    // A P that wanted an M has work in its ring, perhaps.
    ready::tell_of_work();
    true
}

/// Calls `f` with a spare P that is not in use, if there is one and the world goes on. If `f`
/// returns `None`, the spare is put back; else it is in use until it is released. Allocates
/// nothing.
pub(crate) fn with_spare(f: impl FnOnce(&'static P) -> Option<()>) {
    let spare = {
        let mut s = shared::lock();
        if s.world_stands() {
            return;
        }
        let Some(spare) = p::spares().find(|p| s.spares_in_use & p.spare_bit() == 0) else { return };
        s.spares_in_use |= spare.spare_bit();
        spare
    };
    if f(spare).is_none() {
        shared::lock().spares_in_use &= !spare.spare_bit();
        tell_collector();
    }
}

/// Gives up a P that is over, for good. Its owner is the caller. Allocates nothing.
pub(crate) fn release_p(p: &'static P) {
    p.m.store(std::ptr::null_mut(), Release);
    p.unannounced.set(false);
    let stops = !p.is_spare() && (p.id as usize) < p::procs();
    // While the world is stopped, its queue stays where it is.
    let mut queue = if stops { GList::new() } else { take_queue(p) };
    let submitted = {
        let mut s = shared::lock();
        if stops {
            s.stopped_ps += 1;
        } else if p.is_spare() {
            // Other Ps look after its timers.
            s.spares_in_use &= !p.spare_bit();
        } else {
            s.released_ps.push(p);
        }
        s.push_global(&mut queue)
    };
    tell_collector();
    ready::tell(submitted);
    poll::announce_all();
}

fn tell_collector() {
    RELEASED.fetch_add(1, Release);
    futex::wake(&RELEASED, 1);
}

pub(crate) fn take_queue(p: &P) -> GList {
    let mut list = GList::new();
    if let Some(next) = p.runq.take_next() {
        list.push_back(next);
    }
    list.append(&mut p.take_ring());
    list
}
