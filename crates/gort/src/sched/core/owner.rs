//! To which goroutine a guard belongs.
//!
//! Thread-locals belong to the stack slot and outlive the goroutine. A guard that is kept in one is
//! dropped by the next goroutine on that slot, by the one that gives the slot back, or, in shared
//! mode, by whichever comes to that thread, or as the thread ends. None of these may undo what the
//! guard has done to a goroutine: that one has ended, and its end has undone it.
//!
//! # The rule
//! What a guard changes in a goroutine's descriptor, it changes back through [`Owner::goroutine`],
//! which gives the descriptor to the owner alone. For all other callers the drop does nothing. It
//! does not panic: destructors of thread-locals must not.

use super::g::G;
use super::m;
use std::marker::PhantomData;

/// The goroutine that runs now, or the plain thread. A guard that has one does not go to another
/// thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    /// The goroutine's number, which no other one ever has; 0 for a plain thread.
    goroutine: u64,
    _not_send: PhantomData<*const ()>,
}

impl Owner {
    /// The caller.
    #[inline]
    pub(crate) fn current() -> Owner {
        Owner { goroutine: running().map_or(0, G::id), _not_send: PhantomData }
    }

    /// The owner's descriptor, if the owner is a goroutine and the caller.
    #[inline]
    pub(crate) fn goroutine(self) -> Option<&'static G> {
        running().filter(|g| g.id() == self.goroutine)
    }
}

fn running() -> Option<&'static G> {
    m::current()?.g()
}
