//! The rows of `thread_locals.rs` that shared mode promises too. In shared mode goroutines use the
//! M's thread-locals, so these rows are missing: values, borrows and `errno` across parks, thread
//! identity, owners of recursive locks, guards bound to a thread, libc's idea of the stack, and
//! destructors of slots (slots have none).

mod tls_support;

use std::sync::Once;
use tls_support as both;

fn run(row: impl FnOnce() + Send) {
    static START: Once = Once::new();
    START.call_once(|| {
        // SAFETY: the rows below keep no state of a thread across a park.
        let builder = unsafe { gort::Runtime::builder().shared_thread_locals() };
        builder.gomaxprocs(4).start().unwrap();
    });
    gort::run(row);
}

/// Promise 2: a goroutine that unwinds stays on its thread, so the thread's panic count is right.
#[test]
fn panic_count() {
    run(|| both::panic_count(true));
}

#[test]
fn malloc_and_free_elsewhere() {
    run(both::malloc_and_free_elsewhere);
}

#[test]
fn name_lookups() {
    run(both::name_lookups);
}

#[test]
fn setuid_family() {
    run(both::setuid_family);
}

#[test]
fn backtrace_ends() {
    run(both::backtrace_ends);
}

#[test]
fn only_parks_migrate() {
    run(both::only_parks_migrate);
}

#[test]
fn locked_goroutines_stay() {
    run(both::locked_goroutines_stay);
}
