//! Go's goroutine runtime as a Rust library.

pub mod net;
mod poll;
mod sched;
mod sys;

pub use gort_macros::{main, test};
pub use sched::{blocking, go, goexit, run, start, yield_now, Builder, JoinError, JoinHandle};
