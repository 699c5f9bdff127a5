//! Timers: a 4-ary heap per P. The nodes stay pinned where their users keep them.
//!
//! # Role
//! [`TimerNode`] is what a wait with a deadline, a socket's deadline or an `after_func` owns.
//! [`Timers`] is the heap of a P. `find` runs what is due, and the netpoller sleeps no longer than
//! until the earliest timer.
//!
//! A node lies on its waiter's stack or in its descriptor, which is in no cache when the timer
//! fires. So the heap moves small entries of its own. An entry has the number of a place in a
//! table. The place has the node, and the entry's index in the heap. Only code that starts, stops
//! or fires a timer touches its node.
//!
//! # Invariants
//! 1. `start` and `stop` of one node are serialised by its user. Firing may race with both.
//! 2. A node in a heap has `owner` set; its `place` belongs to that heap's lock.
//! 3. `fire` runs under the heap's lock and does only atomic steps. What it wakes is made ready
//!    after the lock is dropped. `owner` is cleared after `fire`, as the last access to the node.
//! 4. So when `stop` has returned, nothing touches the node any more, and it may be freed. For
//!    `stop` either sees `owner` clear (the firing is over), or passes the lock under which a
//!    firing would happen.
//!
//! # Rejected
//! Lazy deletion as Go does it (zombies): a node would outlive its user's frame. Eager deletion
//! costs one lock, that of the owning heap, which is almost always our own P's, and free.

use super::waiter::Wake;
use crate::sys::lock::{Guard, Lock};
use crate::sys::map_vec::MapVec;
use crate::sys::prefetch::prefetch;
use crate::sys::sync::{AtomicPtr, AtomicU64, Ordering::*, is_child};
use std::cell::Cell;

/// `min_when_ns` of an empty heap.
pub(crate) const NEVER: u64 = u64::MAX;

/// How many timers fire before the lock is dropped in between.
const FIRE_BATCH: usize = 32;

/// What a timer does when it is due: atomic steps only, no lock, no park. Called under the heap's
/// lock.
pub(crate) type Fire = unsafe fn(arg: *const (), seq: usize) -> Wake;

/// One timer, owned and pinned by its user.
pub(crate) struct TimerNode {
    owner: AtomicPtr<Timers>,
    place: Cell<u32>,
    fire: Cell<Fire>,
    arg: Cell<*const ()>,
    seq: Cell<usize>,
}

// SAFETY: `owner` is atomic. The cells are written by `start` before the node is published in a
// heap, and read under that heap's lock (invariants 1 and 2).
unsafe impl Sync for TimerNode {}
// SAFETY: see Sync. `arg` only goes back to `fire`, and the caller of `start` promises that `fire`
// may be called on any thread.
unsafe impl Send for TimerNode {}

unsafe fn fire_nothing(_: *const (), _: usize) -> Wake {
    Wake::NONE
}

impl TimerNode {
    pub(crate) const fn new() -> TimerNode {
        TimerNode {
            owner: AtomicPtr::new(std::ptr::null_mut()),
            place: Cell::new(0),
            fire: Cell::new(fire_nothing),
            arg: Cell::new(std::ptr::null()),
            seq: Cell::new(0),
        }
    }

    /// Starts the timer in `timers`: `fire(arg, seq)` is called once, at `when_ns` or soon after,
    /// on any thread. Returns true if the timer became the earliest of its heap; then a poller that
    /// sleeps must hear of it.
    ///
    /// # Safety
    /// The node is not running. Until `stop` has returned it stays where it is, and `arg` is valid
    /// for `fire` on any thread.
    pub(crate) unsafe fn start(
        &self,
        timers: &Timers,
        when_ns: u64,
        fire: Fire,
        arg: *const (),
        seq: usize,
    ) -> bool {
        debug_assert!(self.owner.load(Relaxed).is_null(), "timer started twice");
        self.fire.set(fire);
        self.arg.set(arg);
        self.seq.set(seq);
        let mut heap = timers.heap.lock();
        self.owner.store(std::ptr::from_ref(timers).cast_mut(), Relaxed);
        heap.push(when_ns, self);
        let earliest = heap.min_when_ns();
        timers.min_when_ns.store(earliest, Release);
        earliest == when_ns
    }

    /// Takes the timer out. True if that kept it from firing; false if it has fired, or was not
    /// running. After this, nothing but its user touches the node.
    pub(crate) fn stop(&self) -> bool {
        loop {
            let owner = self.owner.load(Acquire);
            if owner.is_null() {
                return false;
            }
            if is_child() {
                return true; // no thread fires it, nor looks at what is in the heap
            }
            // SAFETY: heaps live as long as the process (Ps are never freed).
            let timers = unsafe { &*owner };
            let mut heap = timers.heap.lock();
            if self.owner.load(Relaxed) != owner {
                continue; // fired, or moved to another heap, meanwhile
            }
            heap.remove_place(self.place.get());
            timers.min_when_ns.store(heap.min_when_ns(), Release);
            self.owner.store(std::ptr::null_mut(), Release);
            return true;
        }
    }
}

/// The timers of one P.
pub(crate) struct Timers {
    heap: Lock<Heap>,
    /// The earliest `when_ns`, or [`NEVER`] if there is no timer. Written under the lock, read
    /// without.
    min_when_ns: AtomicU64,
}

impl Timers {
    pub(crate) const fn new() -> Timers {
        Timers { heap: Lock::new(Heap::new()), min_when_ns: AtomicU64::new(NEVER) }
    }

    /// When the next timer is due, or [`NEVER`].
    #[inline]
    pub(crate) fn next_ns(&self) -> u64 {
        self.min_when_ns.load(Acquire)
    }

    /// How many timers there are. Takes the lock; for observers.
    pub(crate) fn len(&self) -> usize {
        self.heap.lock().entries.len()
    }

    /// Fires what is due at `now_ns` and hands each wake to `ready`, with no lock held.
    pub(crate) fn run_due(&self, now_ns: u64, mut ready: impl FnMut(Wake)) {
        while self.next_ns() <= now_ns {
            self.fire_batch(self.heap.lock(), now_ns, &mut ready);
        }
    }

    /// As [`run_due`](Self::run_due), but gives up where another thread has the lock.
    pub(crate) fn try_run_due(&self, now_ns: u64, mut ready: impl FnMut(Wake)) {
        while self.next_ns() <= now_ns {
            let Some(heap) = self.heap.try_lock() else { return };
            self.fire_batch(heap, now_ns, &mut ready);
        }
    }

    fn fire_batch(&self, mut heap: Guard<'_, Heap>, now_ns: u64, ready: &mut impl FnMut(Wake)) {
        let mut wakes = [const { Wake::NONE }; FIRE_BATCH];
        let mut nodes = [std::ptr::null::<TimerNode>(); FIRE_BATCH];
        let mut n = 0;
        while n < FIRE_BATCH && heap.min_when_ns() <= now_ns {
            nodes[n] = heap.remove(0);
            prefetch(nodes[n]);
            n += 1;
        }
        // SAFETY: the nodes were in the heap, and we have kept its lock. So their users have not
        // returned from `stop` (invariant 4), and keep the nodes and `arg` valid.
        unsafe {
            nodes[..n].iter().for_each(|&node| prefetch((*node).arg.get()));
            for (wake, &node) in wakes.iter_mut().zip(&nodes[..n]) {
                let node = &*node;
                *wake = (node.fire.get())(node.arg.get(), node.seq.get());
                node.owner.store(std::ptr::null_mut(), Release);
            }
        }
        self.min_when_ns.store(heap.min_when_ns(), Release);
        drop(heap);
        for wake in wakes.into_iter().take(n) {
            ready(wake);
        }
    }

    /// Moves every timer to `other`. For a P that goes away.
    pub(crate) fn move_all_to(&self, other: &Timers) {
        let mut from = self.heap.lock();
        let mut heap = std::mem::replace(&mut *from, Heap::new());
        self.min_when_ns.store(NEVER, Release);
        let mut to = other.heap.lock();
        while let Some(entry) = heap.entries.pop() {
            // SAFETY: the node was in a heap, and we hold its lock; so it is alive.
            let node = unsafe { &*heap.places[entry.place as usize].node };
            node.owner.store(std::ptr::from_ref(other).cast_mut(), Release);
            to.push(entry.when_ns, node);
        }
        other.min_when_ns.store(to.min_when_ns(), Release);
    }
}

/// A timer in the heap: when it is due, and its place in the table.
#[derive(Clone, Copy)]
struct Entry {
    when_ns: u64,
    place: u32,
}

/// A timer in the table: its entry's index in the heap, and its node. In an unused place, `index`
/// is the next unused place.
#[derive(Clone, Copy)]
struct Place {
    index: u32,
    node: *const TimerNode,
}

/// The end of the list of unused places.
const NO_PLACE: u32 = u32::MAX;

/// A 4-ary min-heap, with a table that knows where in it each timer is.
struct Heap {
    entries: MapVec<Entry>,
    places: MapVec<Place>,
    unused: u32,
}

// SAFETY: the raw node pointers are used under the heap's lock only, see `TimerNode`.
unsafe impl Send for Heap {}

impl Heap {
    const fn new() -> Heap {
        Heap { entries: MapVec::new(), places: MapVec::new(), unused: NO_PLACE }
    }

    fn min_when_ns(&self) -> u64 {
        self.entries.first().map_or(NEVER, |e| e.when_ns)
    }

    fn set(&mut self, i: usize, entry: Entry) {
        self.entries[i] = entry;
        self.places[entry.place as usize].index = i as u32;
    }

    fn push(&mut self, when_ns: u64, node: &TimerNode) {
        let place = self.unused;
        let place = if place == NO_PLACE {
            self.places.push(Place { index: 0, node });
            (self.places.len() - 1) as u32
        } else {
            self.unused = self.places[place as usize].index;
            self.places[place as usize].node = node;
            place
        };
        node.place.set(place);
        let entry = Entry { when_ns, place };
        self.entries.push(entry);
        self.sift_up(self.entries.len() - 1, entry);
    }

    fn remove_place(&mut self, place: u32) {
        self.remove(self.places[place as usize].index as usize);
    }

    /// Takes entry `i` out, and returns its node.
    fn remove(&mut self, i: usize) -> *const TimerNode {
        let removed = self.entries[i];
        let last = self.entries.pop().expect("the heap holds entry i");
        if i < self.entries.len() {
            if last.when_ns < removed.when_ns {
                self.sift_up(i, last);
            } else {
                self.sift_down(i, last);
            }
        }
        let place = &mut self.places[removed.place as usize];
        place.index = std::mem::replace(&mut self.unused, removed.place);
        place.node
    }

    fn sift_up(&mut self, mut i: usize, entry: Entry) {
        while i > 0 {
            let parent = (i - 1) / 4;
            if self.entries[parent].when_ns <= entry.when_ns {
                break;
            }
            self.set(i, self.entries[parent]);
            i = parent;
        }
        self.set(i, entry);
    }

    fn sift_down(&mut self, mut i: usize, entry: Entry) {
        loop {
            let children = 4 * i + 1..(4 * i + 5).min(self.entries.len());
            let Some(least) = children.min_by_key(|&c| self.entries[c].when_ns) else { break };
            if self.entries[least].when_ns >= entry.when_ns {
                break;
            }
            self.set(i, self.entries[least]);
            i = least;
        }
        self.set(i, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rng::Rng;

    /// Timers come out in order, whichever were stopped in between.
    #[test]
    fn heap_is_ordered_under_random_removal() {
        let timers = Timers::new();
        let nodes: Vec<TimerNode> = (0..500).map(|_| TimerNode::new()).collect();
        let mut rng = Rng::new(7);
        let mut expected = Vec::new();
        let whens: Vec<u64> = nodes.iter().map(|_| u64::from(rng.below(1000))).collect();
        for (node, &when) in nodes.iter().zip(&whens) {
            // SAFETY: the nodes outlive the heap's use of them: all are stopped or fired below.
            unsafe { node.start(&timers, when, fire_nothing, std::ptr::null(), 0) };
        }
        for (i, node) in nodes.iter().enumerate() {
            if rng.below(3) == 0 {
                assert!(node.stop());
                assert!(!node.stop());
            } else {
                expected.push(whens[i]);
            }
        }
        expected.sort_unstable();
        for when in expected {
            assert_eq!(timers.next_ns(), when);
            let node = timers.heap.lock().remove(0);
            // SAFETY: the node is in `nodes`.
            unsafe { (*node).owner.store(std::ptr::null_mut(), Relaxed) };
            let min = timers.heap.lock().min_when_ns();
            timers.min_when_ns.store(min, Relaxed);
        }
        assert_eq!(timers.next_ns(), NEVER);
    }

    /// The timers that are due fire, and the others stay.
    #[test]
    fn run_due_fires_only_what_is_due() {
        let timers = Timers::new();
        let nodes: Vec<TimerNode> = (0..100).map(|_| TimerNode::new()).collect();
        for (i, node) in nodes.iter().enumerate() {
            // SAFETY: `nodes` outlives the timers, all of which are stopped or fired.
            unsafe { node.start(&timers, i as u64, fire_nothing, std::ptr::null(), 0) };
        }
        timers.run_due(49, |w| w.ready());
        assert_eq!(timers.len(), 50);
        assert!(nodes[..50].iter().all(|n| !n.stop()));
        assert!(nodes[50..].iter().all(|n| n.stop()));
    }
}
