//! What all Ms share, under one lock that is held for a few instructions: the global run queue, the
//! Ps and Ms that idle.
//!
//! # Lock order
//! First the locks of floors above, then a timer heap's, then this one. No other lock is taken
//! under it.

pub(crate) mod m_pool;
pub(crate) mod monitor;

use self::m_pool::MPool;
use crate::sched::core::config::MAX_PROCS;
use crate::sched::core::g::{GList, Runnable};
use crate::sched::core::m::M;
use crate::sched::core::p::{self, P};
use crate::sched::policy::{self, Class, Parties};
use crate::sched::wake::WakeState;
use crate::sched::wake::sysmon_word::UNTIMED;
use crate::sys::line::Line;
use crate::sys::lock::{Guard, Lock};
use crate::sys::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};

/// How many Ps idle and how many Ms look for work, see `wake/README.md`.
pub(crate) static WAKE: Line<WakeState> = Line::new(WakeState::new(AtomicU32::new(0), AtomicU32::new(0)));

/// How many goroutines wait under the scheduler's lock, for looks without it.
struct Lengths {
    /// How many are in all lists.
    all: AtomicUsize,
    /// How many of them [`Shared::pop_active`] and [`Shared::pop_urgent`] would give.
    active: AtomicUsize,
    urgent: AtomicUsize,
    expired: AtomicUsize,
    /// [`Shared::is_overloaded`].
    is_overloaded: AtomicBool,
}

static LENGTHS: Line<Lengths> = Line::new(Lengths {
    all: AtomicUsize::new(0),
    active: AtomicUsize::new(0),
    urgent: AtomicUsize::new(0),
    expired: AtomicUsize::new(0),
    is_overloaded: AtomicBool::new(false),
});

/// See the module's head. `policy/` says what the lists are for.
pub(crate) struct Shared {
    /// The global queue: newcomers (`G::is_newcomer`), and the others. Together they are one queue,
    /// in the order of their `G::seq`. Under overload, though, the newcomers wait for slices of
    /// their own.
    begun: GList,
    newcomers: GList,
    /// Goroutines that I/O or time has readied.
    urgent: GList,
    /// The expired: those that were stopped in the middle of computing, bound to their Ms, and the
    /// others. Together they are one queue, in the order of their `G::seq`.
    stopped: GList,
    expired: GList,
    /// The `G::seq` of the next goroutine that comes to the global queue or the expired. Goroutines
    /// that are put in front of all others have 0.
    next_seq: u64,
    idle_ps: Vec<&'static P>,
    /// Ps that want Ms, Ms that idle.
    pub(crate) m_pool: MPool<&'static P, &'static M>,
    /// Every descriptor of an M. Those of threads that have ended are in `free_ms` too.
    pub(crate) all_ms: Vec<&'static M>,
    pub(crate) free_ms: Vec<&'static M>,
    /// How many Ms sleep until the goroutine that is bound to them can run.
    pub(crate) waiting_bound: usize,
    /// How many Ps beyond GOMAXPROCS are not drained yet.
    pub(crate) dying_ps: usize,
    /// Those of them that were released.
    pub(crate) released_ps: Vec<&'static P>,
    /// How many Ps were released because the world stops (`world/stop.rs`).
    pub(crate) stopped_ps: usize,
    /// Which spares of `preempt/rescue.rs` are in use: a bit for each.
    pub(crate) spares_in_use: u32,
}

// SAFETY: Ms and Ps are Sync and live for ever, and a list owns its goroutines' links.
unsafe impl Send for Shared {}

static SHARED: Line<Lock<Shared>> = Line::new(Lock::new(Shared {
    begun: GList::new(),
    newcomers: GList::new(),
    urgent: GList::new(),
    stopped: GList::new(),
    expired: GList::new(),
    next_seq: 1,
    idle_ps: Vec::new(),
    m_pool: MPool::new(),
    all_ms: Vec::new(),
    free_ms: Vec::new(),
    waiting_bound: 0,
    dying_ps: 0,
    released_ps: Vec::new(),
    stopped_ps: 0,
    spares_in_use: 0,
}));

/// The right to read and change [`Shared`].
pub(crate) type Locked = Guard<'static, Shared>;

/// Takes the lock.
#[inline]
pub(crate) fn lock() -> Locked {
    SHARED.lock()
}

/// Whether no goroutine waits in any of the lists (a look without the lock).
#[inline]
pub(crate) fn global_is_empty() -> bool {
    LENGTHS.all.load(SeqCst) == 0
}

/// Whether no active goroutine waits in the lists (a look without the lock, which may be late).
#[inline]
pub(crate) fn active_is_empty() -> bool {
    LENGTHS.active.load(Relaxed) == 0
}

/// Whether goroutines wait that I/O or time has readied (a look without the lock, which may be
/// late).
#[inline]
pub(crate) fn is_urgent() -> bool {
    LENGTHS.urgent.load(Relaxed) != 0
}

/// Whether no goroutine is expired (a look without the lock, which may be late).
#[inline]
pub(crate) fn nothing_is_expired() -> bool {
    LENGTHS.expired.load(Relaxed) == 0
}

/// Whether so many goroutines are stopped that newcomers are let in slowly (a look without the
/// lock, which may be late).
#[inline]
pub(crate) fn is_overloaded() -> bool {
    LENGTHS.is_overloaded.load(Relaxed)
}

/// How many goroutines are in the lists (a moment's view).
pub(crate) fn global_len() -> usize {
    LENGTHS.all.load(Relaxed)
}

/// How many of them are active (a moment's view).
pub(crate) fn active_len() -> usize {
    LENGTHS.active.load(Relaxed)
}

/// Whether the first of `a` came before the first of `b`. If `a` is empty, false; else, if `b` is
/// empty, true.
fn comes_first(a: &GList, b: &GList) -> bool {
    a.front().is_some_and(|a| b.front().is_none_or(|b| a.seq.get() <= b.seq.get()))
}

/// Goroutines may have been queued where all Ps see them, and no M was told. Once the lock is
/// dropped, `ready::tell` tells one.
#[must_use = "once the lock is dropped, an M may have to be told"]
pub(crate) struct Submitted(bool);

impl Submitted {
    pub(crate) const NOTHING: Submitted = Submitted(false);
    /// One goroutine, on the ring of a P.
    pub(crate) const ON_A_RING: Submitted = Submitted(true);

    /// Tells of both.
    pub(crate) fn and(self, other: Submitted) -> Submitted {
        Submitted(self.0 | other.0)
    }

    /// Whether something was queued.
    #[inline]
    pub(crate) fn any(self) -> bool {
        self.0
    }

    /// Drops it, where another look at the queues is certain; a comment at the call says which.
    #[inline]
    pub(crate) fn seen_to(self) {}
}

impl Shared {
    /// Puts runnable goroutines behind the others.
    pub(crate) fn push_global(&mut self, gs: &mut GList) -> Submitted {
        while let Some(g) = gs.pop_front() {
            self.queue(g);
        }
        self.publish();
        Submitted(true)
    }

    /// Puts one runnable goroutine behind the others.
    pub(crate) fn push_global_one(&mut self, g: Runnable) -> Submitted {
        self.queue(g);
        self.publish();
        Submitted(true)
    }

    fn queue(&mut self, g: Runnable) {
        self.stamp(&g);
        if g.g().is_newcomer() { self.newcomers.push_back(g) } else { self.begun.push_back(g) }
    }

    /// Gives `g` the next sequence number.
    fn stamp(&mut self, g: &Runnable) {
        g.g().seq.set(self.next_seq);
        self.next_seq += 1;
    }

    /// Queues goroutines that go before those that compute.
    pub(crate) fn push_urgent(&mut self, gs: &mut GList) -> Submitted {
        self.urgent.append(gs);
        self.publish();
        Submitted(true)
    }

    /// Puts a goroutine that is charged with a slice behind the expired. `is_stopped`: it was
    /// stopped in the middle of computing, and its thread waits.
    pub(crate) fn push_expired(&mut self, g: Runnable, is_stopped: bool) -> Submitted {
        self.stamp(&g);
        if is_stopped {
            self.stopped.push_back(g)
        } else {
            self.expired.push_back(g)
        }
        self.publish();
        Submitted(true)
    }

    /// As [`push_expired`](Self::push_expired), but in front of all: its slice is not over.
    pub(crate) fn push_expired_front(&mut self, g: Runnable, is_stopped: bool) -> Submitted {
        g.g().seq.set(0);
        if is_stopped {
            self.stopped.push_front(g)
        } else {
            self.expired.push_front(g)
        }
        self.publish();
        Submitted(true)
    }

    /// Whether so many goroutines are stopped that newcomers are let in slowly, see `policy/`.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.stopped.len() >= policy::OVERLOAD
    }

    fn active(&self) -> usize {
        let newcomers = if self.is_overloaded() { 0 } else { self.newcomers.len() };
        self.urgent.len() + self.begun.len() + newcomers
    }

    fn publish(&self) {
        LENGTHS.all.store(self.queue_len() + self.expired(), SeqCst);
        LENGTHS.active.store(self.active(), Relaxed);
        LENGTHS.urgent.store(self.urgent.len(), Relaxed);
        LENGTHS.expired.store(self.expired(), Relaxed);
        LENGTHS.is_overloaded.store(self.is_overloaded(), Relaxed);
    }

    /// Takes the goroutine that was stopped first.
    pub(crate) fn pop_stopped(&mut self) -> Option<Runnable> {
        let g = self.stopped.pop_front();
        self.publish();
        g
    }

    /// Takes the first of the expired.
    pub(crate) fn pop_expired(&mut self) -> Option<Runnable> {
        let stopped = self.stopped_is_first();
        let g = if stopped { self.stopped.pop_front() } else { self.expired.pop_front() };
        self.publish();
        g
    }

    /// Whether the first of the expired was stopped, and so has its thread.
    pub(crate) fn stopped_is_first(&self) -> bool {
        comes_first(&self.stopped, &self.expired)
    }

    /// How many goroutines are stopped.
    pub(crate) fn stopped(&self) -> usize {
        self.stopped.len()
    }

    /// How many goroutines are expired, those that were stopped included.
    pub(crate) fn expired(&self) -> usize {
        self.stopped.len() + self.expired.len()
    }

    /// How many parties share `p`, whose slice ends.
    pub(crate) fn parties(&self, p: &P) -> Parties {
        let (procs, expires) = (p::procs(), p.slice.get().running == Class::Expired);
        Parties {
            active: p.runq.ring_len() + self.active() / procs + usize::from(!expires),
            expired: self.expired().div_ceil(procs) + usize::from(expires),
        }
    }

    /// Takes a goroutine that I/O or time has readied.
    pub(crate) fn pop_urgent(&mut self) -> Option<Runnable> {
        let g = self.urgent.pop_front();
        self.publish();
        g
    }

    /// Takes a goroutine that has never run.
    pub(crate) fn pop_newcomer(&mut self) -> Option<Runnable> {
        let g = self.newcomers.pop_front();
        self.publish();
        g
    }

    /// Takes the first of the global queue.
    pub(crate) fn pop_active(&mut self) -> Option<Runnable> {
        let g = self.pop();
        self.publish();
        g
    }

    fn pop(&mut self) -> Option<Runnable> {
        if self.is_overloaded() || comes_first(&self.begun, &self.newcomers) {
            self.begun.pop_front()
        } else {
            self.newcomers.pop_front()
        }
    }

    /// Takes the first of the global queue for `p` to run, and moves `p`'s share of the rest to its
    /// ring, which is empty.
    pub(crate) fn pop_global(&mut self, p: &P) -> Option<Runnable> {
        let first = self.pop()?;
        let rest = self.active() - self.urgent.len();
        for _ in 0..(rest / p::procs()).min(crate::sched::core::config::RING / 2) {
            let g = self.pop().expect("counted");
            assert!(p.runq.push(g).is_none(), "the ring had room for half");
        }
        self.publish();
        Some(first)
    }

    /// Puts a P that is not in use into the idle list.
    pub(crate) fn put_idle_p(&mut self, p: &'static P) {
        p.m.store(std::ptr::null_mut(), Release);
        debug_assert!(!p.is_over());
        self.idle_ps.push(p);
        WAKE.p_idles();
    }

    /// Takes a P out of the idle list.
    pub(crate) fn take_idle_p(&mut self) -> Option<&'static P> {
        let p = self.idle_ps.pop()?;
        p.begin_slice();
        WAKE.p_leaves_idle();
        monitor::interrupt(UNTIMED);
        Some(p)
    }

    /// Takes out all Ps that are over and not in use, and gives them to `to`.
    pub(crate) fn withdraw_over(&mut self, mut to: impl FnMut(&mut Shared, &'static P)) {
        while let Some(i) = self.idle_ps.iter().position(|p| p.is_over()) {
            let p = self.idle_ps.swap_remove(i);
            WAKE.p_leaves_idle();
            to(self, p);
        }
        while let Some((p, spinning)) = self.m_pool.take_wanting_if(P::is_over) {
            if spinning {
                WAKE.end_spinning();
            }
            to(self, p);
        }
    }

    /// Whether no P is in use.
    pub(crate) fn all_ps_idle(&self) -> bool {
        self.idle_ps.len() == p::procs() && self.dying_ps == 0 && self.spares_in_use == 0
    }

    /// Whether the world is stopped, and no M has a P any more.
    pub(crate) fn world_stands(&self) -> bool {
        self.stopped_ps == p::procs() && self.spares_in_use == 0
    }

    fn queue_len(&self) -> usize {
        self.urgent.len() + self.begun.len() + self.newcomers.len()
    }

    pub(crate) fn global_is_empty(&self) -> bool {
        self.queue_len() + self.expired() == 0
    }

    /// Keeps room, so that nothing allocates under the lock later. For signal handlers take the
    /// lock, and so does sysmon, which must not wait for malloc's locks.
    pub(crate) fn reserve(&mut self, threads: usize) {
        self.idle_ps.reserve(MAX_PROCS);
        self.released_ps.reserve(MAX_PROCS);
        self.m_pool.reserve(MAX_PROCS, threads);
        self.all_ms.reserve(threads);
        self.free_ms.reserve(threads);
    }
}
