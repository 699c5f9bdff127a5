//! The protocol of the mutex: one word, one queue.
//!
//! # Role
//! Used by [`Mutex`](super::Mutex), and for the writers of [`RwLock`](super::RwLock). The model is
//! `crates/gort-models/tests/mutex.rs`, which compiles this file as it is.
//!
//! # States
//! | bit      | meaning                      |
//! | -------- | ---------------------------- |
//! | `LOCKED` | the mutex is owned           |
//! | `QUEUED` | the queue is not empty       |
//! | `WOKEN`  | a woken waiter is on its way |
//!
//! - `LOCKED` is set by the new owner, by compare-and-swap. The owner clears it, unless it hands
//!   the mutex over.
//! - `QUEUED` is set by a waiter, while `LOCKED`, and cleared by whatever empties the queue. Both
//!   happen under the queue's lock.
//! - `WOKEN` is set by the owner when it wakes a waiter. That waiter clears it when it takes the
//!   mutex or queues again.
//!
//! # Invariants
//! 1. Taking a free mutex is one compare-and-swap, for newcomers too (*barging*): a goroutine that
//!    already runs uses the mutex sooner than one that first has to be scheduled.
//! 2. At most one waiter is woken and has neither taken the mutex nor queued again: more of them
//!    would only run in vain.
//! 3. A waiter that has been waiting for [`STARVING_NS`] gets the mutex handed over: `LOCKED` is
//!    not cleared, so no newcomer can barge. A waiter that was woken in vain keeps its place and
//!    the time since when it waits.
//!
//! # Why no wake-up is lost
//! A waiter queues under the queue's lock, and only after a compare-and-swap that has seen `LOCKED`
//! and has left `QUEUED` set and its own `WOKEN` cleared. So the unlock by that owner cannot be the
//! plain one, unless another waiter is woken. That waiter either takes the mutex itself and unlocks
//! it, or queues again, which clears `WOKEN` under another owner, and so on. An unlock that finds
//! `QUEUED` without `WOKEN` takes the queue's lock and wakes a waiter.
//!
//! # Rejected
//! Go's starving mode (a bit that stops all barging until the queue is empty or young): once it is
//! on, every lock operation is a hand-over and costs a switch (golang/go#33747). Checking the first
//! waiter at each unlock gives the same bound for that waiter, and lets newcomers go on barging.

use super::spin::Spin;
use super::wait_queue::{self, End, Ended, GRANTED, RETRY, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::clock;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU32, Ordering::*, is_child};
use std::time::Instant;

const LOCKED: u32 = 1;
const QUEUED: u32 = 2;
const WOKEN: u32 = 4;

/// How long newcomers may take the mutex before a waiter does.
pub(crate) const STARVING_NS: u64 = 1_000_000;

/// A mutex without a value. `new` is in `mutex.rs`, because loom's atomics have no `const`
/// constructor.
pub(crate) struct RawMutex {
    pub(super) state: AtomicU32,
    pub(super) queue: Lock<WaitQueue>,
}

impl RawMutex {
    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & LOCKED == 0 {
            match self.state.compare_exchange_weak(state, state | LOCKED, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[inline]
    pub(crate) fn lock(&self, reason: WaitReason) {
        if self.state.compare_exchange(0, LOCKED, Acquire, Relaxed).is_err() {
            let locked = self.lock_slow(reason, None);
            debug_assert!(locked);
        }
    }

    /// Takes the mutex. False if `deadline` passed first.
    #[inline]
    pub(crate) fn lock_until(&self, reason: WaitReason, deadline: Instant) -> bool {
        self.try_lock() || self.lock_slow(reason, Some(deadline))
    }

    /// Unlocks. Only the owner calls this.
    #[inline]
    pub(crate) fn unlock(&self) {
        if self.state.compare_exchange(LOCKED, 0, Release, Relaxed).is_err() {
            self.unlock_slow();
        }
    }

    #[cold]
    fn lock_slow(&self, reason: WaitReason, deadline: Option<Instant>) -> bool {
        let mut spin = Spin::new();
        let mut since_ns = None;
        // WOKEN while this waiter has to clear that bit.
        let mut woken = 0;
        loop {
            let state = self.state.load(Relaxed);
            if state & LOCKED == 0 {
                let taken = (state | LOCKED) & !woken;
                if self.state.compare_exchange_weak(state, taken, Acquire, Relaxed).is_ok() {
                    return true;
                }
                continue;
            }
            // If there is a queue, the owner wakes a waiter from it. If not, spinning may get the
            // mutex sooner than a park would.
            if state & QUEUED == 0 && spin.turn() {
                continue;
            }
            let queue = self.queue.lock();
            let state = self.state.load(Relaxed);
            let queued = (state | QUEUED) & !woken;
            if state & LOCKED == 0 || self.state.compare_exchange(state, queued, Relaxed, Relaxed).is_err() {
                continue; // it was unlocked meanwhile
            }
            let end = if since_ns.is_some() { End::Front } else { End::Back };
            let note = *since_ns.get_or_insert_with(clock::now_ns);
            let wait = Wait { end, note, reason, deadline };
            match wait_queue::park(&self.queue, queue, |q| q, wait, |_| ()) {
                Ended::Selected(GRANTED) => return true,
                Ended::Selected(token) => {
                    debug_assert_eq!(token, RETRY);
                    woken = WOKEN;
                    spin = Spin::new();
                }
                Ended::Left { guard: queue, .. } => {
                    if queue.is_empty() {
                        self.state.fetch_and(!QUEUED, Relaxed);
                    }
                    return false;
                }
            }
        }
    }

    #[cold]
    fn unlock_slow(&self) {
        if is_child() {
            return self.state.store(0, Release); // no waiters in a forked child
        }
        let mut state = self.state.load(Relaxed);
        while state & QUEUED == 0 || state & WOKEN != 0 {
            debug_assert!(state & LOCKED != 0);
            match self.state.compare_exchange_weak(state, state & !LOCKED, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
        let wake = {
            let mut queue = self.queue.lock();
            // The caller owns LOCKED and holds the queue's lock, and WOKEN is clear, so nothing
            // else can change the word: newcomers need LOCKED to be clear, waiters need the queue's
            // lock.
            let starving = queue.front_note().is_some_and(|since| clock::now_ns() >= since + STARVING_NS);
            let wake = queue.wake_one(if starving { GRANTED } else { RETRY });
            let queued = if queue.is_empty() { 0 } else { QUEUED };
            let owned = match &wake {
                Some(_) if starving => LOCKED,
                Some(_) => WOKEN,
                None => 0, // all had timed out
            };
            self.state.store(owned | queued, Release);
            wake
        };
        if let Some(wake) = wake {
            wake.ready();
        }
    }
}
