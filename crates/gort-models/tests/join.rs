//! The join word (`sched/core/join_word.rs`): the end of a goroutine against a holder of its handle
//! that polls, polls with another waker, joins, joins for a time, or drops the handle.
//!
//! In each model the result is taken or dropped once, each waker is freed once (loom reports an
//! `Arc` that leaks), and a holder that waits is woken (loom reports a deadlock).

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering::*};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use std::ptr::NonNull;

#[path = "../../gort/src/sched/core/join_word.rs"]
mod join_word;
#[path = "../../gort/src/sched/core/wait_word.rs"]
mod wait_word;

use join_word::{Detached, Ended, JoinWord, Look, Place};
use wait_word::{FIRST_TOKEN, TIMED_OUT, WaitWord, Won};

const RESULT: usize = 42;
/// What a wait writes into the storage.
const NODE: usize = 7;

/// What sleeps until it is woken: a task of an executor, or a joiner.
struct Sleeper {
    word: WaitWord,
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Sleeper {
    fn new() -> Arc<Sleeper> {
        Arc::new(Sleeper { word: WaitWord::new(), woken: Mutex::new(false), wake: Condvar::new() })
    }

    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.wake.wait(woken).unwrap();
        }
        *woken = false;
    }
}

/// A waker, as a box of it is in the word.
struct Waker(Arc<Sleeper>);

fn address<V>(v: Box<V>) -> NonNull<()> {
    NonNull::from(Box::leak(v)).cast()
}

/// # Safety
/// `pointer` is from [`address`], of a `V`, and the caller's.
unsafe fn boxed<V>(pointer: NonNull<()>) -> Box<V> {
    // SAFETY: the caller's promise.
    unsafe { Box::from_raw(pointer.cast().as_ptr()) }
}

struct World {
    word: JoinWord,
    storage: UnsafeCell<usize>,
    /// Touched by the owner of the waker's box.
    waker: UnsafeCell<()>,
    /// How often the result was taken or dropped.
    taken: AtomicUsize,
}

impl World {
    /// A goroutine that ends, and the other party.
    fn start() -> (Arc<World>, JoinHandle<()>) {
        let world = Arc::new(World {
            word: JoinWord::new(),
            storage: UnsafeCell::new(0),
            waker: UnsafeCell::new(()),
            taken: AtomicUsize::new(0),
        });
        let goroutine = world.clone();
        let goroutine = thread::spawn(move || goroutine.end());
        (world, goroutine)
    }

    fn write_storage(&self, value: usize) {
        // SAFETY: the caller owns the storage; that nothing else does is what loom checks.
        self.storage.with_mut(|storage| unsafe { *storage = value });
    }

    fn touch_waker(&self) {
        self.waker.with_mut(|_| {});
    }

    /// The goroutine's part.
    fn end(&self) {
        self.write_storage(RESULT);
        // SAFETY: as in `write_storage`.
        let into_box = || address(Box::new(self.storage.with(|storage| unsafe { *storage })));
        match self.word.end(into_box) {
            Ended::Alone => {}
            Ended::Detached(place) => self.take(place),
            Ended::Waker(waker) => {
                self.touch_waker();
                self.write_storage(NODE); // it parks in the waker
                // SAFETY: it was enrolled, and the word gave it.
                unsafe { boxed::<Waker>(waker) }.0.wake();
            }
            Ended::Joiner(joiner) => {
                // SAFETY: the joiner stays until it is selected.
                let joiner = unsafe { joiner.cast::<Sleeper>().as_ref() };
                match joiner.word.try_select(FIRST_TOKEN) {
                    Some(Won::Parked) => joiner.wake(),
                    Some(Won::Running) => {}
                    None => self.word.came_too_late(),
                }
            }
        }
    }

    fn take(&self, place: Place) {
        let result = match place {
            // SAFETY: as in `write_storage`.
            Place::Storage => self.storage.with(|storage| unsafe { *storage }),
            // SAFETY: it is from `end`, and the word gave it.
            Place::Box(result) => *unsafe { boxed::<usize>(result) },
        };
        assert_eq!(result, RESULT);
        self.taken.fetch_add(1, Relaxed);
    }

    /// As `JoinHandle::poll`: whether the result was taken.
    fn poll(&self, task: &Arc<Sleeper>) -> bool {
        if matches!(self.word.look(), Look::Running | Look::Polled) {
            if let Some(waker) = self.word.take_waker() {
                self.touch_waker();
                // SAFETY: it was enrolled, and the word gave it back.
                drop(unsafe { boxed::<Waker>(waker) });
            }
            let waker = address(Box::new(Waker(task.clone())));
            if self.word.enrol_waker(waker) {
                return false;
            }
            // SAFETY: the word has not taken it.
            drop(unsafe { boxed::<Waker>(waker) });
        }
        let Look::Done(place) = self.word.look() else { panic!("neither running nor done") };
        self.word.taken();
        self.take(place);
        true
    }

    fn wait(&self, task: &Arc<Sleeper>) {
        while !self.poll(task) {
            task.sleep();
        }
    }

    /// As `JoinHandle::drop_waker`.
    fn drop_waker(&self) {
        if let Some(waker) = self.word.take_waker() {
            self.touch_waker();
            // SAFETY: it was enrolled, and the word gave it back.
            drop(unsafe { boxed::<Waker>(waker) });
        }
    }

    /// As `JoinHandle::join`.
    fn join(&self, me: &Sleeper) {
        loop {
            match self.word.look() {
                Look::Done(place) => return self.take(place),
                Look::Polled => self.drop_waker(),
                Look::Taken => panic!("taken twice"),
                Look::Running => {
                    me.word.arm();
                    if self.word.enrol(NonNull::from(me).cast()) && me.word.commit_park() {
                        me.sleep();
                    }
                }
            }
        }
    }

    /// As `JoinHandle::wait_until`, with a deadline that passes at once: whether the goroutine has
    /// ended.
    fn join_for_no_time(&self, me: &Sleeper) -> bool {
        self.drop_waker();
        me.word.arm();
        let ours = NonNull::from(me).cast();
        if !self.word.enrol(ours) || me.word.try_select(TIMED_OUT).is_none() {
            return true;
        }
        if self.word.withdraw(ours) {
            return false;
        }
        while !self.word.has_come_too_late() {
            thread::yield_now();
        }
        true
    }

    /// As `JoinHandle::drop`.
    fn detach(&self) {
        match self.word.detach() {
            Detached::Running(None) | Detached::Taken => {}
            Detached::Running(Some(waker)) => {
                self.touch_waker();
                // SAFETY: it was enrolled, and the word gave it back.
                drop(unsafe { boxed::<Waker>(waker) });
            }
            Detached::Done(place) => self.take(place),
        }
    }

    fn check(&self) {
        assert_eq!(self.taken.load(Relaxed), 1, "the result was lost, or taken twice");
    }
}

/// A poll that returns pending is followed by a wake.
#[test]
fn the_end_wakes_what_awaits() {
    model(3, || {
        let (world, goroutine) = World::start();
        let task = Sleeper::new();
        world.wait(&task);
        world.detach();
        goroutine.join().unwrap();
        world.check();
    });
}

/// The waker of the last poll is woken, also if the end comes between the polls.
#[test]
fn the_last_waker_is_woken() {
    model(3, || {
        let (world, goroutine) = World::start();
        let (first, last) = (Sleeper::new(), Sleeper::new());
        if !world.poll(&first) {
            world.wait(&last);
        }
        world.detach();
        goroutine.join().unwrap();
        world.check();
    });
}

/// A handle that was polled is dropped: nothing leaks, and the waker is not woken after a drop that
/// came before the end.
#[test]
fn a_polled_handle_is_dropped() {
    model(3, || {
        let (world, goroutine) = World::start();
        let task = Sleeper::new();
        let taken = world.poll(&task);
        let early = !taken && !world.word.is_done();
        let detached = world.word.detach();
        let is_running = matches!(detached, Detached::Running(_));
        match detached {
            Detached::Running(Some(waker)) => {
                world.touch_waker();
                // SAFETY: it was enrolled, and the word gave it back.
                drop(unsafe { boxed::<Waker>(waker) });
            }
            Detached::Running(None) => panic!("it was polled"),
            Detached::Taken => assert!(taken),
            Detached::Done(place) => world.take(place),
        }
        assert!(early || !is_running);
        goroutine.join().unwrap();
        assert!(!is_running || !*task.woken.lock().unwrap(), "a wake after the drop");
        world.check();
    });
}

/// A handle that was polled is joined.
#[test]
fn a_polled_handle_is_joined() {
    model(3, || {
        let (world, goroutine) = World::start();
        let (task, me) = (Sleeper::new(), Sleeper::new());
        if !world.poll(&task) {
            world.join(&me);
        }
        goroutine.join().unwrap();
        world.check();
    });
}

/// It is joined for a time that passes, and then awaited or joined.
#[test]
fn a_polled_handle_is_joined_for_a_time() {
    for polls_again in [false, true] {
        model(3, move || {
            let (world, goroutine) = World::start();
            let (task, me) = (Sleeper::new(), Sleeper::new());
            if !world.poll(&task) {
                world.join_for_no_time(&me);
                if polls_again { world.wait(&task) } else { world.join(&me) }
            }
            goroutine.join().unwrap();
            world.check();
        });
    }
}

/// A holder that looks at its waker without taking it out of the word meets the goroutine there.
#[test]
#[should_panic(expected = "Concurrent")]
fn without_taking_it_back_two_have_the_waker() {
    model(3, || {
        let (world, goroutine) = World::start();
        let task = Sleeper::new();
        if !world.poll(&task) {
            if world.word.look() == Look::Polled {
                world.touch_waker();
            }
            world.wait(&task);
        }
        world.detach();
        goroutine.join().unwrap();
    });
}
