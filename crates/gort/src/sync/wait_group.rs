//! [`WaitGroup`]: waits until a number of things are done.
//!
//! # States
//! `count << 1 | WAITED`. `WAITED` says that the queue is not empty. It is set and cleared under
//! its lock.
//!
//! # Why no wake-up is lost, and none comes early
//! With `WAITED`, the count goes from one to zero only under the queue's lock, in one step with
//! clearing `WAITED`. Waiters queue under that lock, after a compare-and-swap that saw a count
//! above zero. So the queue holds exactly those that wait for this zero.

use super::wait_queue::{self, End, GRANTED, Wait, WaitQueue};
use crate::sched::{self, WaitReason};
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicUsize, Ordering::*, is_child};
use std::fmt;
use std::sync::Arc;

const WAITED: usize = 1;
const ONE: usize = 2;

/// Waits until a number of goroutines are done.
///
/// It is a handle: clones share the same count. Add to the count *before* you start a goroutine, or
/// use [`go`](WaitGroup::go), which does that. A group can be used again when its count is back at
/// zero.
///
/// # Differences from Go
///
/// If a goroutine panics, only that goroutine ends. So one that panics in [`go`](WaitGroup::go)
/// counts as done. In Go, the panic ends the process before `Wait` can return.
///
/// # Examples
///
/// ```
/// use gort::sync::WaitGroup;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
///
/// gort::run(|| {
///     let sum = Arc::new(AtomicU32::new(0));
///     let group = WaitGroup::new();
///     for n in 0..10 {
///         let sum = sum.clone();
///         group.go(move || {
///             sum.fetch_add(n, Relaxed);
///         });
///     }
///     group.wait();
///     assert_eq!(sum.load(Relaxed), 45);
/// })
/// ```
#[derive(Clone, Default)]
pub struct WaitGroup(Arc<Inner>);

struct Inner {
    state: AtomicUsize,
    queue: Lock<WaitQueue>,
}

impl Default for Inner {
    fn default() -> Inner {
        Inner { state: AtomicUsize::new(0), queue: Lock::new(WaitQueue::new()) }
    }
}

impl WaitGroup {
    /// Creates a group with nothing to wait for.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::WaitGroup;
    ///
    /// gort::run(|| WaitGroup::new().wait()) // returns at once
    /// ```
    pub fn new() -> WaitGroup {
        WaitGroup::default()
    }

    /// Adds `n` to the count of things that are not done.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If the count overflows.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::WaitGroup;
    ///
    /// gort::run(|| {
    ///     let group = WaitGroup::new();
    ///     group.add(2);
    ///     for _ in 0..2 {
    ///         let group = group.clone();
    ///         gort::go(move || group.done());
    ///     }
    ///     group.wait();
    /// })
    /// ```
    pub fn add(&self, n: usize) {
        let mut state = self.0.state.load(Relaxed);
        loop {
            let more = n.checked_mul(ONE).and_then(|n| state.checked_add(n));
            let more = more.expect("WaitGroup counter overflow");
            match self.0.state.compare_exchange_weak(state, more, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }

    /// Counts one thing as done.
    ///
    /// What happened before this call is visible to the goroutines and threads that
    /// [`wait`](WaitGroup::wait) for it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If nothing was left to be done: `negative WaitGroup counter`.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::WaitGroup;
    ///
    /// gort::run(|| {
    ///     let group = WaitGroup::new();
    ///     group.add(1);
    ///     group.done();
    ///     group.wait(); // returns at once
    /// })
    /// ```
    pub fn done(&self) {
        let mut state = self.0.state.load(Relaxed);
        loop {
            assert!(state >= ONE, "negative WaitGroup counter");
            if state == ONE | WAITED {
                // Only the queue's lock allows this step to zero.
                if self.0.finish() {
                    return;
                }
                state = self.0.state.load(Relaxed);
                continue;
            }
            match self.0.state.compare_exchange_weak(state, state - ONE, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }

    /// Waits until the count is zero. Returns at once if it is.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::WaitGroup;
    ///
    /// gort::run(|| {
    ///     let group = WaitGroup::new();
    ///     group.go(|| println!("first"));
    ///     group.go(|| println!("second"));
    ///     group.wait(); // until both are done
    /// })
    /// ```
    pub fn wait(&self) {
        if self.0.state.load(Acquire) < ONE {
            return;
        }
        let queue = self.0.queue.lock();
        let mut state = self.0.state.load(Acquire);
        while state >= ONE {
            match self.0.state.compare_exchange_weak(state, state | WAITED, Relaxed, Acquire) {
                Ok(_) => {
                    let reason = WaitReason::WaitGroupWait;
                    let wait = Wait { end: End::Back, note: 0, reason, deadline: None };
                    wait_queue::park(&self.0.queue, queue, |q| q, wait, |_| ());
                    return;
                }
                Err(now) => state = now,
            }
        }
    }

    /// Runs `f` in a goroutine of its own, for which [`wait`](WaitGroup::wait) waits, however it
    /// ends.
    ///
    /// # Blocking
    ///
    /// As [`go`](crate::go).
    ///
    /// # Panics
    ///
    /// If the runtime was not started.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::WaitGroup;
    ///
    /// gort::run(|| {
    ///     let group = WaitGroup::new();
    ///     group.go(|| panic!("this counts as done, too"));
    ///     group.wait();
    /// })
    /// ```
    pub fn go<F: FnOnce() + Send + 'static>(&self, f: F) {
        self.add(1);
        let done = Done(self.clone());
        drop(sched::go(move || {
            let _done = done;
            f();
        }));
    }
}

impl Inner {
    /// The step to zero with waiters. False if something was added meanwhile.
    #[cold]
    fn finish(&self) -> bool {
        if is_child() {
            self.state.store(0, Release); // no waiters in a forked child
            return true;
        }
        let wakes = {
            let mut queue = self.queue.lock();
            // AcqRel: through this step, the waiters see what happened before every other `done`.
            if self.state.compare_exchange(ONE | WAITED, 0, AcqRel, Relaxed).is_err() {
                return false;
            }
            queue.wake_all(GRANTED)
        };
        wakes.ready();
        true
    }
}

/// Counts down when the goroutine ends: by returning, by a panic, by `goexit`, or because it never
/// started.
struct Done(WaitGroup);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.done();
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("count", &(self.0.state.load(Relaxed) / ONE)).finish()
    }
}
