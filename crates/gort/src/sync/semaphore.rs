//! [`Semaphore`]: a number of permits, of which a caller takes several at a time.
//!
//! # States
//! `free << 1 | QUEUED`. `QUEUED` says that the queue is not empty. It is set and cleared under its
//! lock.
//!
//! # Invariants
//! 1. With `QUEUED`, permits are taken and given back under the queue's lock only.
//! 2. First come, first served: while there is a queue, newcomers queue too, even if there is
//!    enough for them. So a big request is not starved by small ones.
//! 3. Whenever the queue's lock is dropped, the first in the queue asks for more than is free. When
//!    it leaves (deadline, interrupt), those behind it are served.
//! 4. A request for more permits than the semaphore has is never queued: it would block all others
//!    for ever.
//!
//! # Why no wake-up is lost
//! A waiter that queues has set `QUEUED` by a compare-and-swap that saw too few permits. After
//! that, permits come back only under the queue's lock, and the side that brings them serves the
//! queue.

use super::interrupt::Interrupt;
use super::wait_queue::{self, End, Ended, GRANTED, Wait, WaitQueue, Wakes};
use crate::sched::{WaitReason, WaiterRef};
use crate::sys::lock::{Guard, Lock};
use crate::sys::sync::{AtomicUsize, Ordering::*, is_child};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const QUEUED: usize = 1;
const FREE_SHIFT: u32 = 1;

/// A weighted semaphore: a number of permits, of which each caller takes as many as it needs.
///
/// Requests are served in the order of their arrival, so big ones are not starved by small ones.
/// Permits come back when the [`SemaphorePermit`] is dropped.
///
/// # Examples
///
/// ```
/// use gort::sync::Semaphore;
/// use std::time::Duration;
///
/// gort::run(|| {
///     let seats = Semaphore::new(3);
///     let two = seats.acquire(2);
///     assert!(seats.try_acquire(2).is_none());
///     assert!(seats.acquire_timeout(2, Duration::from_millis(1)).is_none());
///     drop(two);
///     assert!(seats.try_acquire(3).is_some());
/// })
/// ```
pub struct Semaphore {
    size: usize,
    state: AtomicUsize,
    queue: Lock<WaitQueue>,
}

impl Semaphore {
    /// The largest number of permits a semaphore can have.
    pub const MAX_PERMITS: usize = usize::MAX >> FREE_SHIFT;

    /// Creates a semaphore with `permits`, all of them free.
    ///
    /// # Panics
    ///
    /// If that is more than [`MAX_PERMITS`](Semaphore::MAX_PERMITS).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    ///
    /// static CONNECTIONS: Semaphore = Semaphore::new(100);
    ///
    /// gort::run(|| {
    ///     let _connection = CONNECTIONS.acquire(1);
    ///     assert_eq!(CONNECTIONS.available_permits(), 99);
    /// })
    /// ```
    pub const fn new(permits: usize) -> Semaphore {
        assert!(permits <= Semaphore::MAX_PERMITS, "a semaphore cannot have that many permits");
        Semaphore {
            size: permits,
            state: AtomicUsize::new(permits << FREE_SHIFT),
            queue: Lock::new(WaitQueue::new()),
        }
    }

    /// How many permits are free now.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    ///
    /// gort::run(|| {
    ///     let semaphore = Semaphore::new(3);
    ///     let _two = semaphore.acquire(2);
    ///     assert_eq!(semaphore.available_permits(), 1);
    /// })
    /// ```
    pub fn available_permits(&self) -> usize {
        self.state.load(Relaxed) >> FREE_SHIFT
    }

    /// Takes `n` permits, waiting until they are free and earlier requests are served.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `n` is more than the semaphore has at all: the caller would wait for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    ///
    /// gort::run(|| {
    ///     let semaphore = Semaphore::new(1);
    ///     gort::scope(|s| {
    ///         for _ in 0..3 {
    ///             s.go(|| {
    ///                 let _permit = semaphore.acquire(1); // one goroutine at a time
    ///             });
    ///         }
    ///     });
    ///     assert_eq!(semaphore.available_permits(), 1);
    /// })
    /// ```
    pub fn acquire(&self, n: usize) -> SemaphorePermit<'_> {
        self.take(n);
        SemaphorePermit { semaphore: self, n }
    }

    /// Like [`acquire`](Semaphore::acquire), for a permit that can be moved into a goroutine.
    ///
    /// The permit shares the ownership of the semaphore.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::{Semaphore, WaitGroup};
    /// use std::sync::Arc;
    ///
    /// gort::run(|| {
    ///     let two_at_a_time = Arc::new(Semaphore::new(2));
    ///     let group = WaitGroup::new();
    ///     for _ in 0..10 {
    ///         let permit = two_at_a_time.acquire_owned(1);
    ///         group.go(move || drop(permit));
    ///     }
    ///     group.wait();
    ///     assert_eq!(two_at_a_time.available_permits(), 2);
    /// })
    /// ```
    pub fn acquire_owned(self: &Arc<Self>, n: usize) -> OwnedSemaphorePermit {
        self.take(n);
        OwnedSemaphorePermit { semaphore: self.clone(), n }
    }

    /// Takes `n` permits, if they are free and no other request waits.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    ///
    /// gort::run(|| {
    ///     let semaphore = Semaphore::new(3);
    ///     let _two = semaphore.try_acquire(2).unwrap();
    ///     assert!(semaphore.try_acquire(2).is_none());
    ///     assert!(semaphore.try_acquire(1).is_some());
    /// })
    /// ```
    pub fn try_acquire(&self, n: usize) -> Option<SemaphorePermit<'_>> {
        crate::sched::checkpoint(false);
        self.try_take(n).then(|| SemaphorePermit { semaphore: self, n })
    }

    /// Takes `n` permits, waiting for at most `timeout`. Returns `None` if it could not.
    ///
    /// If `n` is more than the semaphore has at all, it waits in vain, but does not keep others
    /// from being served.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let semaphore = Semaphore::new(1);
    ///     let permit = semaphore.acquire(1);
    ///     assert!(semaphore.acquire_timeout(1, Duration::from_millis(1)).is_none());
    ///     drop(permit);
    ///     assert!(semaphore.acquire_timeout(1, Duration::from_millis(1)).is_some());
    /// })
    /// ```
    pub fn acquire_timeout(&self, n: usize, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        let taken = self.try_take(n) || self.take_slow(n, Instant::now().checked_add(timeout), None);
        taken.then(|| SemaphorePermit { semaphore: self, n })
    }

    /// Takes `n` permits, waiting until `interrupt` fires at most.
    pub(crate) fn acquire_interruptible(
        &self,
        n: usize,
        interrupt: &Interrupt,
    ) -> Option<SemaphorePermit<'_>> {
        let taken = self.try_take(n) || self.take_slow(n, None, Some(interrupt));
        taken.then(|| SemaphorePermit { semaphore: self, n })
    }

    /// Gives back `n` permits that were [forgotten](SemaphorePermit::forget).
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If more permits come back than were taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    ///
    /// gort::run(|| {
    ///     let semaphore = Semaphore::new(1);
    ///     semaphore.acquire(1).forget();
    ///     assert_eq!(semaphore.available_permits(), 0);
    ///     semaphore.release(1);
    ///     assert_eq!(semaphore.available_permits(), 1);
    /// })
    /// ```
    pub fn release(&self, n: usize) {
        let mut state = self.state.load(Relaxed);
        loop {
            if state & QUEUED != 0 && !is_child() {
                let queue = self.queue.lock();
                // Acquire: through this call, the waiter sees what happened before earlier releases
                // that gave back too little for it.
                state = self.state.load(Acquire);
                if state & QUEUED != 0 {
                    return self.serve(queue, self.with_returned(state, n));
                }
                continue; // the last waiter has left meanwhile
            }
            let more = self.with_returned(state, n) << FREE_SHIFT;
            match self.state.compare_exchange_weak(state, more, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }

    /// How many permits are free when `n` come back.
    fn with_returned(&self, state: usize, n: usize) -> usize {
        let free = (state >> FREE_SHIFT).checked_add(n).filter(|&free| free <= self.size);
        free.expect("semaphore: released more than held")
    }

    fn try_take(&self, n: usize) -> bool {
        let mut state = self.state.load(Relaxed);
        while state & QUEUED == 0 && state >> FREE_SHIFT >= n {
            let less = state - (n << FREE_SHIFT);
            match self.state.compare_exchange_weak(state, less, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    fn take(&self, n: usize) {
        let size = self.size;
        assert!(n <= size, "asked for {n} permits of a semaphore of {size}: that would wait for ever");
        if !self.try_take(n) {
            let taken = self.take_slow(n, None, None);
            debug_assert!(taken);
        }
    }

    #[cold]
    fn take_slow(&self, n: usize, deadline: Option<Instant>, interrupt: Option<&Interrupt>) -> bool {
        let reason = WaitReason::SemaphoreAcquire;
        let enter = |waiter| {
            if let Some(interrupt) = interrupt {
                interrupt.enter(waiter);
            }
        };
        let taken = if n > self.size {
            let me = WaiterRef::current();
            me.arm();
            enter(me);
            me.wait(reason, deadline);
            false
        } else if let Some(queue) = self.enqueue(n) {
            let wait = Wait { end: End::Back, note: n as u64, reason, deadline };
            match wait_queue::park(&self.queue, queue, |q| q, wait, enter) {
                Ended::Selected(token) => {
                    debug_assert_eq!(token, GRANTED);
                    true
                }
                Ended::Left { guard: queue, .. } => {
                    // This waiter may have been the first, and those behind it may ask for less.
                    let state = self.state.load(Acquire);
                    if state & QUEUED != 0 {
                        self.serve(queue, state >> FREE_SHIFT);
                    }
                    false
                }
            }
        } else {
            true
        };
        if let Some(interrupt) = interrupt {
            interrupt.leave();
        }
        taken
    }

    /// Takes the queue's lock for the caller to queue. `None`: the caller has got the permits after
    /// all.
    fn enqueue(&self, n: usize) -> Option<Guard<'_, WaitQueue>> {
        let queue = self.queue.lock();
        loop {
            if self.try_take(n) {
                return None;
            }
            let state = self.state.load(Relaxed);
            if (state & QUEUED != 0 || state >> FREE_SHIFT < n)
                && self.state.compare_exchange_weak(state, state | QUEUED, Relaxed, Relaxed).is_ok()
            {
                return Some(queue);
            }
        }
    }

    /// Serves the queue from `free` permits, while there are enough for the first waiter. `QUEUED`
    /// is set.
    fn serve(&self, mut queue: Guard<'_, WaitQueue>, mut free: usize) {
        let mut wakes = Wakes::new();
        while let Some(wanted) = queue.front_note().filter(|&wanted| wanted <= free as u64) {
            if queue.wake_front(GRANTED, &mut wakes) {
                free -= wanted as usize;
            }
        }
        // With QUEUED and under this lock, nothing else changes the word.
        let queued = if queue.is_empty() { 0 } else { QUEUED };
        self.state.store(free << FREE_SHIFT | queued, Release);
        drop(queue);
        wakes.ready();
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("permits", &self.size)
            .field("available", &self.available_permits())
            .field("waiting", &self.queue.lock().len())
            .finish()
    }
}

/// Permits of a [`Semaphore`]. Dropping this gives them back.
///
/// # Examples
///
/// ```
/// use gort::sync::Semaphore;
///
/// gort::run(|| {
///     let semaphore = Semaphore::new(1);
///     let permit = semaphore.acquire(1);
///     drop(permit);
///     assert_eq!(semaphore.available_permits(), 1);
/// })
/// ```
#[derive(Debug)]
#[must_use = "the permits are given back as soon as this is dropped"]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    n: usize,
}

impl SemaphorePermit<'_> {
    /// How many permits these are.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    ///
    /// gort::run(|| {
    ///     let semaphore = Semaphore::new(3);
    ///     assert_eq!(semaphore.acquire(2).permits(), 2);
    /// })
    /// ```
    pub fn permits(&self) -> usize {
        self.n
    }

    /// Drops this without giving the permits back. [`Semaphore::release`] can do that later.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    ///
    /// gort::run(|| {
    ///     let semaphore = Semaphore::new(3);
    ///     semaphore.acquire(1).forget();
    ///     assert_eq!(semaphore.available_permits(), 2);
    /// })
    /// ```
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.n);
    }
}

/// Permits of a shared [`Semaphore`]. Dropping this gives them back.
///
/// It is made by [`Semaphore::acquire_owned`].
///
/// # Examples
///
/// ```
/// use gort::sync::Semaphore;
/// use std::sync::Arc;
///
/// gort::run(|| {
///     let semaphore = Arc::new(Semaphore::new(1));
///     let permit = semaphore.acquire_owned(1);
///     gort::go(move || drop(permit)).join().unwrap();
///     assert_eq!(semaphore.available_permits(), 1);
/// })
/// ```
#[derive(Debug)]
#[must_use = "the permits are given back as soon as this is dropped"]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    n: usize,
}

impl OwnedSemaphorePermit {
    /// How many permits these are.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Semaphore;
    /// use std::sync::Arc;
    ///
    /// gort::run(|| {
    ///     let semaphore = Arc::new(Semaphore::new(3));
    ///     assert_eq!(semaphore.acquire_owned(2).permits(), 2);
    /// })
    /// ```
    pub fn permits(&self) -> usize {
        self.n
    }
}

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        self.semaphore.release(self.n);
    }
}
