//! [`Barrier`]: all wait until all have come.

use super::waitq::{self, End, GRANTED, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use std::fmt;

/// Lets a number of goroutines (or threads) go on only when all of them have come.
///
/// It has [`std::sync::Barrier`]'s methods, and can be used again as soon as the last one has come.
///
/// # Examples
///
/// ```
/// use gort::sync::Barrier;
/// use std::sync::Arc;
///
/// gort::run(|| {
///     let barrier = Arc::new(Barrier::new(3));
///     let tasks: Vec<_> = (0..3)
///         .map(|_| {
///             let barrier = barrier.clone();
///             gort::go(move || barrier.wait().is_leader())
///         })
///         .collect();
///     let leaders = tasks.into_iter().map(|t| t.join().unwrap()).filter(|&leads| leads).count();
///     assert_eq!(leaders, 1);
/// })
/// ```
pub struct Barrier {
    size: usize,
    queue: Lock<WaitQueue>,
}

impl Barrier {
    /// A barrier for `n`; 0 and 1 stop nobody.
    pub const fn new(n: usize) -> Barrier {
        Barrier { size: n, queue: Lock::new(WaitQueue::new()) }
    }

    /// Waits until the barrier's number of callers are here. One of them, today the last, is the leader.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub fn wait(&self) -> BarrierWaitResult {
        let mut queue = self.queue.lock();
        if queue.len() + 1 >= self.size {
            let wakes = queue.wake_all(GRANTED);
            drop(queue);
            wakes.ready();
            return BarrierWaitResult(true);
        }
        let wait = Wait { end: End::Back, note: 0, reason: WaitReason::BarrierWait, deadline: None };
        waitq::park(&self.queue, queue, |q| q, wait, |_| ());
        BarrierWaitResult(false)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

/// What [`Barrier::wait`] says to each caller.
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for exactly one of those who went through together.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.0).finish()
    }
}
