//! Go's goroutine runtime as a Rust library. Goroutines run plain blocking code, a million of them
//! on a handful of OS threads.
//!
//! ```
//! gort::run(|| {
//!     let (tx, rx) = gort::chan::bounded(0);
//!     let h = gort::go(move || {
//!         tx.send(42).unwrap();
//!         "done"
//!     });
//!     assert_eq!(rx.recv(), Ok(42));
//!     assert_eq!(h.join().unwrap(), "done");
//! })
//! ```
//!
//! The [`guide`] explains how to use it: [first steps](guide::first_steps),
//! [blocking code and other crates](guide::blocking), [channels](guide::channels),
//! [cancellation](guide::cancellation), [stacks and memory](guide::stacks),
//! [thread-locals](guide::thread_locals), [tuning](guide::tuning), and what to know coming from
//! [Go](guide::from_go), [tokio](guide::from_tokio) or [threads](guide::from_threads).
//!
//! # What is here
//!
//! | | |
//! | --- | --- |
//! | [`run`], [`start`], [`main`](macro@main), [`Runtime::builder`] | starting the runtime; there is one a process |
//! | [`go`] (or [`spawn`]), [`scope`](fn@scope), [`Builder`], [`JoinHandle`] | goroutines: start, borrow, name, join |
//! | [`chan`], [`select!`] | channels, with the names of crossbeam-channel |
//! | [`sync`] | std's locks, and [`Semaphore`](sync::Semaphore) and [`WaitGroup`](sync::WaitGroup) |
//! | [`net`] | TCP, UDP and Unix sockets as in std, with deadlines and `close` |
//! | [`time`], [`sleep`] | timers and tickers as in Go 1.23, time-outs |
//! | [`context`], [`group`] | cancellation, goroutines that may fail |
//! | [`signal`] | SIGTERM and others as messages, or as the end of a context |
//! | [`blocking`] | calls that block their thread |
//! | [`affine`], [`lock_os_thread`] | libraries that need a thread of their own |
//! | [`goroutine_local!`] | values of one goroutine |
//! | [`future`] | futures in goroutines |
//! | [`alloc`] | global allocators that keep a heap for each thread |
//! | [`debug`], [`metrics`], [`trace`] | what goroutines do, numbers, what the scheduler did |
//!
//! # What waits
//!
//! What may wait has a *Blocking* section. It says what waits: the goroutine (**G**), the OS thread
//! (**M**), the right to run goroutines (**P**). "G: yes. M: no. P: no." is a park: the thread runs
//! others meanwhile, and the goroutine may come back on another one. Nothing else moves a goroutine
//! to another thread. On a plain OS thread, parking blocks that thread.
//!
//! Calls outside gort that block are not parks. They hold the thread, and its P until the goroutine
//! is preempted: see [blocking code](guide::blocking).
//!
//! # Thread-locals
//!
//! A goroutine owns its thread-locals: it may do with them what a thread may, across parks too.
//! They belong to the stack slot and are used again with it, as in a thread pool;
//! [`goroutine_local!`] is fresh for each goroutine. See [thread-locals](guide::thread_locals).

#![cfg_attr(
    not(all(feature = "swap", feature = "backtrace")),
    allow(dead_code, reason = "some functions are used by these features alone")
)]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
compile_error!(
    "gort needs Linux on x86-64 with glibc: goroutines own their thread-locals, as that libc lays them"
);

pub mod affine;
pub mod alloc;
pub mod chan;
pub mod context;
pub mod debug;
pub mod future;
pub mod group;
pub mod guide;
pub mod metrics;
pub mod net;
mod poll;
mod sched;
mod scope;
#[cfg(feature = "signal")]
pub mod signal;
mod stack;
pub mod sync;
mod sys;
pub mod time;
pub mod trace;

#[doc(hidden)]
pub use gort_macros::__select_error;
pub use gort_macros::{main, test};
pub use sched::LocalKey;
#[doc(hidden)]
pub use sched::run_test as __run_test;
pub use sched::{
    Builder, JoinError, JoinHandle, NoPreempt, OsThreadLock, Runtime, RuntimeBuilder, StackLoan, StartError,
    blocking, blocking_limit, cgroup_cpu_limit, go, goexit, gomaxprocs, lend_stack, lock_os_thread,
    no_preempt, num_cpu, num_goroutine, run, set_blocking_limit, set_default_gomaxprocs, set_gomaxprocs,
    spawn, start, yield_now,
};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use time::{sleep, sleep_until};
