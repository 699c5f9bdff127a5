//! A goroutine is stopped with its thread and goes on there (`sched/preempt/`, over
//! `sched/shared/m_pool.rs`, `sched/core/handover.rs`, `sched/wake/`): it gives its P away, and
//! gets one back from whatever finds it.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use loom::sync::{Arc, Mutex};
use loom::thread::{self, JoinHandle};

#[path = "../../gort/src/sched/core/handover.rs"]
mod handover;
#[path = "../../gort/src/sched/shared/m_pool.rs"]
mod m_pool;
#[path = "../../gort/src/sched/wake/mod.rs"]
mod wake;

use handover::Handover;
use m_pool::MPool;
use wake::WakeState;

/// The one P.
struct P;
static P0: P = P;

/// M number 0 runs the goroutine that is stopped. M number 1 is another.
const HELD: usize = 0;
const OTHER: usize = 1;

/// In the library one lock guards this.
struct Synced {
    m_pool: MPool<&'static P, usize>,
    /// The goroutines that were stopped, each by the number of the M that waits with it.
    preempted: Vec<usize>,
    idle_ps: usize,
}

struct World {
    wake: WakeState,
    synced: Mutex<Synced>,
    beds: [Handover<P>; 2],
    /// What belongs to the P; loom reports two owners.
    used: UnsafeCell<usize>,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            wake: WakeState::new(AtomicU32::new(0), AtomicU32::new(0)),
            synced: Mutex::new(Synced { m_pool: MPool::new(), preempted: Vec::new(), idle_ps: 0 }),
            beds: [Handover::new(), Handover::new()],
            used: UnsafeCell::new(0),
        })
    }

    fn use_p(&self) {
        // SAFETY: the caller owns the P; loom checks that no other thread does.
        self.used.with_mut(|n| unsafe { *n += 1 });
    }

    /// As `pool::start_m`.
    fn start_m(&self) {
        let idle = self.synced.lock().unwrap().m_pool.m_for(&P0, false);
        if let Some(m) = idle {
            self.beds[m].give(&P0);
        }
    }

    /// As `preempt::stop`, by M 0, with the P.
    fn hold(&self) {
        self.use_p();
        self.synced.lock().unwrap().preempted.push(HELD);
        self.hand_off();
        if self.wake.must_wake() {
            self.wake_p();
        }
        self.beds[HELD].sleep(None).expect("no deadline");
        self.use_p();
    }

    /// As `handoff::hand_off`: the P goes to an M if there is work, and the goroutine that was
    /// stopped is work; else the P idles.
    fn hand_off(&self) {
        let works = !self.synced.lock().unwrap().preempted.is_empty();
        if works {
            return self.start_m();
        }
        self.idle();
    }

    /// The steps G1 to G4, by an M that has the P.
    fn idle(&self) {
        {
            let mut s = self.synced.lock().unwrap();
            s.idle_ps += 1;
            self.wake.p_idles();
        }
        let works = !self.synced.lock().unwrap().preempted.is_empty();
        if works && self.wake.must_wake() {
            self.wake_p();
        }
    }

    /// As `ready::wake_p`.
    fn wake_p(&self) {
        let took = {
            let mut s = self.synced.lock().unwrap();
            let some = s.idle_ps > 0;
            if some {
                s.idle_ps -= 1;
                self.wake.p_leaves_idle();
            }
            some
        };
        self.wake.end_spinning();
        if took {
            self.start_m();
        }
    }

    /// As `run::schedule`, by M 1, with the P: finds the goroutine that was stopped and hands the P
    /// to its M. False: there is none.
    fn find(&self) -> bool {
        self.use_p();
        let held = self.synced.lock().unwrap().preempted.pop();
        if let Some(m) = held {
            self.beds[m].give(&P0);
        }
        held.is_some()
    }

    /// M 1 rests until it is given the P.
    fn rest(&self) {
        let wanting = self.synced.lock().unwrap().m_pool.p_for(OTHER);
        if wanting.is_none() {
            self.beds[OTHER].sleep(None).expect("no deadline");
        }
    }

    /// As `handoff::resume_preempted_on_unused`, by sysmon, or by the template thread that gets no
    /// thread.
    fn resume_on_wanting(&self) {
        let held = {
            let mut s = self.synced.lock().unwrap();
            if s.m_pool.wanting() == 0 {
                return;
            }
            let Some(held) = s.preempted.pop() else { return };
            let _ = s.m_pool.take_wanting().expect("asked above");
            held
        };
        self.beds[held].give(&P0);
    }
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// The P goes to another M, which finds the goroutine. Or that M does not rest yet, and takes the P
/// as it begins to.
#[test]
fn another_m_resumes_it() {
    model(3, || {
        let world = World::new();
        let other = spawn(&world, |w| {
            w.rest();
            assert!(w.find(), "the goroutine was overlooked");
        });
        world.hold();
        other.join().unwrap();
    });
}

/// There is no idle M: sysmon gives the P that wants one to the goroutine, or the other M was
/// faster.
#[test]
fn sysmon_resumes_it_where_there_is_no_thread() {
    model(3, || {
        let world = World::new();
        let goes_on = Arc::new(AtomicBool::new(false));
        let held = spawn(&world, {
            let goes_on = goes_on.clone();
            move |w| {
                w.hold();
                goes_on.store(true, Relaxed);
            }
        });
        let other = spawn(&world, |w| {
            // An M looks once, and ends if there is nothing.
            let wanting = w.synced.lock().unwrap().m_pool.take_wanting();
            if wanting.is_some() {
                assert!(w.find(), "who wanted an M was the goroutine's P");
            }
        });
        while !goes_on.load(Relaxed) {
            world.resume_on_wanting();
            thread::yield_now();
        }
        other.join().unwrap();
        held.join().unwrap();
    });
}

/// A P comes to the idle list just as the goroutine is queued. The P's last owner sees the
/// goroutine, or the goroutine's thread wakes an M.
#[test]
fn an_idling_p_is_not_missed() {
    model(3, || {
        let world = World::new();
        let other = spawn(&world, |w| {
            // M 1 has a P and nothing to do: it lets the P idle, and rests. Then it finds the
            // goroutine, with whichever P it gets.
            w.idle();
            w.rest();
            assert!(w.find(), "the goroutine was overlooked");
        });
        // M 0 comes out of `blocking` without a P: `syscall::come_back`.
        world.synced.lock().unwrap().preempted.push(HELD);
        if world.wake.must_wake() {
            world.wake_p();
        }
        world.beds[HELD].sleep(None).expect("no deadline");
        world.use_p();
        other.join().unwrap();
    });
}
