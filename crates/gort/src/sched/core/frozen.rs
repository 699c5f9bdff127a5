//! No goroutine is resumed any more: for a report of a fatal error, which looks at their stacks.

use crate::sys::sync::{AtomicBool, Ordering::*};
use std::time::Duration;

/// The process is about to end, and the report of why looks at suspended stacks.
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Keeps every suspended goroutine as it is, for good. Running ones go on to their next park.
pub(crate) fn freeze() {
    FROZEN.store(true, SeqCst);
    // An M that has just looked at the word is about to resume a goroutine: this gives it time to be
    // seen as running.
    std::thread::sleep(Duration::from_millis(2));
}

/// Whether [`freeze`] was called.
#[inline]
pub(crate) fn is_frozen() -> bool {
    FROZEN.load(Relaxed)
}
