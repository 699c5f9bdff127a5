//! Whether a parked goroutine's stack is in its slot, and which party may use it.
//!
//! # States
//! ```text
//!          before the park             looked at long after             under the shard's lock
//!   STAYS ─────────────────▶ MAY_GO ─────────────────────▶ MARKED ──────────────────────────▶ OUT
//!     ▲                       │  ▲                           │ │                               │
//!     ├─── the goroutine, ────┘  └── its M resumes it, or ───┘ │                               │
//!     │    when it runs again        the swapper leaves it     │                               │
//!     ├─── the stack is too large ─────────────────────────────┘                               │
//!     └─── its M resumes it, or other code reaches into it ────────────────────────────────────┘
//!
//!            looked at long after              under the shard's lock
//!   STAYS ───────────────────────▶ TRIMMING ─────────────────────────────▶ STAYS again
//! ```
//! TRIMMING is for giving back what lies *below* the live stack; MARKED does for that, too. Nothing
//! above is touched, so it does not matter which code knows addresses there.
//!
//! MAY_GO and MARKED carry the address of a lock under which others use a place in the stack. OUT
//! carries the address of the packed stack.
//!
//! | state    | the stack belongs to           | moved on by                                    |
//! | -------- | ------------------------------ | ---------------------------------------------- |
//! | STAYS    | the goroutine; others may know | the goroutine; the swapper (to TRIMMING)       |
//! |          | addresses in it                |                                                |
//! | MAY_GO   | nothing, while the goroutine   | the goroutine, when it runs; the swapper       |
//! |          | waits; the holder of the lock  |                                                |
//! |          | that it named may use a place  |                                                |
//! | MARKED   | as MAY_GO                      | the holder of the shard's lock; the goroutine, |
//! |          |                                | when it runs                                   |
//! | OUT      | there is none                  | the holder of the shard's lock                 |
//! | TRIMMING | as STAYS; what is below it     | the holder of the shard's lock; the goroutine, |
//! |          | belongs to nothing             | when it runs                                   |
//!
//! # Why nothing runs on a stack that goes away
//! Two parties each write a word and then read the other's:
//!
//! - The M that resumes the goroutine sets the goroutine's state to Running, then looks whether the
//!   stack is [at home](SwapWord::is_home).
//! - The swapper sets MARKED, then looks whether the goroutine is still Waiting.
//!
//! Each has a fence between the two steps, the M a light one and the swapper a heavy one
//! (`sys/membarrier.rs`). So at least one of the two sees the other:
//!
//! - If the swapper sees the M, it leaves the stack where it is.
//! - If the M sees the swapper, it takes the shard's lock. Under that lock the swapper does its
//!   second look and its work. So either that is over and the stack is out, or the swapper will
//!   find that the mark is gone.
//!
//! A goroutine may have been resumed before the mark and wait again meanwhile; its state says
//! Waiting too. But it has written the word in between. So the swapper looks at the state first and
//! at the word after. If the word still says MARKED, the mark belongs to the wait that the state
//! tells of, and the argument above holds for the M that resumes the goroutine from that wait.
//!
//! A goroutine that STAYS writes nothing in between, so TRIMMING may be from an earlier wait. That
//! does no harm:
//!
//! 1. No thread has taken that mark back, so every thread that looks after the heavy fence sees it.
//! 2. The M that resumes the goroutine from the wait that the swapper has seen looks after that
//!    fence. Had it looked before, the swapper would have seen Running.
//! 3. So that M takes the lock.
//!
//! What must not be is a second mark, for which there was no fence yet, in place of the one that
//! was taken back. So all marks are set by one thread, which has finished with the marks of one
//! fence before it sets the next.
//!
//! Model: `crates/gort-models/tests/swap.rs`.

use crate::sys::sync::{AtomicUsize, Ordering::*};
use std::cell::Cell;

const STAYS: usize = 0;
/// The tags are the lowest two bits. The bits above hold the address of the lock that the goroutine
/// has named, or of the packed stack.
const MAY_GO: usize = 1;
const OUT: usize = 2;
const MARKED: usize = 3;
const TAG: usize = 3;
/// Set in the states in which the stack is gone, or about to go, or held.
const AWAY: usize = 2;
/// OUT, with no address.
const TRIMMING: usize = OUT;

/// See the module's head.
pub(crate) struct SwapWord(AtomicUsize);

impl SwapWord {
    pub(crate) fn new() -> SwapWord {
        SwapWord(AtomicUsize::new(STAYS))
    }

    /// For the goroutine, while it runs: nothing else knows an address in its stack, except for the
    /// holder of the lock at this address (0: no exception).
    #[inline]
    pub(crate) fn let_go(&self, lock: usize) {
        debug_assert!(lock & TAG == 0);
        self.0.store(lock | MAY_GO, Relaxed);
    }

    /// The stack stays until the goroutine has run again. Called
    /// - by the goroutine while it runs, to take [`let_go`](SwapWord::let_go) back, or by its
    ///   maker;
    /// - under the shard's lock, with a stack that was claimed or has been unpacked.
    #[inline]
    pub(crate) fn stay(&self) {
        self.0.store(STAYS, Relaxed);
    }

    /// For the M that resumes the goroutine, after the light fence. True: the stack is there, and
    /// stays; what the swapper did below it is over.
    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        self.0.load(Acquire) & AWAY == 0
    }

    /// For the holder of the lock that was named. True: the stack is not there. (False: it stays
    /// there as long as the lock is held.)
    #[inline]
    pub(crate) fn is_out(&self) -> bool {
        place_of(self.0.load(Relaxed)).is_some()
    }

    /// The swapper's guess that the stack may go.
    pub(crate) fn may_go(&self) -> bool {
        self.0.load(Relaxed) & TAG == MAY_GO
    }

    /// The swapper's first step; the heavy fence comes next.
    pub(crate) fn mark(&self) -> bool {
        let now = self.0.load(Relaxed);
        now & TAG == MAY_GO && self.0.compare_exchange(now, now | MARKED, Relaxed, Relaxed).is_ok()
    }

    /// As [`mark`](SwapWord::mark), for what is below the live stack alone.
    pub(crate) fn mark_below(&self) -> bool {
        let now = self.0.load(Relaxed);
        now & AWAY == 0 && self.0.compare_exchange(now, now | AWAY, Relaxed, Relaxed).is_ok()
    }

    /// As [`claim`](SwapWord::claim), for what is below the live stack alone.
    pub(crate) fn claim_below(&self, waits: impl FnOnce() -> bool) -> bool {
        if !waits() {
            self.unmark();
            return false;
        }
        is_marked(self.0.load(Relaxed))
    }

    /// The swapper's second step, under the shard's lock. With `Some` the stack belongs to the
    /// swapper, except for the holder of the lock at this address (0: no exception). `waits` looks
    /// whether the goroutine waits, and acquires what it did before.
    pub(crate) fn claim(&self, waits: impl FnOnce() -> bool) -> Option<usize> {
        if !waits() {
            self.unmark();
            return None;
        }
        let now = self.0.load(Relaxed);
        (now & TAG == MARKED).then_some(now & !TAG)
    }

    /// Under the shard's lock: takes the mark back. The goroutine itself may have written the word
    /// meanwhile.
    pub(crate) fn unmark(&self) {
        let now = self.0.load(Relaxed);
        if is_marked(now) {
            let _ = self.0.compare_exchange(now, now & !AWAY, Release, Relaxed);
        }
    }

    /// Under the shard's lock, with a stack that was claimed: the stack is packed at the address
    /// `place`.
    pub(crate) fn set_out(&self, place: usize) {
        debug_assert!(place != 0 && place & TAG == 0);
        self.0.store(place | OUT, Relaxed);
    }

    /// Under the shard's lock: where the stack is packed, if it is.
    pub(crate) fn out(&self) -> Option<usize> {
        place_of(self.0.load(Relaxed))
    }
}

fn is_marked(word: usize) -> bool {
    word == TRIMMING || word & TAG == MARKED
}

fn place_of(word: usize) -> Option<usize> {
    (word & TAG == OUT && word != TRIMMING).then_some(word & !TAG)
}

/// How many guards keep the stack where it is: a field of the goroutine that owns it.
pub(crate) struct Loans(Cell<u32>);

impl Loans {
    pub(crate) fn new() -> Loans {
        Loans(Cell::new(0))
    }

    #[inline]
    pub(crate) fn begin(&self) {
        self.0.set(self.0.get() + 1);
    }

    #[inline]
    pub(crate) fn end(&self) {
        self.0.set(self.0.get() - 1);
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.0.get() != 0
    }

    /// For the next goroutine with this descriptor.
    pub(crate) fn reset(&self) {
        self.0.set(0);
    }
}
