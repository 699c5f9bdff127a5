//! To the language a goroutine is a thread (`ARCHITECTURE.md`): what a thread may keep across a
//! wait, a goroutine may keep across a park. In release the optimiser caches whatever it may:
//! `cargo test --release -p gort --test thread_locals` builds with fat LTO.

#[path = "tls_support/own.rs"]
mod own;
mod tls_support;

use std::process::Command;
use std::sync::Once;
use tls_support as both;

/// Four Ps, also on a machine with fewer processors, so there is always another M to migrate to.
fn run(row: impl FnOnce() + Send) {
    static START: Once = Once::new();
    START.call_once(|| gort::Runtime::builder().gomaxprocs(4).start().unwrap());
    gort::run(row);
}

#[test]
fn values_addresses_and_borrows() {
    run(own::values_addresses_and_borrows);
}

#[test]
fn errno() {
    run(own::errno);
}

#[test]
fn panic_count() {
    run(|| both::panic_count(false));
}

#[test]
fn thread_identity() {
    run(own::thread_identity);
}

#[test]
fn stdout_lock() {
    run(own::stdout_lock);
}

#[test]
fn recursive_mutex() {
    run(own::recursive_mutex);
}

#[test]
fn malloc_and_free_elsewhere() {
    run(both::malloc_and_free_elsewhere);
}

#[test]
fn dlopened_library() {
    run(own::dlopened_library);
}

#[test]
fn name_lookups() {
    run(both::name_lookups);
}

#[test]
fn own_stack_bounds() {
    run(own::own_stack_bounds);
}

#[test]
fn fork() {
    run(own::fork);
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
fn destructors_of_given_up_slots() {
    run(own::destructors_of_given_up_slots);
}

#[test]
fn only_parks_migrate() {
    run(both::only_parks_migrate);
}

#[test]
fn locked_goroutines_stay() {
    run(both::locked_goroutines_stay);
}

/// Set in the child that the debugger inspects.
const CHILD: &str = "GORT_TEST_DEBUGGER_CHILD";

#[test]
fn debugger_backtrace() {
    if std::env::var_os(CHILD).is_some() {
        return run(own::wait_for_the_debugger);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "debugger_backtrace", "--nocapture"]).env(CHILD, "1");
    own::debugger_backtrace(child);
}
