//! Who works: Ps that want an M, Ms that idle, Ms that are on their way. Plain lists under the scheduler's lock; `threads/pool.rs`
//! has the words around them. Model: `crates/gort-models/tests/m_pool.rs`.
//!
//! # Invariants
//! 1. A P in `wanting` belongs to the list; who takes it out owns it.
//! 2. No P wants an M while one idles: [`m_for`](MPool::m_for) asks the idle ones first, [`p_for`](MPool::p_for) the Ps.
//! 3. `starting` counts the threads that were asked for and have not [arrived](MPool::arrive). There are at least as many as Ps in `wanting`,
//!    unless the template thread has not seen its call yet, or the system refuses threads.
//!
//! # Why no P waits for ever
//! A P that comes to `wanting` has its hirer call the template thread, which makes threads until 3 holds. Each starting takes a
//! P as it arrives, or there is none; each M that would rest takes one first. So a P leaves the list at the latest with the last starting.

use std::collections::VecDeque;

/// See the module's head.
pub(crate) struct MPool<P, M> {
    /// Each with whether the M that takes it is counted as spinning already.
    wanting: VecDeque<(P, bool)>,
    /// Last in, first out: the one that slept least has the warmest caches, the others may end.
    idle: Vec<M>,
    starting: usize,
    threads: usize,
}

/// Whether one more thread is to be made.
#[must_use]
pub(crate) enum NewThread {
    /// There are enough on their way.
    NotNeeded,
    /// Make it; it is counted.
    Needed,
    /// There are as many as may be.
    TooMany,
}

impl<P: Copy, M: Copy + PartialEq> MPool<P, M> {
    pub(crate) const fn new() -> MPool<P, M> {
        MPool { wanting: VecDeque::new(), idle: Vec::new(), starting: 0, threads: 0 }
    }

    /// Keeps room, so that nothing here allocates later.
    pub(crate) fn reserve(&mut self, ps: usize, threads: usize) {
        self.wanting.reserve(ps);
        self.idle.reserve(threads);
    }

    /// `p` wants an M: an idle one, which the caller wakes with it. `None`: the P is in the list, and the caller calls the template
    /// thread.
    #[must_use]
    pub(crate) fn m_for(&mut self, p: P, spinning: bool) -> Option<M> {
        let m = self.idle.pop();
        if m.is_none() {
            self.wanting.push_back((p, spinning));
        }
        m
    }

    /// `m` has nothing to do: a P that wants an M, or (`None`) it is in the idle list and the caller has it sleep.
    #[must_use]
    pub(crate) fn p_for(&mut self, m: M) -> Option<(P, bool)> {
        let wanting = self.wanting.pop_front();
        if wanting.is_none() {
            self.idle.push(m);
        }
        wanting
    }

    /// `m` has slept for long: it is to end, unless somebody has taken it out of the list and is about to wake it, or there are no
    /// more than `enough`.
    pub(crate) fn end_idle(&mut self, m: M, enough: usize) -> bool {
        let place = self.idle.iter().position(|&other| other == m).filter(|_| self.threads > enough);
        if let Some(i) = place {
            self.idle.remove(i);
            self.threads -= 1;
        }
        place.is_some()
    }

    /// A thread that has a P ends.
    pub(crate) fn end_busy(&mut self) {
        self.threads -= 1;
    }

    /// Whether one more thread is to be made now. The template thread asks until it is not.
    pub(crate) fn begin_thread(&mut self, cap: usize) -> NewThread {
        if self.wanting.len() <= self.starting {
            return NewThread::NotNeeded;
        }
        if self.threads >= cap {
            return NewThread::TooMany;
        }
        self.threads += 1;
        self.starting += 1;
        NewThread::Needed
    }

    /// The system has refused the thread.
    pub(crate) fn refused(&mut self) {
        self.threads -= 1;
        self.starting -= 1;
    }

    /// A new thread is there: the P that it takes. `None`: there is none any more, and the thread ends; it does not count.
    #[must_use]
    pub(crate) fn arrive(&mut self) -> Option<(P, bool)> {
        self.starting -= 1;
        let wanting = self.wanting.pop_front();
        if wanting.is_none() {
            self.threads -= 1;
        }
        wanting
    }

    /// Takes a P that wants an M, for one that has no P.
    #[must_use]
    pub(crate) fn take_wanting(&mut self) -> Option<(P, bool)> {
        self.wanting.pop_front()
    }

    /// Takes a P that `is_chosen` says so of.
    pub(crate) fn take_wanting_if(&mut self, is_chosen: impl Fn(P) -> bool) -> Option<(P, bool)> {
        let i = self.wanting.iter().position(|&(p, _)| is_chosen(p))?;
        self.wanting.remove(i)
    }

    /// Ps that want an M.
    pub(crate) fn wanting(&self) -> usize {
        self.wanting.len()
    }

    /// Ms that idle.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Threads that were asked for and are not there yet.
    pub(crate) fn starting(&self) -> usize {
        self.starting
    }

    /// Threads that are Ms, or soon will be.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }
}
