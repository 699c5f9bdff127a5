//! A thread lends its thread-locals to a goroutine (`sched/start/lent_word.rs`): one of the two uses
//! them at a time, each sees what the other one did, and the thread wakes up.

#![allow(unreachable_pub, reason = "a module of the library")]

pub(crate) use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

#[path = "../../gort/src/sched/start/lent_word.rs"]
mod lent_word;

use lent_word::LentWord;

/// What is lent: loom checks that its uses have an order.
struct Lent {
    word: LentWord,
    block: UnsafeCell<u32>,
}

// SAFETY: `block` belongs to one party at a time, which is what the model checks.
unsafe impl Sync for Lent {}
// SAFETY: as above.
unsafe impl Send for Lent {}

impl Lent {
    fn add(&self, n: u32) -> u32 {
        self.block.with_mut(|at| {
            // SAFETY: loom fails if another party uses it meanwhile.
            unsafe {
                *at += n;
                *at
            }
        })
    }
}

fn lend_and_use(before_lent: bool) {
    model(4, move || {
        let lent = Arc::new(Lent { word: LentWord::new(), block: UnsafeCell::new(0) });
        let goroutine = {
            let lent = lent.clone();
            thread::spawn(move || {
                while !before_lent && !lent.word.is_lent() {
                    thread::yield_now();
                }
                lent.add(10);
                // SAFETY: the word is alive, and this is the party that it was lent to.
                unsafe { LentWord::give_back(&raw const lent.word) };
            })
        };
        lent.add(1);
        lent.word.lend();
        assert_eq!(lent.add(100), 111);
        goroutine.join().unwrap();
    });
}

#[test]
fn one_at_a_time() {
    lend_and_use(false);
}

/// A goroutine that does not wait for LENT uses the block beside the thread.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_wait_both_use_it() {
    lend_and_use(true);
}
