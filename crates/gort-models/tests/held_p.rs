//! The P of an M (`sched/core/held_p.rs`): sysmon takes it from a thread that sleeps, or seems to,
//! and the thread goes on at any moment. The P has one owner at any time, and the thread knows
//! whether it has one.
//!
//! The library has a light and a heavy fence, of which the heavy one does the work of both. Here
//! each side has a full one.

#![allow(dead_code, unreachable_pub, reason = "a module of the library, of which this uses a part")]

use gort_models::model;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use sys::sync::{fence, without_fences};

#[path = "../../gort/src/sched/core/held_p.rs"]
mod held_p;

use held_p::HeldP;

mod sys {
    pub(crate) mod sync {
        pub(crate) use gort_models::sys::sync::*;
    }

    pub(crate) mod membarrier {
        pub(crate) fn fence_light() {
            super::sync::fence(super::sync::Ordering::SeqCst);
        }
    }
}

/// What is behind the reference does not matter: what belongs to a P lies in [`World`].
#[repr(align(8))]
struct P(());

static THE_P: P = P(());

struct World {
    held: HeldP<P>,
    /// What belongs to the P; loom reports two owners.
    p: UnsafeCell<usize>,
    depth: AtomicU32,
    /// The goroutine on the thread (0 on g0), and how many have come to it.
    g: AtomicUsize,
    runs: AtomicUsize,
    /// The idle list.
    free: Mutex<bool>,
    freed: Condvar,
}

impl World {
    fn new() -> Arc<World> {
        let world = World {
            held: HeldP::none(),
            p: UnsafeCell::new(0),
            depth: AtomicU32::new(0),
            g: AtomicUsize::new(1),
            runs: AtomicUsize::new(0),
            free: Mutex::new(false),
            freed: Condvar::new(),
        };
        world.held.set(Some(&THE_P));
        Arc::new(world)
    }

    fn use_p(&self) {
        // SAFETY: the caller owns the P; loom checks that no other thread does.
        self.p.with_mut(|p| unsafe { *p += 1 });
    }

    fn pin(&self) {
        self.depth.store(self.depth.load(Relaxed) + 1, Relaxed);
    }

    fn unpin(&self) {
        self.depth.store(self.depth.load(Relaxed) - 1, Release);
    }

    /// A gort call, as `ready::pinned` and `handoff::acquire_p`: with a P at the end.
    fn call(&self) {
        self.pin();
        if self.held.hold().is_none() {
            assert!(self.held.is_taken());
            self.held.set(None);
            let mut free = self.free.lock().unwrap();
            while !*free {
                free = self.freed.wait(free).unwrap();
            }
            *free = false;
            self.held.set(Some(&THE_P));
        }
        self.use_p();
        self.unpin();
    }

    /// Sysmon, as `outside::take`: it takes the P, uses it, and puts it into the idle list.
    fn take(&self) -> bool {
        let (runs, g) = (self.runs.load(Acquire), self.g.load(Acquire));
        if g == 0 || !self.held.mark(&THE_P) {
            return false;
        }
        fence(SeqCst);
        let is_in_user_code =
            self.depth.load(Acquire) == 0 && self.g.load(Acquire) == g && self.runs.load(Acquire) == runs;
        if !is_in_user_code || !self.held.claim(&THE_P) {
            self.held.unmark(&THE_P);
            return false;
        }
        self.use_p();
        *self.free.lock().unwrap() = true;
        self.freed.notify_one();
        true
    }
}

fn calls_against_takes() {
    let world = World::new();
    let sysmon = {
        let world = world.clone();
        thread::spawn(move || {
            world.take();
            world.take();
        })
    };
    world.call();
    world.call();
    sysmon.join().unwrap();
    world.call();
}

/// A goroutine calls gort while sysmon tries to take its P.
#[test]
fn one_owner_at_a_time() {
    model(3, calls_against_takes);
}

/// A thread that uses its P without a section and a look at the mark, as in the handler of a signal.
#[test]
#[should_panic(expected = "Concurrent")]
fn without_a_section_there_are_two() {
    model(3, || {
        let world = World::new();
        let sysmon = {
            let world = world.clone();
            thread::spawn(move || world.take())
        };
        if world.held.get().is_some() {
            world.use_p();
        }
        sysmon.join().unwrap();
    });
}

/// Only the fences keep the two apart.
#[test]
#[should_panic(expected = "Concurrent")]
fn without_fences_there_are_two() {
    without_fences(|| model(3, calls_against_takes));
}

/// The goroutine leaves the thread, in a section, to go on elsewhere; and the thread uses its P
/// without a look at the mark. `counts`: a goroutine that comes counts as a run.
fn switch_against_take(counts: bool) {
    let world = World::new();
    let sysmon = {
        let world = world.clone();
        thread::spawn(move || world.take())
    };
    world.pin();
    if let Some(p) = world.held.hold() {
        // On g0. The depth is that of a block, and the goroutine unpins itself on another thread.
        world.g.store(0, Release);
        world.unpin();
        world.use_p();
        // It comes back, not yet unpinned, after sysmon has read its block.
        if counts {
            world.runs.store(1, Release);
        }
        world.pin();
        world.g.store(1, Release);
        assert!(world.held.is(p));
        world.use_p();
        world.unpin();
    }
    if !sysmon.join().unwrap() {
        assert!(world.held.hold().is_some());
        world.use_p();
    }
}

#[test]
fn a_goroutine_that_went_elsewhere_is_seen() {
    model(3, || switch_against_take(true));
}

/// The same goroutine on the M says nothing about the moment at which its depth was read.
#[test]
#[should_panic]
fn without_the_count_it_is_not() {
    model(3, || switch_against_take(false));
}

/// A mark that sysmon has left behind does not stay, and does no harm.
#[test]
fn a_mark_is_taken_away() {
    model(2, || {
        let world = World::new();
        world.pin();
        assert!(world.held.hold().is_some());
        assert!(world.held.mark(&THE_P));
        assert!(world.held.is(&THE_P) && !world.held.is_taken());
        assert!(world.held.get().is_some());
        assert!(world.held.hold().is_some());
        assert!(!world.held.claim(&THE_P), "the thread was here");
        world.held.unmark(&THE_P);
        assert!(world.held.take().is_some());
        assert!(!world.held.mark(&THE_P) && !world.held.is_taken());
    });
}
