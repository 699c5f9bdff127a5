//! The word of the raw lock.
//!
//! ```text
//!   FREE ──lock: compare-and-swap──▶ HELD ──unlock: store──▶ FREE
//! ```
//! Unlocking is a plain store. A waiter checks the word again by itself: it first spins, then
//! sleeps for longer and longer times. So no wake-up can be lost, and the holder pays for one
//! read-modify-write instead of two, which saves a fifth of the cost of a channel operation.
//!
//! Nearly all critical sections take some ten nanoseconds, so a waiter sleeps only when the system
//! has taken the CPU from the holder; then sleeping is right. Two kinds of sections are longer:
//!
//! - The swapper's. After it has swapped a stack out, it checks whether a thread sleeps for the
//!   lock, and if so pauses, so that the thread gets it.
//! - Those that change the number of Ps or stop the world. The threads that wait for them have no
//!   P.
//!
//! Model: `crates/gort-models/tests/lock.rs`.
//!
//! # Rejected
//! - A third state that tells the holder to wake a sleeper (as in Go and parking_lot): unlocking is
//!   then a swap, 5 ns more each time.
//! - A flag beside the state and an asymmetric fence (`membarrier.rs`) on the sleeper's side: one
//!   more proof, for a wake-up that is rarely needed and would come only some microseconds sooner.
//! - Exponential waits that begin with one pause: a waiter that checks so soon takes the cache line
//!   from the holder. A channel that two Ps used without a break took two to four times as long.

use crate::sys::sync::{AtomicU32, Ordering::*, pause, sleep_between};
use std::time::Duration;

const FREE: u32 = 0;
const HELD: u32 = 1;

/// The spin phase: each check comes after two to the power of this many pauses (22 ns each on
/// Zen 5), some microseconds in total. A holder that comes back at once still has the line in its
/// cache, so it does several sections per transfer of the line. Checking sooner than this takes the
/// line from it; checking later leaves the lock idle where it is taken seldom.
const SPINS: std::ops::Range<u32> = 3..7;
/// The first sleep; each is twice as long as the one before.
const FIRST_SLEEP: Duration = Duration::from_micros(10);
/// The longest sleep: a free lock may stay untaken for this long while a waiter keeps its P.
const LONGEST_SLEEP: Duration = Duration::from_micros(100);

pub(super) struct LockWord {
    state: AtomicU32,
    /// How many threads sleep for it.
    sleepers: AtomicU32,
}

impl LockWord {
    /// A free lock, from two zeroes.
    pub(super) const fn new(state: AtomicU32, sleepers: AtomicU32) -> LockWord {
        LockWord { state, sleepers }
    }

    /// Takes the lock: spins a little, then sleeps.
    #[inline]
    pub(super) fn lock(&self) {
        if self.state.compare_exchange_weak(FREE, HELD, Acquire, Relaxed).is_err() {
            self.lock_slow();
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
    }

    /// Releases the lock; only its holder may call this.
    #[inline]
    pub(super) fn unlock(&self) {
        self.state.store(FREE, Release);
    }

    /// Whether a thread sleeps for the lock.
    pub(super) fn is_wanted(&self) -> bool {
        self.sleepers.load(Relaxed) != 0
    }

    #[cold]
    fn lock_slow(&self) {
        for spin in SPINS {
            pause(1 << spin);
            if self.take_if_free() {
                return;
            }
        }
        self.sleepers.fetch_add(1, Relaxed);
        let mut time = FIRST_SLEEP;
        for nth in 0.. {
            sleep_between(time, nth);
            if self.take_if_free() {
                break;
            }
            time = (2 * time).min(LONGEST_SLEEP);
        }
        self.sleepers.fetch_sub(1, Relaxed);
    }

    #[inline]
    fn take_if_free(&self) -> bool {
        self.state.load(Relaxed) == FREE
            && self.state.compare_exchange_weak(FREE, HELD, Acquire, Relaxed).is_ok()
    }
}
