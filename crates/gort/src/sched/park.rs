//! Park and ready: how a goroutine or an OS thread waits, and how it goes on.

use super::config::ThreadLocals;
use super::find::TimerHost;
use super::g::{G, STORAGE_WORDS};
use super::m::{self, Action, M};
use super::reason::WaitReason;
use super::timers::TimerNode;
use super::waiter::{TIMED_OUT, WaitWord, Won};
use super::{direct, ready, swap, sysmon};
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU32, Ordering::*};
use crate::sys::{clock, fork, futex};
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};
use std::time::Instant;

/// Who waits.
enum Kind {
    /// The goroutine in whose descriptor the waiter lies.
    Goroutine,
    /// An OS thread that is no M running a goroutine. It sleeps on the word until its `ready` sets that to 1: seeing
    /// the token would be too early, for who has won it still uses the waiter and its queue node (invariant 4).
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

    /// The park's commit, by who comes next on the thread.
    #[inline]
    pub(crate) fn commit_park(&self) -> bool {
        self.word.commit_park()
    }
}

/// What others may use of the stack of a goroutine that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lent {
    /// Nothing: what they know of lies in the descriptor.
    Nothing,
    /// A place, under this lock alone, and after [`WaiterRef::fetch`].
    Under(*const Lock<()>),
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
    /// The caller's own waiter: the goroutine's, or the OS thread's where no goroutine runs (or one is inside `blocking`).
    ///
    /// # Panics
    /// In a forked child, where nobody could end a wait. So call this before anything is enrolled.
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

    /// Whether this is an OS thread's: then no M comes through the scheduler because it waits.
    pub(crate) fn is_thread(self) -> bool {
        matches!(self.get().kind, Kind::Thread(_))
    }

    /// The goroutine whose waiter this is.
    fn goroutine(self) -> Option<&'static G> {
        match self.get().kind {
            // SAFETY: a waiter of this kind is the first field of a G (`repr(C)`), and those are never freed.
            Kind::Goroutine => Some(unsafe { self.0.cast::<G>().as_ref() }),
            Kind::Thread(_) => None,
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
        let deadline_ns = deadline.map(clock::ns_of);
        match (&self.get().kind, deadline_ns) {
            (Kind::Thread(ready), _) => self.wait_thread(ready, deadline_ns),
            // SAFETY: the caller is the waiter.
            (Kind::Goroutine, None) => unsafe { self.park(reason) },
            (Kind::Goroutine, Some(when_ns)) => self.wait_until(reason, when_ns),
        }
    }

    /// Apart from [`wait`](WaiterRef::wait), so that the frame of a wait for ever has no timer.
    #[inline(never)]
    fn wait_until(self, reason: WaitReason, when_ns: u64) -> usize {
        let timer = TimerNode::new();
        // SAFETY: the node is new, and stays in this frame for the length of the wait.
        unsafe { self.park_until(reason, &timer, when_ns) }
    }

    /// As [`wait`](WaiterRef::wait) for ever, for a caller that lends others no more than `lent` of its stack: meanwhile that may be
    /// swapped out. Queue nodes are to be [lodged](WaiterRef::lodge).
    pub(crate) fn wait_swappable(self, reason: WaitReason, lent: Lent) -> usize {
        let Some(g) = self.goroutine() else { return self.wait(reason, None) };
        let may_go = g.may_let_go(lent);
        let token = self.wait(reason, None);
        if may_go {
            g.swap.stay();
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
        // SAFETY: we are in no queue, and wait next, once. The timer stays where it is for the length of the wait.
        unsafe {
            let timer = self.lodge(&mut here, TimerNode::new());
            let may_go = g.may_let_go(Lent::Nothing);
            self.park_until(WaitReason::Sleep, timer, clock::ns_of(deadline));
            if may_go {
                g.swap.stay();
            }
        }
    }

    /// Puts the node of a wait where it stays if the stack is swapped out: into the goroutine's descriptor, where the storage is empty
    /// while the goroutine runs. An OS thread's goes `here`.
    ///
    /// # Safety
    /// The caller is the waiter, has no other node lodged that somebody may still touch, and keeps this one from others when it
    /// returns.
    #[inline]
    pub(crate) unsafe fn lodge<N>(self, here: &mut MaybeUninit<N>, node: N) -> &N {
        const {
            assert!(size_of::<N>() <= STORAGE_WORDS * size_of::<usize>());
            assert!(align_of::<N>() <= align_of::<usize>() && !std::mem::needs_drop::<N>());
        }
        match self.goroutine() {
            // SAFETY: it has room, and is the running goroutine's, which is the caller.
            Some(g) => unsafe {
                let place = g.storage.get().cast::<N>();
                place.write(node);
                &*place
            },
            None => here.write(node),
        }
    }

    /// Makes sure that a place in the waiter's stack can be used. The caller holds the lock under which that was lent.
    #[inline]
    pub(crate) fn fetch(self) {
        if let Some(g) = self.goroutine() {
            swap::fetch(g);
        }
    }

    /// # Safety
    /// The caller is the waiter, a goroutine's; `timer` is not running and stays where it is for the
    /// length of the call.
    unsafe fn park_until(self, reason: WaitReason, timer: &TimerNode, when_ns: u64) -> usize {
        // SAFETY: the caller's promise, and the timer is stopped below; the waiter lives for ever. We park next.
        let token = unsafe {
            TimerHost::start_and_park(timer, when_ns, fire_timeout, self.0.as_ptr().cast());
            self.park(reason)
        };
        timer.stop();
        token
    }

    /// # Safety
    /// The caller is the waiter, a goroutine's.
    unsafe fn park(self, reason: WaitReason) -> usize {
        let g = self.goroutine().expect("a goroutine's");
        g.set_reason(reason, sysmon::coarse_ns());
        // SAFETY: the caller is the waiter itself, so `g` runs here.
        unsafe { leave(m::current().expect("a goroutine runs on an M"), g, Action::Park) };
        self.selected().expect("the wait has ended")
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

impl G {
    /// The goroutine itself, before it parks: its stack may go, if that is wanted and nobody was lent it. True if so; then it is to
    /// [stay](swap::SwapWord::stay) after the park.
    #[inline]
    fn may_let_go(&self, lent: Lent) -> bool {
        let may_go = swap::is_on() && self.loans.get() == 0 && self.bound_m.load(Relaxed).is_null();
        if may_go {
            self.swap.let_go(match lent {
                Lent::Nothing => 0,
                Lent::Under(lock) => lock.expose_provenance(),
            });
        }
        may_go
    }
}

/// Switches away from `g`, which says by `action` what it waits for; returns when it goes on.
///
/// In shared mode the panic count is the thread's: a goroutine that unwinds stays there.
///
/// # Safety
/// The caller is `g`, on the M `m`.
pub(crate) unsafe fn leave(m: &'static M, g: &'static G, action: Action) {
    let stays = m.fixed.thread_locals == ThreadLocals::Shared
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
            Kind::Goroutine => ready::ready(waiter.goroutine().expect("of that kind")),
            Kind::Thread(ready) => {
                let addr = ready.as_ptr();
                // From here on the thread may be gone; the address alone is used.
                ready.store(1, Release);
                futex::wake_addr(addr, 1);
            }
        }
    }

    /// The goroutine that is to be made ready, by the caller, who sets its state and queues it. An OS thread is made
    /// ready here.
    pub(crate) fn into_goroutine(self) -> Option<&'static G> {
        let g = self.0?.goroutine();
        if g.is_none() {
            self.ready();
        }
        g
    }
}

/// A deadline has come. `arg` is the waiter.
///
/// # Safety
/// `arg` points to a `Waiter` that is alive (`TimerNode::start` asks for that until `stop` has returned).
unsafe fn fire_timeout(arg: *const (), _seq: usize) -> Wake {
    // SAFETY: the caller's promise; the pointer came from a `WaiterRef`.
    let waiter = unsafe { WaiterRef::from_ptr(NonNull::new_unchecked(arg.cast_mut())) };
    waiter.try_select(TIMED_OUT).unwrap_or(Wake::NONE)
}
