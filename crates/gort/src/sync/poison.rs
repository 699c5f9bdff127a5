//! The flag that says: somebody panicked while he held this.

use crate::sys::sync::{AtomicBool, Ordering::Relaxed};
use std::sync::{LockResult, PoisonError};

/// Set when a guard is dropped by a panic that began under it.
pub(super) struct Flag(AtomicBool);

/// What a guard remembers: whether its owner was panicking already when it took the lock.
#[derive(Clone, Copy)]
pub(super) struct Before {
    panicking: bool,
}

impl Flag {
    pub(super) const fn new() -> Flag {
        Flag(AtomicBool::new(false))
    }

    // The flag is read and written by the owner of the lock beside it, or as a hint: Relaxed will do.

    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Relaxed);
    }

    /// The lock was taken.
    #[inline]
    pub(super) fn enter(&self) -> Before {
        Before { panicking: std::thread::panicking() }
    }

    /// The lock is given back.
    #[inline]
    pub(super) fn leave(&self, before: Before) {
        if !before.panicking && std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }

    /// `value`, wrapped according to the flag.
    #[inline]
    pub(super) fn wrap<T>(&self, value: T) -> LockResult<T> {
        if self.get() { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}
