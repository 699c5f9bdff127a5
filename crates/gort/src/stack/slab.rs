//! Allocates stacks: slots in large slabs, one memory mapping per slab.
//!
//! ```text
//!   low                                                            low of the next, end
//!   ┌──────────────────┬─────────────── what was asked for, or more ──┬───────────────┐
//!   │ guard, 64 KiB    │ stack, grows down ◀──────────────────────────│ block         │
//!   └──────────────────┴──────────────────────────────────────────────┴───────────────┘
//! ```
//! A slot is address space that is committed when it is touched. The size of its stack is a power
//! of two, as was asked for, plus what the block leaves of its room. The block of thread-locals and
//! the guard come in addition, so everything between two stacks is a block or a guard. Where the
//! kernel can, the guard is made without splitting the mapping (`sys/map.rs`), so memory limits the
//! number of slots, not `vm.max_map_count`. Slots of one size form a class. The slabs of a class
//! are never unmapped: a slot that is given up returns its pages, and its address space is used
//! again.
//!
//! # The width of a guard
//! Compilers probe large frames page by page, but not all do. A C frame without probes that is
//! larger than the guard reaches the slot below. A guard costs no memory except page-table entries
//! (one table of 4 KiB for each 2 MiB of slots), so the width is chosen by that cost. Measured
//! below stacks of 256 KiB:
//!
//! | guard | time to install | page tables per slot |
//! | --- | --- | --- |
//! | 4 KiB | 0.7 µs | 537 bytes |
//! | 64 KiB | 1.5 µs | 649 bytes |
//! | 256 KiB | 2.5 µs | 1 034 bytes |
//!
//! # The distance of two slots
//! The distance is an odd number of pages. If it were a power of two, the tops of all stacks would
//! share a few sets of the TLB, and a thousand goroutines that take turns would miss it each time.
//!
//! # Free slots
//! A slot in the free list has either no block (it is fresh, or was given up) or a block whose
//! thread-locals keep their values, as on a thread of a thread pool.

use super::tls::{Block, Bounds, Layout};
use crate::sys::lock::Lock;
use crate::sys::map::{self, GuardKind, PAGE};
use crate::sys::map_vec::MapVec;
use crate::sys::sync::{AtomicUsize, Ordering::*};
use std::io;
use std::num::NonZeroUsize;

/// The default stack size: reserved address space. A parked goroutine uses one page of it.
pub(crate) const DEFAULT_STACK_BYTES: usize = 256 << 10;
/// The smallest stack.
pub(crate) const MIN_STACK_BYTES: usize = 16 << 10;
/// The largest stack.
pub(crate) const MAX_STACK_BYTES: usize = 1 << 30;
/// How much is mapped at once, unless a slot is larger.
const SLAB_BYTES: usize = 64 << 20;
/// The guard below each stack; for the size see the head of this file.
pub(crate) const GUARD_BYTES: usize = 64 << 10;
const MIN_SHIFT: u32 = MIN_STACK_BYTES.trailing_zeros();
const CLASSES: usize = (MAX_STACK_BYTES.trailing_zeros() - MIN_SHIFT) as usize + 1;

/// The bytes above each stack for the block: an odd number of pages.
static ROOM: AtomicUsize = AtomicUsize::new(PAGE);

/// Makes room for a block of `bytes` above the stack of every slot. Must be called before the first
/// slot is made.
pub(crate) fn make_room(bytes: usize) {
    let pages = bytes.div_ceil(PAGE) | 1;
    ROOM.fetch_max(pages * PAGE, Relaxed);
}

/// A stack slot. The owner of this value owns the slot's memory.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Not 0, so that an `Option<Slot>` is no larger.
    low: NonZeroUsize,
    class: u8,
    /// The thread-locals, once they are built. Before that `tp` is 0 and the stack begins at the
    /// slot's end.
    block: Block,
}

impl Slot {
    fn new(low: usize, class: u8) -> Slot {
        let end = low + slot_bytes(class);
        let low = NonZeroUsize::new(low).expect("nothing is mapped at 0");
        Slot { low, class, block: Block { tp: 0, stack_top: end } }
    }

    fn low(&self) -> usize {
        self.low.get()
    }

    /// The size of the whole slot, with guard and block.
    pub(crate) fn bytes(&self) -> usize {
        slot_bytes(self.class)
    }

    pub(crate) fn class(&self) -> u8 {
        self.class
    }

    /// The FS base of this slot; 0 if it has no block.
    #[inline]
    pub(crate) fn tp(&self) -> usize {
        self.block.tp
    }

    /// Where the stack begins, growing down; 64-byte aligned.
    #[inline]
    pub(crate) fn stack_top(&self) -> usize {
        self.block.stack_top
    }

    /// The addresses of the stack that may be accessed.
    pub(crate) fn stack(&self) -> std::ops::Range<usize> {
        self.low() + GUARD_BYTES..self.block.stack_top
    }

    /// The addresses of the whole slot.
    pub(crate) fn range(&self) -> std::ops::Range<usize> {
        self.low()..self.low() + self.bytes()
    }

    /// As libc is told of them.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { low: self.low(), end: self.range().end, guard: GUARD_BYTES }
    }

    /// Makes a thread's block that of this slot. Returns the one before.
    pub(crate) fn set_tp(&mut self, tp: usize) -> usize {
        std::mem::replace(&mut self.block.tp, tp)
    }

    /// The addresses that an overflow touches first.
    pub(crate) fn guard(&self) -> std::ops::Range<usize> {
        self.low()..self.low() + GUARD_BYTES
    }

    /// Builds the slot's thread-locals if it has none yet. Returns false if libc has no memory.
    pub(crate) fn ensure_block(&mut self, layout: &Layout) -> bool {
        if self.block.tp != 0 {
            return true;
        }
        let bounds = self.bounds();
        assert!(layout.block_bytes() <= ROOM.load(Relaxed), "no room was made for the block");
        // SAFETY: without a block the slot's pages are fresh or were decommitted, so they are zero,
        // and they belong to this slot.
        match unsafe { layout.build(bounds) } {
            Some(block) => {
                self.block = block;
                true
            }
            None => false,
        }
    }

    /// For AddressSanitizer: what earlier frames have marked is a fresh stack again. The frames
    /// of a goroutine that has ended did not return, so their marks are left.
    #[inline]
    pub(crate) fn forget_frames(&self) {
        #[cfg(gort_asan)]
        {
            unsafe extern "C" {
                fn __asan_unpoison_memory_region(addr: *const u8, size: usize);
            }
            let stack = self.stack();
            // SAFETY: the stack is the caller's, and no frame is on it.
            unsafe { __asan_unpoison_memory_region(stack.start as *const u8, stack.len()) };
        }
    }

    /// Returns to the system the pages that are completely below `sp`.
    ///
    /// # Safety
    /// No thread is on the stack, and nothing below `sp` is needed.
    pub(crate) unsafe fn decommit_below(&self, sp: usize) {
        let (begin, end) = (self.low() + GUARD_BYTES, sp & !(PAGE - 1));
        if (begin + 1..self.range().end).contains(&end) {
            // SAFETY: the caller's promise.
            unsafe { map::decommit(begin, end - begin) };
        }
    }

    /// Returns the pages to the system and makes every access to the slot fault.
    ///
    /// # Errors
    /// The kernel's error; part of the slot may then be closed.
    ///
    /// # Safety
    /// Guards are of [`GuardKind::Install`], the contents of the slot are kept elsewhere, and the
    /// slot is not touched before [`open`](Slot::open).
    pub(crate) unsafe fn close(&self) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { map::guard(self.low() + GUARD_BYTES, self.bytes() - GUARD_BYTES, GuardKind::Install) }
    }

    /// Undoes [`close`](Slot::close); the slot is zero then.
    ///
    /// # Errors
    /// The kernel's error.
    ///
    /// # Safety
    /// It was [closed](Slot::close).
    pub(crate) unsafe fn open(&self) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { map::unguard(self.low() + GUARD_BYTES, self.bytes() - GUARD_BYTES) }
    }

    /// Frees the block and returns the pages; the slot can be used again like a fresh one.
    ///
    /// # Safety
    /// The destructors of the block ran, and no thread is on the stack.
    pub(crate) unsafe fn give_up(&mut self, layout: Option<&Layout>) {
        if let Some(layout) = layout
            && self.block.tp != 0
        {
            // SAFETY: the caller's promise.
            unsafe { layout.destroy(self.block.tp) };
        }
        *self = Slot::new(self.low(), self.class);
        // SAFETY: nothing in the slot is needed any more.
        unsafe { map::decommit(self.low() + GUARD_BYTES, self.bytes() - GUARD_BYTES) };
    }
}

/// The stack size of a class; the stack of a slot may be somewhat larger.
fn stack_bytes(class: u8) -> usize {
    MIN_STACK_BYTES << class
}

/// The distance from one slot to the next.
fn slot_bytes(class: u8) -> usize {
    GUARD_BYTES + stack_bytes(class) + ROOM.load(Relaxed)
}

/// The class whose stacks have at least `bytes`.
///
/// # Errors
/// A message, if `bytes` is more than the largest stack.
pub(crate) fn class_for(bytes: usize) -> Result<u8, String> {
    if bytes > MAX_STACK_BYTES {
        return Err(format!("a stack of {bytes} bytes is larger than the maximum, {MAX_STACK_BYTES}"));
    }
    let bytes = bytes.max(MIN_STACK_BYTES).next_power_of_two();
    Ok((bytes.trailing_zeros() - MIN_SHIFT) as u8)
}

/// The slots of one size.
struct Class {
    free: MapVec<Slot>,
    /// The unused rest of the newest slab.
    next: usize,
    end: usize,
}

static CLASS: [Lock<Class>; CLASSES] =
    [const { Lock::new(Class { free: MapVec::new(), next: 0, end: 0 }) }; CLASSES];

/// The length of each class's free list; changed under the class's lock, read without it.
static FREE: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

/// How many slots exist, free or not.
static SLOTS: AtomicUsize = AtomicUsize::new(0);

/// Not 0: use `mprotect` guards instead of the best ones. For tests of the fallback.
static FORCE_MPROTECT: AtomicUsize = AtomicUsize::new(0);

/// Makes guards by `mprotect` even where the kernel can do better.
pub(crate) fn force_mprotect_guards() {
    FORCE_MPROTECT.store(1, Relaxed);
}

/// How guards are made in this process.
pub(crate) fn guards() -> GuardKind {
    if FORCE_MPROTECT.load(Relaxed) != 0 { GuardKind::Mprotect } else { map::guard_kind() }
}

/// Advice for the user when no slot can be allocated: if guards split mappings, their number is
/// limited.
pub(crate) fn advice() -> &'static str {
    match guards() {
        GuardKind::Install => "",
        GuardKind::Mprotect => " (each stack's guard takes a mapping on this kernel: raise vm.max_map_count)",
    }
}

/// Allocates a slot of `class`: the most recently freed one, or else a fresh one.
pub(crate) fn allocate(class: u8) -> io::Result<Slot> {
    let stride = slot_bytes(class);
    let mut c = CLASS[class as usize].lock();
    if let Some(slot) = c.free.pop() {
        FREE[class as usize].store(c.free.len(), Relaxed);
        return Ok(slot);
    }
    if c.next == c.end {
        let slab = (SLAB_BYTES / stride).max(1) * stride;
        let base = map::reserve(slab)?;
        c.next = base;
        c.end = base + slab;
    }
    let low = c.next;
    // SAFETY: the slot's low end lies in a slab that was mapped for slots, and this slot is not
    // used yet.
    unsafe { map::guard(low, GUARD_BYTES, guards()) }?;
    c.next += stride;
    drop(c);
    SLOTS.fetch_add(1, Relaxed);
    Ok(Slot::new(low, class))
}

/// Takes slots back, to be used again as they are.
pub(crate) fn free(slots: impl Iterator<Item = Slot>) {
    for slot in slots {
        let class = slot.class as usize;
        let mut c = CLASS[class].lock();
        c.free.push(slot);
        FREE[class].store(c.free.len(), Relaxed);
    }
}

/// Takes up to `max` slots that were freed longest ago, while more than `keep` are free in their
/// class.
pub(crate) fn take_cold(keep: usize, max: usize) -> Vec<Slot> {
    let mut cold = Vec::with_capacity(max);
    for (class, free) in CLASS.iter().zip(&FREE) {
        let mut c = class.lock();
        let surplus = c.free.len().saturating_sub(keep).min(max - cold.len());
        c.free.take_front(surplus, |slot| cold.push(slot));
        free.store(c.free.len(), Relaxed);
    }
    cold
}

/// Whether a class has more than `keep` free slots; checked without locks.
pub(crate) fn has_cold(keep: usize) -> bool {
    FREE.iter().any(|free| free.load(Relaxed) > keep)
}

/// How many slots exist, and how many of them are in the free lists (without those that Ps keep
/// cached).
pub(crate) fn counts() -> (usize, usize) {
    (SLOTS.load(Relaxed), FREE.iter().map(|free| free.load(Relaxed)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes are rounded up to a class; too large ones are refused with both numbers.
    #[test]
    fn classes() {
        for (asked, given) in [
            (0, MIN_STACK_BYTES),
            (MIN_STACK_BYTES + 1, 2 * MIN_STACK_BYTES),
            (DEFAULT_STACK_BYTES, DEFAULT_STACK_BYTES),
            (MAX_STACK_BYTES, MAX_STACK_BYTES),
        ] {
            assert_eq!(class_for(asked).map(stack_bytes), Ok(given));
        }
        for asked in [MAX_STACK_BYTES + 1, usize::MAX] {
            let e = class_for(asked).unwrap_err();
            assert!(e.contains(&asked.to_string()) && e.contains(&MAX_STACK_BYTES.to_string()), "{e}");
        }
    }

    /// A stack is as large as its class says, with the block above it and all of the guard below
    /// it. Only the guard lies between a block and the stack above it.
    #[test]
    fn block_and_guard_come_on_top() {
        let layout = crate::stack::tls::tests::layout();
        for asked in [1, MIN_STACK_BYTES, 100_000, DEFAULT_STACK_BYTES] {
            let class = class_for(asked).expect("small");
            let [mut a, mut b] = [(); 2].map(|()| allocate(class).expect("memory"));
            for slot in [&mut a, &mut b] {
                assert!(slot.ensure_block(layout));
                assert!(slot.stack().len() >= asked.max(MIN_STACK_BYTES), "{slot:?}");
                assert_eq!((slot.guard().end, slot.guard().len()), (slot.stack().start, GUARD_BYTES));
                assert!(slot.range().end - slot.tp() < PAGE.max(layout.block_bytes()));
            }
            let stride = slot_bytes(class);
            assert!((stride / PAGE) % 2 == 1 && stride.is_multiple_of(PAGE), "{stride}");
            assert!(a.low().abs_diff(b.low()).is_multiple_of(stride));
            free([a, b].into_iter());
        }
    }

    /// Slots do not overlap; a slot is zero when fresh and again after it was given up.
    #[test]
    fn slots_are_separate_and_come_back_clean() {
        crate::stack::tls::tests::layout();
        let class = class_for(64 << 10).expect("small");
        let mut a = allocate(class).expect("memory");
        let b = allocate(class).expect("memory");
        assert!(a.stack().end <= b.guard().start || b.stack().end <= a.guard().start);
        let top = (a.stack().end - 8) as *mut u64;
        // SAFETY: the slot belongs to the test and its stack is writable.
        unsafe {
            assert_eq!(*top, 0);
            *top = 7;
            a.give_up(None);
            assert_eq!(*top, 0);
        }
        free([a, b].into_iter());
    }
}
