//! Whether a parked goroutine's stack is in its slot, and whose it is.
//!
//! # States
//! ```text
//!          before the park             looked at long after             under the shard's lock
//!   STAYS ─────────────────▶ MAY_GO ─────────────────────▶ MARKED ──────────────────────────▶ OUT
//!     ▲                       │  ▲                           │ │                               │
//!     ├─── the goroutine, ────┘  └── whoever resumes it, or ─┘ │                               │
//!     │    when it runs again        does not take it after all│                               │
//!     └─── the stack is too large ─────────────────────────────┘                               │
//!     └─── whoever resumes it, or reaches into it ─────────────────────────────────────────────┘
//!
//!            looked at long after              under the shard's lock
//!   STAYS ───────────────────────▶ TRIMMING ─────────────────────────────▶ STAYS again
//! ```
//! TRIMMING is for giving back what lies *below* the live stack; MARKED does for that, too. Nothing
//! above is touched, so it does not matter which code knows addresses there.
//!
//! MAY_GO and MARKED carry the address of a lock under which others use a place in the stack, OUT that of the packed stack.
//!
//! | state  | whose is the stack                          | who moves it on                                                  |
//! | ------ | ------------------------------------------- | ---------------------------------------------------------------- |
//! | STAYS  | the goroutine's; others may know addresses in it | the goroutine                                               |
//! | MAY_GO | as long as it waits, nobody's but under the lock that it named | the goroutine, when it runs; the swapper       |
//! | MARKED | the same                                    | whoever holds the shard's lock                                   |
//! | OUT    | there is none                               | the same                                                         |
//! | TRIMMING   | as STAYS; what is below it nobody's         | the same, or the goroutine, when it runs                         |
//!
//! # Why nobody runs on a stack that goes away
//! Two parties each write a word and look at the other's: who resumes sets the goroutine's state to Running, then looks whether the
//! stack is [at home](SwapWord::is_home); the swapper sets MARKED, then looks whether the goroutine is still Waiting. Between the two stands a
//! fence on either side, a light and a heavy one (`sys/membarrier.rs`): so of the two at least one sees the other. If the swapper
//! does, it lets go. If who resumes does, it takes the shard's lock, under which the swapper does its second look and its work:
//! either that is over and the stack is out, or the swapper will find that the mark is gone.
//!
//! A goroutine that was resumed before the mark and waits again meanwhile says Waiting too. But it has written the word in between; so the
//! swapper looks at the state first and at the word then. If that still says MARKED, the mark belongs to the wait that the state
//! tells of, and the argument above is about whoever resumes it from that one.
//!
//! One that STAYS writes nothing in between, so TRIMMING may be from an earlier wait. That does no
//! harm: nobody has taken it back, so every thread that looks after the heavy fence sees it; the M
//! that resumes the goroutine from the wait that the swapper has seen looks after that fence (had
//! it looked before, the swapper would have seen Running); so it takes the lock. What must not be
//! is a second mark, for which there was no fence yet, in place of the one that was taken back: so
//! all marks are set by one thread, which has done with those of one fence before it sets the next.
//!
//! Model: `crates/gort-models/tests/swap.rs`.

use crate::sys::sync::{AtomicUsize, Ordering::*};
use std::cell::Cell;

const STAYS: usize = 0;
/// The lowest two bits; above them the lock that the goroutine has named, or where the stack is packed.
const MAY_GO: usize = 1;
const OUT: usize = 2;
const MARKED: usize = 3;
const TAG: usize = 3;
/// In those states the stack is gone, or about to go, or held.
const AWAY: usize = 2;
/// OUT, with no place.
const TRIMMING: usize = OUT;

/// See the module's head.
pub(crate) struct SwapWord(AtomicUsize);

impl SwapWord {
    pub(crate) fn new() -> SwapWord {
        SwapWord(AtomicUsize::new(STAYS))
    }

    /// The goroutine, running: no address in its stack is known to others but to who holds the lock at this address (0: to nobody).
    #[inline]
    pub(crate) fn let_go(&self, lock: usize) {
        debug_assert!(lock & TAG == 0);
        self.0.store(lock | MAY_GO, Relaxed);
    }

    /// The goroutine, running: that is over; or its maker. Or under the shard's lock, with a stack that was claimed, or has been unpacked: it
    /// stays until it has run again.
    #[inline]
    pub(crate) fn stay(&self) {
        self.0.store(STAYS, Relaxed);
    }

    /// For the M that resumes the goroutine, after the light fence: the stack is there, and stays.
    /// What the swapper did below it is over.
    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        self.0.load(Acquire) & AWAY == 0
    }

    /// Who holds the lock that was named: the stack is not there. (If it is, it stays as long as the lock is held.)
    #[inline]
    pub(crate) fn is_out(&self) -> bool {
        place_of(self.0.load(Relaxed)).is_some()
    }

    /// The swapper's guess that it may go.
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

    /// The swapper's second step, under the shard's lock: the stack is its own, but for who holds the lock at this address (0: for
    /// nobody). `waits` looks whether the goroutine does, and acquires what it did before.
    pub(crate) fn claim(&self, waits: impl FnOnce() -> bool) -> Option<usize> {
        if !waits() {
            self.unmark();
            return None;
        }
        let now = self.0.load(Relaxed);
        (now & TAG == MARKED).then_some(now & !TAG)
    }

    /// Under the shard's lock: not now. The goroutine itself may have written the word meanwhile.
    pub(crate) fn unmark(&self) {
        let now = self.0.load(Relaxed);
        if is_marked(now) {
            let _ = self.0.compare_exchange(now, now & !AWAY, Release, Relaxed);
        }
    }

    /// Under the shard's lock, with a stack that was claimed: it is packed at the address `place`.
    pub(crate) fn set_out(&self, place: usize) {
        debug_assert!(place != 0 && place & TAG == 0);
        self.0.store(place | OUT, Relaxed);
    }

    /// Under the shard's lock: where it is packed.
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
