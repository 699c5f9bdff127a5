//! Counters and sizes of the runtime, for monitoring.
//!
//! Counters such as [`steals`](Snapshot::steals) only grow: subtract two snapshots to get a rate.
//! Sizes such as [`goroutines`](Snapshot::goroutines) are those of the moment.
//!
//! # Blocking
//!
//! [`snapshot`]: G: no. M: no. P: no. It takes locks of the runtime for a moment each.
//!
//! # Examples
//!
//! ```
//! gort::run(|| {
//!     let before = gort::metrics::snapshot();
//!     gort::go(|| ()).join().unwrap();
//!     let after = gort::metrics::snapshot();
//!     assert!(after.goroutines_created > before.goroutines_created);
//! })
//! ```

pub use crate::sched::stats::{Snapshot, snapshot};
