//! [`Once`]: an initialisation that runs once, while all others wait for it.
//!
//! # States
//! ```text
//!   INCOMPLETE ──call──▶ RUNNING ──returns──▶ COMPLETE
//!                          ▲ │ panics
//!         call_once_force  │ ▼
//!                        POISONED
//! ```
//! `RUNNING` is left under the queue's lock, and a waiter checks the state under that lock before
//! it parks. So the caller that leaves `RUNNING` finds all waiters.

use super::wait_queue::{self, End, GRANTED, Wait, WaitQueue};
use crate::sched::WaitReason;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU32, Ordering::*, is_child};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

const INCOMPLETE: u32 = 0;
const POISONED: u32 = 1;
const RUNNING: u32 = 2;
const COMPLETE: u32 = 3;

/// A one-time initialisation.
///
/// A goroutine that comes while it runs is parked, and its thread runs other goroutines. It has the
/// methods and the poisoning of [`std::sync::Once`]. The initialisation must not use its own
/// `Once`: it would wait for itself. If it ends by [`goexit`](crate::goexit), that counts as a
/// panic.
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

/// The state that [`Once::call_once_force`] passes to its closure.
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// True if the previous initialisation panicked.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Once;
    ///
    /// gort::run(|| Once::new().call_once_force(|state| assert!(!state.is_poisoned())))
    /// ```
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
    /// Creates a `Once` with no initialisation run yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Once;
    ///
    /// static START: Once = Once::new();
    ///
    /// gort::run(|| assert!(!START.is_completed()))
    /// ```
    pub const fn new() -> Once {
        Once { state: AtomicU32::new(INCOMPLETE), queue: Lock::new(WaitQueue::new()) }
    }

    pub(super) const fn new_complete() -> Once {
        Once { state: AtomicU32::new(COMPLETE), queue: Lock::new(WaitQueue::new()) }
    }

    /// Runs `f`, unless an initialisation has completed before. When it returns, one has.
    ///
    /// # Blocking
    ///
    /// G: yes, while the `f` of another caller runs. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `f` panics. That poisons the `Once`, and every later call panics too.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Once;
    ///
    /// gort::run(|| {
    ///     let (once, mut runs) = (Once::new(), 0);
    ///     once.call_once(|| runs += 1);
    ///     once.call_once(|| runs += 1);
    ///     assert_eq!(runs, 1);
    /// })
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        if !self.is_completed() {
            self.call(false, |_| f());
        }
    }

    /// Runs `f` like [`call_once`](Once::call_once), even if the `Once` is poisoned.
    ///
    /// # Blocking
    ///
    /// G: yes, while the `f` of another caller runs. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `f` panics. That poisons the `Once`.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Once;
    ///
    /// static START: Once = Once::new();
    ///
    /// gort::run(|| {
    ///     let first = gort::go(|| START.call_once(|| panic!("the first try fails")));
    ///     assert!(first.join().is_err());
    ///     START.call_once_force(|state| assert!(state.is_poisoned()));
    ///     assert!(START.is_completed());
    /// })
    /// ```
    #[inline]
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        if !self.is_completed() {
            self.call(true, f);
        }
    }

    /// True once an initialisation has completed. Then the caller sees what it did.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Once;
    ///
    /// gort::run(|| {
    ///     let once = Once::new();
    ///     assert!(!once.is_completed());
    ///     once.call_once(|| ());
    ///     assert!(once.is_completed());
    /// })
    /// ```
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.state.load(Acquire) == COMPLETE
    }

    /// Waits until an initialisation has completed. It does not run one.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If the `Once` is poisoned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Once;
    ///
    /// static START: Once = Once::new();
    ///
    /// gort::run(|| {
    ///     gort::go(|| START.call_once(|| ()));
    ///     START.wait();
    ///     assert!(START.is_completed());
    /// })
    /// ```
    pub fn wait(&self) {
        self.wait_ignoring(false);
    }

    /// Waits until an initialisation has completed, even if the `Once` is poisoned.
    ///
    /// Then it waits until a [`call_once_force`](Once::call_once_force) completes.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Once;
    ///
    /// static START: Once = Once::new();
    ///
    /// gort::run(|| {
    ///     let first = gort::go(|| START.call_once(|| panic!("the first try fails")));
    ///     assert!(first.join().is_err());
    ///     gort::go(|| START.call_once_force(|_| ()));
    ///     START.wait_force();
    /// })
    /// ```
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

    /// Parks while the state is `state`. It returns when an initialisation ends, whatever the new
    /// state.
    fn park_while(&self, state: u32) {
        let queue = self.queue.lock();
        if self.state.load(Relaxed) == state {
            let wait = Wait { end: End::Back, note: 0, reason: WaitReason::OnceWait, deadline: None };
            wait_queue::park(&self.queue, queue, |q| q, wait, |_| ());
        }
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("Once instance has previously been poisoned");
}

/// Leaves `RUNNING` when it is dropped, also by a panic.
struct Running<'a> {
    once: &'a Once,
    set_to: u32,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if is_child() {
            return self.once.state.store(self.set_to, Release); // no waiters in a forked child
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
