//! The one M that sleeps in the kernel's poll, and when it will wake up. The steps T1 to T3 and P1
//! to P5, and why no timer is overslept, are in `README.md` beside this file. The model is in
//! `crates/gort-models/tests/wake.rs`.

use crate::sys::sync::{AtomicU64, Ordering::*, fence};

const NO_SLEEPER: u64 = 0;
/// An M is there, and looks at the heaps.
const LOOKS: u64 = 1;

/// See the module's head. Times are in nanoseconds, as timers have them.
pub(crate) struct PollSleeper {
    until: AtomicU64,
}

/// What the sleeper will do about a timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It wakes up in time, or looks at the heaps just now.
    InTime,
    /// It sleeps longer than that: break the poll.
    Late,
    /// There is no sleeper: an M has to come.
    NoSleeper,
}

impl PollSleeper {
    pub(crate) const fn new(no_sleeper: AtomicU64) -> PollSleeper {
        PollSleeper { until: no_sleeper }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.until.load(Relaxed) != NO_SLEEPER
    }

    /// P1: the caller becomes the sleeper, unless another M is.
    pub(crate) fn enter(&self) -> bool {
        self.until.compare_exchange(NO_SLEEPER, LOOKS, AcqRel, Relaxed).is_ok()
    }

    /// P2 to P4: publishes until when the sleeper sleeps, which is the earliest timer that
    /// `earliest` knows.
    pub(crate) fn settle(&self, earliest: impl Fn() -> u64) -> u64 {
        let mut until = earliest();
        loop {
            self.until.store(until.max(LOOKS + 1), Release);
            fence(SeqCst);
            let now = earliest();
            if now >= until {
                return until;
            }
            until = now;
        }
    }

    /// The sleeper leaves. After this it looks at the heaps once more.
    pub(crate) fn leave(&self) {
        self.until.store(NO_SLEEPER, Release);
        fence(SeqCst);
    }

    /// T2 and T3, after the timer is where all threads can see it.
    #[inline]
    pub(crate) fn tell(&self, when_ns: u64) -> Told {
        fence(SeqCst);
        match self.until.load(Relaxed) {
            NO_SLEEPER => Told::NoSleeper,
            until if until > when_ns => Told::Late,
            _ => Told::InTime,
        }
    }
}
