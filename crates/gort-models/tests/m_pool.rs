//! Where threads come from (`sched/shared/m_pool.rs`, `sched/threads/call.rs`,
//! `sched/core/handover.rs`): a P that wants an M gets one, an M that idles is found, and the
//! template thread hears every call.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Mutex};
use loom::thread::{self, JoinHandle};

#[path = "../../gort/src/sched/threads/call.rs"]
mod call;
#[path = "../../gort/src/sched/core/handover.rs"]
mod handover;
#[path = "../../gort/src/sched/shared/m_pool.rs"]
mod m_pool;

use call::Calls;
use handover::Handover;
use m_pool::{MPool, NewThread};

/// Ps want Ms.
const WANTED: u32 = 1;
/// The model is over.
const END: u32 = 2;

/// A P: the M that gets it serves it.
struct P {
    number: usize,
}

static PS: [P; 2] = [P { number: 0 }, P { number: 1 }];

fn spawn(world: &Arc<World>, f: impl FnOnce(&Arc<World>) + 'static) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

struct World {
    m_pool: Mutex<MPool<&'static P, usize>>,
    calls: Calls,
    /// Where M number 0 sleeps. The other Ms are made for one P and end.
    bed: Handover<P>,
    /// What belongs to each P; loom reports two owners of one.
    served: [UnsafeCell<usize>; 2],
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            m_pool: Mutex::new(MPool::new()),
            calls: Calls::new(AtomicU32::new(0)),
            bed: Handover::new(),
            served: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    /// As `pool::start_m`.
    fn start_m(&self, p: &'static P) {
        let idle = self.m_pool.lock().unwrap().m_for(p, false);
        match idle {
            Some(m) => {
                assert_eq!(m, 0);
                self.bed.give(p);
            }
            None => _ = self.calls.call(WANTED),
        }
    }

    fn serve(&self, p: &P) {
        // SAFETY: the caller took the P, so it owns it; loom checks that no other thread does.
        self.served[p.number].with_mut(|n| unsafe { *n += 1 });
    }

    /// The template thread, as `pool::make_template`, until it is told that the model is over.
    fn template(world: &Arc<World>) {
        let mut born = Vec::new();
        loop {
            let what = loop {
                match world.calls.take() {
                    0 => thread::yield_now(),
                    what => break what,
                }
            };
            while let NewThread::Needed = world.begin_thread() {
                let world = world.clone();
                born.push(thread::spawn(move || {
                    let wanting = world.m_pool.lock().unwrap().arrive();
                    if let Some((p, _)) = wanting {
                        world.serve(p);
                    }
                }));
            }
            if what & END != 0 {
                break;
            }
        }
        born.into_iter().for_each(|m: JoinHandle<()>| m.join().unwrap());
    }

    fn begin_thread(&self) -> NewThread {
        self.m_pool.lock().unwrap().begin_thread(10)
    }

    /// All Ps in `expected` were served once, and the count of threads is one of `threads`.
    fn check(&self, expected: &[usize], threads: &[usize]) {
        for &p in expected {
            // SAFETY: all others are done.
            self.served[p].with(|n| assert_eq!(unsafe { *n }, 1, "a P was left behind"));
        }
        let m_pool = self.m_pool.lock().unwrap();
        assert_eq!(m_pool.wanting(), 0);
        assert!(threads.contains(&m_pool.threads()), "{} threads", m_pool.threads());
    }
}

/// Two threads each want an M for a P: the template thread makes as many as are needed.
#[test]
fn each_p_gets_a_new_thread() {
    model(2, || {
        let world = World::new();
        let template = spawn(&world, World::template);
        let other = spawn(&world, |world| world.start_m(&PS[1]));
        world.start_m(&PS[0]);
        other.join().unwrap();
        let _ = world.calls.call(END);
        template.join().unwrap();
        world.check(&[0, 1], &[2]);
    });
}

/// As `pool::stop_m`, with a time-out that is over at once: an M rests until it is given a P, or
/// ends.
fn rest(world: &World) {
    let wanting = world.m_pool.lock().unwrap().p_for(0);
    if let Some((p, _)) = wanting {
        return world.serve(p);
    }
    loop {
        if let Some(p) = world.bed.sleep(Some(0)) {
            return world.serve(p);
        }
        if world.m_pool.lock().unwrap().end_idle(0, 0) {
            return;
        }
        thread::yield_now(); // sleeps anew
    }
}

/// An M rests, or ends for want of work, while a P comes to want one, and the template thread makes
/// another. One of the two Ms takes the P.
#[test]
fn an_idle_m_or_a_new_thread() {
    model(3, || {
        let world = World::new();
        {
            let mut m_pool = world.m_pool.lock().unwrap();
            assert_eq!(m_pool.m_for(&PS[0], false), None);
            assert!(matches!(m_pool.begin_thread(10), NewThread::Needed));
            assert!(m_pool.arrive().is_some_and(|(p, _)| p.number == 0), "number 0 is born");
        }
        world.serve(&PS[0]);
        let m = spawn(&world, |world| rest(world));
        let template = spawn(&world, World::template);
        world.start_m(&PS[1]);
        let _ = world.calls.call(END);
        template.join().unwrap();
        m.join().unwrap();
        world.check(&[0, 1], &[0, 1, 2]);
    });
}

/// A call that comes while the template thread works is heard.
#[test]
fn every_call_is_heard() {
    model(3, || {
        let calls = Arc::new(Calls::new(AtomicU32::new(0)));
        let template = thread::spawn({
            let calls = calls.clone();
            move || {
                let mut heard = 0;
                while heard != 3 {
                    match calls.take() {
                        0 => thread::yield_now(),
                        what => heard |= what,
                    }
                }
            }
        });
        let other = thread::spawn({
            let calls = calls.clone();
            move || calls.call(2)
        });
        let first = calls.call(1);
        let second = other.join().unwrap();
        assert!(first || second, "nothing wakes the template thread");
        template.join().unwrap();
    });
}
