//! How an M that sleeps is given a P, by another thread that took the M out of the idle list, or
//! found its goroutine in a queue. Models: `crates/gort-models/tests/m_pool.rs`, `preempt.rs`.
//!
//! ```text
//!   giver:  next_p := P; word := 1; wake          sleeper:  until word 1 → 0: sleep; takes next_p
//! ```
//! # Invariants
//! 1. One party at a time may give: the thread that took the M out of the idle list, or its
//!    goroutine out of a queue.
//! 2. `next_p` is there before the word says so (Release, Acquire).
//!
//! # Why no M oversleeps
//! The kernel lets the M sleep only while the word is still 0. A P that came before has set the
//! word to 1, and it stays 1 until the M takes the P.

use crate::sys::futex;
use crate::sys::sync::{AtomicPtr, AtomicU32, Ordering::*};
use std::ptr::null_mut;

/// Where an M sleeps. See the module's head.
pub(crate) struct Handover<P> {
    /// 1: wake up (or do not begin to sleep).
    word: AtomicU32,
    next_p: AtomicPtr<P>,
}

impl<P> Handover<P> {
    pub(crate) fn new() -> Handover<P> {
        Handover { word: AtomicU32::new(0), next_p: AtomicPtr::new(null_mut()) }
    }

    /// Wakes the sleeper with `p`, or keeps it from sleeping at all.
    pub(crate) fn give(&self, p: &'static P) {
        self.next_p.store(std::ptr::from_ref(p).cast_mut(), Relaxed);
        self.word.store(1, Release);
        futex::wake(&self.word, 1);
    }

    /// Sleeps until another thread gives a P. `None`: `deadline_ns` came first.
    pub(crate) fn sleep(&self, deadline_ns: Option<u64>) -> Option<&'static P> {
        while self.word.compare_exchange(1, 0, Acquire, Relaxed).is_err() {
            if deadline_ns.is_some_and(|d| crate::sys::clock::now_ns() >= d) {
                return None;
            }
            futex::wait(&self.word, 0, deadline_ns);
        }
        // SAFETY: null, or from a reference that lives for ever.
        let next_p = unsafe { self.next_p.swap(null_mut(), Relaxed).as_ref() };
        Some(next_p.expect("who wakes an M gives it a P"))
    }
}
