//! The netpoller's word (`sched/io/direction.rs`): event, deadline, close and call time-out against
//! the park.
//!
//! The kernel's side is one relaxed number: how much data came. It must follow from the word alone
//! that the reader sees it.

#![allow(
    dead_code,
    reason = "the modules are compiled for their protocol, not all of their functions are used"
)]
#![allow(unreachable_pub, missing_docs, reason = "as above")]

mod sys {
    pub mod sync {
        pub use loom::sync::atomic::*;
    }
}
#[path = "../../gort/src/sched/core/wait_word.rs"]
mod waiter;
#[path = "../../gort/src/sched/io/direction.rs"]
mod word;

use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Notify};
use loom::thread;
use std::ptr::NonNull;
use waiter::{FIRST_TOKEN, WaitWord, Won};
use word::{Barred, Direction, Enrolled};

const READY: usize = FIRST_TOKEN;
const BARRED: usize = FIRST_TOKEN + 1;
const CALL_TIMED_OUT: usize = FIRST_TOKEN + 2;

/// A goroutine, as far as it waits.
struct Goroutine {
    word: WaitWord,
    ready: Notify,
}

/// A socket with its reader.
struct World {
    direction: Direction,
    data: AtomicUsize,
    reader: Goroutine,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            direction: Direction::new(),
            data: AtomicUsize::new(0),
            reader: Goroutine { word: WaitWord::new(), ready: Notify::new() },
        })
    }

    /// As `netpoll::select`. The wait of a waiter that was taken out must still be on.
    fn select(&self, waiter: Option<NonNull<()>>, token: usize) {
        let Some(waiter) = waiter else { return };
        assert_eq!(waiter, NonNull::from(&self.reader).cast());
        match self.reader.word.try_select(token).expect("the wait must be on") {
            Won::Running => {}
            Won::Parked => self.reader.ready.notify(),
        }
    }

    /// The kernel gets data up to `n`, and the poller reports the edge.
    fn data_and_event(&self, n: usize) {
        self.data.store(n, Relaxed);
        self.select(self.direction.event(false), READY);
    }

    fn fail(&self, barred: Barred) {
        self.select(self.direction.fail(barred), BARRED);
    }

    fn call_times_out(&self) {
        self.select(self.direction.take(), CALL_TIMED_OUT);
    }

    /// As `IoHandle::park`. `enrolled` runs where the call's timer is started.
    fn park(&self, enrolled: impl FnOnce()) -> usize {
        self.reader.word.arm();
        match self.direction.enrol(NonNull::from(&self.reader).cast()) {
            Enrolled::Ready => return READY,
            Enrolled::Barred(_) => return BARRED,
            Enrolled::Waits => {}
        }
        enrolled();
        if self.reader.word.commit_park() {
            while self.reader.word.selected().is_none() {
                self.reader.ready.wait();
            }
        }
        let token = self.reader.word.selected().expect("the wait has ended");
        if token == READY {
            self.direction.clear();
        }
        token
    }

    /// A read that wants data up to `n`, as `net/fd.rs` runs it.
    fn read(&self, n: usize) -> Result<(), Barred> {
        self.direction.check()?;
        self.direction.clear();
        while self.data.load(Relaxed) < n {
            self.direction.check()?;
            if self.park(|| {}) == BARRED {
                self.direction.check()?;
            }
        }
        Ok(())
    }

    /// No waiter is left in the word.
    fn check_end(&self) {
        assert_eq!(self.direction.take(), None);
    }
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

/// An edge between the system call and the park is kept, and one after the park wakes.
#[test]
fn event_against_park() {
    model(|| {
        let world = World::new();
        let poller = spawn(&world, |w| w.data_and_event(1));
        world.read(1).unwrap();
        poller.join().unwrap();
        world.check_end();
    });
}

/// `clear` forgets old edges only: two reads see two pieces of data, whose edges come at any time.
#[test]
fn clear_forgets_nothing_new() {
    model(|| {
        let world = World::new();
        let poller = spawn(&world, |w| {
            w.data_and_event(1);
            w.data_and_event(2);
        });
        world.read(1).unwrap();
        world.read(2).unwrap();
        poller.join().unwrap();
        world.check_end();
    });
}

/// Two Ms poll at once, each with an edge of its own.
#[test]
fn two_pollers() {
    model(|| {
        let world = World::new();
        let first = spawn(&world, |w| w.data_and_event(2));
        let second = spawn(&world, |w| w.select(w.direction.event(true), READY));
        world.read(2).unwrap();
        first.join().unwrap();
        second.join().unwrap();
        world.check_end();
    });
}

/// Event or deadline: exactly one ends the wait, and the deadline stays set.
#[test]
fn event_against_deadline() {
    model(|| {
        let world = World::new();
        let poller = spawn(&world, |w| w.data_and_event(1));
        let timer = spawn(&world, |w| w.fail(Barred::Expired));
        if let Err(barred) = world.read(1) {
            assert_eq!(barred, Barred::Expired);
        }
        poller.join().unwrap();
        timer.join().unwrap();
        assert_eq!(world.read(1), Err(Barred::Expired));
        world.check_end();
    });
}

/// Close and deadline together end the wait of a reader without data, and close wins in the end.
#[test]
fn close_against_deadline() {
    model(|| {
        let world = World::new();
        let closer = spawn(&world, |w| w.fail(Barred::Closed));
        let timer = spawn(&world, |w| w.fail(Barred::Expired));
        world.read(1).unwrap_err();
        closer.join().unwrap();
        timer.join().unwrap();
        assert_eq!(world.read(1), Err(Barred::Closed));
        world.check_end();
    });
}

/// A deadline that passed, and was moved before the reader looked, has not happened: the read gets
/// its data.
#[test]
fn deadline_that_was_moved() {
    model(|| {
        let world = World::new();
        let mover = spawn(&world, |w| {
            w.fail(Barred::Expired);
            w.direction.renew();
            w.data_and_event(1);
        });
        if let Err(barred) = world.read(1) {
            assert_eq!(barred, Barred::Expired);
            mover.join().unwrap();
            assert_eq!(world.read(1), Ok(()));
        } else {
            mover.join().unwrap();
        }
        world.check_end();
    });
}

/// The call's time-out against an event: one of them ends the wait, and neither still has the
/// waiter after it.
#[test]
fn call_timeout_against_event() {
    model(|| {
        let world = World::new();
        let poller = spawn(&world, |w| w.data_and_event(1));
        let mut timer = None;
        let token = world.park(|| timer = Some(spawn(&world, |w| w.call_times_out())));
        assert!(token == READY || token == CALL_TIMED_OUT);
        poller.join().unwrap();
        if let Some(timer) = timer {
            timer.join().unwrap();
        }
        assert_eq!(world.read(1), Ok(()));
        world.check_end();
    });
}

/// The call's time-out against a close, which must not be lost when the time-out wins.
#[test]
fn call_timeout_against_close() {
    model(|| {
        let world = World::new();
        let closer = spawn(&world, |w| w.fail(Barred::Closed));
        let mut timer = None;
        let token = world.park(|| timer = Some(spawn(&world, |w| w.call_times_out())));
        assert!(token == BARRED || token == CALL_TIMED_OUT);
        closer.join().unwrap();
        if let Some(timer) = timer {
            timer.join().unwrap();
        }
        assert_eq!(world.read(1), Err(Barred::Closed));
        world.check_end();
    });
}
