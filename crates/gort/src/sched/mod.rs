//! Decide: G, M and P. This file is the waist: all that the floors above may use of the scheduler.

pub(crate) mod netpoll;
pub(crate) mod park;
pub(crate) mod reason;
pub(crate) mod timers;
pub(crate) mod waiter;
mod stub;

pub(crate) use park::{WaiterRef, Wake};
pub use reason::WaitReason;
pub(crate) use stub::{AfterFunc, TimerHost, after_func, is_goexit};
pub use stub::{blocking, go, goexit, run, start, yield_now, Builder, JoinError, JoinHandle};
pub(crate) use waiter::{FIRST_TOKEN, TIMED_OUT};
