//! [`Mutex`]: std's shape over [`RawMutex`].

use super::poison::{Before, Flag};
use super::raw_mutex::RawMutex;
use super::waitq::WaitQueue;
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
/// It has [`std::sync::Mutex`]'s methods and poisoning, and works between goroutines and OS threads alike.
///
/// Taking a free mutex is one compare-and-swap, and whoever runs may take it before those who wait. A waiter
/// that has been waiting for a millisecond gets the mutex handed over, so nobody starves.
///
/// The guard may be held across anything that parks. A `goexit` that unwinds through a guard poisons the
/// mutex like a panic: the work under the lock was not finished.
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

// SAFETY: the raw mutex gives out one `&mut T` at a time, so sharing needs only that T may go to the owner.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: owning the mutex is owning the T.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

// As in std: a panic under the lock shows as poison.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free mutex around `value`.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { raw: RawMutex::new(), poison: Flag::new(), value: UnsafeCell::new(value) }
    }

    /// The value; the mutex is gone.
    ///
    /// # Errors
    ///
    /// The value comes in an error if the mutex is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the mutex, parking until it is free.
    ///
    /// The goroutine that holds it must not lock it again: it would wait for itself.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The guard comes in an error if somebody panicked while he held the mutex.
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
    /// [`TryLockError::WouldBlock`] if it is not free, [`TryLockError::Poisoned`] with the guard if it is
    /// poisoned.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        crate::sched::checkpoint(false);
        if self.raw.try_lock() { Ok(MutexGuard::new(self)?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Takes the mutex, waiting for `timeout` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`try_lock`](Mutex::try_lock); `WouldBlock` after `timeout`.
    pub fn try_lock_for(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.try_lock_until(deadline),
            None => Ok(self.lock()?), // later than any clock
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
    /// As [`try_lock`](Mutex::try_lock); `WouldBlock` at `deadline`.
    pub fn try_lock_until(&self, deadline: Instant) -> TryLockResult<MutexGuard<'_, T>> {
        if self.raw.lock_until(WaitReason::MutexLock, deadline) {
            Ok(MutexGuard::new(self)?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// True if somebody panicked while he held the mutex, and nobody has cleared that.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Declares the value sound again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: the borrow shows that nobody else has the mutex.
    ///
    /// # Errors
    ///
    /// The reference comes in an error if the mutex is poisoned.
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

/// The right to use a [`Mutex`]'s value; dropping it unlocks the mutex.
///
/// It stays with the goroutine that locked, so unlocking what one does not hold does not compile:
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
    /// Not `Send`, as in std: poisoning asks who panics, and that is the goroutine that locked.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard only gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The caller has just taken the mutex.
    #[inline]
    fn new(mutex: &'a Mutex<T>) -> LockResult<MutexGuard<'a, T>> {
        mutex.poison.wrap(MutexGuard { mutex, before: mutex.poison.enter(), not_send: PhantomData })
    }

    /// For the condition variable, which gives the mutex back while it waits.
    pub(super) fn raw(&self) -> &'a RawMutex {
        &self.mutex.raw
    }

    /// The guard, wrapped anew: others may have poisoned the mutex meanwhile.
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
        // SAFETY: a guard exists only while its holder owns the raw mutex, and it is borrowed mutably here.
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
