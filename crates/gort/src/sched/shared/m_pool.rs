//! The pool of Ms: Ps that want an M, Ms that idle, threads that are starting. Plain lists under
//! the scheduler's lock; `threads/pool.rs` has the code around them. Model:
//! `crates/gort-models/tests/m_pool.rs`.
//!
//! # Invariants
//! 1. A P in `wanting` belongs to the list. Code that takes it out owns it.
//! 2. No P wants an M while an M idles: [`m_for`](MPool::m_for) looks for an idle M first, and
//!    [`p_for`](MPool::p_for) for a P that wants one.
//! 3. `starting` counts the threads that were asked for and have not [arrived](MPool::arrive).
//!    There are at least as many as there are Ps in `wanting`, unless the template thread has not
//!    seen its call yet, or the system refuses threads.
//!
//! # Why no P waits for ever
//! - The caller that puts a P into `wanting` calls the template thread, which makes threads until
//!   invariant 3 holds.
//! - Each thread that is starting takes a P as it arrives, unless none is there any more.
//! - Each M that would go to sleep takes a P first.
//!
//! So a P leaves the list at the latest when the last of the starting threads arrives.

use std::collections::VecDeque;

/// See the module's head.
pub(crate) struct MPool<P, M> {
    /// The Ps that want an M. The flag says whether the M that takes the P is counted as spinning
    /// already.
    wanting: VecDeque<(P, bool)>,
    /// Last in, first out: the M that slept least has the warmest caches, and the others may end.
    idle: Vec<M>,
    starting: usize,
    threads: usize,
}

/// Whether one more thread is to be made.
#[must_use]
pub(crate) enum NewThread {
    /// Enough are starting.
    NotNeeded,
    /// Make one; it is counted already.
    Needed,
    /// There are as many as are allowed.
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

    /// An M for `p`: an idle one, which the caller wakes with it. `None`: none idles, so the P is
    /// in the list, and the caller calls the template thread.
    #[must_use]
    pub(crate) fn m_for(&mut self, p: P, spinning: bool) -> Option<M> {
        let m = self.idle.pop();
        if m.is_none() {
            self.wanting.push_back((p, spinning));
        }
        m
    }

    /// A P for `m`, which has nothing to do: one that wants an M. `None`: there is none, so `m` is
    /// in the idle list, and the caller has it sleep.
    #[must_use]
    pub(crate) fn p_for(&mut self, m: M) -> Option<(P, bool)> {
        let wanting = self.wanting.pop_front();
        if wanting.is_none() {
            self.idle.push(m);
        }
        wanting
    }

    /// `m` has slept for long. True: it is to end. False: another thread has taken it out of the
    /// list and is about to wake it, or there are no more threads than `enough`.
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

    /// Whether one more thread is to be made now. The template thread asks until the answer is no.
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

    /// A new thread has arrived: the P that it takes. `None`: no P wants an M any more, so the
    /// thread ends, and is not counted.
    #[must_use]
    pub(crate) fn arrive(&mut self) -> Option<(P, bool)> {
        self.starting -= 1;
        let wanting = self.wanting.pop_front();
        if wanting.is_none() {
            self.threads -= 1;
        }
        wanting
    }

    /// Takes a P that wants an M, for an M that has no P.
    #[must_use]
    pub(crate) fn take_wanting(&mut self) -> Option<(P, bool)> {
        self.wanting.pop_front()
    }

    /// Takes a P that wants an M and for which `is_chosen` is true.
    pub(crate) fn take_wanting_if(&mut self, is_chosen: impl Fn(P) -> bool) -> Option<(P, bool)> {
        let i = self.wanting.iter().position(|&(p, _)| is_chosen(p))?;
        self.wanting.remove(i)
    }

    /// How many Ps want an M.
    pub(crate) fn wanting(&self) -> usize {
        self.wanting.len()
    }

    /// How many Ms idle.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// How many threads were asked for and have not arrived.
    pub(crate) fn starting(&self) -> usize {
        self.starting
    }

    /// How many threads are Ms, or soon will be.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }
}
