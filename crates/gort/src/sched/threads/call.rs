//! What the template thread is called for: bits of a word that it sleeps on. Model:
//! `crates/gort-models/tests/m_pool.rs`.
//!
//! A caller sets its bit. The first caller, which found the word empty, wakes the thread. The
//! thread takes all bits at once and then does what they say, so a call that comes later is in the
//! word again.

use crate::sys::sync::{AtomicU32, Ordering::*};

/// See the module's head.
pub(crate) struct Calls(AtomicU32);

impl Calls {
    /// No call yet. (A model's atomics cannot be made in a constant, so the caller makes them.)
    pub(crate) const fn new(none: AtomicU32) -> Calls {
        Calls(none)
    }

    /// Adds the bit `what`; what the caller wrote before is published. True: the caller must wake
    /// the thread that sleeps on [`futex`](Self::futex).
    #[must_use]
    pub(crate) fn call(&self, what: u32) -> bool {
        self.0.fetch_or(what, Release) == 0
    }

    /// Takes all calls that came; 0 for none.
    pub(crate) fn take(&self) -> u32 {
        self.0.swap(0, Acquire)
    }

    /// Whether there is a call for `what` that the thread has not taken yet (a look).
    pub(crate) fn has(&self, what: u32) -> bool {
        self.0.load(Relaxed) & what != 0
    }

    pub(crate) fn futex(&self) -> &AtomicU32 {
        &self.0
    }
}
