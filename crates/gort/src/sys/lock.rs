//! The raw lock of the runtime: short critical sections, no poisoning, no parking of goroutines.
//!
//! A waiter blocks its M, and so its P, so no user code and no park may happen under the lock.
//! Locks are taken from higher floors to lower ones: a channel's lock may be held while taking the
//! scheduler's, never the reverse. The holder of a lock and the threads that wait for it are pinned
//! (`pin.rs`): a signal does not take their P away.

mod lock_word;

use super::pin;
use super::sync::{AtomicU32, sleep_between};
use lock_word::LockWord;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A value behind a raw lock.
#[repr(C)]
pub(crate) struct Lock<T: ?Sized> {
    word: LockWord,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives out one `&mut T` at a time, so sharing it needs only that T may move to
// the thread that holds it.
unsafe impl<T: ?Sized + Send> Sync for Lock<T> {}
// SAFETY: owning the lock is owning the T.
unsafe impl<T: ?Sized + Send> Send for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock { word: LockWord::new(AtomicU32::new(0), AtomicU32::new(0)), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> Lock<T> {
    /// The lock without its value, for a caller that only wants to keep other threads out.
    pub(crate) fn erased(&self) -> *const Lock<()> {
        std::ptr::from_ref(self).cast() // `repr(C)`: the word comes first
    }

    /// Takes the lock: spins a little, then sleeps (G, M and P wait).
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        pin::enter();
        self.word.lock();
        Guard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        pin::enter();
        if !self.word.try_lock() {
            pin::leave();
            return None;
        }
        Some(Guard { lock: self })
    }

    /// Tries to take the lock for up to a second. For the handler of a fault: the interrupted
    /// thread may itself hold the lock, and then it never becomes free.
    #[cold]
    pub(crate) fn lock_in_handler(&self) -> Option<Guard<'_, T>> {
        const ATTEMPTS: u32 = 10_000;
        (0..ATTEMPTS).find_map(|nth| {
            if nth > 0 {
                sleep_between(Duration::from_micros(100), 0);
            }
            self.try_lock()
        })
    }

    /// The lock's rank among locks of its kind: a caller that takes several takes them in this
    /// order.
    #[inline]
    pub(crate) fn rank(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>().addr()
    }

    /// The guard of a lock that the caller holds and whose guard it has forgotten. For callers that
    /// hold several locks at once, as `select` does.
    ///
    /// # Safety
    /// This thread took the lock by `mem::forget(self.lock())`, and no other guard of it is in use.
    #[inline]
    pub(crate) unsafe fn assume_locked(&self) -> Guard<'_, T> {
        Guard { lock: self }
    }
}

/// Gives access to the value; dropping it releases the lock.
pub(crate) struct Guard<'a, T: ?Sized> {
    lock: &'a Lock<T>,
}

impl<T: ?Sized> Guard<'_, T> {
    /// Whether a thread sleeps for the lock.
    pub(crate) fn is_wanted(&self) -> bool {
        self.lock.word.is_wanted()
    }
}

impl<T: ?Sized> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a Guard exists only while its thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a Guard exists only while its thread holds the lock, and it is borrowed mutably
        // here.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.word.unlock();
        pin::leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn the_handler_of_a_fault_waits_for_other_threads_and_not_for_its_own() {
        static LOCK: Lock<u32> = Lock::new(0);
        let taken = Barrier::new(2);
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut held = LOCK.lock();
                taken.wait();
                std::thread::sleep(Duration::from_millis(20));
                *held = 1;
            });
            taken.wait();
            assert_eq!(LOCK.lock_in_handler().as_deref(), Some(&1));
        });
        let _held = LOCK.lock();
        assert!(LOCK.lock_in_handler().is_none());
    }
}
