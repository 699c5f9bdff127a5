//! The raw lock of the runtime: short critical sections, no poisoning, no parking of goroutines.
//!
//! It blocks the M (and so the P), so no user code and no park may happen under it. Locks follow the floors:
//! a channel's lock may be held while taking the scheduler's, never the other way. A holder, and who waits to become one, is
//! pinned (`pin.rs`): a signal does not take its P away.

mod word;

use super::pin;
use super::sync::{AtomicU32, nap};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use word::LockWord;

/// A value behind a raw lock.
#[repr(C)]
pub(crate) struct Lock<T: ?Sized> {
    word: LockWord,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives out one `&mut T` at a time, so sharing it needs only that T may move to the holder.
unsafe impl<T: ?Sized + Send> Sync for Lock<T> {}
// SAFETY: owning the lock is owning the T.
unsafe impl<T: ?Sized + Send> Send for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock { word: LockWord::new(AtomicU32::new(0), AtomicU32::new(0)), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> Lock<T> {
    /// The lock without what it guards: to be taken by who only wants others to keep off.
    pub(crate) fn erased(&self) -> *const Lock<()> {
        std::ptr::from_ref(self).cast() // `repr(C)`: the word comes first
    }

    /// Takes the lock, spinning a little and then sleeping (G, M and P wait).
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

    /// Takes the lock within a second: for the handler of a fault. The thread that was interrupted
    /// may be the holder, which never gives it back.
    #[cold]
    pub(crate) fn lock_in_handler(&self) -> Option<Guard<'_, T>> {
        const LOOKS: u32 = 10_000;
        (0..LOOKS).find_map(|nth| {
            if nth > 0 {
                nap(Duration::from_micros(100), 0);
            }
            self.try_lock()
        })
    }

    /// Its rank among locks of its kind: who takes several of them takes them in this order.
    #[inline]
    pub(crate) fn rank(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>().addr()
    }

    /// The guard of a lock that the caller holds and whose guard it has forgotten: for those who hold several
    /// locks at once, as `select` does.
    ///
    /// # Safety
    /// This thread took the lock by `mem::forget(self.lock())`, and no other guard of it is in use.
    #[inline]
    pub(crate) unsafe fn assume_locked(&self) -> Guard<'_, T> {
        Guard { lock: self }
    }
}

/// The right to use the value.
pub(crate) struct Guard<'a, T: ?Sized> {
    lock: &'a Lock<T>,
}

impl<T: ?Sized> Guard<'_, T> {
    /// Whether somebody sleeps for the lock.
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
        // SAFETY: a Guard exists only while its thread holds the lock, and it is borrowed mutably here.
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
