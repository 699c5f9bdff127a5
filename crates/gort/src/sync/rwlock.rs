//! [`RwLock`]: std's shape over [`RawRwLock`].

use super::poison::{Before, Flag};
use super::raw_mutex::RawMutex;
use super::raw_rwlock::{RawRwLock, Synced};
use super::waitq::WaitQueue;
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
/// It has [`std::sync::RwLock`]'s methods and poisoning. A writer that waits blocks new readers, and a writer
/// that is done first lets in the readers that have been waiting: neither side starves. So a goroutine that
/// reads must not ask to read again: with a writer waiting in between, it would wait for itself.
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

// SAFETY: the raw lock gives out `&mut T` to one owner or `&T` to several, on any thread: that needs T to be
// Send and Sync.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: owning the lock is owning the T.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}

// As in std: a panic under the lock shows as poison.
impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> RwLock<T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { raw: RawRwLock::new(), poison: Flag::new(), value: UnsafeCell::new(value) }
    }

    /// The value; the lock is gone.
    ///
    /// # Errors
    ///
    /// The value comes in an error if the lock is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading, parking while somebody writes or waits for writing.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The guard comes in an error if a writer panicked.
    ///
    /// # Panics
    ///
    /// If there are more than 2^61 readers.
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.read();
        RwLockReadGuard::new(self)
    }

    /// Takes the lock for reading if nobody writes or waits for writing.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`], or [`TryLockError::Poisoned`] with the guard.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        crate::sched::checkpoint(false);
        if self.raw.try_read() { Ok(RwLockReadGuard::new(self)?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Takes the lock for reading, waiting for `timeout` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`try_read`](RwLock::try_read); `WouldBlock` after `timeout`.
    pub fn try_read_for(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.try_read_until(deadline),
            None => Ok(self.read()?), // later than any clock
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
    /// As [`try_read`](RwLock::try_read); `WouldBlock` at `deadline`.
    pub fn try_read_until(&self, deadline: Instant) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if self.raw.read_until(deadline) {
            Ok(RwLockReadGuard::new(self)?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Takes the lock for writing, parking while others read or write.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The guard comes in an error if a writer panicked.
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.raw.write();
        RwLockWriteGuard::new(self)
    }

    /// Takes the lock for writing if nobody reads or writes.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`], or [`TryLockError::Poisoned`] with the guard.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        crate::sched::checkpoint(false);
        if self.raw.try_write() { Ok(RwLockWriteGuard::new(self)?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Takes the lock for writing, waiting for `timeout` at most.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`try_write`](RwLock::try_write); `WouldBlock` after `timeout`.
    pub fn try_write_for(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.try_write_until(deadline),
            None => Ok(self.write()?), // later than any clock
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
    /// As [`try_write`](RwLock::try_write); `WouldBlock` at `deadline`.
    pub fn try_write_until(&self, deadline: Instant) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if self.raw.write_until(deadline) {
            Ok(RwLockWriteGuard::new(self)?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// True if a writer panicked, and nobody has cleared that.
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Declares the value sound again.
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value, without locking: the borrow shows that nobody else has the lock.
    ///
    /// # Errors
    ///
    /// The reference comes in an error if the lock is poisoned.
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

/// The right to read a [`RwLock`]'s value.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    lock: &'a RwLock<T>,
    /// Not `Send`, as in std.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard only gives `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// The caller has just taken the lock for reading.
    #[inline]
    fn new(lock: &'a RwLock<T>) -> LockResult<RwLockReadGuard<'a, T>> {
        lock.poison.wrap(RwLockReadGuard { lock, not_send: PhantomData })
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while a read guard exists, its holder reads, and the raw lock lets nobody write.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.read_unlock();
    }
}

/// The right to write a [`RwLock`]'s value.
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
    /// The caller has just taken the lock for writing.
    #[inline]
    fn new(lock: &'a RwLock<T>) -> LockResult<RwLockWriteGuard<'a, T>> {
        lock.poison.wrap(RwLockWriteGuard { lock, before: lock.poison.enter(), not_send: PhantomData })
    }

    /// Goes on as a reader; no other writer gets in between.
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
        // SAFETY: a write guard exists only while its holder is the one writer, and it is borrowed mutably
        // here.
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
