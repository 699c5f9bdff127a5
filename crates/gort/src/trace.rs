//! What the scheduler did, in order: calls that block, Ps that change hands, goroutines that are stopped and go on.

pub use crate::sched::trace::{Event, EventKind, Trace, TraceIsOn, start, stop};
