//! How the program `gort` starts its runtime. A part of `gort-cli`, which forbids `unsafe` code,
//! and of no use to others: it makes a promise for that program.

use std::time::Duration;

/// As [`gort::run`]; whoever runs the program may ask by `GORT_SWAP` that idle stacks are swapped
/// out.
pub fn run<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let builder = gort::Runtime::builder();
    // SAFETY: neither `gort-cli` nor the libraries under it let other threads use a goroutine's
    // stack or thread-locals: what threads and goroutines share there, they own together (no scoped
    // threads but gort's own). The allocator is libc's, which keeps no lists through thread-locals.
    let builder = unsafe { builder.swap_idle_stacks(Duration::MAX) };
    builder.run(f).unwrap_or_else(|e| panic!("{e}"))
}
