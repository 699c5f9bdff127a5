//! The nap of sysmon: it sleeps unless it is wanted, and who wants it wakes it. Model:
//! `crates/gort-models/tests/syscall.rs`.
//!
//! | state  | sysmon                 | woken by                                                |
//! | ------ | ---------------------- | ------------------------------------------------------- |
//! | AWAKE  | looks                  |                                                         |
//! | TIMED   | naps, milliseconds     | who enters `blocking` with a P that others could use    |
//! | UNTIMED | sleeps, all Ps idle    | who takes a P out of the idle list                      |
//!
//! # Why it does not oversleep
//! Who wants it publishes why (N1), fences (N2), reads the state (N3). It sets the state (M1), fences (M2), looks for reasons (M3), sleeps
//! while the state lasts. Either N2 is before M2, and M3 sees the reason, or M2 is before N2, and N3 sees the state. UNTIMED is set
//! and asked under the scheduler's lock, which orders the two as well.

use crate::sys::sync::{AtomicU32, Ordering::*, fence};

pub(crate) const AWAKE: u32 = 0;
/// See the module's head.
pub(crate) const TIMED: u32 = 1;
/// See the module's head.
pub(crate) const UNTIMED: u32 = 2;

/// See the module's head.
pub(crate) struct SysmonWord(AtomicU32);

impl SysmonWord {
    pub(crate) const fn new(awake: AtomicU32) -> SysmonWord {
        SysmonWord(awake)
    }

    /// Sysmon's step M1 and M2; M3 is the caller's.
    pub(crate) fn begin(&self, state: u32) {
        self.0.store(state, Relaxed);
        fence(SeqCst);
    }

    /// Sysmon is up again. False: somebody woke it.
    pub(crate) fn end(&self, state: u32) -> bool {
        self.0.compare_exchange(state, AWAKE, Acquire, Relaxed).is_ok()
    }

    /// Whether sysmon is still to sleep.
    pub(crate) fn lasts(&self, state: u32) -> bool {
        self.0.load(Acquire) == state
    }

    /// Step N3, after a fence of the caller's. True: the caller must wake the thread that sleeps on [`futex`](Self::futex).
    #[inline]
    pub(crate) fn interrupt(&self, state: u32) -> bool {
        self.0.load(Relaxed) == state && self.0.compare_exchange(state, AWAKE, Release, Relaxed).is_ok()
    }

    pub(crate) fn futex(&self) -> &AtomicU32 {
        &self.0
    }
}
