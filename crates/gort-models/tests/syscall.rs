//! `blocking` (`sched/core/syscall_word.rs`, `sched/wake/sysmon_word.rs`): the M inside and two
//! takers want the same P, and one of them gets it each time. And sysmon does not sleep while a P
//! could be taken.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

#[path = "../../gort/src/sched/wake/sysmon_word.rs"]
mod sysmon_word;
#[path = "../../gort/src/sched/core/syscall_word.rs"]
mod word;

use sysmon_word::{AWAKE, SysmonWord, TIMED};
use word::SyscallWord;

/// The number of the P. Not 0, to see that it comes through.
const P: u32 = 5;

struct World {
    word: SyscallWord,
    /// What belongs to the P; loom reports two owners.
    p: UnsafeCell<usize>,
    /// The idle list, to which the M comes for a P after its own was taken.
    free: Mutex<bool>,
    freed: Condvar,
    sysmon: SysmonWord,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            word: SyscallWord::new(),
            p: UnsafeCell::new(0),
            free: Mutex::new(false),
            freed: Condvar::new(),
            sysmon: SysmonWord::new(AtomicU32::new(AWAKE)),
        })
    }

    fn use_p(&self) {
        // SAFETY: the caller owns the P; loom checks that no other thread does.
        self.p.with_mut(|p| unsafe { *p += 1 });
    }

    /// The M goes once through `blocking`.
    fn block(&self) {
        self.use_p();
        self.word.enter(P);
        match self.word.exit() {
            Some(p) => assert_eq!(p, P),
            None => {
                let mut free = self.free.lock().unwrap();
                while !*free {
                    free = self.freed.wait(free).unwrap();
                }
                *free = false;
            }
        }
        self.use_p();
    }

    /// Takes the P if its M is inside, uses it and puts it into the idle list.
    fn retake(&self) -> bool {
        let Some(stay) = self.word.stay() else { return false };
        assert_eq!(stay.p(), P);
        let taken = self.word.retake(stay);
        if taken {
            self.use_p();
            *self.free.lock().unwrap() = true;
            self.freed.notify_one();
        }
        taken
    }
}

fn spawn<T: 'static>(world: &Arc<World>, f: impl FnOnce(&World) -> T + 'static) -> JoinHandle<T> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// The M goes in and out twice, and sysmon looks twice: the P has one owner at any time, and no
/// thread waits for ever.
#[test]
fn exit_against_retake() {
    model(3, || {
        let world = World::new();
        let sysmon = spawn(&world, |w| {
            w.retake();
            w.retake();
        });
        world.block();
        world.block();
        sysmon.join().unwrap();
        world.use_p();
    });
}

/// Sysmon wants the P, and so does a thread that lowers GOMAXPROCS.
#[test]
fn two_takers() {
    model(3, || {
        let world = World::new();
        let takers = [(); 2].map(|()| spawn(&world, World::retake));
        world.block();
        let taken = takers.map(|t| t.join().unwrap());
        assert_ne!(taken, [true, true], "one stay, one taker");
        world.use_p();
    });
}

/// A look at one stay does not take another: the M came out and went in again in between.
#[test]
fn a_late_taker_misses() {
    model(3, || {
        let world = World::new();
        world.word.enter(P);
        let stay = world.word.stay().expect("inside");
        assert_eq!(world.word.exit(), Some(P));
        world.word.enter(P);
        assert!(!world.word.retake(stay));
        assert_eq!(world.word.exit(), Some(P));
        world.use_p();
    });
}

/// The M goes in for ever while sysmon goes to sleep: sysmon sees it, or is woken.
fn enter_against_sleep() {
    model(3, || {
        let world = World::new();
        let sysmon = spawn(&world, |w| {
            w.sysmon.begin(TIMED);
            w.word.stay().is_some()
        });
        world.word.enter(P);
        let interrupted = world.sysmon.interrupt(TIMED);
        let seen = sysmon.join().unwrap();
        assert!(seen || interrupted, "sysmon sleeps");
        assert_eq!(world.sysmon.end(TIMED), !interrupted);
        assert!(world.word.retake(world.word.stay().expect("inside")));
        assert_eq!(world.word.exit(), None);
    });
}

#[test]
fn sysmon_sleeps_only_when_none_is_inside() {
    enter_against_sleep();
}

#[test]
#[should_panic(expected = "sysmon sleeps")]
fn without_fences_sysmon_oversleeps() {
    sys::sync::without_fences(enter_against_sleep);
}
