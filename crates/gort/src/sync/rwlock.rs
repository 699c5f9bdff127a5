//! [`RwLock`]: std's shape over [`RawRwLock`].

use super::poison::{Before, Flag};
use super::raw_mutex::RawMutex;
use super::raw_rwlock::{RawRwLock, Synced};
use super::wait_queue::WaitQueue;
use crate::sys::lock::Lock;
use crate::sys::sync::AtomicUsize;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

impl RawRwLock {
    pub(crate) const fn new() -> RawRwLock {
        RawRwLock {
            writers: RawMutex::new(),
            state: AtomicUsize::new(0),
            synced: Lock::new(Synced { readers: WaitQueue::new(), drain: WaitQueue::new() }),
        }
    }
}

/// A lock for many readers or one writer that parks the goroutine, never its thread.
///
/// It has the methods and the poisoning of [`std::sync::RwLock`], and can also wait with a timeout.
/// Only a writer that panics poisons the lock.
///
/// # Fairness
///
/// A waiting writer blocks new readers. A writer that is done lets in the readers that have been
/// waiting before the next writer. So neither side starves.
///
/// A goroutine that reads must not ask to read again: if a writer has come in between, it would
/// wait for that writer, and the writer for it.
///
/// # Examples
///
/// ```
/// use gort::sync::RwLock;
///
/// gort::run(|| {
///     let lock = RwLock::new(5);
///     {
///         let a = lock.read().unwrap();
///         let b = lock.read().unwrap();
///         assert_eq!(*a + *b, 10);
///         assert!(lock.try_write().is_err());
///     }
///     *lock.write().unwrap() += 1;
///     assert_eq!(lock.into_inner().unwrap(), 6);
/// })
/// ```
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    poison: Flag,
    value: UnsafeCell<T>,
}

// SAFETY: the raw lock gives out `&mut T` to one owner or `&T` to several, on any thread. That
// requires T to be Send and Sync.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: owning the lock is owning the T.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}

// As in std: a panic under the lock shows as poison.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> RwLock<T> {
    /// Creates a free lock with `value`.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// static LIMIT: RwLock<u32> = RwLock::new(10);
    ///
    /// gort::run(|| {
    ///     *LIMIT.write().unwrap() = 20;
    ///     assert_eq!(*LIMIT.read().unwrap(), 20);
    /// })
    /// ```
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { raw: RawRwLock::new(), poison: Flag::new(), value: UnsafeCell::new(value) }
    }

    /// Returns the value and consumes the lock.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the value, if the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     *lock.write().unwrap() += 1;
    ///     assert_eq!(lock.into_inner().unwrap(), 2);
    /// })
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading, waiting while a writer holds it or waits for it.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the guard, if the lock is poisoned: a writer has panicked.
    ///
    /// # Panics
    ///
    /// If `usize::MAX / 4` readers hold the lock already.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     let a = lock.read().unwrap();
    ///     let b = lock.read().unwrap(); // both read at the same time
    ///     assert_eq!((*a, *b), (1, 1));
    /// })
    /// ```
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.read();
        RwLockReadGuard::new(self)
    }

    /// Takes the lock for reading, if no writer holds it or waits for it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if a writer holds the lock or waits for it;
    /// - [`TryLockError::Poisoned`] with the guard, if the lock is poisoned.
    ///
    /// # Panics
    ///
    /// As [`read`](RwLock::read).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     assert_eq!(*lock.try_read().unwrap(), 1);
    ///     let _writer = lock.write().unwrap();
    ///     assert!(lock.try_read().is_err());
    /// })
    /// ```
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        crate::sched::checkpoint(false);
        if self.raw.try_read() { Ok(RwLockReadGuard::new(self)?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Takes the lock for reading, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if the lock could not be taken in time;
    /// - [`TryLockError::Poisoned`] with the guard, if the lock is poisoned.
    ///
    /// # Panics
    ///
    /// As [`read`](RwLock::read).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     let writer = lock.write().unwrap();
    ///     assert!(lock.try_read_for(Duration::from_millis(1)).is_err());
    ///     drop(writer);
    ///     assert!(lock.try_read_for(Duration::from_millis(1)).is_ok());
    /// })
    /// ```
    pub fn try_read_for(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.try_read_until(deadline),
            None => Ok(self.read()?), // the deadline never comes
        }
    }

    /// Takes the lock for reading, waiting until `deadline` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if the lock could not be taken in time;
    /// - [`TryLockError::Poisoned`] with the guard, if the lock is poisoned.
    ///
    /// # Panics
    ///
    /// As [`read`](RwLock::read).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     let _writer = lock.write().unwrap();
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     assert!(lock.try_read_until(deadline).is_err());
    /// })
    /// ```
    pub fn try_read_until(&self, deadline: Instant) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.read_until(deadline) {
            Ok(RwLockReadGuard::new(self)?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Takes the lock for writing, waiting while others read or write.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the guard, if the lock is poisoned: a writer has panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(vec![1]);
    ///     lock.write().unwrap().push(2);
    ///     assert_eq!(*lock.read().unwrap(), [1, 2]);
    /// })
    /// ```
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.raw.write();
        RwLockWriteGuard::new(self)
    }

    /// Takes the lock for writing, if nothing else holds it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if a reader or a writer holds the lock, or a writer waits for
    ///   it;
    /// - [`TryLockError::Poisoned`] with the guard, if the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     let reader = lock.read().unwrap();
    ///     assert!(lock.try_write().is_err());
    ///     drop(reader);
    ///     assert!(lock.try_write().is_ok());
    /// })
    /// ```
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        crate::sched::checkpoint(false);
        if self.raw.try_write() { Ok(RwLockWriteGuard::new(self)?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Takes the lock for writing, waiting for at most `timeout`.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if the lock could not be taken in time;
    /// - [`TryLockError::Poisoned`] with the guard, if the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     let reader = lock.read().unwrap();
    ///     assert!(lock.try_write_for(Duration::from_millis(1)).is_err());
    ///     drop(reader);
    ///     assert!(lock.try_write_for(Duration::from_millis(1)).is_ok());
    /// })
    /// ```
    pub fn try_write_for(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.try_write_until(deadline),
            None => Ok(self.write()?), // the deadline never comes
        }
    }

    /// Takes the lock for writing, waiting until `deadline` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryLockError::WouldBlock`] if the lock could not be taken in time;
    /// - [`TryLockError::Poisoned`] with the guard, if the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     let _reader = lock.read().unwrap();
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     assert!(lock.try_write_until(deadline).is_err());
    /// })
    /// ```
    pub fn try_write_until(&self, deadline: Instant) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.write_until(deadline) {
            Ok(RwLockWriteGuard::new(self)?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Whether the lock is poisoned: a writer has panicked, and the poison was not cleared.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     gort::scope(|s| {
    ///         let writer = s.go(|| {
    ///             let _guard = lock.write().unwrap();
    ///             panic!("while it writes");
    ///         });
    ///         assert!(writer.join().is_err());
    ///     });
    ///     assert!(lock.is_poisoned());
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
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     gort::scope(|s| {
    ///         let writer = s.go(|| {
    ///             let _guard = lock.write().unwrap();
    ///             panic!("while it writes");
    ///         });
    ///         assert!(writer.join().is_err());
    ///     });
    ///     *lock.write().unwrap_err().into_inner() = 0;
    ///     lock.clear_poison();
    ///     assert_eq!(*lock.read().unwrap(), 0);
    /// })
    /// ```
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// Returns the value without locking: the exclusive borrow shows that the lock is free.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The error contains the reference, if the lock is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::RwLock;
    ///
    /// gort::run(|| {
    ///     let mut lock = RwLock::new(1);
    ///     *lock.get_mut().unwrap() = 2;
    ///     assert_eq!(*lock.read().unwrap(), 2);
    /// })
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.get();
        let value = self.value.get_mut();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => d.field("data", &&*guard),
            Err(TryLockError::Poisoned(e)) => d.field("data", &&**e.get_ref()),
            Err(TryLockError::WouldBlock) => d.field("data", &format_args!("<locked>")),
        };
        d.field("poisoned", &self.poison.get()).finish_non_exhaustive()
    }
}

/// The right to read the value of a [`RwLock`]. Dropping the guard gives the lock back.
///
/// A guard stays with the goroutine that has taken the lock: it is not [`Send`].
///
/// # Examples
///
/// ```
/// use gort::sync::RwLock;
///
/// gort::run(|| {
///     let lock = RwLock::new("hello");
///     let guard = lock.read().unwrap();
///     assert_eq!(guard.len(), 5);
/// })
/// ```
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    lock: &'a RwLock<T>,
    /// Not `Send`, as in std.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard only gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// The guard of a caller that has just taken the lock for reading.
    #[inline]
    fn new(lock: &'a RwLock<T>) -> LockResult<RwLockReadGuard<'a, T>> {
        lock.poison.wrap(RwLockReadGuard { lock, not_send: PhantomData })
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while a read guard exists, its holder reads, and the raw lock admits no writer.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.read_unlock();
    }
}

/// The right to write the value of a [`RwLock`]. Dropping the guard gives the lock back.
///
/// A guard stays with the goroutine that has taken the lock: it is not [`Send`].
///
/// # Examples
///
/// ```
/// use gort::sync::RwLock;
///
/// gort::run(|| {
///     let lock = RwLock::new(1);
///     let mut guard = lock.write().unwrap();
///     *guard += 1;
///     drop(guard);
///     assert_eq!(*lock.read().unwrap(), 2);
/// })
/// ```
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    lock: &'a RwLock<T>,
    before: Before,
    /// Not `Send`, as in std.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard only gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// The guard of a caller that has just taken the lock for writing.
    #[inline]
    fn new(lock: &'a RwLock<T>) -> LockResult<RwLockWriteGuard<'a, T>> {
        lock.poison.wrap(RwLockWriteGuard { lock, before: lock.poison.enter(), not_send: PhantomData })
    }

    /// Turns the right to write into a right to read. No other writer gets in between.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{RwLock, RwLockWriteGuard};
    ///
    /// gort::run(|| {
    ///     let lock = RwLock::new(1);
    ///     let mut writer = lock.write().unwrap();
    ///     *writer += 1;
    ///     let reader = RwLockWriteGuard::downgrade(writer);
    ///     assert_eq!(*lock.read().unwrap(), 2); // others read too
    ///     assert_eq!(*reader, 2);
    /// })
    /// ```
    pub fn downgrade(s: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let s = ManuallyDrop::new(s); // the lock is given back as a reader's
        s.lock.poison.leave(s.before);
        s.lock.raw.downgrade();
        RwLockReadGuard { lock: s.lock, not_send: PhantomData }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a write guard exists only while its holder is the one writer.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a write guard exists only while its holder is the one writer, and it is borrowed
        // mutably here.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(self.before);
        self.lock.raw.write_unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
