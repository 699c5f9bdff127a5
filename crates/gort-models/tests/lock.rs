//! The raw lock (`sys/lock.rs`): it has one holder at a time, each holder sees what those before it
//! did, and each thread that waits gets the lock, though none wakes it.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

mod sys {
    pub(crate) use gort_models::sys::sync;
}

#[path = "../../gort/src/sys/lock/lock_word.rs"]
mod lock_word;

use gort_models::model;
use lock_word::LockWord;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use sys::sync::AtomicU32;

/// A count that loom watches, behind the lock.
struct Count {
    lock: LockWord,
    n: UnsafeCell<u32>,
}

// SAFETY: the model checks that only one thread at a time uses it.
unsafe impl Send for Count {}
// SAFETY: as above.
unsafe impl Sync for Count {}

impl Count {
    fn new() -> Arc<Count> {
        let lock = LockWord::new(AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Count { lock, n: UnsafeCell::new(0) })
    }

    fn add_and_unlock(&self) {
        // SAFETY: as above.
        self.n.with_mut(|n| unsafe { *n += 1 });
        self.lock.unlock();
    }

    fn add(&self) {
        self.lock.lock();
        self.add_and_unlock();
    }

    fn get(&self) -> u32 {
        self.lock.lock();
        // SAFETY: as above.
        let n = self.n.with(|n| unsafe { *n });
        assert!(!self.lock.is_wanted(), "a thread still sleeps for it");
        self.lock.unlock();
        n
    }
}

/// Two threads add twice, one of them by `try_lock` where that succeeds: nothing is lost, and both
/// come to an end.
#[test]
fn one_holder_at_a_time() {
    model(3, || {
        let count = Count::new();
        let other = thread::spawn({
            let count = count.clone();
            move || {
                count.add();
                let free = count.lock.try_lock();
                if free {
                    count.add_and_unlock();
                }
                u32::from(free)
            }
        });
        count.add();
        count.add();
        let tried = other.join().unwrap();
        assert_eq!(count.get(), 3 + tried);
    });
}

/// Three threads: one that waits for another that waits itself gets the lock as well. (One
/// preemption only: with two, loom finds no end, where both waiters only look at each other.)
#[test]
fn three_wait_for_each_other() {
    model(1, || {
        let count = Count::new();
        let others = [(); 2].map(|()| {
            let count = count.clone();
            thread::spawn(move || count.add())
        });
        count.add();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(count.get(), 3);
    });
}
