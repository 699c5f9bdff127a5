//! [`Barrier`]: all wait until all have arrived.

use super::wait_queue::{self, End, GRANTED, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use std::fmt;

/// Makes a number of goroutines or threads wait until all of them have arrived.
///
/// It has the methods of [`std::sync::Barrier`]. It can be used again as soon as the last one has
/// arrived.
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
    /// Creates a barrier for `n` goroutines or threads. With 0 or 1, no call of `wait` waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Barrier;
    ///
    /// gort::run(|| {
    ///     let barrier = Barrier::new(2);
    ///     gort::scope(|s| {
    ///         s.go(|| barrier.wait());
    ///         barrier.wait();
    ///     });
    /// })
    /// ```
    pub const fn new(n: usize) -> Barrier {
        Barrier { size: n, queue: Lock::new(WaitQueue::new()) }
    }

    /// Waits until as many callers as the barrier is made for have arrived.
    ///
    /// One of them is the leader. Today this is the last one to arrive.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Barrier;
    /// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    ///
    /// gort::run(|| {
    ///     let barrier = Barrier::new(2);
    ///     let arrived = AtomicU32::new(0);
    ///     let arrive = || {
    ///         arrived.fetch_add(1, Relaxed);
    ///         barrier.wait();
    ///         assert_eq!(arrived.load(Relaxed), 2);
    ///     };
    ///     gort::scope(|s| {
    ///         s.go(arrive);
    ///         s.go(arrive);
    ///     });
    /// })
    /// ```
    pub fn wait(&self) -> BarrierWaitResult {
        let mut queue = self.queue.lock();
        if queue.len() + 1 >= self.size {
            let wakes = queue.wake_all(GRANTED);
            drop(queue);
            wakes.ready();
            return BarrierWaitResult(true);
        }
        let wait = Wait { end: End::Back, note: 0, reason: WaitReason::BarrierWait, deadline: None };
        wait_queue::park(&self.queue, queue, |q| q, wait, |_| ());
        BarrierWaitResult(false)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

/// The result of [`Barrier::wait`]: whether the caller is the leader.
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// True for exactly one of the callers that went through together.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Barrier;
    ///
    /// gort::run(|| {
    ///     let barrier = Barrier::new(1);
    ///     assert!(barrier.wait().is_leader());
    /// })
    /// ```
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
