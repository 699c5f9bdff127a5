//! The word of an M inside `blocking`: what has its P. States and invariants are in
//! `sched/syscall/mod.rs`, the model is in `crates/gort-models/tests/syscall.rs`.

use crate::sys::sync::{AtomicU64, Ordering::*, fence};

const OUT: u64 = 0;
const IN: u64 = 1;
const TAKEN: u64 = 2;

/// `count << 32 | P's id << 2 | state`.
pub(crate) struct SyscallWord(AtomicU64);

/// One stay of an M inside `blocking`, with its P. No other stay equals it (until the count has
/// gone round).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stay(u64);

impl Stay {
    /// The P that belongs to the word during the stay.
    pub(crate) fn p(self) -> u32 {
        self.0 as u32 >> 2
    }
}

impl SyscallWord {
    pub(crate) fn new() -> SyscallWord {
        SyscallWord(AtomicU64::new(OUT))
    }

    /// The owner, which has P `p`, gives it to the word. All that the owner reads after this it
    /// reads after the stay can be seen by all threads.
    #[inline]
    pub(crate) fn enter(&self, p: u32) {
        let count = (self.0.load(Relaxed) >> 32).wrapping_add(1);
        self.0.store(count << 32 | u64::from(p) << 2 | IN, Release);
        fence(SeqCst);
    }

    /// The owner comes out: with its P, unless the P was taken.
    #[inline]
    pub(crate) fn exit(&self) -> Option<u32> {
        let word = self.0.load(Relaxed);
        let back = word & 3 == IN && self.0.compare_exchange(word, word & !3 | OUT, Acquire, Relaxed).is_ok();
        back.then_some(Stay(word).p())
    }

    /// The stay that goes on, if one does. For any thread.
    #[inline]
    pub(crate) fn stay(&self) -> Option<Stay> {
        let word = self.0.load(Acquire);
        (word & 3 == IN).then_some(Stay(word))
    }

    /// Takes the P of `stay`, if that goes on. True: the P is the caller's. For any thread.
    pub(crate) fn retake(&self, stay: Stay) -> bool {
        self.0.compare_exchange(stay.0, stay.0 & !3 | TAKEN, Acquire, Relaxed).is_ok()
    }
}
