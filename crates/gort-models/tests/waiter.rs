//! The wait word (`sched/core/wait_word.rs`): each wait is ended by exactly one waker, and a parked
//! waiter is made ready exactly once, however they race.

#![allow(dead_code, unreachable_pub, reason = "a module of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::sync::atomic::{AtomicUsize, Ordering::*};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

#[path = "../../gort/src/sched/core/wait_word.rs"]
mod waiter;

use waiter::{FIRST_TOKEN, TIMED_OUT, WaitWord, Won};

/// A waiter that sleeps in the model's kernel.
struct Sleeper {
    word: WaitWord,
    readied: Mutex<usize>,
    wake: Condvar,
    /// How many `try_select`s won.
    won: AtomicUsize,
}

impl Sleeper {
    fn new() -> Arc<Sleeper> {
        Arc::new(Sleeper {
            word: WaitWord::new(),
            readied: Mutex::new(0),
            wake: Condvar::new(),
            won: AtomicUsize::new(0),
        })
    }

    /// Waits; returns the token and whether it parked.
    fn wait(&self) -> (usize, bool) {
        let parked = self.word.commit_park();
        if parked {
            let mut readied = self.readied.lock().unwrap();
            while *readied == 0 {
                readied = self.wake.wait(readied).unwrap();
            }
            *readied -= 1;
        }
        (self.word.selected().expect("made ready, so the wait has ended"), parked)
    }

    fn select(&self, token: usize) -> Option<Won> {
        let won = self.word.try_select(token)?;
        self.won.fetch_add(1, Relaxed);
        if won == Won::Parked {
            *self.readied.lock().unwrap() += 1;
            self.wake.notify_one();
        }
        Some(won)
    }
}

/// A waker and a timer against a waiter: one of the two wins, and the waiter gets its token.
#[test]
fn exactly_one_waker_ends_a_wait() {
    model(3, || {
        let sleeper = Sleeper::new();
        sleeper.word.arm();
        let race = [TIMED_OUT, FIRST_TOKEN + 1].map(|token| {
            let sleeper = sleeper.clone();
            thread::spawn(move || sleeper.select(token).map(|won| (won, token)))
        });
        let (token, parked) = sleeper.wait();
        let wins: Vec<_> = race.into_iter().filter_map(|t| t.join().unwrap()).collect();
        assert_eq!(wins.len(), 1);
        assert_eq!(wins[0], (if parked { Won::Parked } else { Won::Running }, token));
        assert_eq!(*sleeper.readied.lock().unwrap(), 0, "one ready too many");
    });
}

/// A late waker of the first wait cannot end the second one, as long as it passes the lock that the
/// waiter passes between the two (invariant 3).
#[test]
fn a_stale_waker_does_not_end_the_next_wait() {
    model(3, || {
        let sleeper = Sleeper::new();
        let queue = Arc::new(Mutex::new(true)); // whether the waiter is in the queue
        sleeper.word.arm();
        let waker = {
            let (sleeper, queue) = (sleeper.clone(), queue.clone());
            thread::spawn(move || {
                let mut queued = queue.lock().unwrap();
                if std::mem::replace(&mut *queued, false) {
                    let _ = sleeper.select(FIRST_TOKEN);
                }
            })
        };
        let timer = {
            let sleeper = sleeper.clone();
            thread::spawn(move || sleeper.select(TIMED_OUT).is_some())
        };
        let (first, _) = sleeper.wait();
        *queue.lock().unwrap() = false;
        let timed_out = timer.join().unwrap();
        assert_eq!(timed_out, first == TIMED_OUT);
        sleeper.word.arm();
        assert_eq!(sleeper.word.selected(), None);
        waker.join().unwrap();
        assert_eq!(sleeper.word.selected(), None, "the waker of the first wait ended the second");
        assert_eq!(sleeper.won.load(Relaxed), 1);
    });
}

/// After its wait the waiter sees what the waker wrote before it selected, whether it has parked or
/// not.
#[test]
fn what_was_handed_over_is_seen() {
    model(3, || {
        let sleeper = Sleeper::new();
        let slot = Arc::new(loom::cell::UnsafeCell::new(0));
        sleeper.word.arm();
        let waker = {
            let (sleeper, slot) = (sleeper.clone(), slot.clone());
            thread::spawn(move || {
                // SAFETY: the waiter looks at the slot only after its wait; loom checks that.
                slot.with_mut(|p| unsafe { *p = 7 });
                assert!(sleeper.select(FIRST_TOKEN).is_some());
            })
        };
        sleeper.wait();
        // SAFETY: the waker has done its last write.
        assert_eq!(slot.with(|p| unsafe { *p }), 7);
        waker.join().unwrap();
    });
}
