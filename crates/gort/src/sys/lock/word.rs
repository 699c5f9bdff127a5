//! The word of the raw lock.
//!
//! ```text
//!   FREE ──lock: compare-and-swap──▶ HELD ──unlock: store──▶ FREE
//! ```
//! Unlocking is a plain store: who waits looks again by itself, first spinning, then after sleeps that get longer. So there is
//! no wake-up that could be lost, and the holder pays for one read-modify-write instead of two, which is a fifth of what an
//! operation on a channel costs. Nearly all sections are some ten nanoseconds long, so somebody sleeps only where the system took
//! the processor from the holder; then a sleep is what helps. Two are longer: the swapper's, who looks whether somebody sleeps and stands aside
//! then, and those that change the number of Ps or stop the world, where who waits has no P. Model: `crates/gort-models/tests/lock.rs`.
//!
//! # Rejected
//! A third state that tells the holder to wake a sleeper (as in Go and parking_lot): unlocking is then a swap, 5 ns
//! more each time. A flag beside the state and an asymmetric fence (`membarrier.rs`) on the sleeper's side: a proof more, for a wake-up
//! that seldom comes, and then some microseconds sooner. Exponential waits from one pause on: whoever looks so soon takes the line from the holder.
//! A channel that two Ps use without a break took two to four times as long.

use crate::sys::sync::{AtomicU32, Ordering::*, nap, pause};
use std::time::Duration;

const FREE: u32 = 0;
const HELD: u32 = 1;

/// Looks before the thread sleeps, each after two to the power of these pauses (22 ns each on Zen 5): some microseconds together. A holder
/// that comes back at once has the line in its cache meanwhile, and does several sections for one transfer; to look sooner than this takes the line from it,
/// later lets the lock lie idle where others take it seldom.
const LOOKS: std::ops::Range<u32> = 3..7;
/// The first sleep; each is twice as long as the one before.
const FIRST_SLEEP: Duration = Duration::from_micros(10);
/// The longest: so much later than it could have been may the lock be taken, with a P that waits.
const LONGEST_SLEEP: Duration = Duration::from_micros(100);

pub(super) struct LockWord {
    state: AtomicU32,
    /// How many sleep for it.
    sleepers: AtomicU32,
}

impl LockWord {
    /// Free; made of two zeroes.
    pub(super) const fn new(state: AtomicU32, sleepers: AtomicU32) -> LockWord {
        LockWord { state, sleepers }
    }

    /// Takes it, spinning a little and then sleeping.
    #[inline]
    pub(super) fn lock(&self) {
        if self.state.compare_exchange_weak(FREE, HELD, Acquire, Relaxed).is_err() {
            self.lock_slow();
        }
    }

    /// Takes it if it is free.
    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
    }

    /// Gives it back; only its holder.
    #[inline]
    pub(super) fn unlock(&self) {
        self.state.store(FREE, Release);
    }

    /// Whether somebody sleeps for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.sleepers.load(Relaxed) != 0
    }

    #[cold]
    fn lock_slow(&self) {
        for look in LOOKS {
            pause(1 << look);
            if self.take_if_free() {
                return;
            }
        }
        self.sleepers.fetch_add(1, Relaxed);
        let mut time = FIRST_SLEEP;
        for nth in 0.. {
            nap(time, nth);
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
