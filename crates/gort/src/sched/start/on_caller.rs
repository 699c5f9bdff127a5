//! `#[gort::test]`: a main goroutine that has the thread-locals of the thread that starts it.
//!
//! # Why
//! std keeps in thread-locals where a test's output goes and what its thread is called. With these
//! thread-locals the goroutine is that thread to the language: libtest captures what the test
//! prints, and a panic names the test.
//!
//! # How
//! ```text
//!   the thread                             the goroutine
//!   ──────────                             ─────────────
//!   starts the goroutine                   runs on its own block, waits until the word is LENT
//!   blocks its signals
//!   word := LENT; sleeps                   moves to the thread's block; the test's body runs;
//!                                          moves back
//!   word is BACK: goes on                  word := BACK; wakes the thread
//! ```
//! `lent_word.rs` has the word, with the proof that the thread wakes up.
//!
//! # Invariants
//! 1. One of the two uses the thread's block at a time: the thread until LENT and from BACK on, the
//!    goroutine in between. Meanwhile the thread is in a loop around a bare system call, which
//!    touches no thread-local, not even `errno`; and its signals are blocked, so no handler runs
//!    there. (libc does not let its own signal for `setuid` be blocked. That handler works on the
//!    block that its thread has, see [`on_own_block_in_handler`](m::on_own_block_in_handler).)
//! 2. A thread's block has words about the thread: which M it is, the depth of pins, malloc's cache,
//!    the stack, the CPU. The goroutine sets them for itself, and puts the old ones back.
//! 3. The goroutine's stack is lent as long as it is away from its own block, so it is not swapped
//!    out.
//! 4. What the body leaves behind stays with the goroutine: a guard of `lock_os_thread` moves to its
//!    own block. In a forked child the goroutine ends there, as there is no thread to go back to.

use super::lent_word::LentWord;
use crate::sched::core::fixed::fixed;
use crate::sched::core::m::{self, M};
use crate::sched::spawn::{lock_thread, task};
use crate::sched::swap;
use crate::sys::sync::is_child;
use crate::sys::{fs, pin, signal};

/// Whether the caller can lend its thread-locals: it is a thread, and goroutines have blocks.
pub(super) fn is_possible() -> bool {
    m::current().is_none() && fixed().blocks.layout().is_some()
}

/// Runs `f`, which does not unwind, as a goroutine that has the caller's thread-locals. That must be
/// [possible](is_possible).
#[track_caller]
pub(super) fn run(f: &mut (dyn FnMut() + Send)) {
    let word = LentWord::new();
    let tp = fs::read();
    let body = || {
        while !word.is_lent() {
            task::yield_now();
        }
        let _loan = swap::lend_stack();
        // SAFETY: the thread has lent its block and waits (invariant 1).
        unsafe {
            on_block(tp, f);
            LentWord::give_back(&raw const word);
        }
    };
    // SAFETY: this does not return before the goroutine has stored BACK, which is the last that it
    // does with what it borrows.
    let goroutine = unsafe { task::spawn_unchecked(body, task::Builder::new()) };
    drop(goroutine.expect("nothing is asked for"));
    let mask = signal::block_all();
    word.lend();
    signal::set_mask(&mask);
}

/// Calls `f` on the thread-locals at `tp`, in the calling goroutine.
///
/// # Safety
/// `tp` is the block of a thread that waits until this has returned.
unsafe fn on_block(tp: usize, f: &mut (dyn FnMut() + Send)) {
    // SAFETY: the caller's promise. The block is the goroutine's from here on, and the goroutine is
    // pinned while it moves, on the block that it leaves and on the one that it comes to.
    unsafe {
        let lent = Words::take(tp);
        pin::enter();
        let own = M::change_block(tp);
        pin::leave();
        call(f);
        if is_child() {
            task::goroutine_ended();
        }
        let g = m::current().and_then(M::g).expect("a goroutine");
        let locked = lock_thread::leave_block(g);
        pin::enter();
        M::change_block(own);
        pin::leave();
        if locked {
            lock_thread::came_back(g);
        }
        lent.put_back();
    }
}

/// A function of its own, so that no address of a thread-local is kept from one side of a change of
/// blocks to the other.
#[inline(never)]
fn call(f: &mut dyn FnMut()) {
    f();
}

/// What a thread's block holds about its thread (invariant 2).
struct Words {
    tp: usize,
    malloc: Option<[u64; 2]>,
    described: Vec<(isize, u64)>,
}

impl Words {
    /// Saves the words, and describes the calling goroutine's stack in their place.
    ///
    /// # Safety
    /// The block at `tp` is the caller's.
    unsafe fn take(tp: usize) -> Words {
        let fixed = fixed();
        // SAFETY: the caller's promise; the offsets are of words in every block.
        unsafe {
            let malloc = fixed.malloc_words.map(|offsets| offsets.map(|off| *m::at(tp, off)));
            let g = m::current().and_then(M::g).expect("a goroutine");
            let slot = (*g.slot.get()).as_ref().expect("it runs");
            Words { tp, malloc, described: fixed.blocks.describe(tp, slot) }
        }
    }

    /// Puts them back: the block belongs to no M, and no section is open there.
    ///
    /// # Safety
    /// The block is still the caller's, which does not run on it.
    unsafe fn put_back(self) {
        let fixed = fixed();
        // SAFETY: as in `take`.
        unsafe {
            m::at(self.tp, fixed.current_offset).write(0);
            pin::reset(self.tp);
            for (off, word) in fixed.malloc_words.into_iter().flatten().zip(self.malloc.into_iter().flatten())
            {
                m::at(self.tp, off).write(word);
            }
            for (off, word) in self.described {
                m::at(self.tp, off).write(word);
            }
        }
    }
}
