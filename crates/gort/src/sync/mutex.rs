//! [`Mutex`]: std's shape over [`RawMutex`].

use super::poison::{Before, Flag};
use super::raw_mutex::RawMutex;
use super::wait_queue::WaitQueue;
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use crate::sys::sync::AtomicU32;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

impl RawMutex {
    pub(crate) const fn new() -> RawMutex {
        RawMutex { state: AtomicU32::new(0), queue: Lock::new(WaitQueue::new()) }
    }
}

/// A mutual exclusion lock that parks the goroutine, never its thread.
///
/// It has the methods of [`std::sync::Mutex`], and can also wait with a timeout. Goroutines and OS
/// threads can share it. The guard may be held across anything that parks.
///
/// # Fairness
///
/// Taking a free mutex is one compare-and-swap, and a running goroutine may take it before those
/// that wait. A waiter that has been waiting for a millisecond gets the mutex handed over, so no
/// waiter starves.
///
/// # Poisoning
///
/// As in std, a panic while the guard is held poisons the mutex. A [`goexit`](crate::goexit) that
/// unwinds through a guard does so too: the work under the lock was not finished.
///
/// # Examples
///
/// ```
/// use gort::sync::Mutex;
/// use std::sync::Arc;
///
/// gort::run(|| {
///     let total = Arc::new(Mutex::new(0));
///     let tasks: Vec<_> = (0..10)
///         .map(|n| {
///             let total = total.clone();
///             gort::go(move || *total.lock().unwrap() += n)
///         })
///         .collect();
///     for task in tasks {
///         task.join().unwrap();
///     }
///     assert_eq!(*total.lock().unwrap(), 45);
/// })
/// ```
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    poison: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the raw mutex gives out one `&mut T` at a time, so sharing only requires that T may be
// used by the owner, on whatever thread.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: owning the mutex is owning the T.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

// As in std: a panic under the lock shows as poison.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> Mutex<T> {
    /// Creates a free mutex with `value`.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    ///
    /// static COUNT: Mutex<u32> = Mutex::new(0);
    ///
    /// gort::run(|| {
    ///     *COUNT.lock().unwrap() += 1;
    ///     assert_eq!(*COUNT.lock().unwrap(), 1);
    /// })
    /// ```
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { raw: RawMutex::new(), poison: Flag::new(), value: UnsafeCell::new(value) }
    }

    /// Returns the value and consumes the mutex.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the value, if the mutex is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    ///
    /// gort::run(|| {
    ///     let mutex = Mutex::new(1);
    ///     *mutex.lock().unwrap() += 1;
    ///     assert_eq!(mutex.into_inner().unwrap(), 2);
    /// })
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the mutex, waiting until it is free.
    ///
    /// The goroutine that holds the mutex must not lock it again: it would wait for itself.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the guard, if the mutex is poisoned: a holder has panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    ///
    /// gort::run(|| {
    ///     let mutex = Mutex::new(0);
    ///     gort::scope(|s| {
    ///         s.go(|| *mutex.lock().unwrap() += 1);
    ///         s.go(|| *mutex.lock().unwrap() += 1);
    ///     });
    ///     assert_eq!(*mutex.lock().unwrap(), 2);
    /// })
    /// ```
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.raw.lock(WaitReason::MutexLock);
        MutexGuard::new(self)
    }

    /// Takes the mutex if it is free.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if the mutex is not free;
    /// - [`TryLockError::Poisoned`] with the guard, if the mutex is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    ///
    /// gort::run(|| {
    ///     let mutex = Mutex::new(1);
    ///     let guard = mutex.try_lock().unwrap();
    ///     assert!(mutex.try_lock().is_err());
    ///     drop(guard);
    ///     assert!(mutex.try_lock().is_ok());
    /// })
    /// ```
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        crate::sched::checkpoint(false);
        if self.raw.try_lock() { Ok(MutexGuard::new(self)?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Takes the mutex, waiting for at most `timeout` until it is free.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if the mutex was not free in time;
    /// - [`TryLockError::Poisoned`] with the guard, if the mutex is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let mutex = Mutex::new(1);
    ///     let guard = mutex.lock().unwrap();
    ///     assert!(mutex.try_lock_for(Duration::from_millis(1)).is_err());
    ///     drop(guard);
    ///     assert!(mutex.try_lock_for(Duration::from_millis(1)).is_ok());
    /// })
    /// ```
    pub fn try_lock_for(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.try_lock_until(deadline),
            None => Ok(self.lock()?), // the deadline never comes
        }
    }

    /// Takes the mutex, waiting until `deadline` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if the mutex was not free in time;
    /// - [`TryLockError::Poisoned`] with the guard, if the mutex is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let mutex = Mutex::new(1);
    ///     let _guard = mutex.lock().unwrap();
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     assert!(mutex.try_lock_until(deadline).is_err());
    ///     assert!(Instant::now() >= deadline);
    /// })
    /// ```
    pub fn try_lock_until(&self, deadline: Instant) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.lock_until(WaitReason::MutexLock, deadline) {
            Ok(MutexGuard::new(self)?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Whether the mutex is poisoned: a holder has panicked, and the poison was not cleared.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    ///
    /// gort::run(|| {
    ///     let mutex = Mutex::new(1);
    ///     gort::scope(|s| {
    ///         let holder = s.go(|| {
    ///             let _guard = mutex.lock().unwrap();
    ///             panic!("while it holds the mutex");
    ///         });
    ///         assert!(holder.join().is_err());
    ///     });
    ///     assert!(mutex.is_poisoned());
    /// })
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Clears the poison. Call it when the value is sound again.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    ///
    /// gort::run(|| {
    ///     let mutex = Mutex::new(1);
    ///     gort::scope(|s| {
    ///         let holder = s.go(|| {
    ///             let _guard = mutex.lock().unwrap();
    ///             panic!("while it holds the mutex");
    ///         });
    ///         assert!(holder.join().is_err());
    ///     });
    ///     *mutex.lock().unwrap_err().into_inner() = 0;
    ///     mutex.clear_poison();
    ///     assert_eq!(*mutex.lock().unwrap(), 0);
    /// })
    /// ```
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// Returns the value without locking: the exclusive borrow shows that the mutex is free.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the reference, if the mutex is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Mutex;
    ///
    /// gort::run(|| {
    ///     let mut mutex = Mutex::new(1);
    ///     *mutex.get_mut().unwrap() = 2;
    ///     assert_eq!(*mutex.lock().unwrap(), 2);
    /// })
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.get();
        let value = self.value.get_mut();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => d.field("data", &&*guard),
            Err(TryLockError::Poisoned(e)) => d.field("data", &&**e.get_ref()),
            Err(TryLockError::WouldBlock) => d.field("data", &format_args!("<locked>")),
        };
        d.field("poisoned", &self.poison.get()).finish_non_exhaustive()
    }
}

/// The right to use the value of a [`Mutex`]. Dropping the guard unlocks the mutex.
///
/// # Examples
///
/// ```
/// use gort::sync::Mutex;
///
/// gort::run(|| {
///     let mutex = Mutex::new(vec![1]);
///     let mut guard = mutex.lock().unwrap();
///     guard.push(2);
///     drop(guard);
///     assert_eq!(*mutex.lock().unwrap(), [1, 2]);
/// })
/// ```
///
/// A guard stays with the goroutine that locked, so only that goroutine can unlock. This does not
/// compile:
///
/// ```compile_fail,E0277
/// static MUTEX: gort::sync::Mutex<u32> = gort::sync::Mutex::new(1);
/// let guard = MUTEX.lock().unwrap();
/// gort::go(move || drop(guard));
/// ```
#[must_use = "the mutex is unlocked as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    mutex: &'a Mutex<T>,
    before: Before,
    /// Not `Send`, as in std: for poisoning it matters which goroutine panics, and that is the one
    /// that locked.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard only gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The guard of a caller that has just taken the mutex.
    #[inline]
    fn new(mutex: &'a Mutex<T>) -> LockResult<MutexGuard<'a, T>> {
        mutex.poison.wrap(MutexGuard { mutex, before: mutex.poison.enter(), not_send: PhantomData })
    }

    /// For the condition variable, which unlocks the mutex while it waits.
    pub(super) fn raw(&self) -> &'a RawMutex {
        &self.mutex.raw
    }

    /// The guard, wrapped again: the mutex may have been poisoned meanwhile.
    pub(super) fn recheck(self) -> LockResult<MutexGuard<'a, T>> {
        let mutex = self.mutex;
        mutex.poison.wrap(self)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a guard exists only while its holder owns the raw mutex.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a guard exists only while its holder owns the raw mutex, and it is borrowed
        // mutably here.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.leave(self.before);
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
