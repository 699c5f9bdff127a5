//! Freezing all goroutines: none is resumed any more. For the report of a fatal error, which looks
//! at their stacks.

use crate::sys::sync::{AtomicBool, Ordering::*};
use std::time::Duration;

/// The process is about to end, and the report of why looks at suspended stacks.
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Keeps every suspended goroutine as it is, for good. Goroutines that run go on to their next
/// park.
pub(crate) fn freeze() {
    FROZEN.store(true, SeqCst);
    // An M may have looked at the word just now, and be about to resume a goroutine. This gives it
    // time to be seen as running.
    std::thread::sleep(Duration::from_millis(2));
}

/// Whether [`freeze`] was called.
#[inline]
pub(crate) fn is_frozen() -> bool {
    FROZEN.load(Relaxed)
}
