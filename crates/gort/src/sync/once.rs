//! [`Once`]: something that is done once, while the others wait.
//!
//! # States
//! ```text
//!   INCOMPLETE ──call──▶ RUNNING ──returns──▶ COMPLETE
//!                          ▲ │ panics
//!         call_once_force  │ ▼
//!                        POISONED
//! ```
//! `RUNNING` is left under the queue's lock, and waiters look at the state under that lock before they park:
//! so the one who leaves `RUNNING` finds all of them.

use super::waitq::{self, End, GRANTED, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU32, Ordering::*, is_child};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

const INCOMPLETE: u32 = 0;
const POISONED: u32 = 1;
const RUNNING: u32 = 2;
const COMPLETE: u32 = 3;

/// A one-time initialisation; who comes while it runs parks the goroutine, never its thread.
///
/// It has [`std::sync::Once`]'s methods and poisoning. The initialisation must not need itself: it would wait
/// for itself. One that ends by `goexit` counts as panicked.
///
/// # Examples
///
/// ```
/// use gort::sync::Once;
///
/// static START: Once = Once::new();
///
/// gort::run(|| {
///     let mut runs = 0;
///     START.call_once(|| runs += 1);
///     START.call_once(|| runs += 1);
///     assert_eq!(runs, 1);
///     assert!(START.is_completed());
/// })
/// ```
pub struct Once {
    state: AtomicU32,
    queue: Lock<WaitQueue>,
}

impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

/// What [`Once::call_once_force`] tells its closure.
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// True if an earlier initialisation panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.poisoned).finish()
    }
}

impl Once {
    /// Nothing was done yet.
    pub const fn new() -> Once {
        Once { state: AtomicU32::new(INCOMPLETE), queue: Lock::new(WaitQueue::new()) }
    }

    pub(super) const fn new_complete() -> Once {
        Once { state: AtomicU32::new(COMPLETE), queue: Lock::new(WaitQueue::new()) }
    }

    /// Runs `f`, unless one has run before. When this returns, one has.
    ///
    /// # Blocking
    ///
    /// G: yes, while another one's `f` runs. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `f` panics, and in every later call: the `Once` is poisoned then.
    #[inline]
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        if !self.is_completed() {
            self.call(false, |_| f());
        }
    }

    /// Runs `f` like [`call_once`](Once::call_once), also after a panic in an earlier one.
    ///
    /// # Blocking
    ///
    /// G: yes, while another one's `f` runs. M: no. P: no.
    #[inline]
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        if !self.is_completed() {
            self.call(true, f);
        }
    }

    /// True once an `f` has run to its end. What it did is visible to the caller then.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.state.load(Acquire) == COMPLETE
    }

    /// Waits until an `f` has run; does not run one.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If the `Once` is poisoned.
    pub fn wait(&self) {
        self.wait_ignoring(false);
    }

    /// Waits until an `f` has run, also when the `Once` is poisoned, until somebody mends it.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub fn wait_force(&self) {
        self.wait_ignoring(true);
    }

    #[track_caller]
    fn wait_ignoring(&self, poison: bool) {
        loop {
            match self.state.load(Acquire) {
                COMPLETE => return,
                POISONED if !poison => poisoned(),
                state => self.park_while(state),
            }
        }
    }

    #[cold]
    #[track_caller]
    fn call(&self, force: bool, f: impl FnOnce(&OnceState)) {
        loop {
            let state = self.state.load(Acquire);
            match state {
                COMPLETE => return,
                RUNNING => self.park_while(RUNNING),
                POISONED if !force => poisoned(),
                _ => {
                    if self.state.compare_exchange(state, RUNNING, Acquire, Relaxed).is_ok() {
                        let mut run = Running { once: self, set_to: POISONED };
                        f(&OnceState { poisoned: state == POISONED });
                        run.set_to = COMPLETE;
                        return;
                    }
                }
            }
        }
    }

    /// Parks while the state is `state`, but returns when anything was done.
    fn park_while(&self, state: u32) {
        let queue = self.queue.lock();
        if self.state.load(Relaxed) == state {
            let wait = Wait { end: End::Back, note: 0, reason: WaitReason::OnceWait, deadline: None };
            waitq::park(&self.queue, queue, |q| q, wait, |_| ());
        }
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("Once instance has previously been poisoned");
}

/// Leaves `RUNNING`, also by a panic.
struct Running<'a> {
    once: &'a Once,
    set_to: u32,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if is_child() {
            return self.once.state.store(self.set_to, Release); // those that wait are not here
        }
        let wakes = {
            let mut queue = self.once.queue.lock();
            self.once.state.store(self.set_to, Release);
            queue.wake_all(GRANTED)
        };
        wakes.ready();
    }
}

impl Default for Once {
    fn default() -> Once {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}
