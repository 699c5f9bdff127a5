//! Locks and other ways to wait for each other, in the shapes of [`std::sync`].
//!
//! | type | use |
//! | --- | --- |
//! | [`Mutex`] | one goroutine at a time uses a value |
//! | [`RwLock`] | many read a value, or one writes it |
//! | [`Condvar`] | wait for a change of a value under a [`Mutex`] |
//! | [`Once`], [`OnceLock`], [`LazyLock`] | do or make something once |
//! | [`Barrier`] | wait until all have arrived |
//! | [`Semaphore`] | share a number of permits |
//! | [`Singleflight`] | callers that want the same at the same time share one call |
//! | [`WaitGroup`] | wait until a number of goroutines are done |
//!
//! A goroutine that waits here is parked, and its OS thread runs other goroutines. A plain OS
//! thread that waits here is blocked. So goroutines and threads can share a lock. The errors of
//! poisoning are std's own types.
//!
//! # Blocking
//!
//! A function that may wait has a section of this name. The [crate's documentation](crate) explains
//! its letters. All other functions, and dropping a guard or a permit: G: no. M: no. P: no.

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
mod singleflight;
mod spin;
mod wait_group;
pub(crate) mod wait_queue;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
pub use singleflight::Singleflight;
pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
pub use wait_group::WaitGroup;
