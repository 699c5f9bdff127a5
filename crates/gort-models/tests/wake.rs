//! The wake protocol (`sched/wake/`): what makes sure that a thread looks at new work, and at a new
//! timer.
//!
//! Here a queue is a number of goroutines; only the tests about `next` have a P's own queue. An M
//! that is started is only counted, as spinning, unless the test lets it run. Each test ends with
//! the claim of `wake/README.md`: there is no work, or no P idles, or an M spins.

#![allow(dead_code, unreachable_pub, reason = "a module of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use loom::sync::{Arc, Mutex};
use loom::thread::{self, JoinHandle};
use sys::sync::{fence_after_rmw, skip_fence_after_rmw};

#[path = "../../gort/src/sched/queue/ring.rs"]
mod local;
#[path = "../../gort/src/sched/wake/mod.rs"]
mod wake;

use local::LocalQueue;
use wake::WakeState;
use wake::sleeper::{PollSleeper, Told};

const NEVER: u64 = u64::MAX;

impl local::Handle for *mut G {
    type Target = G;

    fn into_ptr(self) -> *mut G {
        self
    }

    unsafe fn from_ptr(ptr: *mut G) -> *mut G {
        ptr
    }
}

struct World {
    wake: WakeState,
    /// How many are on a queue that all may look at: a ring, or the global queue.
    queued: AtomicUsize,
    /// The ring and the `next` of a P that is busy, in the tests that are about them.
    runq: Option<LocalQueue<*mut G, 4>>,
    /// How many Ps are in the idle list, under the scheduler's lock.
    idle_ps: Mutex<usize>,
    /// How many Ms were started, spinning, and have not run yet.
    started: AtomicUsize,
    sleeper: PollSleeper,
    /// The earliest timer of a heap.
    timer: AtomicU64,
    /// How long an M sleeps in the kernel's poll, and whether that was broken.
    sleeps_until: AtomicU64,
    broken: AtomicBool,
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

impl World {
    /// `idle` Ps are in the idle list, `spinning` Ms hold a P and look for work.
    fn new(idle: usize, spinning: usize) -> Arc<World> {
        let world = World {
            wake: WakeState::new(AtomicU32::new(0), AtomicU32::new(0)),
            queued: AtomicUsize::new(0),
            runq: None,
            idle_ps: Mutex::new(idle),
            started: AtomicUsize::new(0),
            sleeper: PollSleeper::new(AtomicU64::new(0)),
            timer: AtomicU64::new(NEVER),
            sleeps_until: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        };
        (0..idle).for_each(|_| world.wake.p_idles());
        (0..spinning).for_each(|_| world.wake.begin_spinning());
        Arc::new(world)
    }

    /// A submitter does S1 to S4. The queue itself orders no more than Release.
    fn submit(&self) {
        self.queued.fetch_add(1, Release);
        self.ask();
    }

    /// Steps S2 to S4.
    fn ask(&self) {
        if self.wake.must_wake() {
            self.wake_p();
        }
    }

    /// As `ready::wake_p`.
    fn wake_p(&self) {
        loop {
            if self.take_idle_p() {
                self.started.fetch_add(1, Relaxed);
                return;
            }
            self.wake.end_spinning();
            if !self.wake.must_wake() {
                return;
            }
        }
    }

    fn take_idle_p(&self) -> bool {
        let mut idle = self.idle_ps.lock().unwrap();
        let some = *idle > 0;
        if some {
            *idle -= 1;
            self.wake.p_leaves_idle();
        }
        some
    }

    /// Takes one from the queue.
    fn take(&self) -> bool {
        self.queued.fetch_update(Acquire, Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    fn sees_work(&self) -> bool {
        self.runq.as_ref().map_or_else(|| self.queued.load(Acquire) != 0, |runq| !runq.is_empty())
    }

    /// An M with a P and nothing to do gives up: G1 to G4. True: it has a P again, and spins.
    fn give_up(&self, spinning: bool) -> bool {
        {
            let mut idle = self.idle_ps.lock().unwrap();
            *idle += 1;
            self.wake.p_idles();
        }
        if spinning {
            self.wake.end_spinning();
        }
        if self.sees_work() && self.take_idle_p() {
            self.wake.begin_spinning();
            return true;
        }
        false
    }

    /// A spinning M with a P looks once, runs what it finds (F1, F2, S3, S4), goes on until there
    /// is nothing, and gives up.
    fn run_spinning(&self) {
        loop {
            if self.take() {
                self.wake.end_spinning();
                self.ask();
                while self.take() {}
                if !self.give_up(false) {
                    return;
                }
            } else if !self.give_up(true) {
                return;
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.wake.idle_ps() as usize, *self.idle_ps.lock().unwrap());
        let ok = !self.sees_work() || self.wake.idle_ps() == 0 || self.wake.spinning() != 0;
        assert!(ok, "work is queued, a P idles, and no M looks");
    }
}

/// The M of the last busy P runs out of work while another thread submits some.
fn submitter_against_giver_up(spinning: bool) {
    model(3, move || {
        let world = World::new(0, usize::from(spinning));
        let m = spawn(&world, move |w| {
            w.give_up(spinning);
        });
        world.submit();
        m.join().unwrap();
        world.check();
    });
}

#[test]
fn a_giver_up_sees_the_work_or_is_seen() {
    submitter_against_giver_up(false);
}

#[test]
fn a_spinner_gives_up() {
    submitter_against_giver_up(true);
}

#[test]
#[should_panic(expected = "no M looks")]
fn without_fences_work_is_overlooked() {
    sys::sync::without_fences(|| submitter_against_giver_up(false));
}

#[test]
#[should_panic(expected = "no M looks")]
fn without_fences_the_last_spinner_is_relied_on() {
    sys::sync::without_fences(|| submitter_against_giver_up(true));
}

/// Two threads submit, and the M that looks finds one of the two goroutines.
#[test]
fn the_finder_wakes_another() {
    model(2, || {
        let world = World::new(1, 1);
        let m = spawn(&world, World::run_spinning);
        let other = spawn(&world, World::submit);
        world.submit();
        m.join().unwrap();
        other.join().unwrap();
        world.check();
    });
}

/// Two threads submit and want the one P that idles. A second P comes to the list meanwhile.
#[test]
fn two_want_the_idle_p() {
    model(3, || {
        let world = World::new(1, 0);
        let m = spawn(&world, |w| {
            w.give_up(false);
        });
        let other = spawn(&world, World::submit);
        world.submit();
        m.join().unwrap();
        other.join().unwrap();
        world.check();
    });
}

/// The M that is started runs: it takes all, or leaves what it does not see to the threads that
/// submit.
#[test]
fn started_ms_run() {
    model(2, || {
        let world = World::new(1, 0);
        let other = spawn(&world, World::submit);
        let m = spawn(&world, |w| {
            if w.started.swap(0, Acquire) == 1 {
                w.run_spinning();
            }
        });
        world.submit();
        other.join().unwrap();
        m.join().unwrap();
        world.check();
    });
}

impl World {
    /// As `find::sleep_in_poll`: an M without a P sleeps in the poll, where the model leaves it, or
    /// goes to the idle list.
    fn sleep_in_poll(&self) {
        loop {
            if !self.sleeper.enter() {
                match self.sleeper.tell(self.timer.load(Acquire)) {
                    Told::InTime => return,
                    Told::Late => return self.break_poll(),
                    Told::NoSleeper => continue,
                }
            }
            let until = self.sleeper.settle(|| self.timer.load(Acquire));
            if until == NEVER {
                self.sleeper.leave();
                if self.timer.load(Acquire) == NEVER {
                    return;
                }
                continue;
            }
            return self.sleeps_until.store(until, Relaxed);
        }
    }

    fn break_poll(&self) {
        self.broken.store(true, Relaxed);
    }

    /// An M sleeps no longer than the timer allows, or will look at it again.
    fn check_timer(&self) {
        let until = self.sleeps_until.load(Relaxed);
        let in_time = until != 0 && until <= self.timer.load(Relaxed);
        let looks_again = self.broken.load(Relaxed) || self.started.load(Relaxed) != 0;
        assert!(in_time || looks_again, "no M sleeps for the timer");
    }

    /// As `poll::announce`, with T1 before.
    fn start_timer(&self, when: u64) {
        self.timer.fetch_min(when, Release);
        match self.sleeper.tell(when) {
            Told::InTime => {}
            Told::Late => self.break_poll(),
            Told::NoSleeper => self.ask(),
        }
    }
}

/// A timer is started while the last M goes to sleep: the M sleeps no longer than the timer allows,
/// or another M was started to do so.
fn timer_against_sleeper(earlier: u64) {
    model(3, move || {
        let world = World::new(0, 0);
        world.timer.store(earlier, Relaxed);
        let m = spawn(&world, |w| {
            w.give_up(false);
            w.sleep_in_poll();
        });
        world.start_timer(1);
        m.join().unwrap();
        world.check_timer();
    });
}

/// No M sleeps yet.
#[test]
fn a_timer_finds_a_sleeper() {
    timer_against_sleeper(NEVER);
}

/// An M sleeps, or is about to, for a later timer.
#[test]
fn an_earlier_timer_breaks_the_poll() {
    timer_against_sleeper(2);
}

#[test]
#[should_panic(expected = "no M sleeps for the timer")]
fn without_fences_a_timer_is_overslept() {
    sys::sync::without_fences(|| timer_against_sleeper(NEVER));
}

#[test]
#[should_panic(expected = "no M sleeps for the timer")]
fn without_fences_an_earlier_timer_is_overslept() {
    sys::sync::without_fences(|| timer_against_sleeper(2));
}

/// Two Ms go to sleep. One of them has started a timer and has told no other M of it. One of the
/// two sleeps for it.
#[test]
fn an_unannounced_timer() {
    model(3, || {
        let world = World::new(0, 0);
        world.timer.store(2, Relaxed);
        let other = spawn(&world, |w| {
            w.give_up(false);
            w.sleep_in_poll();
        });
        world.timer.fetch_min(1, Release);
        world.give_up(false);
        world.sleep_in_poll();
        other.join().unwrap();
        world.check_timer();
    });
}

/// A goroutine; only its address matters.
type G = u8;
static GS: [G; 2] = [0; 2];

fn g(i: usize) -> *mut G {
    (&raw const GS[i]).cast_mut()
}

impl World {
    /// As [`new`](World::new), but with a busy P's own queue in place of the number.
    fn with_runq(idle: usize, spinning: usize) -> Arc<World> {
        let mut world = World::new(idle, spinning);
        Arc::get_mut(&mut world).expect("not shared yet").runq = Some(LocalQueue::new());
        world
    }

    fn runq(&self) -> &LocalQueue<*mut G, 4> {
        self.runq.as_ref().expect("a test about it")
    }

    /// As `ready::ready`, called by the P's owner.
    fn ready(&self, g: *mut G) {
        let must_wake = match self.runq().replace_next(g) {
            None => self.wake.must_wake_after_rmw(),
            Some(old) => {
                assert!(self.runq().push(old).is_none(), "the ring has room");
                self.wake.must_wake()
            }
        };
        if must_wake {
            self.wake_p();
        }
    }

    /// As [`ready`](World::ready), with only the fence of the swap.
    fn ready_by_the_swap_alone(&self, g: *mut G) {
        let old = self.runq().replace_next(g);
        fence_after_rmw();
        if let Some(old) = old {
            assert!(self.runq().push(old).is_none(), "the ring has room");
        }
        skip_fence_after_rmw();
        if self.wake.must_wake_after_rmw() {
            self.wake_p();
        }
    }

    /// A spinning M with a P takes `next` and runs it (F1, F2, S3, S4), or gives up.
    fn steal_next(&self) {
        if let Some(g) = self.runq().peek_next()
            && self.runq().steal_next(g).is_some()
        {
            self.wake.end_spinning();
            self.ask();
        } else {
            self.give_up(true);
        }
    }
}

/// As [`submitter_against_giver_up`], but the work goes into `next`, and the swap is all that comes
/// before the look.
fn next_against_giver_up(spinning: bool) {
    model(3, move || {
        let world = World::with_runq(0, usize::from(spinning));
        let m = spawn(&world, move |w| {
            w.give_up(spinning);
        });
        world.ready(g(0));
        m.join().unwrap();
        world.check();
    });
}

#[test]
fn a_giver_up_sees_next_or_is_seen() {
    next_against_giver_up(false);
}

#[test]
fn a_spinner_gives_up_beside_next() {
    next_against_giver_up(true);
}

#[test]
#[should_panic(expected = "no M looks")]
fn without_fences_next_is_overlooked() {
    sys::sync::without_fences(|| next_against_giver_up(false));
}

#[test]
#[should_panic(expected = "no M looks")]
fn without_fences_the_last_spinner_is_relied_on_for_next() {
    sys::sync::without_fences(|| next_against_giver_up(true));
}

/// The owner readies a goroutine, takes it again, and readies another, while a thief takes what it
/// sees and a third M gives up.
#[test]
fn next_is_filled_twice() {
    model(2, || {
        let world = World::with_runq(0, 1);
        let thief = spawn(&world, World::steal_next);
        let m = spawn(&world, |w| {
            w.give_up(false);
        });
        world.ready(g(0));
        world.runq().take_next();
        world.ready(g(1));
        thief.join().unwrap();
        m.join().unwrap();
        world.check();
    });
}

/// The goroutine that was in `next` goes to the ring, a thief takes the one that is there now, and
/// a third M gives up.
fn kicked_out_of_next(ready: fn(&World, *mut G)) {
    model(3, move || {
        let world = World::with_runq(0, 1);
        assert!(world.runq().replace_next(g(0)).is_none());
        let thief = spawn(&world, World::steal_next);
        let m = spawn(&world, |w| {
            w.give_up(false);
        });
        ready(&world, g(1));
        thief.join().unwrap();
        m.join().unwrap();
        world.check();
    });
}

#[test]
fn what_is_displaced_from_next_is_seen() {
    kicked_out_of_next(World::ready);
}

#[test]
#[should_panic(expected = "no M looks")]
fn the_swap_does_not_publish_what_is_displaced() {
    kicked_out_of_next(World::ready_by_the_swap_alone);
}
