//! The P of an M, as the M's own thread and sysmon see it.
//!
//! A goroutine may block its thread outside gort: in a read, at a lock of std, in C code. It does
//! not compute then, and others could use its P. A signal would make it give the P away, but would
//! also end its system call with `EINTR`. So sysmon takes the P without the thread's help, and the
//! thread notices when it next looks (`sched/syscall/outside.rs`).
//!
//! # The word
//! ```text
//!            set                mark                 claim
//!   none ──────────▶  P  ─────────────────▶ P, mark ────────▶ TAKEN ──────▶ none
//!        ◀──────────      ◀─────────────────                         set
//!         set, take        hold, or unmark
//! ```
//! | step            | who                        | what it means                              |
//! | --------------- | -------------------------- | ------------------------------------------ |
//! | `set`, `take`   | the thread, with its P     | as in a plain cell; a mark is overwritten  |
//! | `mark`          | sysmon                     | it looks whether it may take the P         |
//! | `hold`          | the thread, pinned         | it uses the P from here on: the mark goes  |
//! | `unmark`        | sysmon                     | it may not                                 |
//! | `claim`         | sysmon                     | the P is sysmon's                          |
//!
//! # Why no P has two owners
//! | party      | step | what it does                                                    |
//! | ---------- | ---- | --------------------------------------------------------------- |
//! | the thread | T1   | pins itself (`sys/pin.rs`)                                      |
//! |            | T2   | light fence                                                     |
//! |            | T3   | `hold`: reads the word. A mark: compare-and-swap to P           |
//! | sysmon     | S1   | `mark`                                                          |
//! |            | S2   | heavy fence                                                     |
//! |            | S3   | reads the pin depth. If it is 0: `claim`, a compare-and-swap    |
//!
//! The thread uses its P only from T3 until it unpins itself. Of the fences, one is first:
//! - T2 before S2: S3 sees the thread pinned, and leaves the P alone; or the section is over, and
//!   what the thread did in it has happened before.
//! - S2 before T2: T3 sees the mark, or what became of it. The two compare-and-swaps start from the
//!   same value, so one of them fails: the thread has the P and sysmon does not, or TAKEN is there,
//!   and the thread knows that it has none.
//!
//! Only sysmon marks, so a mark that it meets in S3 is its own. Where the thread is not in a
//! goroutine's code (`sched/syscall/outside.rs` says how sysmon makes sure), it uses its P without
//! a look at the mark, and sysmon does not get as far as `claim`.
//!
//! Model: `crates/gort-models/tests/held_p.rs`.

use crate::sys::membarrier::fence_light;
use crate::sys::sync::{AtomicPtr, Ordering::*};
use std::ptr::{null_mut, without_provenance_mut};

/// The mark. Descriptors of Ps are aligned to more than that.
const MARK: usize = 1;

/// See the module's head.
pub(crate) struct HeldP<P>(AtomicPtr<P>);

impl<P> HeldP<P> {
    pub(crate) fn none() -> HeldP<P> {
        HeldP(AtomicPtr::new(null_mut()))
    }

    /// The P, marked or not; `None` also if it was taken. For the M's own thread: on g0, or in a
    /// section in which it has called [`hold`](HeldP::hold). Elsewhere this is a guess.
    #[inline]
    pub(crate) fn get(&self) -> Option<&'static P> {
        let p = without_mark(self.0.load(Relaxed));
        // SAFETY: null, or from a reference that lives for ever.
        unsafe { p.as_ref() }
    }

    /// The P, which the M's thread may use until the end of the pinned section that it has just
    /// begun. `None`: there is none, or it was [taken](HeldP::is_taken).
    #[inline]
    pub(crate) fn hold(&self) -> Option<&'static P> {
        fence_light();
        let word = self.0.load(Relaxed);
        if word.addr() & MARK != 0 {
            return self.hold_marked(word);
        }
        // SAFETY: as in `get`.
        unsafe { word.as_ref() }
    }

    #[cold]
    fn hold_marked(&self, word: *mut P) -> Option<&'static P> {
        let p = without_mark(word);
        // If this fails, sysmon has taken the mark away, or the P.
        let word = match p.is_null() {
            true => word,
            false => self.0.compare_exchange(word, p, Acquire, Acquire).map_or_else(|now| now, |_| p),
        };
        // SAFETY: as in `get`.
        unsafe { without_mark(word).as_ref() }
    }

    /// For the M's own thread, which has no P, or gives up the one it has; or for what wires a P to
    /// an M that sleeps.
    #[inline]
    pub(crate) fn set(&self, p: Option<&'static P>) {
        self.0.store(p.map_or(null_mut(), |p| std::ptr::from_ref(p).cast_mut()), Relaxed);
    }

    /// For the M's own thread: takes the P out of the word.
    #[inline]
    pub(crate) fn take(&self) -> Option<&'static P> {
        let p = self.get();
        self.set(None);
        p
    }

    /// Whether `p` is there. A guess, but for the M's own thread.
    pub(crate) fn is(&self, p: &P) -> bool {
        std::ptr::eq(without_mark(self.0.load(Relaxed)), p)
    }

    /// Whether sysmon has the P that the M had.
    #[inline]
    pub(crate) fn is_taken(&self) -> bool {
        self.0.load(Relaxed) == taken()
    }

    /// Sysmon's step S1. False: `p` is not there any more.
    pub(crate) fn mark(&self, p: &'static P) -> bool {
        let p = std::ptr::from_ref(p).cast_mut();
        self.0.compare_exchange(p, with_mark(p), Relaxed, Relaxed).is_ok()
    }

    /// Takes sysmon's own mark away, if it is there still.
    pub(crate) fn unmark(&self, p: &'static P) {
        let p = std::ptr::from_ref(p).cast_mut();
        _ = self.0.compare_exchange(with_mark(p), p, Relaxed, Relaxed);
    }

    /// The end of sysmon's step S3. True: the P is sysmon's.
    #[must_use = "the P belongs to the caller"]
    pub(crate) fn claim(&self, p: &'static P) -> bool {
        let p = std::ptr::from_ref(p).cast_mut();
        self.0.compare_exchange(with_mark(p), taken(), AcqRel, Relaxed).is_ok()
    }
}

fn with_mark<P>(p: *mut P) -> *mut P {
    p.map_addr(|addr| addr | MARK)
}

#[inline]
fn without_mark<P>(p: *mut P) -> *mut P {
    p.map_addr(|addr| addr & !MARK)
}

fn taken<P>() -> *mut P {
    without_provenance_mut(MARK)
}
