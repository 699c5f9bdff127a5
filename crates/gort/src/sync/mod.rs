//! Locks and other ways to wait for one another, in std's shapes.
//!
//! Everything here parks the goroutine and leaves its thread to others. Called from a plain OS thread it
//! blocks that thread, so goroutines and threads can share the same lock. The errors of poisoning are std's
//! own types.

mod barrier;
mod condvar;
pub(crate) mod interrupt;
mod lazy_lock;
mod mutex;
mod once;
mod once_lock;
mod poison;
mod raw_mutex;
mod raw_rwlock;
mod rwlock;
mod semaphore;
mod spin;
mod wait_group;
pub(crate) mod waitq;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
pub use wait_group::WaitGroup;
