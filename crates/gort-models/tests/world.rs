//! Stopping the world (`sched/world/stop.rs`, over `sched/shared/m_pool.rs`,
//! `sched/core/handover.rs`): the stopper gets every P, from the M that has it or the list that it
//! is in, and each P goes on afterwards.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering::*};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

#[path = "../../gort/src/sched/core/handover.rs"]
mod handover;
#[path = "../../gort/src/sched/shared/m_pool.rs"]
mod m_pool;

use handover::Handover;
use m_pool::{MPool, NewThread};

/// The one P.
struct P;
static P0: P = P;

/// In the library one lock guards this.
struct Synced {
    m_pool: MPool<&'static P, usize>,
    idle_ps: usize,
    stopped_ps: usize,
}

struct World {
    synced: Mutex<Synced>,
    /// Wakes the stopper to look again: a P was released, or came to a list. (In the library the
    /// stopper looks for the latter after a while.)
    look_again: Condvar,
    /// No P may be used: `p::USABLE` is 0. Changed under the lock, read without.
    over: AtomicBool,
    /// Where M number 0 sleeps.
    bed: Handover<P>,
    /// What belongs to the P; loom reports two owners.
    used: UnsafeCell<usize>,
}

impl World {
    fn new() -> Arc<World> {
        let world = World {
            synced: Mutex::new(Synced { m_pool: MPool::new(), idle_ps: 0, stopped_ps: 0 }),
            look_again: Condvar::new(),
            over: AtomicBool::new(false),
            bed: Handover::new(),
            used: UnsafeCell::new(0),
        };
        {
            // M number 0 is made.
            let m_pool = &mut world.synced.lock().unwrap().m_pool;
            assert_eq!(m_pool.m_for(&P0, false), None);
            assert!(matches!(m_pool.begin_thread(10), NewThread::Needed));
            assert!(m_pool.arrive().is_some());
        }
        Arc::new(world)
    }

    fn use_p(&self) {
        // SAFETY: the caller owns the P; loom checks that no other thread does.
        self.used.with_mut(|n| unsafe { *n += 1 });
    }

    fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// As `handoff::release_p`, while the world stops.
    fn release_p(&self) {
        self.use_p();
        self.synced.lock().unwrap().stopped_ps += 1;
        self.look_again.notify_one();
    }

    /// As `handoff::hand_off`, for a P that others have a use for: looks whether it is over, and
    /// then starts an M.
    fn hand_off(&self) {
        if self.is_over() {
            return self.release_p();
        }
        self.use_p();
        let idle = self.synced.lock().unwrap().m_pool.m_for(&P0, false);
        match idle {
            Some(_) => self.bed.give(&P0),
            None => self.look_again.notify_one(),
        }
    }

    /// As `find::find` and `find::idle`: an M that was given the P uses it once, and lets it idle.
    fn find(&self) {
        if self.is_over() {
            return self.release_p();
        }
        self.use_p();
        let mut s = self.synced.lock().unwrap();
        if self.is_over() {
            drop(s);
            return self.release_p();
        }
        s.idle_ps += 1;
        self.look_again.notify_one();
    }

    /// As `pool::stop_m`, with a time-out that is over at once.
    fn rest(&self) {
        let wanting = self.synced.lock().unwrap().m_pool.p_for(0);
        if wanting.is_some() {
            return self.find();
        }
        loop {
            if self.bed.sleep(Some(0)).is_some() {
                return self.find();
            }
            if self.synced.lock().unwrap().m_pool.end_idle(0, 0) {
                return;
            }
            thread::yield_now();
        }
    }

    /// As `stop::stop`.
    fn stop(&self) {
        {
            let _s = self.synced.lock().unwrap();
            self.over.store(true, Release);
        }
        let mut s = self.synced.lock().unwrap();
        loop {
            s.stopped_ps += std::mem::take(&mut s.idle_ps);
            if s.m_pool.take_wanting_if(|_| true).is_some() {
                s.stopped_ps += 1;
            }
            if s.stopped_ps == 1 {
                return;
            }
            assert_eq!(s.stopped_ps, 0, "there is one P");
            s = self.look_again.wait(s).unwrap();
        }
    }

    /// As `stop::start`, for a P with an empty queue.
    fn start(&self) {
        let mut s = self.synced.lock().unwrap();
        self.over.store(false, Release);
        s.stopped_ps = 0;
        s.idle_ps += 1;
    }
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// The P is handed from one M to another while the world is stopped, or wants an M that does not
/// come.
#[test]
fn the_stopper_gets_the_p() {
    model(3, || {
        let world = World::new();
        let gives = spawn(&world, World::hand_off);
        let rests = spawn(&world, World::rest);
        world.stop();
        world.use_p();
        world.start();
        gives.join().unwrap();
        rests.join().unwrap();
        let s = world.synced.lock().unwrap();
        assert_eq!((s.idle_ps + s.m_pool.wanting(), s.stopped_ps), (1, 0), "the P is lost");
    });
}
