//! What all goroutines do, at this moment.

pub use crate::sched::WaitReason;
pub use crate::sched::dump::{Goroutine, Status, dump, goroutines, goroutines_at_once};
