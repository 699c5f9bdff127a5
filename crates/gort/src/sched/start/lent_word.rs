//! How a thread lends something that one party at a time may use (`on_caller.rs`: its thread-locals)
//! to a goroutine, and sleeps until that gives it back.
//!
//! ```text
//!             the thread          the goroutine
//!   STARTED ──────────────▶ LENT ───────────────▶ BACK
//! ```
//! | state   | whose it is     |
//! | ------- | --------------- |
//! | STARTED | the thread's    |
//! | LENT    | the goroutine's |
//! | BACK    | the thread's    |
//!
//! Each party moves the word on after its last use (Release), and begins after it has seen the other
//! one's step (Acquire). So the uses have an order.
//!
//! # Why the thread does not oversleep
//! The kernel puts it to sleep only while the word is LENT. The goroutine stores BACK before it
//! wakes: so the thread does not fall asleep, or is woken.
//!
//! The thread may leave as soon as the word is BACK, and take the word with it. So the goroutine
//! takes the address before that step, and wakes by the address.
//!
//! Model: `crates/gort-models/tests/lent.rs`.

use crate::sys::futex;
use crate::sys::sync::{AtomicU32, Ordering::*};

const STARTED: u32 = 0;
const LENT: u32 = 1;
const BACK: u32 = 2;

/// See the module's head.
pub(crate) struct LentWord(AtomicU32);

impl LentWord {
    pub(crate) fn new() -> LentWord {
        LentWord(AtomicU32::new(STARTED))
    }

    /// The thread lends, and sleeps until it is given back. It touches no thread-local meanwhile.
    pub(crate) fn lend(&self) {
        self.0.store(LENT, Release);
        while self.0.load(Acquire) != BACK {
            futex::wait_bare(&self.0, LENT);
        }
    }

    /// Whether the goroutine may begin.
    pub(crate) fn is_lent(&self) -> bool {
        self.0.load(Acquire) == LENT
    }

    /// The goroutine gives it back. It touches nothing of the thread's afterwards.
    ///
    /// # Safety
    /// `word` is alive, and what was lent to the caller is not back yet.
    pub(crate) unsafe fn give_back(word: *const LentWord) {
        // SAFETY: the word is alive until BACK is stored, as the thread sleeps until then.
        let addr = unsafe {
            let addr = futex::address(&(*word).0);
            (*word).0.store(BACK, Release);
            addr
        };
        futex::wake_addr(addr, 1);
    }
}
