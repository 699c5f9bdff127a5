//! What all Ms share: the global run queue, the Ps and Ms that idle. One lock, held for a few instructions.
//!
//! # Lock order
//! Locks of floors above, a timer heap's, then this one. Nothing is taken under it.

use super::config::MAX_PROCS;
use super::g::G;
use super::m::M;
use super::p::{self, P};
use super::runq::global::GList;
use super::sysmon;
use super::wake::WakeState;
use super::wake::nap::SLEEPS;
use crate::sys::line::Line;
use crate::sys::lock::{Guard, Lock};
use crate::sys::sync::{AtomicU32, AtomicUsize, Ordering::*};

/// Who idles and how much is looked for, see `wake/README.md`.
pub(crate) static WAKE: Line<WakeState> = Line::new(WakeState::new(AtomicU32::new(0), AtomicU32::new(0)));

/// The length of the global queue, for looks without the lock.
static GLOBAL_LEN: Line<AtomicUsize> = Line::new(AtomicUsize::new(0));

/// See the module's head.
pub(crate) struct Shared {
    global: GList,
    idle_ps: Vec<&'static P>,
    /// Last in, first out: the one that slept least has the warmest caches, the others may end.
    pub(crate) idle_ms: Vec<&'static M>,
    /// Every descriptor of an M; those of ended threads are in `free_ms` too.
    pub(crate) all_ms: Vec<&'static M>,
    pub(crate) free_ms: Vec<&'static M>,
    /// Threads that are Ms.
    pub(crate) threads: usize,
    /// Ms that sleep until their bound goroutine can run.
    pub(crate) waiting_bound: usize,
    /// Ps above GOMAXPROCS that are not yet drained.
    pub(crate) dying_ps: usize,
}

// SAFETY: Ms and Ps are Sync and live for ever; the list owns its goroutines' links.
unsafe impl Send for Shared {}

static SHARED: Line<Lock<Shared>> = Line::new(Lock::new(Shared {
    global: GList::new(),
    idle_ps: Vec::new(),
    idle_ms: Vec::new(),
    all_ms: Vec::new(),
    free_ms: Vec::new(),
    threads: 0,
    waiting_bound: 0,
    dying_ps: 0,
}));

/// Takes the lock.
#[inline]
pub(crate) fn lock() -> Guard<'static, Shared> {
    SHARED.lock()
}

/// Whether the global queue holds anybody (a look without the lock).
#[inline]
pub(crate) fn global_is_empty() -> bool {
    GLOBAL_LEN.load(SeqCst) == 0
}

/// How many are in the global queue (a moment's view).
pub(crate) fn global_len() -> usize {
    GLOBAL_LEN.load(Relaxed)
}

impl Shared {
    /// Puts runnable goroutines behind the others. The caller asks [`WakeState::must_wake`] after dropping the lock.
    pub(crate) fn push_global(&mut self, gs: &mut GList) {
        self.global.append(gs);
        GLOBAL_LEN.store(self.global.len(), SeqCst);
    }

    /// Puts runnable goroutines that are late already in front of the others. As [`push_global`](Self::push_global).
    pub(crate) fn push_global_front(&mut self, gs: &mut GList) {
        self.global.prepend(gs);
        GLOBAL_LEN.store(self.global.len(), SeqCst);
    }

    /// Puts one runnable goroutine behind the others. As [`push_global`](Self::push_global).
    pub(crate) fn push_global_one(&mut self, g: *mut G) {
        self.global.push_back(g);
        GLOBAL_LEN.store(self.global.len(), SeqCst);
    }

    /// Takes the oldest for `p` to run and, unless `one`, `p`'s share of the rest into its empty ring.
    pub(crate) fn pop_global(&mut self, p: &P, one: bool) -> Option<*mut G> {
        let first = self.global.pop_front()?;
        if !one {
            let share = (self.global.len() / p::procs()).min(super::config::RING / 2);
            for _ in 0..share {
                let g = self.global.pop_front().expect("counted");
                assert!(p.runq.push(g).is_none(), "the ring had room for half");
            }
        }
        GLOBAL_LEN.store(self.global.len(), SeqCst);
        Some(first)
    }

    /// Puts a P that nobody uses into the idle list.
    pub(crate) fn put_idle_p(&mut self, p: &'static P) {
        p.m.store(std::ptr::null_mut(), Release);
        debug_assert!((p.id as usize) < p::procs());
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

    /// Takes all idle Ps from number `n` on out of the list.
    pub(crate) fn take_idle_from(&mut self, n: usize) -> Vec<&'static P> {
        let (out, stay) = self.idle_ps.drain(..).partition(|p| p.id as usize >= n);
        self.idle_ps = stay;
        let out: Vec<_> = out;
        out.iter().for_each(|_| WAKE.p_leaves_idle());
        out
    }

    /// Whether no P is used by anybody.
    pub(crate) fn all_ps_idle(&self) -> bool {
        self.idle_ps.len() == p::procs() && self.dying_ps == 0
    }

    pub(crate) fn global_is_empty(&self) -> bool {
        self.global.is_empty()
    }

    /// Keeps room, so that nothing allocates under the lock later.
    pub(crate) fn reserve(&mut self, threads: usize) {
        self.idle_ps.reserve(MAX_PROCS);
        self.idle_ms.reserve(threads);
        self.all_ms.reserve(threads);
        self.free_ms.reserve(threads);
    }
}
