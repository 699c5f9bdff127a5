//! Park and ready: how a goroutine or an OS thread waits, and how it goes on.

use super::reason::WaitReason;
use super::timers::TimerNode;
use super::waiter::{TIMED_OUT, WaitWord, Won};
use crate::sys::sync::{AtomicU32, Ordering::*};
use crate::sys::{clock, futex};
use std::ptr::NonNull;
use std::time::Instant;

/// Who waits.
enum Kind {
    /// An OS thread that is no M running a goroutine. It sleeps on the word until its `ready` sets that to 1: seeing
    /// the token would be too early, for who has won it still uses the waiter and its queue node (invariant 4).
    Thread(AtomicU32),
}

/// The waiter of a goroutine (in its descriptor) or of an OS thread (in a thread-local).
pub(crate) struct Waiter {
    word: WaitWord,
    kind: Kind,
}

/// A waiter as wait queues keep it. Valid as long as `waiter.rs` invariant 3 says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WaiterRef(NonNull<Waiter>);

// SAFETY: the word is atomic, `kind` does not change while a wait is on; how long the reference is valid is the
// business of the queues (waiter.rs, invariant 3), whatever the thread.
unsafe impl Send for WaiterRef {}
// SAFETY: as above.
unsafe impl Sync for WaiterRef {}

thread_local! {
    static THREAD_WAITER: Waiter = Waiter { word: WaitWord::new(), kind: Kind::Thread(AtomicU32::new(0)) };
}

impl WaiterRef {
    /// The caller's own waiter: the goroutine's, or the OS thread's where no goroutine runs.
    pub(crate) fn current() -> WaiterRef {
        THREAD_WAITER.with(|w| WaiterRef(NonNull::from(w)))
    }

    /// The waiter as an opaque pointer, for queues that are one word (`netpoll/word.rs`).
    pub(crate) fn to_ptr(self) -> NonNull<()> {
        self.0.cast()
    }

    /// The way back.
    ///
    /// # Safety
    /// `ptr` came from [`to_ptr`](WaiterRef::to_ptr).
    pub(crate) unsafe fn from_ptr(ptr: NonNull<()>) -> WaiterRef {
        WaiterRef(ptr.cast())
    }

    fn get(&self) -> &Waiter {
        // SAFETY: the holder of a WaiterRef answers for its life (waiter.rs, invariant 3).
        unsafe { self.0.as_ref() }
    }

    /// Begins a wait; only the waiter itself, while it is in no queue.
    #[inline]
    pub(crate) fn arm(self) {
        self.get().word.arm();
    }

    /// The token that ended the wait, if it has ended.
    #[inline]
    pub(crate) fn selected(self) -> Option<usize> {
        self.get().word.selected()
    }

    /// Ends the wait with `token` (at least `FIRST_TOKEN`). `None`: somebody else has ended it. The returned
    /// [`Wake`] must be made [`ready`](Wake::ready), best after the queue's lock is dropped.
    #[inline]
    pub(crate) fn try_select(self, token: usize) -> Option<Wake> {
        match self.get().word.try_select(token)? {
            Won::Running => Some(Wake::NONE),
            Won::Parked => Some(Wake(Some(self))),
        }
    }

    /// Parks the caller until somebody selects it or `deadline` passes; returns the token
    /// ([`TIMED_OUT`] for the deadline). The caller then takes itself out of every queue.
    ///
    /// Called by the waiter itself, after `arm` and enrolling. `None` waits for ever.
    pub(crate) fn wait(self, reason: WaitReason, deadline: Option<Instant>) -> usize {
        if let Some(token) = self.selected() {
            return token;
        }
        let _ = (reason, TimerNode::new());
        let me = self.get();
        match &me.kind {
            Kind::Thread(ready) => self.wait_thread(ready, deadline.map(clock::ns_of)),
        }
    }

    fn wait_thread(self, ready: &AtomicU32, mut deadline_ns: Option<u64>) -> usize {
        let word = &self.get().word;
        ready.store(0, Relaxed);
        if word.commit_park() {
            while ready.load(Acquire) == 0 {
                if deadline_ns.is_some_and(|d| clock::now_ns() >= d) {
                    if word.try_select(TIMED_OUT).is_some() {
                        break; // nobody owes us a `ready`
                    }
                    deadline_ns = None;
                }
                futex::wait(ready, 0, deadline_ns);
            }
        }
        word.selected().expect("the wait has ended")
    }
}

/// A waiter that was won and must be made ready, exactly once; or nothing.
#[derive(Debug)]
#[must_use = "a waiter that was selected sleeps for ever if nobody makes it ready"]
pub(crate) struct Wake(Option<WaiterRef>);

impl Wake {
    /// Nothing to do: the waiter had not parked, or there was none.
    pub(crate) const NONE: Wake = Wake(None);

    /// True if there is nothing to make ready: then the waiter runs already, and may be gone.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Makes the waiter go on. Takes the scheduler's locks; call it with none of yours held where you can.
    pub(crate) fn ready(self) {
        let Some(waiter) = self.0 else { return };
        match &waiter.get().kind {
            Kind::Thread(ready) => {
                let addr = ready.as_ptr();
                // From here on the thread may be gone; the address alone is used.
                ready.store(1, Release);
                futex::wake_addr(addr, 1);
            }
        }
    }
}
