//! M: an OS thread that runs goroutines.
//!
//! # States
//! ```text
//!            start_m                     find: nothing to do
//!   (none) ─────────▶ Running (has a P) ─────────────────────▶ Idle (in the idle list, sleeps)
//!                      │   ▲      ▲                             │    │ too long, too many
//!          blocking    ▼   │      └────────── start_m ──────────┘    ▼
//!                   Blocked (its P may be taken: sched/syscall)  ends
//!                   Held (in the signal handler or a gort call, with a stopped goroutine: sched/preempt)
//! ```
//! An M runs on two kinds of stack: its thread's own, called g0, where the scheduler's loop lives, and those of
//! goroutines. `g` is null on g0.
//!
//! # Invariants
//! 1. Descriptors are never freed: whoever holds a pointer to an M may look at its atomic fields. A dead one is used
//!    again by the next thread.
//! 2. The `Cell` fields belong to the M's own thread, but for `spinning` of a sleeping M: whoever took it out
//!    of the idle list (or was told to wake it) writes it before handing over a P (`handover.rs`).
//! 3. `CURRENT` of the thread-locals in use points to the M: of the thread's own since its start, of a goroutine's block since
//!    it was switched in.

use super::fixed::{Fixed, fixed};
use super::g::{G, Runnable};
use super::handover::Handover;
use super::p::P;
use super::syscall_word::SyscallWord;
use crate::stack::switch::{self, FsMode};
use crate::sys::fs;
use crate::sys::sync::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering::*};
use std::cell::Cell;
use std::ptr::{null, null_mut};

/// What a goroutine wants as it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Its wait is armed; commit the park, or go on if a waker was first.
    Park,
    /// Put it behind the others.
    Yield,
    /// It is done; put the stack away.
    Exit,
}

/// An OS thread's descriptor.
#[repr(align(128))]
pub(crate) struct M {
    pub(crate) id: u32,
    pub(crate) tid: AtomicI32,
    /// The thread's own FS base.
    pub(crate) fs: Cell<usize>,
    /// Where g0 was suspended.
    pub(crate) g0_sp: Cell<usize>,
    /// The goroutine that is on this thread, null on g0.
    pub(crate) g: AtomicPtr<G>,
    /// The P that this M holds, as long as it is not inside `blocking`.
    pub(crate) p: Cell<Option<&'static P>>,
    pub(crate) spinning: Cell<bool>,
    /// The goroutine that has just left, and what it wants, see `run/direct.rs`.
    pub(crate) left: Cell<Option<&'static G>>,
    pub(crate) action: Cell<Action>,
    /// Taken from a queue by a goroutine that left, for g0.
    pub(crate) found: Cell<Option<Runnable>>,
    /// Inside `blocking`: the goroutine counts as an OS thread there.
    pub(crate) in_blocking: AtomicBool,
    /// The slice that is to be stopped, see `preempt/handler.rs`.
    pub(crate) preempt: AtomicU64,
    /// The slice that could not be stopped when this thread was asked, because it was not in user code.
    pub(crate) declined: AtomicU64,
    /// Who has the P while the M is inside `blocking`.
    pub(crate) syscall: SyscallWord,
    /// Where it sleeps.
    handover: Handover<P>,
    pub(crate) fixed: &'static Fixed,
}

// SAFETY: invariant 2 says who touches the cells; the rest is atomic.
unsafe impl Sync for M {}

impl PartialEq for M {
    fn eq(&self, other: &M) -> bool {
        std::ptr::eq(self, other)
    }
}

thread_local! {
    static CURRENT: Cell<*const M> = const { Cell::new(null()) };
}

/// The M of this thread, on g0 and on goroutines alike; `None` on threads that are no Ms.
///
/// Never inlined, and the read is volatile: in shared mode the caller may have changed its thread since it last
/// asked, so neither the value nor the address of the thread-local may be kept.
#[inline(never)]
pub(crate) fn current() -> Option<&'static M> {
    CURRENT.with(|c| {
        // SAFETY: the cell is this thread's (or this block's) own; it is null or points to a descriptor, which lives for
        // ever (invariants 1 and 3).
        unsafe { c.as_ptr().read_volatile().as_ref() }
    })
}

/// Where `CURRENT` lies in every block of thread-locals, counted from the FS base.
pub(crate) fn current_offset() -> isize {
    CURRENT.with(|c| std::ptr::from_ref(c) as usize).wrapping_sub(fs::read()) as isize
}

impl M {
    pub(crate) fn new(id: u32) -> M {
        M {
            id,
            tid: AtomicI32::new(0),
            fs: Cell::new(0),
            g0_sp: Cell::new(0),
            g: AtomicPtr::new(null_mut()),
            p: Cell::new(None),
            spinning: Cell::new(false),
            left: Cell::new(None),
            action: Cell::new(Action::Park),
            found: Cell::new(None),
            in_blocking: AtomicBool::new(false),
            preempt: AtomicU64::new(u64::MAX),
            declined: AtomicU64::new(u64::MAX),
            syscall: SyscallWord::new(),
            handover: Handover::new(),
            fixed: fixed(),
        }
    }

    /// Binds this descriptor to the calling thread, or (`None`) unbinds what is bound.
    pub(crate) fn bind(m: Option<&'static M>) {
        CURRENT.with(|c| c.set(m.map_or(null(), |m| m)));
    }

    /// The goroutine on this thread; `None` on g0.
    #[inline]
    pub(crate) fn g(&self) -> Option<&'static G> {
        // SAFETY: descriptors of goroutines are never freed.
        unsafe { self.g.load(Relaxed).as_ref() }
    }

    /// Whether a goroutine that left has [found](M::found) one for g0. This thread only.
    #[inline]
    pub(crate) fn has_found(&self) -> bool {
        let found = self.found.take();
        let has = found.is_some();
        self.found.set(found);
        has
    }

    /// Sleeps until somebody [gives](M::give) a P, which is this M's then; false if `deadline_ns` came first.
    pub(crate) fn sleep(&'static self, deadline_ns: Option<u64>) -> bool {
        let given = self.handover.sleep(deadline_ns);
        if let Some(p) = given {
            self.wire(p);
        }
        given.is_some()
    }

    /// The process is about to end.
    pub(crate) fn sleep_for_good(&self) -> ! {
        loop {
            std::thread::park();
        }
    }

    /// Wakes this M, which sleeps or soon will, with `p`. The caller is who may: `handover.rs`, invariant 1.
    pub(crate) fn give(&self, p: &'static P, spinning: bool) {
        p.m.store(std::ptr::from_ref(self).cast_mut(), Release);
        self.spinning.set(spinning);
        self.handover.give(p);
    }

    /// `p`, which the caller owns, becomes this M's.
    pub(crate) fn wire(&'static self, p: &'static P) {
        p.m.store(std::ptr::from_ref(self).cast_mut(), Release);
        self.p.set(Some(p));
    }

    /// Resumes `g`; returns when a goroutine of this M, not always the same one, comes back to g0. On g0, pinned.
    ///
    /// # Safety
    /// The caller owns `g`, which has a stack that was suspended (or prepared), and this is its M's g0.
    #[inline]
    pub(crate) unsafe fn resume(&self, g: &G) {
        // SAFETY: the caller's promise.
        unsafe { self.switch(self.fs.get(), self.g0_sp.as_ptr(), g) };
    }

    /// Suspends `g`, which runs on this thread, and resumes `next`. Returns when `g` is resumed, perhaps on another M. Pinned.
    ///
    /// # Safety
    /// The caller is `g` on this M, and owns `next`, which has a stack that was suspended.
    #[inline]
    pub(crate) unsafe fn switch_between(&self, g: &G, next: &G) {
        // SAFETY: the caller's promise; `sp` is read by nobody before `next` has put `g` where `action` says.
        unsafe { self.switch(block_of(g), g.sp.as_ptr(), next) };
    }

    /// Suspends who runs here, on the block `from`, into `save`, and resumes `next`.
    ///
    /// # Safety
    /// As [`resume`](M::resume) and [`switch_between`](M::switch_between).
    #[inline(always)]
    unsafe fn switch(&self, from: usize, save: *mut usize, next: &G) {
        let fixed = self.fixed;
        // SAFETY: the caller owns `next`, so its slot is the caller's to read; a slot with a stack in use has its block, and
        // nobody runs on that.
        unsafe {
            if fixed.mode == FsMode::Shared {
                return switch::switch(FsMode::Shared, save, next.sp.load(Relaxed), 0);
            }
            let to = block_of(next);
            at(to, fixed.current_offset).write(std::ptr::from_ref(self) as u64);
            self.carry_malloc_words(from, to);
            switch::switch(fixed.mode, save, next.sp.load(Relaxed), to);
        }
    }

    /// Suspends `g`, which runs on this thread, and goes on with g0. Returns when it is resumed, perhaps on another M. Pinned.
    ///
    /// # Safety
    /// The caller is `g` on this M.
    #[inline]
    pub(crate) unsafe fn switch_to_g0(&self, g: &G) {
        // SAFETY: g0 was suspended by `resume`; `sp` is read by nobody before g0 has put `g` where `action` says.
        unsafe {
            if self.fixed.mode != FsMode::Shared {
                self.carry_malloc_words(block_of(g), self.fs.get());
            }
            switch::switch(self.fixed.mode, g.sp.as_ptr(), self.g0_sp.get(), self.fs.get());
        }
    }

    /// malloc's words stay with the M: from the block that is left to the one that comes.
    ///
    /// # Safety
    /// Both are blocks of thread-locals, and this thread's to use.
    #[inline(always)]
    unsafe fn carry_malloc_words(&self, from: usize, to: usize) {
        if let Some(words) = self.fixed.malloc_words {
            for off in words {
                // SAFETY: the words lie in static TLS of both blocks.
                unsafe { at(to, off).write(*at(from, off)) };
            }
        }
    }
}

/// The block of `g`, which has a stack.
///
/// # Safety
/// The caller owns `g`, or is `g`.
#[inline(always)]
unsafe fn block_of(g: &G) -> usize {
    // SAFETY: the caller's promise.
    unsafe { (*g.slot.get()).as_ref() }.expect("a goroutine that runs has a slot").tp()
}

/// The word at `off` from the thread pointer `tp`.
#[inline(always)]
pub(crate) fn at(tp: usize, off: isize) -> *mut u64 {
    tp.wrapping_add_signed(off) as *mut u64
}

/// Calls `f` on the thread's own thread-locals and the stack at hand: for signal handlers, which come at any moment, and
/// for allocators. `f` must neither unwind nor park.
pub(crate) fn on_own_block(f: &mut dyn FnMut()) {
    /// A function of its own, so that no address of a thread-local is kept from one side of the write to the other.
    #[inline(never)]
    fn call(f: &mut dyn FnMut()) {
        f();
    }
    let here = fs::read();
    let own = current().map_or(here, |m| m.fs.get());
    if own == here || own == 0 {
        return call(f);
    }
    // SAFETY: `own` is this thread's block; `f` runs on it alone, and then the one of before is back.
    unsafe {
        fs::write(own);
        call(f);
        fs::write(here);
    }
}
