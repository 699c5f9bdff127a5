//! Go's goroutine runtime as a Rust library.

pub mod chan;
pub mod context;
pub mod debug;
pub mod future;
pub mod group;
pub mod metrics;
pub mod net;
mod poll;
mod sched;
mod scope;
mod stack;
pub mod sync;
mod sys;
pub mod time;

pub use gort_macros::{main, test};
pub use sched::local::LocalKey;
pub use sched::{
    Builder, JoinError, JoinHandle, OsThreadLock, Runtime, RuntimeBuilder, StartError, blocking, go, goexit,
    gomaxprocs, lock_os_thread, num_cpu, num_goroutine, run, set_gomaxprocs, start, yield_now,
};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use time::{sleep, sleep_until};
