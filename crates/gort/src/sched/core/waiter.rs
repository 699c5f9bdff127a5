//! The waiter: a goroutine, by the waiter in its descriptor, or an OS thread. `wait/` has the waits
//! of goroutines. The wait of an OS thread needs nothing of the scheduler, and is here.

use super::g::{G, Runnable, STORAGE_WORDS};
use super::m;
use super::wait_word::{TIMED_OUT, WaitWord, Won};
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU32, Ordering::*};
use crate::sys::{clock, fork, futex};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// What waits.
enum Kind {
    /// The goroutine in whose descriptor the waiter lies.
    Goroutine,
    /// An OS thread on which no goroutine runs, or whose goroutine is inside `blocking`. It sleeps
    /// on the word until its `ready` sets that to 1. To wake up at the token would be too early:
    /// the waker that has won still uses the waiter and its queue node (invariant 4).
    Thread(AtomicU32),
}

/// The waiter of a goroutine (in its descriptor) or of an OS thread (in a thread-local).
pub(crate) struct Waiter {
    word: WaitWord,
    kind: Kind,
}

impl Waiter {
    /// The waiter of a goroutine; it lies at the address of its [`G`].
    pub(crate) fn of_goroutine() -> Waiter {
        Waiter { word: WaitWord::new(), kind: Kind::Goroutine }
    }

    /// The park's commit, by the code that runs next on the thread.
    #[inline]
    pub(crate) fn commit_park(&self) -> bool {
        self.word.commit_park()
    }
}

/// What other goroutines and threads may use of the stack of a goroutine that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lent {
    /// Nothing: what they know of lies in the descriptor.
    Nothing,
    /// A place in the stack, only under this lock, and after [`WaiterRef::fetch`].
    Under(*const Lock<()>),
}

/// A waiter as wait queues keep it. It is valid as long as `wait_word.rs`, invariant 3, says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WaiterRef(NonNull<Waiter>);

// SAFETY: the word is atomic, and `kind` does not change while a wait is on. The queues answer for
// how long the reference is valid, on whatever thread (`core/wait_word.rs`, invariant 3).
unsafe impl Send for WaiterRef {}
// SAFETY: as above.
unsafe impl Sync for WaiterRef {}

thread_local! {
    static THREAD_WAITER: Waiter = Waiter { word: WaitWord::new(), kind: Kind::Thread(AtomicU32::new(0)) };
}

impl WaiterRef {
    /// The caller's own waiter: the goroutine's; or the OS thread's, where no goroutine runs or the
    /// one that does is inside `blocking`.
    ///
    /// # Panics
    /// In a forked child, where nothing could end a wait. So call this before anything is enrolled.
    #[inline]
    pub(crate) fn current() -> WaiterRef {
        if let Some(m) = m::current()
            && !m.in_blocking.load(Relaxed)
            && let Some(g) = m.g()
        {
            return WaiterRef::of(g);
        }
        fork::refuse("a wait");
        THREAD_WAITER.with(|w| WaiterRef(NonNull::from(w)))
    }

    /// The waiter of `g`.
    #[inline]
    pub(crate) fn of(g: &'static G) -> WaiterRef {
        WaiterRef(NonNull::from(&g.waiter))
    }

    /// The waiter as an opaque pointer, for queues that are one word (`io/direction.rs`).
    pub(crate) fn to_ptr(self) -> NonNull<()> {
        self.0.cast()
    }

    /// The way back from [`to_ptr`](WaiterRef::to_ptr).
    ///
    /// # Safety
    /// `ptr` came from [`to_ptr`](WaiterRef::to_ptr).
    pub(crate) unsafe fn from_ptr(ptr: NonNull<()>) -> WaiterRef {
        WaiterRef(ptr.cast())
    }

    fn get(&self) -> &Waiter {
        // SAFETY: the holder of a WaiterRef answers for its life (`core/wait_word.rs`, invariant
        // 3).
        unsafe { self.0.as_ref() }
    }

    /// Begins a wait. Only the waiter itself calls this, while it is in no queue.
    #[inline]
    pub(crate) fn arm(self) {
        self.get().word.arm();
    }

    /// The token that ended the wait, if it has ended.
    #[inline]
    pub(crate) fn selected(self) -> Option<usize> {
        self.get().word.selected()
    }

    /// Ends the wait with `token` (at least `FIRST_TOKEN`). `None`: another waker has ended it. The
    /// returned [`Wake`] must be made [`ready`](Wake::ready), best after the queue's lock is
    /// dropped.
    #[inline]
    pub(crate) fn try_select(self, token: usize) -> Option<Wake> {
        match self.get().word.try_select(token)? {
            Won::Running => Some(Wake::NONE),
            Won::Parked => Some(Wake(Some(self))),
        }
    }

    /// Whether this is an OS thread's waiter. The wait of an OS thread brings no M through the
    /// scheduler.
    pub(crate) fn is_thread(self) -> bool {
        matches!(self.get().kind, Kind::Thread(_))
    }

    /// The goroutine whose waiter this is.
    pub(crate) fn goroutine(self) -> Option<&'static G> {
        match self.get().kind {
            // SAFETY: a waiter of this kind is the first field of a G (`repr(C)`), and descriptors
            // are never freed.
            Kind::Goroutine => Some(unsafe { self.0.cast::<G>().as_ref() }),
            Kind::Thread(_) => None,
        }
    }

    /// Puts the node of a wait where it stays if the stack is swapped out: into the goroutine's
    /// descriptor, whose storage is empty while the goroutine runs. The node of an OS thread goes
    /// `here`.
    ///
    /// # Safety
    /// - The caller is the waiter.
    /// - It has placed no other node that others may still touch.
    /// - It takes this node back from others before it returns.
    #[inline]
    pub(crate) unsafe fn place_node<N>(self, here: &mut MaybeUninit<N>, node: N) -> &N {
        const {
            assert!(size_of::<N>() <= STORAGE_WORDS * size_of::<usize>());
            assert!(align_of::<N>() <= align_of::<usize>() && !std::mem::needs_drop::<N>());
        }
        match self.goroutine() {
            // SAFETY: the storage has room, and belongs to the running goroutine, which is the
            // caller.
            Some(g) => unsafe {
                let place = g.storage.get().cast::<N>();
                place.write(node);
                &*place
            },
            None => here.write(node),
        }
    }

    /// The flag on which the OS thread with this waiter sleeps; `None` for a goroutine.
    pub(crate) fn thread_flag(&self) -> Option<&AtomicU32> {
        match &self.get().kind {
            Kind::Goroutine => None,
            Kind::Thread(ready) => Some(ready),
        }
    }

    /// The OS thread sleeps until a waker has selected it and set `ready`, or `deadline_ns` has
    /// passed.
    pub(crate) fn wait_thread(self, ready: &AtomicU32, mut deadline_ns: Option<u64>) -> usize {
        let word = &self.get().word;
        ready.store(0, Relaxed);
        if word.commit_park() {
            while ready.load(Acquire) == 0 {
                if deadline_ns.is_some_and(|d| clock::now_ns() >= d) {
                    if word.try_select(TIMED_OUT).is_some() {
                        break; // no waker owes us a `ready`
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
#[must_use = "a waiter that was selected sleeps for ever if nothing makes it ready"]
pub(crate) struct Wake(Option<WaiterRef>);

impl Wake {
    /// Nothing to do: the waiter had not parked, or there was none.
    pub(crate) const NONE: Wake = Wake(None);

    /// True if there is nothing to make ready: then the waiter runs already, and may be gone.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The goroutine, runnable from here on, for the caller to queue. An OS thread is made ready
    /// here.
    pub(crate) fn into_goroutine(self) -> Option<Runnable> {
        let waiter = self.0?;
        match &waiter.get().kind {
            // SAFETY: we have won its wait, so it is ours until it is queued.
            Kind::Goroutine => waiter.goroutine().map(|g| unsafe { g.become_runnable() }),
            Kind::Thread(ready) => {
                let addr = ready.as_ptr();
                // From here on the thread may be gone; the address alone is used.
                ready.store(1, Release);
                futex::wake_addr(addr, 1);
                None
            }
        }
    }
}
