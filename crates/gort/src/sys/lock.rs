//! The raw lock of the runtime: short critical sections, no poisoning, no parking of goroutines.
//!
//! ```text
//!   FREE ──lock──▶ HELD ──somebody waits──▶ WANTED ──unlock──▶ FREE + wake one
//! ```
//! It blocks the M (and so the P), so no user code and no park may happen under it. Locks follow the floors:
//! a channel's lock may be held while taking the scheduler's, never the other way. A holder, and who waits to become one, is
//! pinned (`pin.rs`): a signal does not take its P away.

use super::sync::{AtomicU32, Ordering::*, spin_hint};
use super::{futex, pin};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const HELD: u32 = 1;
const WANTED: u32 = 2;

/// Looks before the thread sleeps. Each waits twice as long as the one before: a holder that comes back at once has the line
/// in its cache meanwhile, and does several sections for one transfer. All together some microseconds, which is what a sleep takes.
const LOOKS: u32 = 7;

/// A value behind a raw lock.
#[repr(C)]
pub(crate) struct Lock<T: ?Sized> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives out one `&mut T` at a time, so sharing it needs only that T may move to the holder.
unsafe impl<T: ?Sized + Send> Sync for Lock<T> {}
// SAFETY: owning the lock is owning the T.
unsafe impl<T: ?Sized + Send> Send for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }
}

impl<T: ?Sized> Lock<T> {
    /// The lock without what it guards: to be taken by who only wants others to keep off.
    pub(crate) fn erased(&self) -> *const Lock<()> {
        std::ptr::from_ref(self).cast() // `repr(C)`: the state comes first
    }

    /// Takes the lock, spinning a little and then sleeping (G, M and P wait).
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        pin::enter();
        if self.state.compare_exchange_weak(FREE, HELD, Acquire, Relaxed).is_err() {
            self.lock_slow();
        }
        Guard { lock: self }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        pin::enter();
        if self.state.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            pin::leave();
            return None;
        }
        Some(Guard { lock: self })
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

    #[cold]
    fn lock_slow(&self) {
        for look in 0..LOOKS {
            for _ in 0..1 << look {
                spin_hint();
            }
            if self.state.load(Relaxed) == FREE
                && self.state.compare_exchange_weak(FREE, HELD, Acquire, Relaxed).is_ok()
            {
                return;
            }
        }
        // From here on the state is left WANTED by us even if nobody else waits: one wake too many, never one
        // too few.
        while self.state.swap(WANTED, Acquire) != FREE {
            futex::wait(&self.state, WANTED, None);
        }
    }
}

/// The right to use the value.
pub(crate) struct Guard<'a, T: ?Sized> {
    lock: &'a Lock<T>,
}

impl<T: ?Sized> Guard<'_, T> {
    /// Whether somebody sleeps for the lock.
    pub(crate) fn is_wanted(&self) -> bool {
        self.lock.state.load(Relaxed) == WANTED
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
        if self.lock.state.swap(FREE, Release) == WANTED {
            futex::wake(&self.lock.state, 1);
        }
        pin::leave();
    }
}
