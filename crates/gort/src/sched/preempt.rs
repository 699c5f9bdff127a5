//! The end of a time slice, noticed by the goroutine itself.
//!
//! Gort's calls that do not park count against a budget, and look at the mark that sysmon sets after 10 ms (`P::preempt`): a loop
//! around `try_recv` must not keep the goroutine that would send from running, nor timers from firing. When there is something else to
//! do, the goroutine goes behind the others, **on its own thread**: these calls are not documented to migrate it, so its P is handed off, it
//! is queued bound to its M, and the M sleeps until somebody hands it a P.
//!
//! Calls that may park anyway go behind the others by a plain switch.

use super::g::G;
use super::m::{Action, M};
use super::p::P;
use super::park;
use super::ready::current_m_with_p;
use super::{state, syscall};
use crate::sys::clock;
use crate::sys::sync::Ordering::Relaxed;

/// Calls between two looks at who else wants to run: long enough that a hand-off (some 10 µs) is a small part.
pub(crate) const BUDGET: u32 = 1024;

/// Begins a gort call, with no lock held. `parks`: it may park anyway, so it may migrate too.
#[inline]
pub(crate) fn checkpoint(parks: bool) {
    if let Some((m, p)) = current_m_with_p()
        && is_over(p)
    {
        look_around(m, p, parks);
    }
}

#[inline]
fn is_over(p: &P) -> bool {
    let left = p.budget.get().saturating_sub(1);
    p.budget.set(left);
    left == 0 || p.preempt.load(Relaxed)
}

#[cold]
fn look_around(m: &'static M, p: &'static P, parks: bool) {
    p.budget.set(BUDGET);
    let Some(g) = m.g() else { return };
    let due = || p.timers.next_ns() <= clock::now_ns();
    if p.runq.is_empty() && state::global_is_empty() && !due() {
        // Nobody else wants to run: a new slice.
        p.begin_slice();
    } else if parks {
        // SAFETY: `g` runs here; that is us.
        unsafe { park::leave(m, g, Action::Yield) };
    } else {
        give_way(m, p, g);
    }
}

fn give_way(m: &'static M, p: &'static P, g: &'static G) {
    m.p.set(None);
    syscall::come_back(m, g, || syscall::hand_off(p));
}
