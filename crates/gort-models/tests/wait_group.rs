//! The wait group (`sync/wait_group.rs`): no waiter is let go early, and none sleeps for ever.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

mod machine;
pub(crate) use machine::{sched, sys};

#[path = "../../gort/src/sync/wait_group.rs"]
mod wait_group;
#[path = "../../gort/src/sync/wait_queue.rs"]
mod wait_queue;

use gort_models::model;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use wait_group::WaitGroup;

/// A slot that loom watches.
#[derive(Clone)]
struct Slot(Arc<UnsafeCell<u32>>);

// SAFETY: the model checks that it is read after it was written.
unsafe impl Send for Slot {}

impl Slot {
    fn new() -> Slot {
        Slot(Arc::new(UnsafeCell::new(0)))
    }

    fn set(&self) {
        // SAFETY: as above.
        self.0.with_mut(|v| unsafe { *v = 1 });
    }

    fn is_set(&self) -> bool {
        // SAFETY: as above.
        self.0.with(|v| unsafe { *v == 1 })
    }
}

/// Two threads are done, in any order. The waiter sees what they did.
#[test]
fn two_done() {
    model(2, || {
        let group = WaitGroup::new();
        group.add(2);
        let slots = [Slot::new(), Slot::new()];
        let doing = slots.clone().map(|slot| {
            let group = group.clone();
            thread::spawn(move || {
                slot.set();
                group.done();
            })
        });
        group.wait();
        assert!(slots.iter().all(Slot::is_set));
        for t in doing {
            t.join().unwrap();
        }
    });
}

/// Two threads wait, and both are let go.
#[test]
fn two_waiting() {
    model(2, || {
        let group = WaitGroup::new();
        group.add(1);
        let other = group.clone();
        let waiter = thread::spawn(move || other.wait());
        let other = group.clone();
        let doing = thread::spawn(move || other.done());
        group.wait();
        waiter.join().unwrap();
        doing.join().unwrap();
    });
}

/// The count goes to zero and up again while the thread that brought it there is still on its way:
/// the first zero does not end the second wait.
#[test]
fn reuse() {
    model(3, || {
        let group = WaitGroup::new();
        group.add(1);
        let other = group.clone();
        let first = thread::spawn(move || other.done());
        group.wait();
        group.add(1);
        let (slot, other) = (Slot::new(), group.clone());
        let also = slot.clone();
        let second = thread::spawn(move || {
            also.set();
            other.done();
        });
        group.wait();
        assert!(slot.is_set());
        first.join().unwrap();
        second.join().unwrap();
    });
}
