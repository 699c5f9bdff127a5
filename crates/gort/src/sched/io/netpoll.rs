//! The netpoller: turns the poller's tokens into goroutines, and deadlines and `close` into
//! wake-ups.
//!
//! # Role
//! A socket of `net/` owns an `IoHandle` (`wait/io_handle.rs`): the right to a *poll descriptor*.
//! The scheduler calls [`poll`] from `find` and sysmon, and makes ready what comes back. [`wake`]
//! breaks a poll that sleeps.
//!
//! # A poll descriptor
//! ```text
//!   PollDesc  read:  Direction { NIL | READY | waiter, flags }  read_timer   tag  fd
//!             write: Direction { NIL | READY | waiter, flags }  write_timer  lock (timers, close)
//!                                                               epoll's token = tag · index
//! ```
//! Descriptors live in a table that only grows, and are reused through a free list. So code that
//! has a token of a descriptor, or a pointer to it, may always look at it, but it may belong to
//! another socket by now. The tag counts the uses and so tells stale events apart. A stale event
//! can still slip through, if the use ended after the look at the tag. That is a spurious wake-up,
//! and every operation tries its system call again after a wake-up.
//!
//! # Invariants
//! 1. `direction.rs` says what enrols and what takes out, and why no readiness, deadline or close
//!    is lost.
//! 2. A handle has one operation at a time in each direction; `net/` serialises them.
//! 3. A direction's timer is started and stopped under the descriptor's lock. `TimerNode::stop`
//!    waits for a firing that is under way, so after it EXPIRED can be cleared and stays cleared.
//!    Firing takes no lock.
//! 4. `waiters` counts from before a park until after it: zero means that nothing is parked for
//!    I/O.
//! 5. Order of locks: the descriptor's, then a timer heap's. Wakes are made ready with none held.
//!
//! # Protocol
//! ```text
//!   operation                     poller                 deadline, close
//!   1. prepare: check, clear      1. epoll_wait          1. set the flag
//!   2. system call; EAGAIN?       2. tag still right?    2. take the waiter out of the word
//!   3. wait: enrol, park          3. swap READY in       3. select it with the reason
//!   4. woken by an edge: clear,   4. select the waiter
//!      go to 2
//! ```
//! A waiter woken by a deadline looks at the flag again, and goes on waiting if the deadline was
//! moved meanwhile. A call's own time-out (`IoHandle::wait`) is a timer of the waiter's. It takes
//! the waiter out without setting a flag.
//!
//! # Rejected
//! - Sequence numbers for timers, as in Go. Here `stop` is exact: a stopped timer does not fire
//!   later.
//! - The pointer of the descriptor as the token. Only 16 bits would be left for the tag.
//! - One timer for both directions. Firing can wake one waiter only, and read and write deadlines
//!   differ more often than not.

use super::direction::{Barred, Direction};
use crate::poll::{Events, Interrupted, Poller};
use crate::sched::core::timers::TimerNode;
use crate::sched::core::wait_word::FIRST_TOKEN;
use crate::sched::core::waiter::{WaiterRef, Wake};
use crate::sys::line::Line;
use crate::sys::lock::Lock;
use crate::sys::prefetch::prefetch;
use crate::sys::sync::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::io;
use std::ptr::{NonNull, null_mut};

/// The wait ended because of an edge.
pub(crate) const READY_TOKEN: usize = FIRST_TOKEN;
/// The wait ended because of the deadline or `close`; the flags say which.
pub(crate) const BARRED_TOKEN: usize = FIRST_TOKEN + 1;
/// The wait ended because of the call's own time-out.
pub(crate) const CALL_TIMED_OUT_TOKEN: usize = FIRST_TOKEN + 2;

/// The direction of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Read,
    Write,
}

// -------------------------------------------------------------------------------------------------
// Poll descriptors
// -------------------------------------------------------------------------------------------------

/// See the module's head. It has cache lines of its own, so that pollers and users of two sockets
/// do not share one.
#[repr(align(64))]
pub(crate) struct PollDesc {
    pub(crate) read: Direction,
    pub(crate) write: Direction,
    /// How many uses have ended.
    tag: AtomicU32,
    pub(crate) index: u32,
    /// The registered descriptor, -1 when there is none.
    pub(crate) fd: AtomicI32,
    pub(crate) lock: Lock<()>,
    pub(crate) read_timer: TimerNode,
    pub(crate) write_timer: TimerNode,
    /// The deadlines of reads and of writes, 0 for none. A timer may be late, so an operation that
    /// begins looks here itself. Written under the lock.
    pub(crate) deadlines_ns: [AtomicU64; 2],
    next_free: AtomicPtr<PollDesc>,
}

impl PollDesc {
    fn new(index: u32) -> PollDesc {
        PollDesc {
            read: Direction::new(),
            write: Direction::new(),
            tag: AtomicU32::new(0),
            index,
            fd: AtomicI32::new(-1),
            lock: Lock::new(()),
            read_timer: TimerNode::new(),
            write_timer: TimerNode::new(),
            deadlines_ns: [AtomicU64::new(0), AtomicU64::new(0)],
            next_free: AtomicPtr::new(null_mut()),
        }
    }

    pub(crate) fn direction(&self, mode: Mode) -> &Direction {
        match mode {
            Mode::Read => &self.read,
            Mode::Write => &self.write,
        }
    }

    pub(crate) fn timer(&self, mode: Mode) -> &TimerNode {
        match mode {
            Mode::Read => &self.read_timer,
            Mode::Write => &self.write_timer,
        }
    }

    pub(crate) fn token(&self) -> u64 {
        u64::from(self.tag.load(Relaxed)) << 32 | u64::from(self.index)
    }
}

/// Selects a waiter that was taken out of a word.
pub(crate) fn select(waiter: Option<NonNull<()>>, token: usize) -> Wake {
    let Some(waiter) = waiter else { return Wake::NONE };
    // SAFETY: the pointer came from `WaiterRef::to_ptr` in `park`. That waiter does not leave
    // before it is selected, and only the caller may select it, because it took the waiter out
    // (`direction.rs`, invariant 2).
    let waiter = unsafe { WaiterRef::from_ptr(waiter) };
    waiter.try_select(token).expect("only the party that took the waiter out ends its wait")
}

/// A deadline has come. `arg` is the `Direction`.
///
/// # Safety
/// `arg` points to a `Direction` that is alive (`TimerNode::start` asks for that until `stop` has
/// returned).
pub(crate) unsafe fn fire_deadline(arg: *const (), _seq: usize) -> Wake {
    // SAFETY: the caller's promise.
    let direction = unsafe { &*arg.cast::<Direction>() };
    select(direction.fail(Barred::Expired), BARRED_TOKEN)
}

/// The time-out of a call has come. `arg` is the `Direction` that the call waits in.
///
/// # Safety
/// As for `fire_deadline`.
pub(crate) unsafe fn fire_call_timeout(arg: *const (), _seq: usize) -> Wake {
    // SAFETY: the caller's promise.
    let direction = unsafe { &*arg.cast::<Direction>() };
    select(direction.take(), CALL_TIMED_OUT_TOKEN)
}

/// Chunk `k` of the table holds `FIRST_CHUNK << k` descriptors; none is ever given back.
const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = 20;

pub(crate) struct Table {
    chunks: [AtomicPtr<PollDesc>; CHUNKS],
    free: Lock<Free>,
}

/// What the table's lock guards.
struct Free {
    /// Linked through `next_free`.
    head: *mut PollDesc,
    chunks_made: usize,
}

// SAFETY: the pointer is to descriptors, which are Sync and live for ever. It is used under the
// lock.
unsafe impl Send for Free {}

pub(crate) static TABLE: Table = Table {
    chunks: [const { AtomicPtr::new(null_mut()) }; CHUNKS],
    free: Lock::new(Free { head: null_mut(), chunks_made: 0 }),
};

impl Table {
    /// The index of chunk `k`'s first descriptor.
    const fn chunk_begin(k: usize) -> usize {
        FIRST_CHUNK * ((1 << k) - 1)
    }

    /// The descriptor at `index`, if there is one.
    fn get(&self, index: u32) -> Option<&'static PollDesc> {
        let index = index as usize;
        let k = (index / FIRST_CHUNK + 1).ilog2() as usize;
        let chunk = self.chunks.get(k)?.load(Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: chunk `k` holds the indices `chunk_begin(k)..chunk_begin(k + 1)`, `index` is one
        // of them by the choice of `k`, and chunks are leaked.
        Some(unsafe { &*chunk.add(index - Table::chunk_begin(k)) })
    }

    pub(crate) fn alloc(&self) -> io::Result<&'static PollDesc> {
        let mut free = self.free.lock();
        if free.head.is_null() {
            let k = free.chunks_made;
            if k == CHUNKS {
                return Err(io::Error::other("more sockets than the netpoller can hold"));
            }
            let begin = Table::chunk_begin(k);
            let chunk: Box<[PollDesc]> =
                (begin..Table::chunk_begin(k + 1)).map(|i| PollDesc::new(i as u32)).collect();
            let chunk = Box::leak(chunk);
            for pair in chunk.windows(2) {
                pair[0].next_free.store(std::ptr::from_ref(&pair[1]).cast_mut(), Relaxed);
            }
            self.chunks[k].store(chunk.as_mut_ptr(), Release);
            free.head = chunk.as_mut_ptr();
            free.chunks_made = k + 1;
        }
        // SAFETY: what is on the free list is a descriptor of a leaked chunk.
        let desc = unsafe { &*free.head };
        free.head = desc.next_free.load(Relaxed);
        drop(free);
        desc.read.reset();
        desc.write.reset();
        Ok(desc)
    }

    pub(crate) fn free(&self, desc: &'static PollDesc) {
        desc.tag.fetch_add(1, Release);
        let mut free = self.free.lock();
        desc.next_free.store(free.head, Relaxed);
        free.head = std::ptr::from_ref(desc).cast_mut();
    }
}

// -------------------------------------------------------------------------------------------------
// The scheduler's side
// -------------------------------------------------------------------------------------------------

static POLLER: Line<AtomicPtr<Poller>> = Line::new(AtomicPtr::new(null_mut()));

/// How many are parked for I/O, in shares, so that parks on different Ps do not meet on one cache
/// line.
static WAITERS: [Share; 8] = [const { Share(AtomicUsize::new(0)) }; 8];

#[repr(align(64))]
struct Share(AtomicUsize);

/// How often the kernel was asked, and how many events it gave.
static POLLS: AtomicUsize = AtomicUsize::new(0);
static EVENTS: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn poller() -> Option<&'static Poller> {
    // SAFETY: the pointer is null or a leaked `Poller`.
    unsafe { POLLER.load(Acquire).as_ref() }
}

/// Makes the poller, at the runtime's start. May be called again.
pub(crate) fn start() -> io::Result<()> {
    if poller().is_some() {
        return Ok(());
    }
    POLLER.store(Box::into_raw(Box::new(Poller::new()?)), Release);
    Ok(())
}

/// The count of what waits for the descriptor `index`; other descriptors share it.
pub(crate) fn waiting(index: u32) -> &'static AtomicUsize {
    &WAITERS[index as usize % WAITERS.len()].0
}

/// How many are parked for I/O; exactly zero when none is.
pub(crate) fn waiters() -> usize {
    WAITERS.iter().map(|share| share.0.load(Relaxed)).sum()
}

/// How often the kernel was asked for events, and how many events it gave.
pub(crate) fn counters() -> (usize, usize) {
    (POLLS.load(Relaxed), EVENTS.load(Relaxed))
}

/// Waits for I/O, at most `timeout_ns` (`None`: for ever, `Some(0)`: only looks), and gives the
/// waiters that may go on to `ready`. Returns how many there were (the [`Wake`] of a waiter that
/// had not parked yet does nothing).
///
/// Returns early after [`wake`] and after a signal. The caller then looks for work and computes its
/// time-out anew. Any number of Ms may be in here. An M that sleeps here sleeps in the kernel: it
/// must not hold a P or a raw lock.
pub(crate) fn poll(timeout_ns: Option<u64>, ready: &mut dyn FnMut(Wake)) -> usize {
    let Some(poller) = poller() else { return 0 };
    let mut events = Events::new();
    POLLS.fetch_add(1, Relaxed);
    match poller.wait(&mut events, timeout_ns) {
        Ok(()) => {}
        Err(Interrupted) => return 0,
    }
    let mut seen = 0;
    let mut woken = 0;
    // With many sockets, neither descriptors nor waiters are in the cache: each step prefetches
    // what the next one touches.
    let mut events = events.iter().peekable();
    while events.peek().is_some() {
        let mut some = [const { None }; TOGETHER];
        for (place, event) in some.iter_mut().zip(events.by_ref()) {
            *place = TABLE.get(event.token as u32).map(|desc| (event, desc));
            place.iter().for_each(|(_, desc)| prefetch(std::ptr::from_ref(*desc)));
            seen += 1;
        }
        let mut waiters = [None; 2 * TOGETHER];
        for ((event, desc), pair) in some.into_iter().flatten().zip(waiters.as_chunks_mut::<2>().0) {
            if desc.tag.load(Acquire) != (event.token >> 32) as u32 {
                continue; // the socket is gone
            }
            let lasting = event.is_lasting();
            pair[0] = event.is_readable().then(|| desc.read.event(lasting)).flatten();
            pair[1] = event.is_writable().then(|| desc.write.event(lasting)).flatten();
            pair.iter().flatten().for_each(|waiter| prefetch(waiter.as_ptr()));
        }
        for waiter in waiters.into_iter().flatten() {
            woken += 1;
            ready(select(Some(waiter), READY_TOKEN));
        }
    }
    EVENTS.fetch_add(seen, Relaxed);
    woken
}

/// How many events a step of [`poll`] takes.
const TOGETHER: usize = 16;

/// Breaks a [`poll`] that sleeps, or the next one that would. While such a wake is pending, another
/// one costs one atomic step.
pub(crate) fn wake() {
    if let Some(poller) = poller() {
        poller.wake();
    }
}
