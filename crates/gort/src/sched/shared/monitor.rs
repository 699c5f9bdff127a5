//! What sysmon shows to all threads: the time of its last look, and the word that it sleeps on.

use crate::sched::wake::sysmon_word::{AWAKE, SysmonWord, UNTIMED};
use crate::sys::line::Line;
use crate::sys::sync::{AtomicU32, AtomicU64, Ordering::*};
use crate::sys::{clock, futex};

/// The clock as of sysmon's last look, for times that need not be exact ("2 minutes").
static COARSE_NS: Line<AtomicU64> = Line::new(AtomicU64::new(0));

/// See [`COARSE_NS`].
#[inline]
pub(crate) fn coarse_ns() -> u64 {
    COARSE_NS.load(Relaxed)
}

/// Where sysmon sleeps.
pub(crate) static SYSMON: SysmonWord = SysmonWord::new(AtomicU32::new(AWAKE));

/// Wakes sysmon if it is in `state`. The caller has published what sysmon is wanted for, and then
/// done a fence or taken the scheduler's lock.
#[inline]
pub(crate) fn interrupt(state: u32) {
    if SYSMON.interrupt(state) {
        if state == UNTIMED {
            COARSE_NS.store(clock::now_ns(), Relaxed); // it was not updated while sysmon slept
        }
        futex::wake(SYSMON.futex(), 1);
    }
}

/// Sets the clock as of sysmon's last look.
pub(crate) fn set_coarse_ns(now: u64) {
    COARSE_NS.store(now, Relaxed);
}
