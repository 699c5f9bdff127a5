//! The scheduler: G, M and P. This file is the waist: it names all that the floors above may use.
//!
//! # G, M, P
//! A **G** is a goroutine: a descriptor, and from its first run on a stack with thread-locals of
//! its own. An **M** is an OS thread that runs goroutines. A **P** is the right to do so; there are
//! GOMAXPROCS of them. What is hot while goroutines run lies in the P: its run queue, its timers,
//! warm stacks, counters. An M that blocks in a system call leaves its P to another M.
//!
//! # The life of a G
//! ```text
//!             go()                    find                     the closure returns
//!   (dead) ────────▶ runnable ────────────────────▶ running ───────────────────────▶ (dead)
//!     spawn/           ▲ on one queue:    run/        │ │ │
//!                      │ next, a ring,                │ │ └─ yields, or its ────▶ runnable
//!                      │ a list of shared/            │ │    slice is over      run/, preempt/
//!                      │                              │ │
//!                      │                              │ └─── blocking() ──▶ blocked: M waits
//!                      │                              │                     with G, P goes on
//!                      │ ready/                       ▼                     syscall/
//!                      └───── a wake ─────────── waiting: in a wait queue of chan or sync,
//!                                                  at a timer, at a socket
//!                                                  wait/, io/
//! ```
//!
//! # Rooms
//! The folders are rooms. A room uses those above it in this list, never one below it. Inside a
//! room, files may know each other. `tests/floors.rs` checks that.
//!
//! | room       | holds                                                                      |
//! | ---------- | -------------------------------------------------------------------------- |
//! | `policy/`  | which goroutine runs next and for how long: the rule, without threads      |
//! | `queue/`   | the ring of a P; lists                                                     |
//! | `wake/`    | when an M must be woken: the protocols and their proofs                    |
//! | `core/`    | G, M and P, timers, the words of the protocols: data and its transitions   |
//! | `shared/`  | what all Ms share under one lock: global queues, idle Ps, count of threads |
//! | `trace/`   | records of what happens                                                    |
//! | `threads/` | where Ms come from, sleep and end                                          |
//! | `ready/`   | the one place where a goroutine becomes runnable                           |
//! | `swap/`    | stacks of goroutines that have been parked for long                        |
//! | `io/`      | timers and the netpoller: what wakes goroutines from outside               |
//! | `handoff/` | what becomes of a P that its M cannot go on with                           |
//! | `run/`     | the loop of an M, the search for work, the switch to the next goroutine    |
//! | `wait/`    | how a goroutine or an OS thread waits                                      |
//! | `syscall/` | `blocking`                                                                 |
//! | `preempt/` | how a goroutine is stopped that does not stop by itself                    |
//! | `spawn/`   | from the closure to the result; `join`                                     |
//! | `world/`   | GOMAXPROCS while the program runs; stopping the world                      |
//! | `watch/`   | sysmon, deadlocks, dumps, counters, fatal errors                           |
//! | `start/`   | the start of the runtime; what needs it first                              |
//!
//! # Where to start reading
//! - `core/g.rs`: the states of a goroutine
//! - `run/schedule.rs`: the loop
//! - `run/find.rs`: what to run next
//! - `wait/park.rs`: how a goroutine waits
//! - `ready/`: how it becomes runnable again
//! - `wake/README.md`: why no wake-up is lost
//!
//! `HACKING.md` has the words and the rules.

mod core;
mod handoff;
mod io;
mod policy;
mod preempt;
mod queue;
mod ready;
mod run;
mod shared;
mod spawn;
mod start;
#[cfg_attr(not(feature = "swap"), path = "swap/off.rs")]
mod swap;
mod syscall;
mod threads;
pub(crate) mod trace;
mod wait;
mod wake;
mod watch;
mod world;

pub(crate) use self::core::m::on_own_block;
pub use self::core::reason::WaitReason;
pub use self::core::start_error::StartError;
pub(crate) use self::core::wait_word::{FIRST_TOKEN, TIMED_OUT};
pub(crate) use self::core::waiter::{Lent, WaiterRef, Wake};
#[cfg(test)]
pub(crate) use io::netpoll;
pub(crate) use io::netpoll::Mode;
pub(crate) use preempt::checkpoint;
pub use preempt::{NoPreempt, no_preempt};
pub use spawn::local::LocalKey;
pub use spawn::lock_thread::{OsThreadLock, lock_os_thread};
pub use spawn::task::{Builder, JoinError, JoinHandle, go, goexit, num_goroutine, spawn, yield_now};
pub(crate) use spawn::task::{is_goexit, spawn_unchecked};
pub(crate) use start::after::{AfterFunc, after_func};
pub use start::{Runtime, RuntimeBuilder, run, run_test, start};
pub use swap::{StackLoan, lend_stack};
pub use syscall::blocking;
pub use syscall::limit::{blocking_limit, set_blocking_limit};
#[cfg(feature = "signal")]
pub(crate) use threads::{call::Calls, service::spawn as spawn_thread};
pub(crate) use wait::io_handle::{IoHandle, IoWaitError};
pub(crate) use watch::stats::ABANDONED_CALLS;
pub(crate) use watch::{dump, stats};
pub use world::procs::{cgroup_cpu_limit, gomaxprocs, num_cpu, set_default_gomaxprocs, set_gomaxprocs};
