//! Locks whose poison is no news: a panic in a handler ends its connection and is counted there; what these
//! locks guard is consistent at every point where user code could panic (none runs under them).

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
