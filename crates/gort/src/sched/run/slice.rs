//! The end of a slice on a P: which goroutine is charged, and what the next one is for
//! (`policy/`).

use crate::sched::core::g::{GList, Runnable};
use crate::sched::core::p::P;
use crate::sched::io::netpoll;
use crate::sched::policy::{self, AfterYield, Class, SliceState};
use crate::sched::ready;
use crate::sched::shared::{self, Shared, Submitted};
use crate::sys::sync::Ordering::*;

/// Called when the slice of `p` was marked as over, and no goroutine runs there: the one that has
/// just left has handed over to `next`, or waits. Owner only.
#[cold]
pub(crate) fn end_between(p: &P) {
    if !others_wait(p) {
        return p.begin_slice();
    }
    let submitted = end(p, &mut shared::lock(), None);
    ready::tell(submitted);
}

/// Whether goroutines other than `next` wait, or the kernel may have something for some.
fn others_wait(p: &P) -> bool {
    p.runq.ring_len() != 0 || !shared::global_is_empty() || netpoll::waiters() != 0
}

/// Ends the slice of `p`. It is charged to `stopped`, which was running, or else to `next`. Owner
/// only. Allocates nothing.
pub(crate) fn end(p: &P, s: &mut Shared, stopped: Option<Runnable>) -> Submitted {
    let parties = s.parties(p);
    let mut account = p.account.get();
    let mut first = account.charge(policy::charged(p.purpose.get(), p.slice.get().running), parties);
    p.account.set(account);
    let mut submitted = match (stopped, p.runq.take_next()) {
        (Some(g), next) => {
            let stopped = s.push_expired(g, true);
            match next.and_then(|next| p.runq.push(next)) {
                None => stopped,
                Some(overflow) => {
                    let mut list = GList::new();
                    overflow.into_handles().for_each(|g| list.push_back(g));
                    stopped.and(s.push_global(&mut list))
                }
            }
        }
        (None, Some(next)) => s.push_expired(next, false),
        (None, None) => Submitted::NOTHING,
    };
    if let Some(n) = policy::one_in(s.stopped()) {
        submitted = submitted.and(s.push_global(&mut p.take_ring()));
        if p.random(n) == 0 {
            first = Class::Newcomers;
        }
    }
    let yielders = p.charged_yielders.get();
    if first == Class::Active && yielders >= policy::YIELDERS && netpoll::waiters() != 0 {
        p.charged_yielders.set(0);
        first = Class::Readable;
    }
    p.slice.set(SliceState { first, ..p.slice.get() });
    p.purpose.set(first);
    p.begin_slice();
    submitted
}

/// Where a goroutine goes that yields on `p`. Owner only.
pub(crate) fn after_yield(p: &P) -> AfterYield {
    let over = p.preempt.load(Relaxed) && others_wait(p);
    let goes = policy::after_yield(p.slice.get(), over, p.runs_in_slice());
    if goes == AfterYield::Expires {
        p.charged_yielders.set(p.charged_yielders.get().saturating_add(1));
    }
    goes
}
