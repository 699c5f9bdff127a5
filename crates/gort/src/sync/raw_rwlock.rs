//! The protocol of the read-write lock: a mutex among writers, and one word between them and the
//! readers.
//!
//! # Role
//! Used by [`RwLock`](super::RwLock). The model is `crates/gort-models/tests/rwlock.rs`, which
//! compiles this file as it is.
//!
//! # States
//! ```text
//!   readers << 2 | QUEUED | WRITER
//! ```
//! | word            | meaning                                                                  |
//! | --------------- | ------------------------------------------------------------------------ |
//! | n readers       | n readers read; newcomers join by one compare-and-swap                   |
//! | n readers, WRITER | a writer waits for those n to leave; newcomers queue                   |
//! | WRITER          | a writer writes (or will see at once that the last reader has left)      |
//! | .., QUEUED      | readers are in the queue; set and cleared under its lock, while `WRITER` |
//!
//! # Invariants
//! 1. `WRITER` is set and cleared by the owner of the writers' mutex only.
//! 2. A pending writer blocks new readers, and an unlocking writer lets in all queued readers:
//!    neither side starves the other.
//!
//! # Why no wake-up is lost
//! A reader queues only after a compare-and-swap under the queue's lock that has seen `WRITER` and
//! has left `QUEUED`. Then the writer's plain unlock fails, and it checks the queue under that
//! lock. The writer parks in `drain` only if it has seen readers under the queue's lock. The last
//! of them takes that lock after it has left, and finds the writer. A last reader that comes late
//! may wake the next writer in vain; that one checks again.
//!
//! # Deadlines
//! A writer that lets readers in counts all that are queued. One of them may have reached its
//! deadline without having left the queue. It finds that it was taken out, so it reads, although
//! late.
//!
//! A writer that gives up while it waits for readers takes `WRITER` back, and counts the queued
//! readers in, in one step. It lets them in as an unlocking writer does.
//!
//! # Rejected
//! One queue for both kinds, with barging writers: fewer steps for a free lock, but a third kind of
//! wake-up.

use super::raw_mutex::RawMutex;
use super::wait_queue::{self, End, Ended, GRANTED, RETRY, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicUsize, Ordering::*, is_child};
use std::time::Instant;

const WRITER: usize = 1;
const QUEUED: usize = 2;
const ONE_READER: usize = 4;

/// A read-write lock without a value. `new` is in `rwlock.rs`, because loom's atomics have no
/// `const` constructor.
pub(crate) struct RawRwLock {
    /// Owned by the writer that waits or writes.
    pub(super) writers: RawMutex,
    pub(super) state: AtomicUsize,
    pub(super) synced: Lock<Synced>,
}

/// The waiters of the read-write lock itself.
pub(crate) struct Synced {
    pub(super) readers: WaitQueue,
    /// The writer that waits for the last reader to leave. At most one.
    pub(super) drain: WaitQueue,
}

impl RawRwLock {
    #[inline]
    pub(crate) fn try_read(&self) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & WRITER == 0 {
            assert!(state < usize::MAX - ONE_READER, "too many active read locks on RwLock");
            match self.state.compare_exchange_weak(state, state + ONE_READER, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[inline]
    pub(crate) fn read(&self) {
        if !self.try_read() {
            let reads = self.read_slow(None);
            debug_assert!(reads);
        }
    }

    /// Takes the lock for reading. False if `deadline` passed first.
    #[inline]
    pub(crate) fn read_until(&self, deadline: Instant) -> bool {
        self.try_read() || self.read_slow(Some(deadline))
    }

    #[cold]
    fn read_slow(&self, deadline: Option<Instant>) -> bool {
        let synced = self.synced.lock();
        loop {
            if self.try_read() {
                return true;
            }
            let state = self.state.load(Relaxed);
            if state & WRITER != 0
                && self.state.compare_exchange_weak(state, state | QUEUED, Relaxed, Relaxed).is_ok()
            {
                break;
            }
        }
        let wait = Wait { end: End::Back, note: 0, reason: WaitReason::RwLockRead, deadline };
        // The writer that lets this reader in has counted it. QUEUED may stay set if this reader
        // leaves; then the writer finds an empty queue.
        match wait_queue::park(&self.synced, synced, |s| &mut s.readers, wait, |_| ()) {
            Ended::Selected(_) => true,
            Ended::Left { taken_out, .. } => taken_out,
        }
    }

    /// Gives the lock back. Only a reader calls this.
    #[inline]
    pub(crate) fn read_unlock(&self) {
        let left = self.state.fetch_sub(ONE_READER, Release) - ONE_READER;
        if left & WRITER != 0 && left < ONE_READER {
            self.wake_writer();
        }
    }

    #[cold]
    fn wake_writer(&self) {
        if is_child() {
            return;
        }
        let wake = self.synced.lock().drain.wake_one(RETRY);
        if let Some(wake) = wake {
            wake.ready();
        }
    }

    #[inline]
    pub(crate) fn try_write(&self) -> bool {
        if !self.writers.try_lock() {
            return false;
        }
        if self.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_ok() {
            return true;
        }
        self.writers.unlock();
        false
    }

    #[inline]
    pub(crate) fn write(&self) {
        self.writers.lock(WaitReason::RwLockWrite);
        if self.state.fetch_or(WRITER, Acquire) >= ONE_READER {
            let writes = self.drain(None);
            debug_assert!(writes);
        }
    }

    /// Takes the lock for writing. False if `deadline` passed first.
    pub(crate) fn write_until(&self, deadline: Instant) -> bool {
        if !self.writers.lock_until(WaitReason::RwLockWrite, deadline) {
            return false;
        }
        let writes = self.state.fetch_or(WRITER, Acquire) < ONE_READER || self.drain(Some(deadline));
        if !writes {
            self.give_up_writing();
            self.writers.unlock();
        }
        writes
    }

    /// Waits for the readers that came earlier. False if `deadline` passed first.
    #[cold]
    fn drain(&self, deadline: Option<Instant>) -> bool {
        loop {
            let synced = self.synced.lock();
            // Acquire: the writer sees what all readers did, though only the last one wakes it.
            if self.state.load(Acquire) < ONE_READER {
                return true;
            }
            let wait = Wait { end: End::Back, note: 0, reason: WaitReason::RwLockWrite, deadline };
            let ended = wait_queue::park(&self.synced, synced, |s| &mut s.drain, wait, |_| ());
            if matches!(ended, Ended::Left { .. }) {
                return false;
            }
        }
    }

    /// A writer that has not written lets the queued readers in, beside those that read.
    #[cold]
    fn give_up_writing(&self) {
        let wakes = {
            let mut synced = self.synced.lock();
            // The caller owns WRITER, and QUEUED changes under this lock only. Readers may leave
            // meanwhile, so it is all one step.
            let queued = self.state.load(Relaxed) & QUEUED;
            let readers = synced.readers.len() * ONE_READER;
            self.state.fetch_add(readers.wrapping_sub(WRITER + queued), Release);
            synced.readers.wake_all(GRANTED)
        };
        wakes.ready();
    }

    /// Gives the lock back. Only the writer calls this.
    #[inline]
    pub(crate) fn write_unlock(&self) {
        if self.state.compare_exchange(WRITER, 0, Release, Relaxed).is_err() {
            self.admit_readers(0);
        }
        self.writers.unlock();
    }

    /// Turns the writer into a reader.
    pub(crate) fn downgrade(&self) {
        if self.state.compare_exchange(WRITER, ONE_READER, Release, Relaxed).is_err() {
            self.admit_readers(1);
        }
        self.writers.unlock();
    }

    /// Ends the writing and lets the queued readers in, beside `others` that read already.
    #[cold]
    fn admit_readers(&self, others: usize) {
        if is_child() {
            return self.state.store(others * ONE_READER, Release); // no waiters in a forked child
        }
        let wakes = {
            let mut synced = self.synced.lock();
            // The caller owns WRITER and holds this lock, so nothing else changes the word. The
            // readers are counted before they can leave.
            self.state.store((synced.readers.len() + others) * ONE_READER, Release);
            synced.readers.wake_all(GRANTED)
        };
        wakes.ready();
    }
}
