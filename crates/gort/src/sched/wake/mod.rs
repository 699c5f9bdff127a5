//! When to wake an M: the two counters of the wake protocol. The protocol and its proof are in
//! `README.md` beside this file, the model is in `crates/gort-models/tests/wake.rs`.

pub(crate) mod sleeper;
pub(crate) mod sysmon_word;

use crate::sys::sync::{AtomicU32, Ordering::*, fence, fence_after_rmw};

/// How many Ps idle, and how many Ms look for work.
pub(crate) struct WakeState {
    idle_ps: AtomicU32,
    spinning: AtomicU32,
}

impl WakeState {
    /// Both counters are zero. (A model's atomics cannot be made in a constant, so the caller makes
    /// them.)
    pub(crate) const fn new(idle_ps: AtomicU32, spinning: AtomicU32) -> WakeState {
        WakeState { idle_ps, spinning }
    }

    /// For a submitter, after the work is where all threads can see it. True: the caller must start
    /// an M with an idle P. That M spins, and is counted already.
    #[inline]
    pub(crate) fn must_wake(&self) -> bool {
        fence(SeqCst);
        self.must_wake_fenced()
    }

    /// As [`must_wake`](Self::must_wake), for work that was published by a sequentially consistent
    /// read-modify-write just now, with no other work published behind that.
    #[inline]
    pub(crate) fn must_wake_after_rmw(&self) -> bool {
        fence_after_rmw();
        self.must_wake_fenced()
    }

    #[inline]
    fn must_wake_fenced(&self) -> bool {
        if self.idle_ps.load(Relaxed) == 0 || self.spinning.load(Relaxed) != 0 {
            return false;
        }
        self.spinning.compare_exchange(0, 1, SeqCst, Relaxed).is_ok()
    }

    /// A P was put into the idle list. After this the caller, or an M that it tells, looks at all
    /// queues.
    pub(crate) fn p_idles(&self) {
        self.idle_ps.fetch_add(1, SeqCst);
        fence_after_rmw();
    }

    /// A P was taken out of the idle list.
    pub(crate) fn p_leaves_idle(&self) {
        self.idle_ps.fetch_sub(1, SeqCst);
    }

    /// An M begins to look for work.
    pub(crate) fn begin_spinning(&self) {
        self.spinning.fetch_add(1, SeqCst);
    }

    /// For an M that would be the only one to look, now that no P idles. True: it was counted.
    pub(crate) fn begin_spinning_alone(&self) -> bool {
        self.idle_ps.load(Relaxed) == 0 && self.spinning.compare_exchange(0, 1, SeqCst, Relaxed).is_ok()
    }

    /// An M looks no longer. If it found work, it must now ask [`must_wake`](Self::must_wake), as
    /// if it had submitted some. If not, it looks at all queues once more.
    pub(crate) fn end_spinning(&self) {
        self.spinning.fetch_sub(1, SeqCst);
        fence_after_rmw();
    }

    /// How many Ps idle (a moment's view).
    #[inline]
    pub(crate) fn idle_ps(&self) -> u32 {
        self.idle_ps.load(Relaxed)
    }

    /// How many Ms spin (a moment's view).
    #[inline]
    pub(crate) fn spinning(&self) -> u32 {
        self.spinning.load(Relaxed)
    }
}
