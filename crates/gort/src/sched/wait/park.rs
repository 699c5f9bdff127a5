//! Park and ready: how a goroutine or an OS thread waits, and how it goes on.

use crate::sched::core::g::G;
use crate::sched::core::m::{self, Action, M};
use crate::sched::core::reason::WaitReason;
use crate::sched::core::timers::TimerNode;
use crate::sched::core::wait_word::TIMED_OUT;
use crate::sched::core::waiter::{Lent, WaiterRef, Wake};
use crate::sched::io::poll::TimerHost;
use crate::sched::run::direct;
use crate::sched::shared::monitor;
use crate::sched::swap;
use crate::sys::clock;
use crate::sys::sync::Ordering::*;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};
use std::time::Instant;

impl WaiterRef {
    /// Parks the caller until it is selected or `deadline` passes. Returns the token ([`TIMED_OUT`]
    /// for the deadline). The caller then takes itself out of every queue.
    ///
    /// Called by the waiter itself, after `arm` and enrolling. `None` waits for ever.
    pub(crate) fn wait(self, reason: WaitReason, deadline: Option<Instant>) -> usize {
        if let Some(token) = self.selected() {
            return token;
        }
        let deadline_ns = deadline.map(clock::ns_of);
        match (self.thread_flag(), deadline_ns) {
            (Some(ready), _) => self.wait_thread(ready, deadline_ns),
            // SAFETY: the caller is the waiter.
            (None, None) => unsafe { self.park(reason) },
            (None, Some(when_ns)) => self.wait_until(reason, when_ns),
        }
    }

    /// Apart from [`wait`](WaiterRef::wait), so that the frame of a wait for ever holds no timer.
    #[inline(never)]
    fn wait_until(self, reason: WaitReason, when_ns: u64) -> usize {
        let timer = TimerNode::new();
        // SAFETY: the node is new, and stays in this frame for the length of the wait.
        unsafe { self.park_until(reason, &timer, when_ns) }
    }

    /// As [`wait`](WaiterRef::wait) for ever, for a caller that lends others no more than `lent` of
    /// its stack: the stack may be swapped out meanwhile. Queue nodes must be
    /// [placed](WaiterRef::place_node).
    pub(crate) fn wait_swappable(self, reason: WaitReason, lent: Lent) -> usize {
        let Some(g) = self.goroutine() else { return self.wait(reason, None) };
        let may_go = swap::let_go(g, lent);
        let token = self.wait(reason, None);
        if may_go {
            swap::stay(g);
        }
        token
    }

    /// Waits until `deadline`; only that ends the wait. The stack may be swapped out meanwhile.
    pub(crate) fn sleep(self, deadline: Option<Instant>) {
        let (Some(g), Some(deadline)) = (self.goroutine(), deadline) else {
            self.wait(WaitReason::Sleep, deadline);
            return;
        };
        let mut here = MaybeUninit::uninit();
        // SAFETY: the caller is in no queue, and waits next, once. The timer stays where it is for
        // the length of the wait.
        unsafe {
            let timer = self.place_node(&mut here, TimerNode::new());
            let may_go = swap::let_go(g, Lent::Nothing);
            self.park_until(WaitReason::Sleep, timer, clock::ns_of(deadline));
            if may_go {
                swap::stay(g);
            }
        }
    }

    /// Makes sure that a place in the waiter's stack can be used. The caller holds the lock under
    /// which the place was lent.
    #[inline]
    pub(crate) fn fetch(self) {
        if let Some(g) = self.goroutine() {
            swap::fetch(g);
        }
    }

    /// # Safety
    /// The caller is the waiter, a goroutine's. `timer` is not running, and stays where it is for
    /// the length of the call.
    unsafe fn park_until(self, reason: WaitReason, timer: &TimerNode, when_ns: u64) -> usize {
        // SAFETY: the caller's promise, and the timer is stopped below. The waiter lives for ever.
        // The park comes next.
        let token = unsafe {
            TimerHost::start_and_park(timer, when_ns, fire_timeout, self.to_ptr().as_ptr().cast_const());
            self.park(reason)
        };
        timer.stop();
        token
    }

    /// # Safety
    /// The caller is the waiter, a goroutine's.
    unsafe fn park(self, reason: WaitReason) -> usize {
        let g = self.goroutine().expect("a goroutine's");
        g.set_reason(reason, monitor::coarse_ns());
        // SAFETY: the caller is the waiter itself, so `g` runs here.
        unsafe { leave(m::current().expect("a goroutine runs on an M"), g, Action::Park) };
        self.selected().expect("the wait has ended")
    }
}

/// Switches away from `g`; `action` says what it wants. Returns when `g` goes on.
///
/// In shared mode the panic count belongs to the thread, so a goroutine that unwinds stays on its
/// thread.
///
/// # Safety
/// The caller is `g`, on the M `m`.
pub(crate) unsafe fn leave(m: &'static M, g: &'static G, action: Action) {
    let stays = !m.fixed.blocks.move_with_goroutines()
        && std::thread::panicking()
        && g.bound_m.load(Relaxed).is_null();
    if stays {
        g.bound_m.store(std::ptr::from_ref(m).cast_mut(), Relaxed);
    }
    // SAFETY: the caller's promise.
    unsafe { direct::switch_away(m, g, action) };
    if stays {
        g.bound_m.store(null_mut(), Relaxed);
    }
}

/// A deadline has come. `arg` is the waiter.
///
/// # Safety
/// `arg` points to a `Waiter` that is alive (`TimerNode::start` asks for that until `stop` has
/// returned).
unsafe fn fire_timeout(arg: *const (), _seq: usize) -> Wake {
    // SAFETY: the caller's promise; the pointer came from a `WaiterRef`.
    let waiter = unsafe { WaiterRef::from_ptr(NonNull::new_unchecked(arg.cast_mut())) };
    waiter.try_select(TIMED_OUT).unwrap_or(Wake::NONE)
}
