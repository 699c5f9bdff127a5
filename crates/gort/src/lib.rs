//! Go's goroutine runtime as a Rust library.

pub mod chan;
pub mod context;
pub mod future;
pub mod group;
pub mod net;
mod poll;
mod sched;
pub mod sync;
mod sys;
pub mod time;

pub use gort_macros::{main, test};
pub use sched::{blocking, go, goexit, run, start, yield_now, Builder, JoinError, JoinHandle};
pub use time::{sleep, sleep_until};
