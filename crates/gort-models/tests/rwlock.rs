//! The read-write lock (`sync/raw_rwlock.rs` over the mutex): a writer is alone, readers see what
//! it wrote, and no waiter sleeps for ever.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

mod machine;
pub(crate) use machine::{sched, sys};

#[path = "../../gort/src/sync/raw_mutex.rs"]
mod raw_mutex;
#[path = "../../gort/src/sync/raw_rwlock.rs"]
mod raw_rwlock;
#[path = "../../gort/src/sync/wait_queue.rs"]
mod wait_queue;

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
use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use loom::thread;
use raw_mutex::RawMutex;
use raw_rwlock::{RawRwLock, Synced};
use std::time::Instant;
use sys::lock::Lock;
use wait_queue::{RETRY, WaitQueue};

/// A lock with a value that loom watches.
struct Guarded {
    lock: RawRwLock,
    value: loom::cell::UnsafeCell<u32>,
}

// SAFETY: the model checks that the value is used as the lock promises.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new() -> Arc<Guarded> {
        let lock = RawRwLock {
            writers: RawMutex { state: AtomicU32::new(0), queue: Lock::new(WaitQueue::new()) },
            state: AtomicUsize::new(0),
            synced: Lock::new(Synced { readers: WaitQueue::new(), drain: WaitQueue::new() }),
        };
        Arc::new(Guarded { lock, value: loom::cell::UnsafeCell::new(0) })
    }

    fn read(&self) -> u32 {
        self.lock.read();
        // SAFETY: we read; loom checks that no other thread writes.
        let value = self.value.with(|v| unsafe { *v });
        self.lock.read_unlock();
        value
    }

    fn write(&self) {
        self.lock.write();
        self.add();
        self.lock.write_unlock();
    }

    fn add(&self) {
        // SAFETY: we write; loom checks that no other thread reads or writes.
        self.value.with_mut(|v| unsafe { *v += 1 });
    }

    fn check(&self, value: u32) {
        assert_eq!(self.lock.state.load(Relaxed), 0);
        assert_eq!(self.lock.writers.state.load(Relaxed), 0);
        assert!(self.lock.synced.lock().readers.is_empty());
        assert!(self.lock.synced.lock().drain.is_empty());
        assert_eq!(self.read(), value);
    }
}

#[test]
fn a_writer_and_two_readers() {
    model(2, || {
        let guarded = Guarded::new();
        let readers = [(); 2].map(|()| {
            let guarded = guarded.clone();
            thread::spawn(move || assert!(guarded.read() <= 1))
        });
        guarded.write();
        for t in readers {
            t.join().unwrap();
        }
        guarded.check(1);
    });
}

#[test]
fn two_writers_and_a_reader() {
    model(2, || {
        let guarded = Guarded::new();
        let other = guarded.clone();
        let writer = thread::spawn(move || other.write());
        let other = guarded.clone();
        let reader = thread::spawn(move || {
            let first = other.read();
            assert!(other.read() >= first);
        });
        guarded.write();
        writer.join().unwrap();
        reader.join().unwrap();
        guarded.check(2);
    });
}

/// A last reader that comes late to wake its writer may meet the next writer, whose readers are
/// still there.
#[test]
fn late_wakes_of_the_writer() {
    model(2, || {
        let guarded = Guarded::new();
        let other = guarded.clone();
        let late = thread::spawn(move || {
            let wake = other.lock.synced.lock().drain.wake_one(RETRY);
            if let Some(wake) = wake {
                wake.ready();
            }
        });
        guarded.lock.read();
        let other = guarded.clone();
        let writer = thread::spawn(move || other.write());
        // SAFETY: we read.
        assert_eq!(guarded.value.with(|v| unsafe { *v }), 0);
        guarded.lock.read_unlock();
        late.join().unwrap();
        writer.join().unwrap();
        guarded.check(1);
    });
}

#[test]
fn downgrade_and_try() {
    model(2, || {
        let guarded = Guarded::new();
        let other = guarded.clone();
        let writer = thread::spawn(move || {
            let writes = other.lock.try_write();
            if writes {
                other.add();
                other.lock.write_unlock();
            }
            writes
        });
        let other = guarded.clone();
        let reader = thread::spawn(move || other.read());
        guarded.lock.write();
        guarded.add();
        // SAFETY: we write.
        let written = guarded.value.with(|v| unsafe { *v });
        guarded.lock.downgrade();
        // SAFETY: we read.
        assert_eq!(guarded.value.with(|v| unsafe { *v }), written, "no writer came in between");
        guarded.lock.read_unlock();
        reader.join().unwrap();
        let wrote = writer.join().unwrap();
        guarded.check(1 + u32::from(wrote));
    });
}

/// A reader and a writer whose deadlines may pass at any moment, beside one of each that wait for
/// ever. Those that give up leave nothing behind.
#[test]
fn deadlines() {
    for impatient_writes in [false, true] {
        model(2, move || {
            let guarded = Guarded::new();
            let other = guarded.clone();
            let impatient = thread::spawn(move || {
                if impatient_writes {
                    let writes = other.lock.write_until(Instant::now());
                    if writes {
                        other.add();
                        other.lock.write_unlock();
                    }
                    writes
                } else {
                    if other.lock.read_until(Instant::now()) {
                        // SAFETY: we read; loom checks that no other thread writes.
                        assert!(other.value.with(|v| unsafe { *v }) <= 1);
                        other.lock.read_unlock();
                    }
                    false
                }
            });
            let other = guarded.clone();
            let reader = thread::spawn(move || assert!(other.read() <= 2));
            guarded.write();
            reader.join().unwrap();
            let wrote = impatient.join().unwrap();
            guarded.check(1 + u32::from(wrote));
        });
    }
}
