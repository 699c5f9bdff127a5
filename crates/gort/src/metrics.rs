//! Numbers of the runtime.

pub use crate::sched::stats::{Snapshot, snapshot};
