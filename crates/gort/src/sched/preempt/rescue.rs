//! When all Ps wait for what a stopped goroutine holds, this lets stopped goroutines run.
//!
//! # The problem
//! A goroutine that was stopped inside malloc owns the lock of an arena. Two parties
//! may need such a lock:
//! - an M in the scheduler. It cannot be stopped there, so it keeps its P.
//! - the template thread, to make a thread for a P.
//!
//! When all Ps are kept like that, none would ever be handed to the lock's owner.
//!
//! # How sysmon sees it
//! There are stopped goroutines, and for 50 ms the following has held:
//! - Each P had no thread, or its M was in the scheduler, or its goroutine could not be stopped
//!   when it was asked (pinned, or `no_preempt`).
//! - No P has gone on to another goroutine.
//! - All those Ms sleep in the kernel.
//!
//! Asking an M to stop wakes it up for a moment, and sysmon asks again and again. So sysmon looks
//! before it asks, and a single look that finds an M awake does not begin the 50 ms anew.
//!
//! # What it does
//! The goroutine that was stopped first gets a P:
//! - one that waits for a thread, or idles (an M was asked for it, and does not come);
//! - else a spare: a P beyond GOMAXPROCS. It goes away when the goroutine next comes through the
//!   scheduler or is stopped again.
//!
//! Then the next stopped goroutine gets its turn at once, until one has released what all wait for.
//! A P that waited for a thread goes round among the stopped goroutines as long as no thread is to
//! be had. If a goroutine on a spare comes to wait for the same lock, where it cannot be stopped,
//! it keeps its spare, and the next goroutine gets another one. There are a few spares.
//!
//! Meanwhile no more than GOMAXPROCS goroutines compute: the others' Ms sleep.

use super::handler;
use crate::sched::core::p::{self, P};
use crate::sched::{handoff, shared};
use crate::sys::sync::Ordering::*;
use crate::sys::thread;

/// How long all Ps must be kept before this helps.
const PATIENCE_NS: u64 = 50_000_000;
/// If it cannot be found out whether a thread sleeps, it counts as sleeping after this long.
const LONG_NS: u64 = 1_000_000_000;

/// What sysmon has seen so far.
#[derive(Default)]
pub(crate) struct Rescue {
    /// Since when no P has gone on, and how often the Ps had switched by then.
    since_ns: Option<u64>,
    runs: u64,
}

impl Rescue {
    /// Looks, and helps if needed; then true. On sysmon, at each look, before it asks any goroutine
    /// to stop.
    pub(crate) fn look(&mut self, now: u64) -> bool {
        let runs = p::all().map(|p| p.stats.schedules.get()).sum();
        if runs != self.runs || !none_can_be_stopped() {
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

fn none_can_be_stopped() -> bool {
    !shared::global_is_empty() && p::all().all(cannot_be_stopped) && shared::lock().stopped() != 0
}

/// Whether `p` has no thread (yet), or its M is in the scheduler, or its goroutine could not be
/// stopped when it was asked.
fn cannot_be_stopped(p: &P) -> bool {
    p.m().is_none_or(|m| m.g().is_none() || handler::has_declined(p))
}

/// Whether the thread of `p`'s M sleeps in the kernel. True if there is no thread; `None` where
/// that cannot be found out.
fn sleeps(p: &P) -> Option<bool> {
    match p.m().map_or(0, |m| m.tid.load(Acquire)) {
        0 => Some(true),
        tid => thread::is_asleep(tid),
    }
}
