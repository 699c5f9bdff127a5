//! All Ps wait for what a stopped goroutine holds: then one of those stopped runs.
//!
//! A goroutine that was stopped inside malloc owns an arena's lock; inside `fork`, all of them. An M may need such a lock in the scheduler,
//! where it cannot be stopped: it keeps its P. The template thread may need it to make a thread for a P. When all Ps are kept so, nobody would
//! ever come to hand one to the owner.
//!
//! Sysmon sees that: somebody is stopped, and for 50 ms each P has been without a thread, or its M in the scheduler, or not to be stopped when it was
//! asked (pinned, or `no_preempt`), and none has gone on to another goroutine; and all those Ms sleep in the kernel. (They are asked again and again, which
//! wakes them up for a moment; so sysmon looks before it asks, and one look that finds an M awake does not begin the 50 ms anew.)
//!
//! Then the goroutine that was stopped first gets a P that waits for a thread or idles (an M for it was asked for, and is not coming), or else
//! a spare: a P beyond GOMAXPROCS, which goes away when the goroutine next comes through the scheduler or is stopped again. Then it is at once
//! the next one's turn (a P that waited for a thread goes round among those who were stopped, as long as none is to be had), until somebody has let
//! go of what all wait for. One that comes to wait for it too, where it cannot be stopped, keeps its spare, and the next one gets another; there
//! are a few.
//!
//! Meanwhile no more than GOMAXPROCS goroutines compute: the others' Ms sleep.

use super::handler;
use crate::sched::core::p::{self, P};
use crate::sched::{handoff, shared};
use crate::sys::sync::Ordering::*;
use crate::sys::thread;

/// How long all Ps must be kept.
const PATIENCE_NS: u64 = 50_000_000;
/// After this long a thread of which that cannot be found out counts as sleeping.
const LONG_NS: u64 = 1_000_000_000;

/// What sysmon saw of it.
#[derive(Default)]
pub(crate) struct Rescue {
    /// Since when no P has gone on, and how often they had switched then.
    since_ns: Option<u64>,
    runs: u64,
}

impl Rescue {
    /// Looks, and helps if needed: true. On sysmon, at each look, before it asks anybody to stop.
    pub(crate) fn look(&mut self, now: u64) -> bool {
        let runs = p::all().map(|p| p.stats.schedules.get()).sum();
        if runs != self.runs || !nobody_can_be_stopped() {
            self.runs = runs;
            self.since_ns = None;
            return false;
        }
        let since = *self.since_ns.get_or_insert(now);
        let helps = now >= since + PATIENCE_NS;
        let unknown = now >= since + LONG_NS;
        let all_wait =
            || p::all().chain(p::spares()).all(|p| cannot_be_stopped(p) && sleeps(p).unwrap_or(unknown));
        if helps && all_wait() && !handoff::resume_preempted_on_unused() {
            handoff::with_spare(|spare| {
                let first = shared::lock().pop_stopped()?;
                handoff::resume_preempted(first, spare);
                Some(())
            });
        }
        helps
    }
}

fn nobody_can_be_stopped() -> bool {
    !shared::global_is_empty() && p::all().all(cannot_be_stopped) && shared::lock().stopped() != 0
}

/// Whether `p` has no thread (yet), or its M is in the scheduler, or was pinned when it was asked.
fn cannot_be_stopped(p: &P) -> bool {
    p.m().is_none_or(|m| m.g().is_none() || handler::has_declined(p))
}

/// Whether the thread of `p`'s M, if there is one, sleeps in the kernel; `None` where that cannot be found out.
fn sleeps(p: &P) -> Option<bool> {
    match p.m().map_or(0, |m| m.tid.load(Acquire)) {
        0 => Some(true),
        tid => thread::is_asleep(tid),
    }
}
