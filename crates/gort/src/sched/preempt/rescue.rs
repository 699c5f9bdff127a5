//! All Ps wait for what a stopped goroutine holds: then one of those stopped runs.
//!
//! A goroutine that was stopped inside malloc owns an arena's lock; inside `fork`, all of them. An M may need such a lock in the scheduler,
//! where it cannot be stopped: it keeps its P. The template thread may need it to make a thread for a P. When all Ps are kept so, nobody would
//! ever come to hand one to the owner.
//!
//! Sysmon sees that: somebody is stopped, and for 50 ms each P has been without a thread, or its M sleeps in the kernel in the scheduler, or
//! pinned. Then the goroutine that was stopped first gets a P that waits for a thread, or else the spare: a P beyond GOMAXPROCS, which goes
//! away when the goroutine next comes through the scheduler or is stopped again. Then it is the next one's turn.
//!
//! Meanwhile no more than GOMAXPROCS goroutines compute: the others' Ms sleep.

use super::super::p::{self, P};
use super::super::state::{self, WAKE};
use super::super::{procs, threads};
use super::handler;
use crate::sys::sync::Ordering::*;
use crate::sys::thread;

/// How long all Ps must be kept.
const PATIENCE_NS: u64 = 50_000_000;

/// What sysmon saw of it.
#[derive(Default)]
pub(in super::super) struct Rescue {
    since_ns: Option<u64>,
}

impl Rescue {
    /// Looks, and helps if needed. On sysmon, at each look.
    pub(in super::super) fn look(&mut self, now: u64) {
        if !all_are_stuck() {
            self.since_ns = None;
            return;
        }
        let since = *self.since_ns.get_or_insert(now);
        if now >= since + PATIENCE_NS {
            self.since_ns = None;
            if !threads::resume_preempted_on_wanting() {
                procs::with_spare(|spare| {
                    let first = state::lock().pop_preempted()?;
                    threads::resume_preempted(first, spare);
                    Some(())
                });
            }
        }
    }
}

fn all_are_stuck() -> bool {
    WAKE.idle_ps() == 0
        && !state::global_is_empty()
        && p::all().all(is_stuck)
        && state::lock().preempted() != 0
}

/// Whether `p`, which does not idle, has no thread yet, or its M sleeps where it cannot be stopped: in the scheduler, or pinned
/// when it was asked.
fn is_stuck(p: &P) -> bool {
    let Some(m) = p.m() else { return true };
    let tid = m.tid.load(Acquire);
    let pinned = m.g().is_none() || m.declined.load(Acquire) == handler::slice(p);
    tid == 0 || pinned && thread::is_asleep(tid)
}
