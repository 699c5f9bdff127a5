//! [`Condvar`]: waiting for a change under a [`Mutex`](super::Mutex).
//!
//! # Why no wake-up is lost
//! The waiter is in the queue before it unlocks the mutex. Who changes the condition under that mutex and
//! then notifies, finds it.

use super::mutex::MutexGuard;
use super::waitq::{self, End, Ended, GRANTED, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

/// A condition variable that parks the goroutine, never its thread.
///
/// It has [`std::sync::Condvar`]'s methods. Waiters are notified in the order of their coming; a notification
/// goes to those who waited when it was given, never to a later one.
///
/// # Examples
///
/// ```
/// use gort::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// gort::run(|| {
///     let pair = Arc::new((Mutex::new(false), Condvar::new()));
///     let other = pair.clone();
///     gort::go(move || {
///         *other.0.lock().unwrap() = true;
///         other.1.notify_one();
///     });
///     let ready = pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready).unwrap();
///     assert!(*ready);
/// })
/// ```
pub struct Condvar {
    queue: Lock<WaitQueue>,
}

impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}

impl Condvar {
    /// A condition variable nobody waits for.
    pub const fn new() -> Condvar {
        Condvar { queue: Lock::new(WaitQueue::new()) }
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again.
    ///
    /// There may be other reasons why it returns (*not guaranteed*, as in std): look at the condition in a
    /// loop, or use [`wait_while`](Condvar::wait_while).
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The guard comes in an error if the mutex is poisoned when it is locked again.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let _ = self.wait_until(&guard, None);
        guard.recheck()
    }

    /// Waits as long as `condition` says so.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_while<'a, T: ?Sized, F: FnMut(&mut T) -> bool>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits for a notification, for `timeout` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let timed_out = !self.wait_until(&guard, Instant::now().checked_add(timeout));
        with_result(guard.recheck(), timed_out)
    }

    /// Waits as long as `condition` says so, for `timeout` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    pub fn wait_timeout_while<'a, T: ?Sized, F: FnMut(&mut T) -> bool>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok((guard, WaitTimeoutResult(true)));
            }
            let timed_out = !self.wait_until(&guard, deadline);
            guard = match guard.recheck() {
                Ok(guard) => guard,
                poisoned => return with_result(poisoned, timed_out),
            };
        }
    }

    /// Wakes the one that has been waiting longest, if there is one. The mutex need not be held.
    pub fn notify_one(&self) {
        let wake = self.queue.lock().wake_one(GRANTED);
        if let Some(wake) = wake {
            wake.ready();
        }
    }

    /// Wakes all who wait now.
    pub fn notify_all(&self) {
        let wakes = self.queue.lock().wake_all(GRANTED);
        wakes.ready();
    }

    /// True if notified, false at the deadline. The mutex is locked again in both cases.
    fn wait_until<T: ?Sized>(&self, guard: &MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
        let mutex = guard.raw();
        let reason = WaitReason::CondvarWait;
        let wait = Wait { end: End::Back, note: 0, reason, deadline };
        let ended = waitq::park(&self.queue, self.queue.lock(), |q| q, wait, |_| mutex.unlock());
        let notified = matches!(ended, Ended::Selected(_));
        drop(ended); // the queue's lock, if we hold it
        mutex.lock(WaitReason::MutexLock);
        notified
    }
}

fn with_result<'a, T: ?Sized>(
    guard: LockResult<MutexGuard<'a, T>>,
    timed_out: bool,
) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
    let result = WaitTimeoutResult(timed_out);
    match guard {
        Ok(guard) => Ok((guard, result)),
        Err(e) => Err(PoisonError::new((e.into_inner(), result))),
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

/// Whether a wait with a timeout ended by it.
#[derive(Debug, PartialEq, Eq, Copy, Clone)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True if the timeout passed.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}
