//! Locks that ignore poison. No user code runs under them, so a panic in a handler cannot leave
//! what they guard inconsistent. The panic ends its connection and is counted there.

use crate::rt::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::ops::{Deref, DerefMut};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> impl Deref<Target = T> + '_ {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> impl DerefMut<Target = T> + '_ {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
