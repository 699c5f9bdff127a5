//! A record of what the scheduler did, in order: blocking calls, handed-over Ps, preemptions.
//!
//! [`start`] begins a trace, and [`stop`] ends it and returns the events. There is at most one
//! trace at a time. The events go into memory that [`start`] allocates. When it is full, further
//! events are only counted.
//!
//! # Blocking
//!
//! [`start`] and [`stop`]: G: no. M: no. P: no.
//!
//! # Examples
//!
//! ```
//! use gort::trace::{self, EventKind, TraceIsOn};
//!
//! gort::run(|| {
//!     trace::start(1000).unwrap();
//!     assert_eq!(trace::start(1000), Err(TraceIsOn));
//!     gort::blocking(|| ());
//!     let trace = trace::stop();
//!     assert!(trace.events.iter().any(|event| event.kind == EventKind::SyscallBegin));
//! })
//! ```

pub use crate::sched::trace::{Event, EventKind, Trace, TraceIsOn, start, stop};
