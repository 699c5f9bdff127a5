//! The mutex (`sync/raw_mutex.rs` over `sync/wait_queue.rs`): it has one owner at a time, which
//! sees what the one before did, and no waiter sleeps for ever (loom calls that a deadlock). With
//! barging, with hand-over, and with waiters that give up.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

mod machine;
pub(crate) use machine::{sched, sys};

#[path = "../../gort/src/sync/raw_mutex.rs"]
mod raw_mutex;
#[path = "../../gort/src/sync/wait_queue.rs"]
mod wait_queue;

/// Without a spin: looking again is another interleaving, which loom makes anyhow.
mod spin {
    pub(crate) struct Spin;

    impl Spin {
        pub(crate) fn new() -> Spin {
            Spin
        }

        pub(crate) fn turn(&mut self) -> bool {
            false
        }
    }
}

use gort_models::model;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::thread;
use raw_mutex::{RawMutex, STARVING_NS};
use sched::WaitReason::MutexLock;
use std::time::Instant;
use sys::lock::Lock;
use wait_queue::WaitQueue;

/// A mutex with a value that loom watches.
struct Guarded {
    mutex: RawMutex,
    value: loom::cell::UnsafeCell<u32>,
}

// SAFETY: the model checks that one party at a time uses the value.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new() -> Arc<Guarded> {
        let mutex = RawMutex { state: AtomicU32::new(0), queue: Lock::new(WaitQueue::new()) };
        Arc::new(Guarded { mutex, value: loom::cell::UnsafeCell::new(0) })
    }

    fn add_and_unlock(&self) {
        // SAFETY: we own the mutex; loom checks that no other thread uses the value.
        self.value.with_mut(|v| unsafe { *v += 1 });
        self.mutex.unlock();
    }

    fn lock_and_add(&self) {
        self.mutex.lock(MutexLock);
        self.add_and_unlock();
    }

    /// All have ended: the mutex must be free, and nothing left in its word.
    fn check(&self, value: u32) {
        assert_eq!(self.mutex.state.load(Relaxed), 0);
        assert!(self.mutex.queue.lock().is_empty());
        self.mutex.lock(MutexLock);
        // SAFETY: as above.
        assert_eq!(self.value.with(|v| unsafe { *v }), value);
        self.mutex.unlock();
    }
}

/// Runs the model with a clock that stands still (no waiter starves), and with one that hurries
/// (all do).
fn model_with_both_clocks(preemptions: usize, f: impl Fn() + Sync + Send + Copy + 'static) {
    for step in [0, STARVING_NS] {
        model(preemptions, move || {
            sys::clock::set_step_ns(step);
            f();
        });
    }
}

#[test]
fn two_threads_twice() {
    model_with_both_clocks(3, || {
        let guarded = Guarded::new();
        let other = guarded.clone();
        let t = thread::spawn(move || {
            other.lock_and_add();
            other.lock_and_add();
        });
        guarded.lock_and_add();
        guarded.lock_and_add();
        t.join().unwrap();
        guarded.check(4);
    });
}

#[test]
fn three_threads() {
    model_with_both_clocks(2, || {
        let guarded = Guarded::new();
        let threads = [(); 2].map(|()| {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.lock_and_add())
        });
        guarded.lock_and_add();
        for t in threads {
            t.join().unwrap();
        }
        guarded.check(3);
    });
}

/// Two waiters are queued when the owner unlocks. The one that is woken may lose against a third
/// that barges.
#[test]
fn a_woken_waiter_that_loses_is_woken_again() {
    model_with_both_clocks(2, || {
        let guarded = Guarded::new();
        guarded.mutex.lock(MutexLock);
        let threads = [(); 2].map(|()| {
            let guarded = guarded.clone();
            thread::spawn(move || guarded.lock_and_add())
        });
        guarded.add_and_unlock();
        let mut value = 3;
        if guarded.mutex.try_lock() {
            guarded.add_and_unlock();
            value += 1;
        }
        for t in threads {
            t.join().unwrap();
        }
        guarded.check(value);
    });
}

/// A waiter that gives up takes no other waiter's wake-up with it.
#[test]
fn a_waiter_gives_up() {
    model_with_both_clocks(2, || {
        let guarded = Guarded::new();
        let patient = guarded.clone();
        let impatient = guarded.clone();
        let t1 = thread::spawn(move || patient.lock_and_add());
        let t2 = thread::spawn(move || {
            let locked = impatient.mutex.lock_until(MutexLock, Instant::now());
            if locked {
                impatient.add_and_unlock();
            }
            locked
        });
        guarded.lock_and_add();
        t1.join().unwrap();
        let locked = t2.join().unwrap();
        guarded.check(2 + u32::from(locked));
    });
}
