//! [`Condvar`]: waits for a change under a [`Mutex`](super::Mutex).
//!
//! # Why no wake-up is lost
//! A waiter is in the queue before it unlocks the mutex. So a goroutine that changes the condition
//! under that mutex and then notifies finds the waiter.

use super::mutex::MutexGuard;
use super::wait_queue::{self, End, Ended, GRANTED, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError};
use std::time::{Duration, Instant};

/// A condition variable that parks the goroutine, never its thread.
///
/// It has the methods of [`std::sync::Condvar`]. Waiters are notified in the order of their
/// arrival. A notification goes to a waiter that waited when it was given, never to a later one.
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
    /// Creates a condition variable.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// static READY: Mutex<bool> = Mutex::new(false);
    /// static CHANGED: Condvar = Condvar::new();
    ///
    /// gort::run(|| {
    ///     gort::go(|| {
    ///         *READY.lock().unwrap() = true;
    ///         CHANGED.notify_all();
    ///     });
    ///     drop(CHANGED.wait_while(READY.lock().unwrap(), |ready| !*ready));
    /// })
    /// ```
    pub const fn new() -> Condvar {
        Condvar { queue: Lock::new(WaitQueue::new()) }
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again.
    ///
    /// As in std, it may return without a notification: check the condition in a loop, or use
    /// [`wait_while`](Condvar::wait_while).
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the guard, if the mutex is poisoned when it is locked again.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// gort::run(|| {
    ///     let (ready, changed) = (Mutex::new(false), Condvar::new());
    ///     gort::scope(|s| {
    ///         s.go(|| {
    ///             *ready.lock().unwrap() = true;
    ///             changed.notify_one();
    ///         });
    ///         let mut guard = ready.lock().unwrap();
    ///         while !*guard {
    ///             guard = changed.wait(guard).unwrap();
    ///         }
    ///     });
    /// })
    /// ```
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let _ = self.wait_until(&guard, None);
        guard.recheck()
    }

    /// Waits while `condition` is true.
    ///
    /// The condition is checked under the mutex: before the first wait and after each notification.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// gort::run(|| {
    ///     let (left, changed) = (Mutex::new(2), Condvar::new());
    ///     let finish = || {
    ///         *left.lock().unwrap() -= 1;
    ///         changed.notify_one();
    ///     };
    ///     gort::scope(|s| {
    ///         s.go(finish);
    ///         s.go(finish);
    ///         let left = changed.wait_while(left.lock().unwrap(), |left| *left > 0).unwrap();
    ///         assert_eq!(*left, 0);
    ///     });
    /// })
    /// ```
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

    /// Waits for a notification, for at most `timeout`.
    ///
    /// It then locks the mutex again, which may take longer than `timeout`. As with
    /// [`wait`](Condvar::wait), it may return early without a notification.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (ready, changed) = (Mutex::new(false), Condvar::new());
    ///     let guard = ready.lock().unwrap();
    ///     let (guard, _) = changed.wait_timeout(guard, Duration::from_millis(1)).unwrap();
    ///     assert!(!*guard); // nothing has changed it
    /// })
    /// ```
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let timed_out = !self.wait_until(&guard, Instant::now().checked_add(timeout));
        with_result(guard.recheck(), timed_out)
    }

    /// Waits while `condition` is true, for at most `timeout`.
    ///
    /// The result says whether the time was over while the condition was still true.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`wait`](Condvar::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (ready, changed) = (Mutex::new(false), Condvar::new());
    ///     let guard = ready.lock().unwrap();
    ///     let timeout = Duration::from_millis(1);
    ///     let waited = changed.wait_timeout_while(guard, timeout, |ready| !*ready);
    ///     let (guard, result) = waited.unwrap();
    ///     assert!(result.timed_out());
    ///     assert!(!*guard);
    /// })
    /// ```
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

    /// Wakes the waiter that has been waiting longest, if there is one.
    ///
    /// The caller may hold the mutex, but need not.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// gort::run(|| {
    ///     let (ready, changed) = (Mutex::new(false), Condvar::new());
    ///     gort::scope(|s| {
    ///         s.go(|| drop(changed.wait_while(ready.lock().unwrap(), |ready| !*ready)));
    ///         *ready.lock().unwrap() = true;
    ///         changed.notify_one();
    ///     });
    /// })
    /// ```
    pub fn notify_one(&self) {
        let wake = self.queue.lock().wake_one(GRANTED);
        if let Some(wake) = wake {
            wake.ready();
        }
    }

    /// Wakes all goroutines and threads that wait now.
    ///
    /// The caller may hold the mutex, but need not.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    ///
    /// gort::run(|| {
    ///     let (ready, changed) = (Mutex::new(false), Condvar::new());
    ///     gort::scope(|s| {
    ///         for _ in 0..3 {
    ///             s.go(|| drop(changed.wait_while(ready.lock().unwrap(), |ready| !*ready)));
    ///         }
    ///         *ready.lock().unwrap() = true;
    ///         changed.notify_all();
    ///     });
    /// })
    /// ```
    pub fn notify_all(&self) {
        let wakes = self.queue.lock().wake_all(GRANTED);
        wakes.ready();
    }

    /// Waits, and locks the mutex again in any case. True: notified. False: the deadline passed.
    fn wait_until<T: ?Sized>(&self, guard: &MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
        let mutex = guard.raw();
        let reason = WaitReason::CondvarWait;
        let wait = Wait { end: End::Back, note: 0, reason, deadline };
        let ended = wait_queue::park(&self.queue, self.queue.lock(), |q| q, wait, |_| mutex.unlock());
        let notified = matches!(ended, Ended::Selected(_));
        drop(ended); // unlocks the queue, if the wait has ended with its lock held
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

/// The result of a wait with a timeout: whether the time was over.
#[derive(Debug, PartialEq, Eq, Copy, Clone)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// True if the time was over.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    ///     let guard = mutex.lock().unwrap();
    ///     let timeout = Duration::from_millis(1);
    ///     let (_guard, result) = condvar.wait_timeout_while(guard, timeout, |_| true).unwrap();
    ///     assert!(result.timed_out());
    /// })
    /// ```
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}
