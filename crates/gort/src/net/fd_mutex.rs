//! The lock of one socket: a lock for readers, one for writers, a count of operations, and the end.
//!
//! # Role
//!
//! Every call on a socket holds a reference. Reads and writes also hold the lock of their
//! direction, so the poll descriptor sees one operation at a time in each direction. `close`
//! refuses new calls and ends those in flight. The last call to leave gives the file descriptor
//! back.
//!
//! # States
//!
//! There is one word. All transitions are single atomic steps:
//! ```text
//!   63 ........................ 6     5          4        3        2        1       0
//!   references (64 = one)         DESTROYED   W_QUEUED  R_QUEUED  W_LOCK  R_LOCK  CLOSED
//! ```
//! | bit        | set by                                   | cleared by                         |
//! | ---------- | ---------------------------------------- | ---------------------------------- |
//! | CLOSED     | `close`, once                            | never                              |
//! | R/W_LOCK   | the operation that gets the lock         | its unlock, unless it hands it on  |
//! | R/W_QUEUED | enrolling, under the queue's lock        | removal of the last node, likewise |
//! | DESTROYED  | the last operation to leave after CLOSED | never                              |
//!
//! # Invariants
//!
//! 1. The holder of a lock holds a reference. Nodes in the queue hold none: they live in frames
//!    that borrow the socket.
//! 2. QUEUED is set exactly while a node of that kind is in the queue (both change under the
//!    queue's lock).
//! 3. After CLOSED, a reference is given out only with a lock that is handed on. So the count falls
//!    to zero once.
//!
//! # Protocol
//!
//! To lock: take the bit if it is free. Otherwise, under the queue's lock, take it if it has become
//! free, or set QUEUED and enrol.
//!
//! To unlock: without QUEUED, clear the bit and give the reference back in one step. With QUEUED,
//! take the queue's lock and hand the bit and the reference to the first in line, which is woken
//! holding them.
//!
//! QUEUED and the lock bit are in one word. So either the unlock sees QUEUED, or the locker sees
//! the free bit: no waiter is left behind.
//!
//! # Rejected
//!
//! - Letting woken lockers race for the bit, as Go does: a goroutine that writes in a loop can keep
//!   another one out for long.
//! - Counts of waiters in the word: the queue has its own lock anyway.

use crate::sched::Mode;
use crate::sched::{FIRST_TOKEN, TIMED_OUT, WaitReason, WaiterRef, Wake};
use crate::sys::clock;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU64, Ordering::*};
use crate::sys::wait_list::{Links, Node, WaitList};

const CLOSED: u64 = 1;
const R_LOCK: u64 = 1 << 1;
const W_LOCK: u64 = 1 << 2;
const R_QUEUED: u64 = 1 << 3;
const W_QUEUED: u64 = 1 << 4;
const DESTROYED: u64 = 1 << 5;
const ONE_REF: u64 = 1 << 6;

/// The waiter has the lock, with its reference.
const GRANTED: usize = FIRST_TOKEN;
/// The socket was closed while the waiter was in line.
const TOO_LATE: usize = FIRST_TOKEN + 1;
/// The file descriptor was given back.
const GONE: usize = FIRST_TOKEN + 2;

/// Why a lock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockError {
    Closed,
    TimedOut,
}

/// Whether the caller was the last one on a closed socket. The last one gives the file descriptor
/// back and then calls [`destroyed`](FdMutex::destroyed).
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Left {
    Last,
    NotLast,
}

fn lock_bit(mode: Mode) -> u64 {
    match mode {
        Mode::Read => R_LOCK,
        Mode::Write => W_LOCK,
    }
}

fn queued_bit(mode: Mode) -> u64 {
    match mode {
        Mode::Read => R_QUEUED,
        Mode::Write => W_QUEUED,
    }
}

/// The lock of a socket; see the module.
pub(super) struct FdMutex {
    state: AtomicU64,
    queue: Lock<Queue>,
}

/// The waiters in line, in the order of arrival: one list for all of them, as a socket is to fit a
/// cache line. Nodes live in the frames of their owners.
struct Queue(WaitList<Waiting>);

struct Waiting {
    links: Links<Waiting>,
    waiter: WaiterRef,
    /// `None` for the caller of `close`, which waits for the end.
    mode: Option<Mode>,
}

impl Node for Waiting {
    fn links(&self) -> &Links<Waiting> {
        &self.links
    }
}

impl Queue {
    /// Takes out the first waiter of this kind.
    fn take(&mut self, mode: Option<Mode>) -> Option<WaiterRef> {
        let node: *const Waiting = self.0.iter().find(|node| node.mode == mode)?;
        // SAFETY: it is linked, so it is alive, and its owner needs the lock to take it out.
        let node = unsafe { &*node };
        self.0.remove(node);
        Some(node.waiter)
    }

    fn has(&self, mode: Mode) -> bool {
        self.0.iter().any(|node| node.mode == Some(mode))
    }
}

impl FdMutex {
    pub(super) const fn new() -> FdMutex {
        FdMutex { state: AtomicU64::new(0), queue: Lock::new(Queue(WaitList::new())) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Acquire) & CLOSED != 0
    }

    /// Takes a reference. Returns false if the socket is closed.
    #[must_use]
    pub(super) fn enter(&self) -> bool {
        self.state.fetch_update(Acquire, Relaxed, |s| (s & CLOSED == 0).then(|| s + ONE_REF)).is_ok()
    }

    /// Gives a reference back.
    pub(super) fn leave(&self) -> Left {
        let was = self.state.fetch_sub(ONE_REF, AcqRel);
        assert!(was >= ONE_REF, "a reference was given back twice");
        if was & CLOSED != 0 && was / ONE_REF == 1 { Left::Last } else { Left::NotLast }
    }

    /// Takes the lock of a direction and a reference. Waits in line behind earlier callers, but not
    /// longer than until `deadline_ns`.
    #[inline]
    pub(super) fn lock(&self, mode: Mode, deadline_ns: Option<u64>) -> Result<(), LockError> {
        if self.try_lock(mode) { Ok(()) } else { self.lock_slow(mode, deadline_ns) }
    }

    /// As [`lock`](FdMutex::lock), but only if the lock is free and the socket is not closed.
    #[inline]
    #[must_use]
    pub(super) fn try_lock(&self, mode: Mode) -> bool {
        let mut s = self.state.load(Relaxed);
        while s & (CLOSED | lock_bit(mode)) == 0 {
            match self.state.compare_exchange_weak(s, (s | lock_bit(mode)) + ONE_REF, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(seen) => s = seen,
            }
        }
        false
    }

    #[cold]
    fn lock_slow(&self, mode: Mode, deadline_ns: Option<u64>) -> Result<(), LockError> {
        let me = WaiterRef::current();
        let node = Waiting { links: Links::new(), waiter: me, mode: Some(mode) };
        {
            let mut queue = self.queue.lock();
            let step = self.state.fetch_update(Acquire, Relaxed, |s| match s {
                _ if s & CLOSED != 0 => None,
                _ if s & lock_bit(mode) == 0 => Some((s | lock_bit(mode)) + ONE_REF),
                _ => Some(s | queued_bit(mode)),
            });
            match step {
                Err(_) => return Err(LockError::Closed),
                Ok(was) if was & lock_bit(mode) == 0 => return Ok(()),
                Ok(_) => {}
            }
            me.arm();
            // SAFETY: the node stays in this frame until the wait has ended. The side that ended it
            // took the node out before; after a time-out this function does.
            unsafe { queue.0.push_back(&node) };
        }
        match me.wait(WaitReason::IoWait, deadline_ns.map(clock::instant_of)) {
            GRANTED => Ok(()),
            TOO_LATE => Err(LockError::Closed),
            token => {
                assert_eq!(token, TIMED_OUT);
                let mut queue = self.queue.lock();
                queue.0.remove(&node);
                self.update_queued(&queue, mode);
                Err(LockError::TimedOut)
            }
        }
    }

    /// Restores invariant 2 after a node was taken out.
    fn update_queued(&self, queue: &Queue, mode: Mode) {
        if !queue.has(mode) {
            self.state.fetch_and(!queued_bit(mode), Relaxed);
        }
    }

    /// Gives the lock and the reference back, or hands them to the next in line.
    #[inline]
    pub(super) fn unlock(&self, mode: Mode) -> Left {
        loop {
            let s = self.state.load(Relaxed);
            assert!(s & lock_bit(mode) != 0 && s >= ONE_REF, "unlocked without holding the lock");
            if s & queued_bit(mode) != 0 {
                if self.hand_on(mode) {
                    return Left::NotLast;
                }
            } else if self
                .state
                .compare_exchange_weak(s, (s & !lock_bit(mode)) - ONE_REF, AcqRel, Relaxed)
                .is_ok()
            {
                return if s & CLOSED != 0 && s / ONE_REF == 1 { Left::Last } else { Left::NotLast };
            }
        }
    }

    /// Hands the lock and the reference to the first in line. Returns false if all have left
    /// meanwhile.
    #[cold]
    fn hand_on(&self, mode: Mode) -> bool {
        let mut queue = self.queue.lock();
        while let Some(next) = queue.take(Some(mode)) {
            self.update_queued(&queue, mode);
            if let Some(wake) = next.try_select(GRANTED) {
                drop(queue);
                wake.ready();
                return true;
            }
        }
        false
    }

    /// Refuses new calls, and takes a reference for the caller. The caller then ends the operations
    /// in flight and calls [`leave`](FdMutex::leave). Returns false if the socket was closed
    /// already.
    ///
    /// Waiters in line fail with `Closed`.
    #[must_use]
    pub(super) fn close(&self) -> bool {
        let step =
            self.state.fetch_update(AcqRel, Relaxed, |s| (s & CLOSED == 0).then_some((s | CLOSED) + ONE_REF));
        if step.is_err() {
            return false;
        }
        for mode in [Mode::Read, Mode::Write] {
            loop {
                let mut queue = self.queue.lock();
                let Some(next) = queue.take(Some(mode)) else { break };
                self.update_queued(&queue, mode);
                let wake = next.try_select(TOO_LATE).unwrap_or(Wake::NONE);
                drop(queue);
                wake.ready();
            }
        }
        true
    }

    /// As [`close`](FdMutex::close), in a forked child, where there is no other thread. It takes no
    /// lock, and no call has to leave. Returns false if the socket was closed already.
    #[must_use]
    pub(super) fn close_alone(&self) -> bool {
        self.state.fetch_or(CLOSED | DESTROYED, AcqRel) & CLOSED == 0
    }

    /// Says that the file descriptor was given back: the closer may go on.
    pub(super) fn destroyed(&self) {
        let mut queue = self.queue.lock();
        self.state.fetch_or(DESTROYED, Release);
        let wake = queue.take(None).and_then(|closer| closer.try_select(GONE));
        drop(queue);
        if let Some(wake) = wake {
            wake.ready();
        }
    }

    /// Waits for [`destroyed`](FdMutex::destroyed). Only for the caller for which `close` returned
    /// true.
    pub(super) fn wait_destroyed(&self) {
        let me = WaiterRef::current();
        let node = Waiting { links: Links::new(), waiter: me, mode: None };
        {
            let mut queue = self.queue.lock();
            if self.is_destroyed() {
                return;
            }
            me.arm();
            // SAFETY: the node stays in this frame until the wait has ended, and `destroyed`, which
            // ends it, takes the node out before.
            unsafe { queue.0.push_back(&node) };
        }
        me.wait(WaitReason::IoWait, None);
    }

    /// Whether [`destroyed`](FdMutex::destroyed) was called.
    pub(super) fn is_destroyed(&self) -> bool {
        self.state.load(Acquire) & DESTROYED != 0
    }
}

impl std::fmt::Debug for FdMutex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FdMutex({:#x})", self.state.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rng::Rng;
    use crate::sys::sync::AtomicUsize;
    use std::time::Duration;

    /// Waits until `n` waiters are in line.
    fn wait_for_line(mutex: &FdMutex, n: usize) {
        loop {
            let queue = mutex.queue.lock();
            let in_line = queue.0.iter().count();
            drop(queue);
            if in_line == n {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// GO-CASES N13: `close` ends all waits in line, a second `close` does nothing, and the last
    /// operation to leave is told.
    #[test]
    fn close_sends_the_line_away() {
        let mutex = FdMutex::new();
        mutex.lock(Mode::Read, None).unwrap();
        mutex.lock(Mode::Write, None).unwrap();
        std::thread::scope(|s| {
            for i in 0..10 {
                let mutex = &mutex;
                let mode = if i % 2 == 0 { Mode::Read } else { Mode::Write };
                s.spawn(move || assert_eq!(mutex.lock(mode, None), Err(LockError::Closed)));
            }
            wait_for_line(&mutex, 10);
            assert!(mutex.close());
        });
        assert!(!mutex.close());
        assert!(!mutex.enter());
        assert_eq!(mutex.lock(Mode::Read, None), Err(LockError::Closed));
        assert_eq!(mutex.unlock(Mode::Read), Left::NotLast);
        assert_eq!(mutex.leave(), Left::NotLast); // the closer
        assert_eq!(mutex.unlock(Mode::Write), Left::Last);
        assert!(!mutex.is_destroyed());
        mutex.destroyed();
        mutex.wait_destroyed();
    }

    /// GO-CASES N13: references delay the end. The closer sleeps until the last one is given back.
    #[test]
    fn the_closer_waits_for_the_last_one() {
        let mutex = FdMutex::new();
        assert!(mutex.enter());
        assert!(mutex.close());
        assert_eq!(mutex.leave(), Left::NotLast);
        std::thread::scope(|s| {
            s.spawn(|| {
                mutex.wait_destroyed();
                assert!(mutex.is_destroyed());
            });
            wait_for_line(&mutex, 1);
            assert_eq!(mutex.leave(), Left::Last);
            mutex.destroyed();
        });
    }

    /// A lock goes to the waiters in the order of the line. One that has given up is passed over.
    #[test]
    fn the_line_is_served_in_order() {
        let mutex = FdMutex::new();
        let order = Lock::new(Vec::new());
        mutex.lock(Mode::Read, None).unwrap();
        std::thread::scope(|s| {
            for (i, in_line) in [(0, 1), (1, 2), (2, 2), (3, 3), (4, 4)] {
                let (mutex, order) = (&mutex, &order);
                let thread = s.spawn(move || {
                    let deadline_ns = (i == 2).then(|| clock::now_ns() + 1_000_000);
                    match mutex.lock(Mode::Read, deadline_ns) {
                        Ok(()) => {
                            order.lock().push(i);
                            assert_eq!(mutex.unlock(Mode::Read), Left::NotLast);
                        }
                        Err(e) => assert_eq!((e, i), (LockError::TimedOut, 2)),
                    }
                });
                if i == 2 {
                    thread.join().unwrap();
                }
                wait_for_line(mutex, in_line);
            }
            assert_eq!(mutex.unlock(Mode::Read), Left::NotLast);
        });
        assert_eq!(*order.lock(), [0, 1, 3, 4]);
        assert_eq!(mutex.state.load(Relaxed), 0);
    }

    /// GO-CASES N13: misuse panics.
    #[test]
    fn misuse_panics() {
        let panics = |f: &dyn Fn(&FdMutex)| {
            let mutex = FdMutex::new();
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(&mutex))).is_err()
        };
        assert!(panics(&|m| drop(m.leave())));
        assert!(panics(&|m| drop(m.unlock(Mode::Read))));
        assert!(panics(&|m| drop(m.unlock(Mode::Write))));
        assert!(panics(&|m| {
            m.lock(Mode::Read, None).unwrap();
            drop(m.unlock(Mode::Write));
        }));
        assert!(!panics(&|m| {
            m.lock(Mode::Read, None).unwrap();
            drop(m.unlock(Mode::Read));
        }));
    }

    /// GO-CASES N13, the stress: locks exclude each other in each direction, and exactly one
    /// operation is the last.
    #[test]
    fn stress() {
        const THREADS: u64 = 8;
        let seed = clock::now_ns();
        println!("seed {seed}");
        let mutex = FdMutex::new();
        let inside = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let last = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for t in 0..THREADS {
                let (mutex, inside, last) = (&mutex, &inside, &last);
                s.spawn(move || {
                    let mut rng = Rng::new(seed.wrapping_add(t));
                    for _ in 0..3000 {
                        let left = match rng.below(3) {
                            2 if mutex.enter() => mutex.leave(),
                            2 => return,
                            m => {
                                let mode = if m == 0 { Mode::Read } else { Mode::Write };
                                let deadline_ns = (rng.below(4) == 0).then(|| clock::now_ns() + 20_000);
                                match mutex.lock(mode, deadline_ns) {
                                    Ok(()) => {}
                                    Err(LockError::TimedOut) => continue,
                                    Err(LockError::Closed) => return,
                                }
                                assert_eq!(inside[m as usize].fetch_add(1, Relaxed), 0);
                                if rng.below(8) == 0 {
                                    std::thread::yield_now();
                                }
                                assert_eq!(inside[m as usize].fetch_sub(1, Relaxed), 1);
                                mutex.unlock(mode)
                            }
                        };
                        if left == Left::Last {
                            last.fetch_add(1, Relaxed);
                            mutex.destroyed();
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20));
            assert!(mutex.close());
            if mutex.leave() == Left::Last {
                last.fetch_add(1, Relaxed);
                mutex.destroyed();
            }
            mutex.wait_destroyed();
        });
        assert_eq!(last.load(Relaxed), 1);
        assert_eq!(mutex.state.load(Relaxed), CLOSED | DESTROYED);
    }
}
