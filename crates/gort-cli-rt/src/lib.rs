//! Starts the runtime of the program `gort`.
//!
//! This is a separate crate because `gort-cli` forbids `unsafe` code. It is of no use to other
//! programs: it makes a promise that holds for `gort-cli` only.

use std::time::Duration;

/// Like [`gort::run`]. The environment variable `GORT_SWAP` can enable swapping out idle stacks.
pub fn run<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let builder = gort::Runtime::builder();
    // SAFETY: neither `gort-cli` nor the libraries below it let other threads use a goroutine's
    // stack or thread-locals. What threads and goroutines share there, they own jointly (the only
    // scoped threads are gort's own). The allocator is libc's, which keeps no lists through
    // thread-locals.
    let builder = unsafe { builder.swap_idle_stacks(Duration::MAX) };
    builder.run(f).unwrap_or_else(|e| panic!("{e}"))
}
