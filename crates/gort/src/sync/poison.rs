//! The flag of a lock that says: a holder has panicked.

use crate::sys::sync::{AtomicBool, Ordering::Relaxed};
use std::sync::{LockResult, PoisonError};

/// Set when a guard is dropped by a panic that began while the guard existed.
pub(super) struct Flag(AtomicBool);

/// What a guard remembers: whether its owner was already panicking when it took the lock.
#[derive(Clone, Copy)]
pub(super) struct Before {
    panicking: bool,
}

impl Flag {
    pub(super) const fn new() -> Flag {
        Flag(AtomicBool::new(false))
    }

    // The owner of the lock reads and writes the flag. Other reads are hints. So Relaxed is enough.

    pub(super) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Relaxed);
    }

    /// Call it when the lock was taken.
    #[inline]
    pub(super) fn enter(&self) -> Before {
        Before { panicking: std::thread::panicking() }
    }

    /// Call it when the lock is given back.
    #[inline]
    pub(super) fn leave(&self, before: Before) {
        if !before.panicking && std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }

    /// `value`, in an error if the flag is set.
    #[inline]
    pub(super) fn wrap<T>(&self, value: T) -> LockResult<T> {
        if self.get() { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}
