//! What all Ms share: the global run queue, the Ps and Ms that idle. One lock, held for a few instructions.
//!
//! # Lock order
//! Locks of floors above, a timer heap's, then this one. Nothing is taken under it.

use super::config::{HELD_LIMIT, MAX_PROCS};
use super::g::G;
use super::m::M;
use super::p::{self, P};
use super::runq::global::GList;
use super::staff::Staff;
use super::sysmon;
use super::wake::WakeState;
use super::wake::nap::SLEEPS;
use crate::sys::line::Line;
use crate::sys::lock::{Guard, Lock};
use crate::sys::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};

/// Who idles and how much is looked for, see `wake/README.md`.
pub(crate) static WAKE: Line<WakeState> = Line::new(WakeState::new(AtomicU32::new(0), AtomicU32::new(0)));

/// The length of the global queue, the urgent and the preempted together, for looks without the lock.
static GLOBAL_LEN: Line<AtomicUsize> = Line::new(AtomicUsize::new(0));
/// How many [`Shared::pop_urgent`] would give, for looks without the lock.
static URGENT: Line<AtomicUsize> = Line::new(AtomicUsize::new(0));

/// [`Shared::is_crowded`], for looks without the lock.
static CROWDED: Line<AtomicBool> = Line::new(AtomicBool::new(false));

/// See the module's head.
pub(crate) struct Shared {
    /// The global queue: newcomers (`G::is_newcomer`), and the others. Together they are one, in the order of their `G::turn`; but while it is crowded the
    /// others are among the urgent.
    begun: GList,
    newcomers: GList,
    /// Those before them: readied by I/O or time. They should not wait for those who compute.
    urgent: GList,
    /// Whose turn it is of these two, while it is crowded.
    begun_is_next: bool,
    /// Goroutines that were stopped in the middle of computing, bound to their Ms; the one that was stopped first comes first.
    preempted: GList,
    /// How many ever came to the global queue: the `G::turn` of who comes next there, or to the preempted. So whoever was stopped has its turn when those who waited before it
    /// have had theirs.
    turn: u64,
    idle_ps: Vec<&'static P>,
    /// Ps that want Ms, Ms that idle.
    pub(crate) staff: Staff<&'static P, &'static M>,
    /// Every descriptor of an M; those of ended threads are in `free_ms` too.
    pub(crate) all_ms: Vec<&'static M>,
    pub(crate) free_ms: Vec<&'static M>,
    /// Ms that sleep until their bound goroutine can run.
    pub(crate) waiting_bound: usize,
    /// Ps above GOMAXPROCS that are not yet drained.
    pub(crate) dying_ps: usize,
    /// Those of them that nobody uses any more.
    pub(crate) surrendered: Vec<&'static P>,
    /// Ps that were given up because the world stops (`world.rs`).
    pub(crate) stopped_ps: usize,
    /// Which spares of `preempt/rescue.rs` somebody has: a bit each.
    pub(crate) spares_in_use: u32,
}

// SAFETY: Ms and Ps are Sync and live for ever; the list owns its goroutines' links.
unsafe impl Send for Shared {}

static SHARED: Line<Lock<Shared>> = Line::new(Lock::new(Shared {
    begun: GList::new(),
    newcomers: GList::new(),
    urgent: GList::new(),
    begun_is_next: false,
    preempted: GList::new(),
    turn: 0,
    idle_ps: Vec::new(),
    staff: Staff::new(),
    all_ms: Vec::new(),
    free_ms: Vec::new(),
    waiting_bound: 0,
    dying_ps: 0,
    surrendered: Vec::new(),
    stopped_ps: 0,
    spares_in_use: 0,
}));

/// The right to look at it and to change it.
pub(crate) type Locked = Guard<'static, Shared>;

/// Takes the lock.
#[inline]
pub(crate) fn lock() -> Locked {
    SHARED.lock()
}

/// Whether neither the global queue nor the list of the preempted holds anybody (a look without the lock).
#[inline]
pub(crate) fn global_is_empty() -> bool {
    GLOBAL_LEN.load(SeqCst) == 0
}

/// Whether goroutines wait that should not wait for those who compute (a look without the lock).
#[inline]
pub(crate) fn is_urgent() -> bool {
    URGENT.load(SeqCst) != 0
}

/// Whether so many are stopped that those who are queued get on slowly (a look without the lock, which may be late).
#[inline]
pub(crate) fn is_crowded() -> bool {
    CROWDED.load(Relaxed)
}

/// How many are in the global queue, or preempted (a moment's view).
pub(crate) fn global_len() -> usize {
    GLOBAL_LEN.load(Relaxed)
}

/// Whether the first of `a` came before the first of `b`, or there is none in `b`. Nobody came before anybody.
fn comes_first(a: &GList, b: &GList) -> bool {
    a.front().is_some_and(|a| b.front().is_none_or(|b| a.turn.get() <= b.turn.get()))
}

impl Shared {
    /// Puts runnable goroutines behind the others. The caller asks [`WakeState::must_wake`] after dropping the lock.
    pub(crate) fn push_global(&mut self, gs: &mut GList) {
        while let Some(g) = gs.pop_front() {
            self.queue(g);
        }
        self.publish();
    }

    /// Puts one runnable goroutine behind the others. As [`push_global`](Self::push_global).
    pub(crate) fn push_global_one(&mut self, g: *mut G) {
        self.queue(g);
        self.publish();
    }

    fn queue(&mut self, g: *mut G) {
        let newcomer = self.stamp(g).is_newcomer();
        self.turn += 1;
        if newcomer { self.newcomers.push_back(g) } else { self.begun.push_back(g) }
    }

    /// Notes when `g` came, which is the caller's.
    fn stamp(&self, g: *mut G) -> &'static G {
        // SAFETY: descriptors are never freed.
        let g = unsafe { &*g };
        g.turn.set(self.turn);
        g
    }

    /// Puts goroutines before those who may compute. As [`push_global`](Self::push_global).
    pub(crate) fn push_urgent(&mut self, gs: &mut GList) {
        self.urgent.append(gs);
        self.publish();
    }

    /// Whether so many are stopped that those who are queued get on slowly, see `preempt/`, "How many threads".
    pub(crate) fn is_crowded(&self) -> bool {
        self.preempted.len() >= HELD_LIMIT
    }

    fn publish(&self) {
        GLOBAL_LEN.store(self.queue_len() + self.preempted.len(), SeqCst);
        URGENT.store(self.urgent.len() + if self.is_crowded() { self.begun.len() } else { 0 }, SeqCst);
        if CROWDED.load(Relaxed) != self.is_crowded() {
            CROWDED.store(self.is_crowded(), Relaxed);
        }
    }

    /// Puts a goroutine that was stopped and whose thread waits behind the others of its kind. As
    /// [`push_global`](Self::push_global).
    pub(crate) fn push_preempted(&mut self, g: *mut G) {
        self.stamp(g);
        self.preempted.push_back(g);
        self.publish();
    }

    /// Takes the goroutine that was stopped first.
    pub(crate) fn pop_preempted(&mut self) -> Option<*mut G> {
        let g = self.preempted.pop_front();
        self.publish();
        g
    }

    /// How many goroutines are stopped.
    pub(crate) fn preempted(&self) -> usize {
        self.preempted.len()
    }

    /// Takes one that should not wait.
    pub(crate) fn pop_urgent(&mut self) -> Option<*mut G> {
        let from_begun =
            self.is_crowded() && (self.urgent.is_empty() || self.begun_is_next && !self.begun.is_empty());
        self.begun_is_next = !from_begun;
        let g = if from_begun { self.begun.pop_front() } else { self.urgent.pop_front() };
        self.publish();
        g
    }

    /// Takes one goroutine: whose turn it is, of the global queue and of those that were stopped; while it is crowded, of those first.
    pub(crate) fn pop_global_one(&mut self) -> Option<*mut G> {
        let stopped = self.is_crowded() || self.is_turn_of_preempted();
        let g = if stopped { self.preempted.pop_front() } else { self.pop() };
        let g = g.or_else(|| self.preempted.pop_front());
        self.publish();
        g
    }

    /// Whether those who were in the global queue before the first of the preempted was stopped have left it.
    fn is_turn_of_preempted(&self) -> bool {
        comes_first(&self.preempted, &self.begun) && comes_first(&self.preempted, &self.newcomers)
    }

    /// Takes one who has waited in turn, or else one of the urgent, who have their own.
    fn pop(&mut self) -> Option<*mut G> {
        let from =
            if comes_first(&self.begun, &self.newcomers) { &mut self.begun } else { &mut self.newcomers };
        from.pop_front().or_else(|| self.urgent.pop_front())
    }

    /// Takes the oldest of the global queue for `p` to run, and `p`'s share of the rest into its empty ring; while it is crowded those stay
    /// where they find a P sooner.
    pub(crate) fn pop_global(&mut self, p: &P) -> Option<*mut G> {
        let first = self.pop()?;
        let rest = if self.is_crowded() { 0 } else { self.queue_len() };
        for _ in 0..(rest / p::procs()).min(super::config::RING / 2) {
            let g = self.pop().expect("counted");
            assert!(p.runq.push(g).is_none(), "the ring had room for half");
        }
        self.publish();
        Some(first)
    }

    /// Puts a P that nobody uses into the idle list.
    pub(crate) fn put_idle_p(&mut self, p: &'static P) {
        p.m.store(std::ptr::null_mut(), Release);
        debug_assert!(!p.is_over());
        self.idle_ps.push(p);
        WAKE.p_idles();
    }

    /// Takes a P out of the idle list.
    pub(crate) fn take_idle_p(&mut self) -> Option<&'static P> {
        let p = self.idle_ps.pop()?;
        WAKE.p_leaves_idle();
        sysmon::interrupt(SLEEPS);
        Some(p)
    }

    /// Takes all Ps out that are over and that nobody uses.
    pub(crate) fn withdraw_over(&mut self, mut to: impl FnMut(&mut Shared, &'static P)) {
        while let Some(i) = self.idle_ps.iter().position(|p| p.is_over()) {
            let p = self.idle_ps.swap_remove(i);
            WAKE.p_leaves_idle();
            to(self, p);
        }
        while let Some((p, spinning)) = self.staff.take_wanting_if(P::is_over) {
            if spinning {
                WAKE.end_spinning();
            }
            to(self, p);
        }
    }

    /// Whether no P is used by anybody.
    pub(crate) fn all_ps_idle(&self) -> bool {
        self.idle_ps.len() == p::procs() && self.dying_ps == 0 && self.spares_in_use == 0
    }

    /// Whether the world is stopped, and nobody has a P any more.
    pub(crate) fn world_stands(&self) -> bool {
        self.stopped_ps == p::procs() && self.spares_in_use == 0
    }

    /// Whether nobody is in the global queue; those who were stopped do not count.
    pub(crate) fn queue_is_empty(&self) -> bool {
        self.queue_len() == 0
    }

    fn queue_len(&self) -> usize {
        self.urgent.len() + self.begun.len() + self.newcomers.len()
    }

    pub(crate) fn global_is_empty(&self) -> bool {
        self.queue_is_empty() && self.preempted.is_empty()
    }

    /// Keeps room, so that nothing allocates under the lock later: it is taken in signal handlers, and by sysmon, which must
    /// not wait for malloc's locks.
    pub(crate) fn reserve(&mut self, threads: usize) {
        self.idle_ps.reserve(MAX_PROCS);
        self.surrendered.reserve(MAX_PROCS);
        self.staff.reserve(MAX_PROCS, threads);
        self.all_ms.reserve(threads);
        self.free_ms.reserve(threads);
    }
}
