//! A goroutine that blocks its thread outside `blocking`: in std, in C, in a page fault. Sysmon
//! takes its P without a signal.
//!
//! # What happens
//! ```text
//!   the goroutine                         sysmon
//!   ─────────────                         ──────
//!   sleeps in the kernel, with its P
//!                                         others could use the P: is the thread asleep?
//!                                         mark; heavy fence; is it in user code, unpinned?
//!                                         claim; hands the P off; keeps an eye on the M
//!   wakes up, goes on without a P
//!     at its next gort call, or park:     finds the thread running, for a millisecond:
//!       acquire_p                           SIGURG, whose handler does acquire_p
//! ```
//! So what sleeps sees no signal of the runtime, and no `EINTR`. The price: between the wake-up and
//! the next gort call (or the signal) a goroutine runs that has no P, beside GOMAXPROCS others.
//!
//! # When sysmon may claim
//! `core/held_p.rs` has the word, and the proof for a thread that is in a goroutine's code. Sysmon
//! makes sure of that, with these looks in this order:
//! 1. The count of runs on the P; then the goroutine that is on the M.
//! 2. Mark, heavy fence.
//! 3. No section is open on the goroutine's block, and none on the thread's own but that of g0,
//!    which has resumed a goroutine.
//! 4. The same goroutine, and then the same count of runs.
//!
//! A goroutine that comes to the M counts as a run of its P before the M names it. So the same
//! goroutine and the same count mean that the goroutine was on the thread all the time, and the
//! depth that was read in between was that of its thread. On g0, and while it switches, the thread
//! is pinned on the block that it comes from.
//!
//! The blocks may be gone when sysmon reads them: a thread ends, a stack is swapped out. So it has
//! the kernel read them, which says no then.

use crate::sched::core::m::M;
use crate::sched::core::p::P;
use crate::sched::shared::monitor;
use crate::sched::trace::{self, EventKind::*};
use crate::stack::switch::FsMode;
use crate::sys::sync::{AtomicBool, Ordering::*};
use crate::sys::{membarrier, memory, pin, thread};

/// Whether the kernel has what [`take`] needs.
static IS_POSSIBLE: AtomicBool = AtomicBool::new(false);

/// See [`IS_POSSIBLE`]: it does.
pub(crate) fn enable() {
    IS_POSSIBLE.store(true, Release);
}

/// Whether Ps are taken from threads that sleep. If not, they are asked by a signal.
pub(crate) fn is_possible() -> bool {
    IS_POSSIBLE.load(Acquire)
}

/// Whether `p` is to be taken by sysmon, as a goroutine blocks its thread there.
pub(crate) fn is_asleep(p: &P) -> bool {
    let m = p.m().filter(|m| is_possible() && m.g().is_some());
    m.is_some_and(|m| thread::is_asleep(m.tid.load(Acquire)) == Some(true))
}

/// Takes `p` from the goroutine that runs there, whose thread sleeps in the kernel. Returns its M,
/// which goes on without a P; `None` where the thread needs its P, or did so a moment ago. Only
/// sysmon calls this.
#[must_use = "the P belongs to the caller"]
pub(crate) fn take(p: &'static P) -> Option<&'static M> {
    let runs = p.stats.schedules.get();
    let m = p.m()?;
    let g = m.g()?;
    let own = m.fs.load(Acquire);
    // In shared mode the goroutine has closed g0's section, on the same block.
    let (block, of_g0) = match m.fixed.mode {
        FsMode::Shared => (own, 0),
        _ => (g.tp.load(Acquire), 1),
    };
    if !m.p.mark(p) {
        return None;
    }
    g.seems_outside(monitor::coarse_ns());
    let is_in_user_code = membarrier::fence_heavy().is_ok()
        && memory::peek([pin::place(block), pin::place(own)]) == Some([0, of_g0])
        && m.g().is_some_and(|now| std::ptr::eq(now, g))
        && p.stats.schedules.get() == runs;
    if !is_in_user_code || !m.p.claim(p) {
        m.p.unmark(p);
        g.seems_inside();
        return None;
    }
    trace::point(SyscallBegin, Some(g), Some(m), Some(p));
    trace::point(ProcSteal, None, Some(m), Some(p));
    Some(m)
}
