//! The word that sysmon sleeps on: sysmon sleeps unless it is wanted, and code that wants it wakes
//! it. Model: `crates/gort-models/tests/syscall.rs`.
//!
//! | state   | sysmon                   | woken by                                                |
//! | ------- | ------------------------ | ------------------------------------------------------- |
//! | AWAKE   | looks                    |                                                         |
//! | TIMED   | sleeps some milliseconds | a goroutine that enters `blocking` with a P that others |
//! |         |                          | could use; a thread that has queued urgent goroutines   |
//! |         |                          | and started no M for them                               |
//! | UNTIMED | sleeps, all Ps idle      | an M that takes a P out of the idle list                |
//!
//! # Why it does not oversleep
//! | party              | step | what it does                                    |
//! | ------------------ | ---- | ----------------------------------------------- |
//! | code that wants it | N1   | publishes the reason                            |
//! |                    | N2   | full fence                                      |
//! |                    | N3   | reads the state                                 |
//! | sysmon             | M1   | sets the state                                  |
//! |                    | M2   | full fence                                      |
//! |                    | M3   | looks for reasons; sleeps while the state lasts |
//!
//! Either N2 is before M2, and M3 sees the reason; or M2 is before N2, and N3 sees the state.
//! UNTIMED is set and read under the scheduler's lock, which orders the two as well.

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

    /// Sysmon's steps M1 and M2; the caller does M3.
    pub(crate) fn begin(&self, state: u32) {
        self.0.store(state, Relaxed);
        fence(SeqCst);
    }

    /// Sysmon is awake again. False: other code woke it.
    pub(crate) fn end(&self, state: u32) -> bool {
        self.0.compare_exchange(state, AWAKE, Acquire, Relaxed).is_ok()
    }

    /// Whether sysmon still has to sleep.
    pub(crate) fn lasts(&self, state: u32) -> bool {
        self.0.load(Acquire) == state
    }

    /// Step N3; the caller has done the fence. True: the caller must wake the thread that sleeps on
    /// [`futex`](Self::futex).
    #[inline]
    pub(crate) fn interrupt(&self, state: u32) -> bool {
        self.0.load(Relaxed) == state && self.0.compare_exchange(state, AWAKE, Release, Relaxed).is_ok()
    }

    pub(crate) fn futex(&self) -> &AtomicU32 {
        &self.0
    }
}
