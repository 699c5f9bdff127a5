//! Decide: G, M and P. This file is the waist: all that the floors above may use of the scheduler.
//!
//! Start reading at [`run`] (the loop), then [`find`] (what to run next), [`park`] (how a goroutine waits) and
//! `wake/README.md` (who wakes whom).

mod after;
mod call;
pub(crate) mod config;
mod deadlock;
mod direct;
pub(crate) mod dump;
mod fatal;
mod find;
mod fork;
mod g;
mod handover;
pub(crate) mod local;
mod lock_thread;
mod m;
pub(crate) mod netpoll;
mod own_attr;
mod owner;
mod p;
pub(crate) mod park;
mod policy;
mod preempt;
mod procs;
mod ready;
pub(crate) mod reason;
mod run;
mod runq;
mod service;
mod slice;
mod staff;
mod start;
mod state;
pub(crate) mod stats;
mod swap;
mod syscall;
mod sysmon;
mod task;
mod threads;
pub(crate) mod timers;
pub(crate) mod trace;
pub(crate) mod waiter;
mod wake;
mod world;

pub(crate) use after::{AfterFunc, after_func};
pub use lock_thread::{OsThreadLock, lock_os_thread};
pub(crate) use m::on_own_block;
pub(crate) use park::{Lent, WaiterRef, Wake};
pub(crate) use preempt::checkpoint;
pub use preempt::{NoPreempt, no_preempt};
pub use procs::{cgroup_cpu_limit, gomaxprocs, num_cpu, set_default_gomaxprocs, set_gomaxprocs};
pub use reason::WaitReason;
pub use start::{Runtime, RuntimeBuilder, StartError, run, start};
pub(crate) use stats::ABANDONED_CALLS;
pub use swap::{StackLoan, lend_stack};
pub use syscall::blocking;
pub use syscall::limit::{blocking_limit, set_blocking_limit};
pub use task::{Builder, JoinError, JoinHandle, go, goexit, num_goroutine, yield_now};
pub(crate) use task::{is_goexit, spawn_unchecked};
pub(crate) use waiter::{FIRST_TOKEN, TIMED_OUT};
