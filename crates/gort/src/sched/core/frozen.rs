//! No goroutine is resumed any more: for a report of a fatal error, which looks at their stacks.

use crate::sys::sync::AtomicBool;
use crate::sys::sync::Ordering::*;
use std::time::Duration;

/// The process is about to end, and those who report why look at suspended stacks: no goroutine is resumed any more.
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Keeps every goroutine that is suspended as it is, for good. Those that run go on to their next park.
pub(crate) fn freeze() {
    FROZEN.store(true, SeqCst);
    // Who has just looked at the word is on its way; give it time to be seen as running.
    std::thread::sleep(Duration::from_millis(2));
}

/// Whether [`freeze`] was called.
#[inline]
pub(crate) fn is_frozen() -> bool {
    FROZEN.load(Relaxed)
}
