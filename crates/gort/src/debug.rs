//! What all goroutines are doing: as data, and as text like Go's goroutine dumps.
//!
//! - [`goroutines`] looks at one goroutine after the other, while all go on.
//! - [`goroutines_at_once`] stops them for a moment, so that what they do fits together.
//! - [`dump`] returns text, for logs and debug pages.
//!
//! # Blocking
//!
//! [`goroutines`] and [`dump`]: G: no. M: no. P: no.
//!
//! [`goroutines_at_once`]: G: yes. M: yes, as inside [`blocking`](crate::blocking). P: all, for a
//! moment.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//!
//! gort::run(|| {
//!     let worker = gort::Builder::new().name("worker".into());
//!     worker.spawn(|| gort::sleep(Duration::from_secs(60))).unwrap();
//!     let all = gort::debug::goroutines();
//!     assert!(all.iter().any(|g| g.name.as_deref() == Some("worker")));
//! })
//! ```

pub use crate::sched::WaitReason;
pub use crate::sched::dump::{Goroutine, Status, dump, goroutines, goroutines_at_once};
