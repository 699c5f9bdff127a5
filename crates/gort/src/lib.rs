//! Go's goroutine runtime as a Rust library: plain blocking code, a million of them on a handful of OS threads.
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
//! # Who waits
//! What may wait has a *Blocking* section, which says who does: the goroutine (**G**), the OS thread (**M**), the right to run
//! goroutines (**P**). "G: yes. M: no. P: no." is a park: others run on the thread meanwhile, and the goroutine may come back on
//! another one. Nothing else moves a goroutine to another thread. On a plain OS thread, parking blocks that thread.
//!
//! # Thread-locals
//! A goroutine owns its thread-locals: whatever a thread may do with them, a goroutine may, across parks too. They
//! belong to the stack slot and are used again with it, as in a thread pool; [`goroutine_local!`] is fresh for each.
//!
//! # Forks
//! A child that was forked after the start, and has not called `exec`, has no runtime: what waits,
//! starts goroutines, sets a timer or does I/O panics there with a sentence. Dropping and closing
//! what came from gort is harmless, to the child and to the parent; plain code, `exec`, `_exit` and
//! `exit` work. A goroutine that comes to its end there ends the process, with status 2.
//!
//! # Starting
//! [`run`] starts the runtime if need be; [`start`] does only that; [`Runtime::builder`] has the knobs. There is one runtime a
//! process. The environment's `GOMAXPROCS`, `GORT_STACK`, `GORT_STATIC_TLS`, `GORT_THREAD_CAP`,
//! `GORT_BLOCKING_LIMIT` give what was not set; `GORT_SWAP` overrules what a program has said by
//! [`RuntimeBuilder::swap_idle_stacks`], and is ignored in a program that has not called it.
//! `GORT_DEBUG=key=value,...` has `asyncpreemptoff=1` (no goroutine is stopped by a signal),
//! `containermaxprocs=0` and `updatemaxprocs=0` (see [`set_default_gomaxprocs`]) and `logprocs=1` (says at the start what GOMAXPROCS is, and why).
//! `GORT_TRACEBACK=none` leaves the goroutines out of fatal errors.

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
pub mod metrics;
pub mod net;
mod poll;
mod sched;
mod scope;
mod stack;
pub mod sync;
mod sys;
pub mod time;
pub mod trace;

pub use gort_macros::{main, test};
pub use sched::LocalKey;
pub use sched::{
    Builder, JoinError, JoinHandle, NoPreempt, OsThreadLock, Runtime, RuntimeBuilder, StackLoan, StartError,
    blocking, blocking_limit, cgroup_cpu_limit, go, goexit, gomaxprocs, lend_stack, lock_os_thread,
    no_preempt, num_cpu, num_goroutine, run, set_blocking_limit, set_default_gomaxprocs, set_gomaxprocs,
    start, yield_now,
};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use time::{sleep, sleep_until};
