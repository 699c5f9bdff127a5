//! P: the right to run goroutines, with what is hot while they run.
//!
//! # States
//! ```text
//!   Idle (in the idle list) ◀──▶ Running (an M holds it) ◀──▶ Syscall (its M is inside `blocking`;
//!      │                            │                            │    it may be taken: syscall/)
//!      └────────────┬───────────────┴────────────────────────────┘
//!                   ▼
//!                Released ──▶ (the world was stopped) Idle, Running | (GOMAXPROCS went down) Dead
//! ```
//!
//! # Invariants
//! 1. One party owns a P, and the cells are the owner's. The owner is one of these:
//!    - the M that holds it;
//!    - the syscall word of its M, while that is inside `blocking`;
//!    - the lists of Ps that idle or want an M (under the scheduler's lock);
//!    - the collector of released Ps (`world/procs.rs`, `world/stop.rs`).
//! 2. Ps are never freed: timers and thieves may look at one that is dead, and find it empty.

use super::config::{FREE_GS, MAX_PROCS, RING, WARM_SLOTS};
use super::g::{self, G, Runnable};
use super::m::M;
use super::timers::Timers;
use crate::sched::core::g::GList;
use crate::sched::policy::{self, Account, BUDGET, Class, Part, SliceState};
use crate::sched::queue::ring::LocalQueue;
use crate::stack::slab::{self, Slot};
use crate::sys::clock;
use crate::sys::line::Line;
use crate::sys::rng::Rng;
use crate::sys::sync::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::cell::{Cell, UnsafeCell};
use std::ptr::null_mut;

/// How many goroutine ids a P takes at once.
const ID_BATCH: u64 = 16;

/// A processor, in Go's sense.
#[repr(align(128))]
pub(crate) struct P {
    pub(crate) id: u32,
    /// The M that holds it, null for none.
    pub(crate) m: AtomicPtr<M>,
    pub(crate) runq: LocalQueue<Runnable, RING>,
    pub(crate) timers: Timers,
    /// Counts time slices, see `policy/`.
    pub(crate) tick: AtomicU32,
    slice_part: AtomicU8,
    /// The slice is over.
    pub(crate) preempt: AtomicBool,
    /// How many more calls the goroutine makes until it looks whether others want to run, see
    /// `preempt/`. Owner only.
    pub(crate) budget: Cell<u32>,
    /// The sleeper in the poll may not know of the earliest timer here yet, see `run/find.rs`.
    /// Owner only.
    pub(crate) unannounced: Cell<bool>,
    /// The state of the slice: what it is for, and what runs in it. Owner only.
    pub(crate) slice: Cell<SliceState>,
    /// What the slice was for when it began. Owner only.
    pub(crate) purpose: Cell<Class>,
    pub(crate) account: Cell<Account>,
    /// How many goroutines yielded and were charged since the last slice for the readable. Owner
    /// only.
    pub(crate) charged_yielders: Cell<u8>,
    /// `stats.schedules` when the slice began. Owner only.
    slice_began_at: Cell<u64>,
    /// Whether the last goroutine was an urgent one. Owner only.
    pub(crate) took_urgent: Cell<bool>,
    /// When an expired goroutine was last stopped for urgent ones. Owner only.
    pub(crate) interrupted_ns: Cell<u64>,
    /// When the timers here were last looked at: on the clock, and (below) in cycles. Owner only.
    pub(crate) looked_ns: Cell<u64>,
    pub(crate) looked_cycles: Cell<u64>,
    pub(crate) stats: Stats,
    rng: UnsafeCell<Rng>,
    warm: UnsafeCell<Vec<Slot>>,
    free_gs: UnsafeCell<Vec<*mut G>>,
    next_id: Cell<u64>,
    last_id: Cell<u64>,
}

/// What a P counts. Its owner writes this, all threads read it.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) created: Count,
    pub(crate) finished: Count,
    pub(crate) schedules: Count,
    pub(crate) steals: Count,
}

/// A counter with one writer at a time.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}

// SAFETY: invariant 1 says which party may touch the cells; the rest is atomic.
unsafe impl Sync for P {}

/// There is room for more than can be alive: the last ones are the spares of `preempt/rescue.rs`,
/// which never are.
static ALL: [AtomicPtr<P>; ALL_PS] = [const { AtomicPtr::new(null_mut()) }; ALL_PS];
/// How many numbers of Ps there are, those of the spares included.
pub(crate) const ALL_PS: usize = MAX_PROCS + SPARES;
/// How many spares there are.
pub(crate) const SPARES: usize = 8;
/// GOMAXPROCS: `ALL[..PROCS]` are alive.
static PROCS: Line<AtomicUsize> = Line::new(AtomicUsize::new(0));
/// `ALL[..USABLE]` may be used: all that are alive, or none while the world is stopped. Changed
/// under the scheduler's lock.
static USABLE: Line<AtomicUsize> = Line::new(AtomicUsize::new(0));

/// The Ps that are alive.
#[inline]
pub(crate) fn all() -> impl Iterator<Item = &'static P> {
    ALL[..procs()].iter().filter_map(|p| {
        // SAFETY: null or a leaked P.
        unsafe { p.load(Acquire).as_ref() }
    })
}

/// Every P that ever was, the spares last. For sums of what they counted.
pub(crate) fn all_ever() -> impl Iterator<Item = &'static P> {
    ALL[..MAX_PROCS].iter().map_while(at).chain(spares())
}

/// The spares. They are always over, so an M that has one gives it up at the next opportunity.
pub(crate) fn spares() -> impl Iterator<Item = &'static P> {
    ALL[MAX_PROCS..].iter().filter_map(at)
}

fn at(p: &AtomicPtr<P>) -> Option<&'static P> {
    // SAFETY: null or a leaked P.
    unsafe { p.load(Acquire).as_ref() }
}

/// The P with this number.
#[inline]
pub(crate) fn get(id: usize) -> &'static P {
    // SAFETY: null or a leaked P.
    unsafe { ALL[id].load(Acquire).as_ref() }.expect("a P that exists")
}

/// GOMAXPROCS.
#[inline]
pub(crate) fn procs() -> usize {
    PROCS.load(Acquire)
}

/// Makes the Ps that are missing of the first `n` (alive or dead), and the spares.
pub(crate) fn make(n: usize) {
    for id in (0..n).chain(MAX_PROCS..ALL_PS) {
        if ALL[id].load(Relaxed).is_null() {
            ALL[id].store(Box::into_raw(Box::new(P::new(id as u32))), Release);
        }
    }
}

/// Sets GOMAXPROCS. The Ps must exist. Under the scheduler's lock, see `world/procs.rs`.
pub(crate) fn set_procs(n: usize) {
    PROCS.store(n, Release);
    USABLE.store(n, Release);
}

/// From here on no P may be used; with `stopped` false, all that are alive may. Under the
/// scheduler's lock, see `world/stop.rs`.
pub(crate) fn set_stopped(stopped: bool) {
    USABLE.store(if stopped { 0 } else { procs() }, Release);
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// An id for a goroutine that is made where there is no P.
pub(crate) fn fresh_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

impl P {
    fn new(id: u32) -> P {
        P {
            id,
            m: AtomicPtr::new(null_mut()),
            runq: LocalQueue::new(),
            timers: Timers::new(),
            tick: AtomicU32::new(0),
            slice_part: AtomicU8::new(Part::default().to_u8()),
            preempt: AtomicBool::new(false),
            budget: Cell::new(BUDGET),
            unannounced: Cell::new(false),
            slice: Cell::new(SliceState::ACTIVE),
            purpose: Cell::new(Class::Active),
            account: Cell::new(Account::default()),
            charged_yielders: Cell::new(0),
            slice_began_at: Cell::new(0),
            took_urgent: Cell::new(false),
            interrupted_ns: Cell::new(0),
            looked_ns: Cell::new(0),
            looked_cycles: Cell::new(0),
            stats: Stats::default(),
            rng: UnsafeCell::new(Rng::new(u64::from(id) ^ crate::sys::clock::now_ns())),
            warm: UnsafeCell::new(Vec::with_capacity(WARM_SLOTS)),
            free_gs: UnsafeCell::new(Vec::with_capacity(FREE_GS)),
            next_id: Cell::new(0),
            last_id: Cell::new(0),
        }
    }

    /// Whether the M that has it is to give it up (`handoff::release_p`): GOMAXPROCS went down, the
    /// world stops, or it is a spare.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.id as usize >= USABLE.load(Acquire)
    }

    /// Whether it is one of the [`spares`].
    pub(crate) fn is_spare(&self) -> bool {
        self.id as usize >= MAX_PROCS
    }

    /// The spare's own bit in a word of all spares.
    pub(crate) fn spare_bit(&self) -> u32 {
        debug_assert!(self.is_spare());
        1 << (self.id as usize - MAX_PROCS)
    }

    /// A time slice begins. Owner only.
    pub(crate) fn begin_slice(&self) {
        self.slice_began_at.set(self.stats.schedules.get());
        self.slice_part.store(Part::draw(|n| self.random(n)).to_u8(), Relaxed);
        self.tick.store(self.tick.load(Relaxed).wrapping_add(1), Relaxed);
        self.preempt.store(false, Relaxed);
    }

    /// Whether what runs here is to be stopped for urgent goroutines. Owner only.
    pub(crate) fn may_interrupt(&self) -> bool {
        policy::may_interrupt(self.slice.get(), clock::now_ns().saturating_sub(self.interrupted_ns.get()))
    }

    /// How long this slice is, where one is usually `slice_ns`.
    pub(crate) fn slice_ns(&self, slice_ns: u64) -> u64 {
        Part::from_u8(self.slice_part.load(Relaxed)).of(slice_ns)
    }

    /// Counts a goroutine that is about to run here, or on the M it is bound to.
    #[inline]
    pub(crate) fn begin_run(&self) {
        self.budget.set(BUDGET);
        self.stats.schedules.add(1);
    }

    /// How many goroutines were run in the slice so far. Owner only.
    pub(crate) fn runs_in_slice(&self) -> u64 {
        self.stats.schedules.get() - self.slice_began_at.get()
    }

    /// A random number below `n`. Owner only.
    #[inline]
    pub(crate) fn random(&self, n: u32) -> u32 {
        // SAFETY: the owner's (invariant 1), and nothing below calls back.
        unsafe { (*self.rng.get()).below(n) }
    }

    /// A new goroutine id. Owner only.
    #[inline]
    pub(crate) fn new_id(&self) -> u64 {
        if self.next_id.get() == self.last_id.get() {
            let first = NEXT_ID.fetch_add(ID_BATCH, Relaxed);
            self.next_id.set(first);
            self.last_id.set(first + ID_BATCH);
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        id
    }

    /// A dead descriptor. Owner only.
    #[inline]
    pub(crate) fn take_g(&self) -> *mut G {
        // SAFETY: the owner's (invariant 1).
        let free = unsafe { &mut *self.free_gs.get() };
        if free.is_empty() {
            g::allocate(FREE_GS / 2, free);
        }
        free.pop().expect("filled above")
    }

    /// Keeps a dead descriptor for the next goroutine. Owner only.
    #[inline]
    pub(crate) fn put_g(&self, g: *mut G) {
        // SAFETY: the owner's (invariant 1).
        let free = unsafe { &mut *self.free_gs.get() };
        free.push(g);
        if free.len() >= FREE_GS {
            g::free(free.drain(..FREE_GS / 2));
        }
    }

    /// A warm slot of `class`, the one used last. Owner only.
    #[inline]
    pub(crate) fn take_slot(&self, class: u8) -> Option<Slot> {
        // SAFETY: the owner's (invariant 1).
        let warm = unsafe { &mut *self.warm.get() };
        // Sizes other than the default are rare; they go through the slab's lists.
        if warm.last()?.class() == class { warm.pop() } else { None }
    }

    /// As [`take_slot`](P::take_slot), but leaves one slot. With that one a goroutine that ends
    /// makes room for the next (`run/direct.rs`).
    pub(crate) fn take_slot_but_one(&self, class: u8) -> Option<Slot> {
        // SAFETY: the owner's (invariant 1).
        let only = unsafe { (*self.warm.get()).len() } <= 1;
        if only { None } else { self.take_slot(class) }
    }

    /// Keeps a slot warm. Owner only.
    #[inline]
    pub(crate) fn put_slot(&self, slot: Slot, default_class: u8) {
        if slot.class() != default_class {
            return slab::free(std::iter::once(slot));
        }
        // SAFETY: the owner's (invariant 1).
        let warm = unsafe { &mut *self.warm.get() };
        warm.push(slot);
        if warm.len() >= WARM_SLOTS {
            slab::free(warm.drain(..WARM_SLOTS / 2));
        }
    }

    /// Takes the oldest goroutine of the ring. Where many goroutines take turns, none of them is in
    /// the cache when its turn comes; so this also prefetches what the next one and the one after
    /// it touch first when they run. Owner only.
    #[inline]
    pub(crate) fn pop(&self) -> Option<Runnable> {
        let popped = self.runq.pop()?;
        let [first, second] = self.runq.ahead();
        if !first.is_null() {
            // SAFETY: descriptors are never freed.
            g::prefetch_stack(unsafe { &*first });
            g::prefetch_descriptor(second);
        }
        Some(popped)
    }

    /// Empties the ring, and returns what was in it. Owner only.
    pub(crate) fn take_ring(&self) -> GList {
        let mut list = GList::new();
        while let Some(g) = self.runq.pop() {
            list.push_back(g);
        }
        list
    }

    /// Gives back all that is cached here: warm slots and dead descriptors. Owner only.
    pub(crate) fn flush(&self) {
        // SAFETY: the owner's (invariant 1).
        let (warm, free) = unsafe { (&mut *self.warm.get(), &mut *self.free_gs.get()) };
        slab::free(warm.drain(..));
        g::free(free.drain(..));
    }

    /// The M that holds this P.
    pub(crate) fn m(&self) -> Option<&'static M> {
        // SAFETY: descriptors of Ms are never freed.
        unsafe { self.m.load(Acquire).as_ref() }
    }
}
