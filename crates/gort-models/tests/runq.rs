//! The run queue of one P (`sched/queue/ring.rs`), with a ring of four: its owner against one thief
//! and two. Each goroutine is taken exactly once, with what was written before it was queued. A
//! look for work does not overlook what the owner is just moving.
//!
//! A goroutine is a cell here, to which each taker writes. loom reports two takers as a race, and
//! also a taker that does not see what the one before it wrote.

#![allow(dead_code, unreachable_pub, reason = "a module of the library, of which this uses a part")]

use gort_models::{model, sys};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

#[path = "../../gort/src/sched/queue/ring.rs"]
mod local;

use local::LocalQueue;

/// How often a goroutine was queued, and how often it was taken.
#[derive(Clone, Copy, Default)]
struct Count {
    queued: usize,
    taken: usize,
}

type G = UnsafeCell<Count>;

impl local::Handle for *mut G {
    type Target = G;

    fn into_ptr(self) -> *mut G {
        self
    }

    unsafe fn from_ptr(ptr: *mut G) -> *mut G {
        ptr
    }
}

/// Two Ps and the goroutines of the model.
struct World {
    p: LocalQueue<*mut G, 4>,
    thief: LocalQueue<*mut G, 4>,
    gs: Vec<G>,
}

impl World {
    fn new(gs: usize) -> Arc<World> {
        Arc::new(World {
            p: LocalQueue::new(),
            thief: LocalQueue::new(),
            gs: (0..gs).map(|_| UnsafeCell::new(Count::default())).collect(),
        })
    }

    /// The pointer of goroutine `i`, which the caller owns and is about to queue.
    fn g(&self, i: usize) -> *mut G {
        // SAFETY: it is in no queue, so only the caller looks at it; loom checks that.
        self.gs[i].with_mut(|g| unsafe { (*g).queued += 1 });
        (&raw const self.gs[i]).cast_mut()
    }

    /// Appends goroutine `i` to the owner's ring.
    fn push(&self, i: usize) {
        assert!(self.p.push(self.g(i)).is_none(), "the ring has room");
    }

    /// `g` was taken, to be run.
    fn take(&self, g: *mut G) {
        assert!(self.gs.as_ptr_range().contains(&g.cast_const()));
        // SAFETY: the pointer is into `gs`; loom checks that we are the only taker.
        unsafe {
            (*g).with_mut(|g| {
                (*g).taken += 1;
                assert_eq!((*g).queued, (*g).taken, "taken once for each time it was queued");
            });
        }
    }

    fn take_any(&self, g: Option<*mut G>) -> bool {
        if let Some(g) = g {
            self.take(g);
        }
        g.is_some()
    }

    /// What a thief does with another P: moves half the ring into its own, and then takes that.
    fn steal_all_at_once(&self) {
        if self.take_any(self.p.steal_into(&self.thief)) {
            while self.take_any(self.thief.pop()) {}
        }
    }

    fn steal_next(&self) {
        if let Some(g) = self.p.peek_next()
            && self.p.steal_next(g).is_some()
        {
            self.take(g);
        }
    }

    /// All have ended: takes what is left, and checks that nothing is missing.
    fn check(&self) {
        for queue in [&self.p, &self.thief] {
            let mut left = 0;
            let len = queue.len();
            assert_eq!(queue.is_empty(), len == 0);
            while self.take_any(queue.take_next().or_else(|| queue.pop())) {
                left += 1;
            }
            assert_eq!(left, len);
            assert!(queue.is_empty());
        }
        for g in &self.gs {
            // SAFETY: all others have ended.
            let g = g.with(|g| unsafe { *g });
            assert_eq!(g.taken, g.queued);
        }
    }
}

fn spawn(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || f(&world))
}

/// The owner pushes and pops while a thief takes halves.
#[test]
fn owner_against_thief() {
    model(3, || {
        let world = World::new(4);
        world.push(0);
        let thief = spawn(&world, |w| {
            w.steal_all_at_once();
            w.steal_all_at_once();
        });
        world.push(1);
        world.push(2);
        world.take_any(world.p.pop());
        world.push(3);
        world.take_any(world.p.pop());
        thief.join().unwrap();
        world.check();
    });
}

/// One thief fills its own ring, which another thief empties at once. The other one then goes on to
/// the first ring.
#[test]
fn a_thief_is_robbed() {
    model(2, || {
        let world = World::new(4);
        (0..4).for_each(|i| world.push(i));
        let thief = spawn(&world, |w| w.steal_all_at_once());
        let robber = spawn(&world, |w| {
            let own = LocalQueue::<*mut G, 4>::new();
            for victim in [&w.thief, &w.p] {
                if w.take_any(victim.steal_into(&own)) {
                    while w.take_any(own.pop()) {}
                }
            }
        });
        world.take_any(world.p.pop());
        thief.join().unwrap();
        robber.join().unwrap();
        world.check();
    });
}

/// The owner and two thieves want the last goroutine, and one of them gets it.
#[test]
fn three_want_the_last() {
    model(3, || {
        let world = World::new(1);
        world.push(0);
        let thieves = [(); 2].map(|()| {
            spawn(&world, |w| {
                let own = LocalQueue::<*mut G, 4>::new();
                w.take_any(w.p.steal_into(&own));
                assert!(own.is_empty());
            })
        });
        world.take_any(world.p.pop());
        thieves.into_iter().for_each(|t| t.join().unwrap());
        world.check();
    });
}

/// The ring is full: either half of it comes back with the new one, or a thief has made room.
#[test]
fn overflow_against_thief() {
    model(3, || {
        let world = World::new(6);
        (0..4).for_each(|i| world.push(i));
        let thief = spawn(&world, |w| w.steal_all_at_once());
        for i in 4..6 {
            if let Some(overflow) = world.p.push(world.g(i)) {
                let all: Vec<_> = overflow.into_handles().collect();
                assert_eq!(all.len(), 3);
                all.into_iter().for_each(|g| world.take(g));
            }
        }
        thief.join().unwrap();
        world.check();
    });
}

/// A place is written again only when its reader has lost: the ring goes round under a thief that
/// has copied it.
#[test]
fn the_ring_goes_round() {
    model(3, || {
        let world = World::new(7);
        (0..4).for_each(|i| world.push(i));
        let thief = spawn(&world, |w| w.steal_all_at_once());
        for i in 4..7 {
            world.take_any(world.p.pop());
            world.push(i);
        }
        thief.join().unwrap();
        world.check();
    });
}

/// The owner puts one goroutine in front of another, moves the other one to the ring, and takes the
/// first, while one thief wants `next` and one the ring.
#[test]
fn next_against_thieves() {
    model(2, || {
        let world = World::new(3);
        let next = spawn(&world, |w| w.steal_next());
        let ring = spawn(&world, |w| w.steal_all_at_once());
        for i in 0..3 {
            if let Some(old) = world.p.replace_next(world.g(i)) {
                assert!(world.p.push(old).is_none());
            }
        }
        world.take_any(world.p.take_next());
        next.join().unwrap();
        ring.join().unwrap();
        world.check();
    });
}

/// The thief waits a while between its look at `next` and the theft. The same goroutine may have
/// run and come back meanwhile. It is taken once for each time that it was queued.
#[test]
fn next_comes_back() {
    model(3, || {
        let world = World::new(1);
        assert!(world.p.replace_next(world.g(0)).is_none());
        let thieves = [(); 2].map(|()| spawn(&world, |w| w.steal_next()));
        if world.take_any(world.p.take_next()) {
            assert!(world.p.replace_next(world.g(0)).is_none());
            world.take_any(world.p.take_next());
        }
        thieves.into_iter().for_each(|t| t.join().unwrap());
        world.check();
    });
}

/// A thread looks twice while the owner puts a goroutine into `next`, moves it to the ring, and
/// takes the one in front. Some goroutine is always queued.
fn look_while_the_owner_moves(queued: fn(&LocalQueue<*mut G, 4>) -> usize) {
    model(3, move || {
        let world = World::new(3);
        world.push(0);
        let looker = spawn(&world, move |w| {
            assert_ne!(queued(&w.p), 0, "overlooked");
            assert_ne!(queued(&w.p), 0, "overlooked");
        });
        assert!(world.p.replace_next(world.g(1)).is_none());
        world.take_any(world.p.pop()); // 1 in `next`
        let old = world.p.replace_next(world.g(2)).expect("none steals");
        assert!(world.p.push(old).is_none()); // 1 in the ring
        world.take_any(world.p.take_next());
        looker.join().unwrap();
        world.check();
    });
}

/// A look for work while the owner moves `next` to the ring sees the goroutine in one of the two.
#[test]
fn a_look_overlooks_none() {
    look_while_the_owner_moves(|p| usize::from(!p.is_empty()));
}

/// `is_empty` needs its second look at the tail: `len`, which reads the same three words once,
/// overlooks a goroutine.
#[test]
#[should_panic(expected = "overlooked")]
fn one_look_is_not_enough() {
    look_while_the_owner_moves(LocalQueue::len);
}

/// The owner takes from the end of the ring what a thief may want from its beginning, and uses the
/// places again.
#[test]
fn the_last_are_taken() {
    model(3, || {
        let world = World::new(4);
        (0..3).for_each(|i| world.push(i));
        let thief = spawn(&world, World::steal_all_at_once);
        for i in [2, 1] {
            let g = (&raw const world.gs[i]).cast_mut();
            if world.p.take_last(g).is_some() {
                world.take(g);
            }
        }
        world.push(3);
        thief.join().unwrap();
        world.check();
    });
}

/// Two thieves and the owner want the same goroutine. For a moment the end of the ring is then
/// before its beginning.
#[test]
fn the_last_is_the_only_one() {
    model(2, || {
        let world = World::new(2);
        world.push(0);
        let thieves = [(); 2].map(|()| {
            spawn(&world, |w| {
                let _ = w.take_any(w.p.steal_into(&LocalQueue::new()));
            })
        });
        let g = (&raw const world.gs[0]).cast_mut();
        if world.p.take_last(g).is_some() {
            world.take(g);
            assert!(world.p.take_last(g).is_none(), "it is gone");
        }
        world.push(1);
        thieves.into_iter().for_each(|thief| thief.join().unwrap());
        world.check();
    });
}

/// A goroutine that yields by way of g0 goes to the ring before its owner takes the next one out of
/// it, so a look sees one of the two.
#[test]
fn a_look_against_yields() {
    model(3, || {
        let world = World::new(3);
        world.push(0);
        let looker = spawn(&world, |w| {
            assert!(!w.p.is_empty(), "overlooked");
            assert!(!w.p.is_empty(), "overlooked");
        });
        for i in 1..3 {
            world.push(i);
            world.take_any(world.p.pop());
        }
        looker.join().unwrap();
        world.check();
    });
}
