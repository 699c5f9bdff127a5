//! Whether a stack is in its slot (`sched/core/swap_word.rs`): no goroutine runs on a stack that
//! goes away, no waker reaches into one that is gone, and what it held comes back.
//!
//! The library has a light and a heavy fence, of which the heavy one does the work of both. Here
//! each side has a full one.

#![allow(dead_code, unreachable_pub, reason = "a module of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering::*};
use loom::sync::{Arc, Mutex};
use loom::thread;
use sys::sync::{fence, without_fences};

#[path = "../../gort/src/sched/core/swap_word.rs"]
mod word;

use word::SwapWord;

/// Where a stack is packed.
const PLACE: usize = 64;
/// The lock that the goroutine names.
const LOCK: usize = 128;
/// What a closed slot holds: a thread that sees this has touched one.
const CLOSED: usize = usize::MAX;

/// A goroutine that waits in a queue behind a lock, with its stack in its slot.
struct Parked {
    word: SwapWord,
    /// The state of its descriptor: Waiting, or else Running.
    waits: AtomicBool,
    /// Its stack: one word, which it counts up.
    stack: UnsafeCell<usize>,
    /// The shard's lock and its pool.
    packed: Mutex<usize>,
    /// The queue's lock; under it a waker writes into the stack.
    queue: Mutex<()>,
}

impl Parked {
    fn new() -> Arc<Parked> {
        let parked = Parked {
            word: SwapWord::new(),
            waits: AtomicBool::new(true),
            stack: UnsafeCell::new(0),
            packed: Mutex::new(CLOSED),
            queue: Mutex::new(()),
        };
        parked.word.let_go(LOCK);
        Arc::new(parked)
    }

    /// Changes the stack's word by `f`. loom reports two threads that are there at the same time.
    fn touch(&self, f: impl FnOnce(usize) -> usize) {
        // SAFETY: loom checks it.
        self.stack.with_mut(|word| unsafe {
            assert_ne!(*word, CLOSED, "the stack is not there");
            *word = f(*word);
        });
    }

    /// As `swap::try_swap_out`, with the mark before.
    fn swap_out(&self) {
        if !self.word.mark() {
            return;
        }
        fence(SeqCst);
        let mut packed = self.packed.lock().unwrap();
        let Some(lock) = self.word.claim(|| self.waits.load(Acquire)) else { return };
        assert_eq!(lock, LOCK);
        let Ok(_queue) = self.queue.try_lock() else { return self.word.unmark() };
        self.touch(|word| {
            *packed = word;
            CLOSED
        });
        self.word.set_out(PLACE);
    }

    /// As `swap::bring_back`.
    fn bring_back(&self) {
        let packed = self.packed.lock().unwrap();
        let Some(place) = self.word.out() else { return self.word.unmark() };
        assert_eq!(place, PLACE);
        // SAFETY: loom checks it.
        self.stack.with_mut(|word| unsafe { *word = *packed });
        self.word.stay();
    }

    /// Runs the goroutine once, as the scheduler does: until it waits again.
    fn run(&self) {
        self.waits.store(false, Release);
        fence(SeqCst);
        if !self.word.is_home() {
            self.bring_back();
        }
        self.touch(|word| word + 1);
        self.word.stay();
        self.touch(|word| word + 1);
        self.word.let_go(LOCK);
        self.waits.store(true, Release);
    }
}

fn swapper_against_scheduler() {
    let parked = Parked::new();
    let swapper = {
        let parked = parked.clone();
        thread::spawn(move || parked.swap_out())
    };
    parked.run();
    parked.run();
    swapper.join().unwrap();
    parked.run();
    parked.touch(|word| {
        assert_eq!(word, 6);
        word
    });
}

/// A goroutine runs, waits and runs again while the swapper tries to swap it out.
#[test]
fn none_runs_on_a_stack_that_goes() {
    model(3, swapper_against_scheduler);
}

/// Only the fences keep the two apart.
#[test]
#[should_panic(expected = "Concurrent")]
fn without_fences_one_does() {
    without_fences(|| model(3, swapper_against_scheduler));
}

/// The swapper gives back what is below the live stack, while the goroutine waits: for the first
/// time, or for the second. The goroutine names no lock and writes no word.
#[test]
fn none_runs_on_what_is_given_back() {
    model(3, held_against_scheduler);
}

/// Only the fences keep the two apart here, too.
#[test]
#[should_panic(expected = "Concurrent")]
fn without_fences_one_runs_on_it() {
    without_fences(|| model(3, held_against_scheduler));
}

fn held_against_scheduler() {
    let parked = Parked::new();
    parked.word.stay();
    let run = |parked: &Parked| {
        parked.waits.store(false, Release);
        fence(SeqCst);
        if !parked.word.is_home() {
            parked.bring_back();
        }
        parked.touch(|word| word + 1);
        parked.waits.store(true, Release);
    };
    let trimmer = {
        let parked = parked.clone();
        thread::spawn(move || {
            if parked.word.mark_below() {
                fence(SeqCst);
                let _packed = parked.packed.lock().unwrap();
                if parked.word.claim_below(|| parked.waits.load(Acquire)) {
                    parked.touch(|word| word);
                    parked.word.unmark();
                }
            }
        })
    };
    run(&parked);
    run(&parked);
    trimmer.join().unwrap();
    run(&parked);
    assert!(parked.word.is_home() && !parked.word.is_out());
}

/// A waker writes into the stack under the lock that the goroutine has named, then the goroutine
/// runs. The swapper has two tries.
#[test]
fn a_waker_reaches_into_a_stack_that_stays() {
    model(3, || {
        let parked = Parked::new();
        let swapper = {
            let parked = parked.clone();
            thread::spawn(move || {
                parked.swap_out();
                parked.swap_out();
            })
        };
        {
            let _queue = parked.queue.lock().unwrap();
            if parked.word.is_out() {
                parked.bring_back();
            }
            parked.touch(|word| word + 10);
        }
        parked.run();
        swapper.join().unwrap();
        parked.run();
        parked.touch(|word| {
            assert_eq!(word, 14);
            word
        });
    });
}
