//! The scheduler's loop: what an M does on g0.
//!
//! ```text
//!   find a goroutine ──▶ execute: attach a stack, switch
//!      ▲                        │
//!      │                        ▼
//!      └── settle ◀── it parks │ yields │ exits
//! ```
//!
//! # Bound goroutines
//! A goroutine with `bound_m` runs on that M alone: it comes out of `blocking` without a P, or
//! holds `lock_os_thread`, or unwinds in shared mode. An M that finds such a goroutine in a queue
//! hands its own P to that M ([`M::give`]), and stops. An M whose bound goroutine has parked hands
//! its P off, and sleeps until another M hands it one that way.
//!
//! Goroutines also switch to each other, past this loop (`direct.rs`). So the goroutine that comes
//! back to g0 need not be the one that was resumed.
//!
//! # Invariants
//! 1. After a park is committed nothing here touches the goroutine: it may run on another M
//!    already.
//! 2. A stack is put away by code on another stack, when the goroutine has left it for good.

use crate::sched::core::frozen::is_frozen;
use crate::sched::core::g::G;
use crate::sched::core::m::{Action, M};
use crate::sched::policy::AfterYield;
use crate::sched::ready::end_spinning;
use crate::sched::run::stacks::{attach, put_away};
use crate::sched::run::{find, slice};
use crate::sched::shared;
use crate::sched::threads::pool;
use crate::sched::{handoff, ready, swap};
use crate::sys::membarrier::fence_light;
use crate::sys::pin;
use crate::sys::sync::Ordering::*;
use std::ptr::null_mut;

/// Runs goroutines until the thread is to end. On g0, with a P.
pub(crate) fn schedule(m: &'static M) {
    while let Some(g) = find::find(m) {
        let bound = g.g().bound_m.load(Acquire);
        if bound.is_null() || std::ptr::eq(bound, m) {
            if !execute(m, g.claim()) {
                return;
            }
            continue;
        }
        let p = m.p.take().expect("`find` returns with a P");
        p.begin_run();
        end_spinning(m);
        g.run_on_its_m().give(p, false);
        if !pool::stop_m(m) {
            return;
        }
    }
}

/// Runs `g`, which the caller took from a queue, and the goroutines that it switches to, until one
/// comes back that parks, yields or ends. False means that the thread is to end.
fn execute(m: &'static M, mut g: &'static G) -> bool {
    end_spinning(m);
    loop {
        let p = m.p.get().expect("an M that executes has a P");
        p.begin_run();
        if g.sp.load(Relaxed) == 0 {
            attach(p, g);
        }
        if is_frozen() {
            m.sleep_for_good();
        }
        g.begin_running(); // before the look, see `core/swap_word.rs`
        fence_light();
        if !g.swap.is_home() {
            swap::bring_back(g);
        }
        m.g.store(std::ptr::from_ref(g).cast_mut(), Release); // see `syscall/outside.rs`
        pin::enter(); // `direct.rs`, invariant 2
        // SAFETY: `g` was taken from a queue (or resumed below), so this M owns it. This is g0.
        unsafe { m.resume(g) };
        m.g.store(null_mut(), Relaxed);
        pin::leave();
        g = m.left.take().expect("a goroutine has left");
        let bound = std::ptr::eq(g.bound_m.load(Relaxed), m);
        match m.action.get() {
            Action::Park => {
                g.begin_waiting();
                if !g.waiter.commit_park() {
                    // A waker was first. The goroutine goes on as if it had not parked. But it goes
                    // behind the goroutine that it took from a queue for g0, if there is one. (Then
                    // it is not bound.)
                    if m.has_found() {
                        // SAFETY: it has left its stack, and is not parked.
                        unsafe { ready::not_parked(g) };
                        return true;
                    }
                    continue;
                }
            }
            Action::Yield => {
                let p = m.p.get().expect("it yielded with a P");
                let goes = slice::after_yield(p);
                if goes == AfterYield::Runs && !m.has_found() {
                    continue;
                }
                // This M looks next, or hands `p` off.
                // SAFETY: it has left its stack to this M, which has `p`.
                unsafe { ready::yielded(p, g, goes, bound) }.seen_to();
            }
            Action::Exit => return retire(m, g),
        }
        if !bound {
            return true;
        }
        // This M does not own the goroutine any more, but no other M may run it.
        shared::lock().waiting_bound += 1;
        handoff::hand_off(m.p.take().expect("it parked with a P"));
        m.sleep(None);
        shared::lock().waiting_bound -= 1;
    }
}

/// Called when a goroutine has ended. False means that the thread was locked to it, and ends too.
fn retire(m: &'static M, g: &'static G) -> bool {
    let locked = g.is_locked_to_thread();
    put_away(m.p.get().expect("it exited with a P"), g);
    if !locked {
        return true;
    }
    let p = m.p.take().expect("as above");
    shared::lock().m_pool.end_busy();
    handoff::hand_off(p);
    false
}
