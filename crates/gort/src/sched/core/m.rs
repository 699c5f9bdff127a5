//! M: an OS thread that runs goroutines.
//!
//! # States
//! ```text
//!            start_m                     find: nothing to do
//!   (none) ─────────▶ Running (has a P) ─────────────────────▶ Idle (in the idle list, sleeps)
//!                      │   ▲      ▲                             │    │ too long, too many
//!          blocking    ▼   │      └────────── start_m ──────────┘    ▼
//!                   Blocked (its P may be taken: sched/syscall)     ends
//!                   Held (in the signal handler or a gort call, with a stopped goroutine:
//!                         sched/preempt)
//! ```
//! An M runs on two kinds of stack: its thread's own, called g0, where the scheduler's loop lives,
//! and those of goroutines. `g` is null on g0.
//!
//! # Invariants
//! 1. Descriptors are never freed: code that holds a pointer to an M may look at its atomic fields.
//!    The descriptor of an M that has ended is used again by the next thread.
//! 2. The `Cell` fields belong to the M's own thread. The exception is `spinning` of an M that
//!    sleeps: the thread that took the M out of the idle list (or was told to wake it) writes it
//!    before it hands over a P (`handover.rs`).
//! 3. `CURRENT` of the thread-locals in use points to the M: that of the thread's own since its
//!    start, that of a goroutine's block since the goroutine was switched in.

use super::fixed::{Fixed, fixed};
use super::g::{G, Runnable};
use super::handover::Handover;
use super::held_p::HeldP;
use super::p::P;
use super::syscall_word::SyscallWord;
use crate::stack::switch::{self, FsMode};
use crate::sys::sync::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use crate::sys::{fs, pin, thread};
use std::cell::Cell;
use std::ptr::{null, null_mut};

/// What a goroutine that leaves wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Its wait is armed: commit the park, or let it go on if a waker was first.
    Park,
    /// It is to be queued behind the others.
    Yield,
    /// It has ended: put its stack away.
    Exit,
}

/// An OS thread's descriptor.
#[repr(align(128))]
pub(crate) struct M {
    pub(crate) id: u32,
    pub(crate) tid: AtomicI32,
    /// The thread's own FS base.
    pub(crate) fs: AtomicUsize,
    /// Where g0 was suspended.
    pub(crate) g0_sp: Cell<usize>,
    /// The goroutine that is on this thread, null on g0.
    pub(crate) g: AtomicPtr<G>,
    /// The P that this M holds, while it is not inside `blocking`, see `held_p.rs`.
    pub(crate) p: HeldP<P>,
    pub(crate) spinning: Cell<bool>,
    /// The goroutine that has just left, and (in `action`) what it wants, see `run/direct.rs`.
    pub(crate) left: Cell<Option<&'static G>>,
    pub(crate) action: Cell<Action>,
    /// A goroutine for g0 to run, which a goroutine that left has taken from a queue.
    pub(crate) found: Cell<Option<Runnable>>,
    /// The M is inside `blocking`: there its goroutine counts as an OS thread.
    pub(crate) in_blocking: AtomicBool,
    /// The run of a goroutine that is to be stopped (a P, and the number of the run on it), see
    /// `preempt/handler.rs`.
    pub(crate) preempt: AtomicU64,
    /// The run that could not be stopped when this thread was asked, because the thread was not in
    /// user code.
    pub(crate) declined: AtomicU64,
    /// What has the P while the M is inside `blocking`.
    pub(crate) syscall: SyscallWord,
    /// Where the M sleeps.
    handover: Handover<P>,
    pub(crate) fixed: &'static Fixed,
}

// SAFETY: invariant 2 says which thread may touch the cells; the rest is atomic.
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
/// Never inlined, and the read is volatile. In shared mode the caller may be on another thread than
/// when it last asked, so neither the value nor the address of the thread-local may be kept.
#[inline(never)]
pub(crate) fn current() -> Option<&'static M> {
    CURRENT.with(|c| {
        // SAFETY: the cell is this thread's (or this block's) own. It is null or points to a
        // descriptor, which lives for ever (invariants 1 and 3).
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
            fs: AtomicUsize::new(0),
            g0_sp: Cell::new(0),
            g: AtomicPtr::new(null_mut()),
            p: HeldP::none(),
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

    /// Binds this descriptor to the calling thread; `None` takes the binding away.
    pub(crate) fn bind(m: Option<&'static M>) {
        CURRENT.with(|c| c.set(m.map_or(null(), |m| m)));
    }

    /// The goroutine on this thread; `None` on g0.
    #[inline]
    pub(crate) fn g(&self) -> Option<&'static G> {
        // SAFETY: descriptors of goroutines are never freed.
        unsafe { self.g.load(Acquire).as_ref() }
    }

    /// Whether a goroutine that left has [found](M::found) another one for g0. This thread only.
    #[inline]
    pub(crate) fn has_found(&self) -> bool {
        let found = self.found.take();
        let has = found.is_some();
        self.found.set(found);
        has
    }

    /// Sleeps until another thread [gives](M::give) this M a P, which then is its own. False if
    /// `deadline_ns` came first.
    pub(crate) fn sleep(&'static self, deadline_ns: Option<u64>) -> bool {
        let given = self.handover.sleep(deadline_ns);
        if let Some(p) = given {
            self.wire(p);
        }
        given.is_some()
    }

    /// Sleeps until the process ends, which is about to.
    pub(crate) fn sleep_for_good(&self) -> ! {
        loop {
            std::thread::park();
        }
    }

    /// Wakes this M, which sleeps or soon will, and gives it `p`. `handover.rs`, invariant 1, says
    /// which caller may.
    pub(crate) fn give(&self, p: &'static P, spinning: bool) {
        p.m.store(std::ptr::from_ref(self).cast_mut(), Release);
        self.spinning.set(spinning);
        self.handover.give(p);
    }

    /// This M takes `p`, which the caller owns (Go's `wirep`).
    pub(crate) fn wire(&'static self, p: &'static P) {
        p.m.store(std::ptr::from_ref(self).cast_mut(), Release);
        self.p.set(Some(p));
    }

    /// Resumes `g`. Returns when a goroutine of this M, not always the same one, comes back to g0.
    /// On g0, pinned.
    ///
    /// # Safety
    /// The caller owns `g`, which has a stack that was suspended (or prepared). The caller is on
    /// this M's g0.
    #[inline]
    pub(crate) unsafe fn resume(&self, g: &G) {
        // SAFETY: the caller's promise.
        unsafe { self.switch(self.fs.load(Relaxed), self.g0_sp.as_ptr(), g) };
    }

    /// Suspends `g`, which runs on this thread, and resumes `next`. Returns when `g` is resumed,
    /// perhaps on another M. Pinned.
    ///
    /// # Safety
    /// The caller is `g` on this M, and owns `next`, which has a stack that was suspended.
    #[inline]
    pub(crate) unsafe fn switch_between(&self, g: &G, next: &G) {
        // SAFETY: the caller's promise; `sp` is not read before `next` has put `g` where `action`
        // says.
        unsafe { self.switch(block_of(g), g.sp.as_ptr(), next) };
    }

    /// Suspends what runs here, on the block `from`, saves its stack pointer in `save`, and resumes
    /// `next`.
    ///
    /// # Safety
    /// As [`resume`](M::resume) and [`switch_between`](M::switch_between).
    #[inline(always)]
    unsafe fn switch(&self, from: usize, save: *mut usize, next: &G) {
        let fixed = self.fixed;
        // SAFETY: the caller owns `next`, so it may read the slot of `next`. A slot with a stack in
        // use has its block, and nothing runs on that.
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

    /// Suspends `g`, which runs on this thread, and goes on with g0. Returns when `g` is resumed,
    /// perhaps on another M. Pinned.
    ///
    /// # Safety
    /// The caller is `g` on this M.
    #[inline]
    pub(crate) unsafe fn switch_to_g0(&self, g: &G) {
        // SAFETY: g0 was suspended by `resume`; `sp` is not read before g0 has put `g` where
        // `action` says.
        unsafe {
            if self.fixed.mode != FsMode::Shared {
                self.carry_malloc_words(block_of(g), self.fs.load(Relaxed));
            }
            switch::switch(self.fixed.mode, g.sp.as_ptr(), self.g0_sp.get(), self.fs.load(Relaxed));
        }
    }

    /// Makes `to` the block of the goroutine that runs here. Returns the block before. Pinned on the
    /// block before; on `to` one section is open afterwards.
    ///
    /// # Safety
    /// No thread runs on `to`, a block of thread-locals. The code after the call uses no address of
    /// a thread-local from before it.
    #[inline(never)]
    pub(crate) unsafe fn change_block(to: usize) -> usize {
        let m = current().expect("a goroutine runs on an M");
        let g = m.g().expect("a goroutine");
        // SAFETY: the slot and the block are the goroutine's own; the caller's promise for `to`.
        unsafe {
            let from = block_of(g);
            at(to, m.fixed.current_offset).write(std::ptr::from_ref(m) as u64);
            m.carry_malloc_words(from, to);
            pin::begin_suspended(to);
            (*g.slot.get()).as_mut().expect("it runs").set_tp(to);
            g.tp.store(to, Relaxed);
            fs::write(to);
            from
        }
    }

    /// Keeps malloc's words with the M: copies them from the block that it leaves to the one that
    /// it goes to.
    ///
    /// # Safety
    /// Both are blocks of thread-locals, and this thread may use them.
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

/// Calls `f` on the stack at hand, but with the thread's own thread-locals: for signal handlers,
/// which come at any moment, and for allocators. `f` must neither unwind nor park.
pub(crate) fn on_own_block(f: &mut dyn FnMut()) {
    /// A function of its own, so that no address of a thread-local is kept from one side of the
    /// write to the other.
    #[inline(never)]
    fn call(f: &mut dyn FnMut()) {
        f();
    }
    let here = fs::read();
    let own = current().map_or(here, |m| m.fs.load(Relaxed));
    if own == here || own == 0 {
        return call(f);
    }
    // SAFETY: `own` is this thread's block. Only `f` runs on it, and then the block of before is
    // back.
    unsafe {
        fs::write(own);
        call(f);
        fs::write(here);
    }
}

/// As [`on_own_block`], for a signal that may come on a thread that has lent its block to a
/// goroutine: there `CURRENT` names the goroutine's M, and the block is the thread's own.
pub(crate) fn on_own_block_in_handler(f: &mut dyn FnMut()) {
    if current().is_some_and(|m| m.tid.load(Relaxed) != thread::tid()) {
        return f();
    }
    on_own_block(f);
}
