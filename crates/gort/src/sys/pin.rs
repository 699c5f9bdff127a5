//! How many sections this thread is in during which a signal must not take its P away.
//!
//! # Role
//! The preemption handler (`sched/preempt/`) leaves a thread alone whose depth is not zero: that
//! thread holds a lock of the runtime or works on the P. Entering and leaving is one instruction on
//! a thread-local, so the depth is right at every instant at which a signal can arrive.
//!
//! # Why assembly
//! In shared mode a goroutine changes its thread at parks, and the compiler may keep the address of
//! a thread-local across them. The instruction here addresses the word by its offset from the FS
//! base. The offset is the same on every thread and in every goroutine's block (static TLS;
//! `Layout::discover` checks that for the thread-locals beside it).

use super::fs;
use std::arch::asm;
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// The offset of `DEPTH` from the FS base; 0 until it is first needed.
static OFFSET: AtomicIsize = AtomicIsize::new(0);

#[cold]
fn find_offset() -> isize {
    let offset = DEPTH.with(|d| std::ptr::from_ref(d) as usize).wrapping_sub(fs::read()) as isize;
    OFFSET.store(offset, Relaxed);
    offset
}

/// Begins a section; sections nest.
#[inline(always)]
pub(crate) fn enter() {
    let mut offset = OFFSET.load(Relaxed);
    if offset == 0 {
        offset = find_offset();
    }
    // SAFETY: the word is this thread's own `DEPTH`.
    unsafe { asm!("inc dword ptr fs:[{}]", in(reg) offset, options(nostack)) };
}

/// Ends the section that was begun last.
#[inline(always)]
pub(crate) fn leave() {
    // SAFETY: as in `enter`, which has set the offset.
    unsafe { asm!("dec dword ptr fs:[{}]", in(reg) OFFSET.load(Relaxed), options(nostack)) };
}

/// How many sections are open.
#[inline(always)]
pub(crate) fn depth() -> u32 {
    let mut offset = OFFSET.load(Relaxed);
    if offset == 0 {
        offset = find_offset();
    }
    let depth: u32;
    // SAFETY: as in `enter`.
    unsafe {
        asm!("mov {:e}, dword ptr fs:[{}]", out(reg) depth, in(reg) offset, options(nostack, readonly))
    };
    depth
}

/// Where the depth lies in the block at `tp`.
pub(crate) fn place(tp: usize) -> usize {
    tp.wrapping_add_signed(OFFSET.load(Relaxed))
}

/// Makes the first thread that runs on the block at `tp` start inside one section, which it then
/// ends.
///
/// # Safety
/// `tp` is the thread pointer of a block of thread-locals that no thread runs on.
pub(crate) unsafe fn begin_suspended(tp: usize) {
    let mut offset = OFFSET.load(Relaxed);
    if offset == 0 {
        offset = find_offset();
    }
    // SAFETY: `DEPTH` is there in every block, and this block is the caller's.
    unsafe { (tp.wrapping_add_signed(offset) as *mut u32).write(1) };
}

/// Makes no section open on the block at `tp`.
///
/// # Safety
/// As [`begin_suspended`].
pub(crate) unsafe fn reset(tp: usize) {
    // SAFETY: as in `begin_suspended`, and a section was opened before.
    unsafe { (tp.wrapping_add_signed(OFFSET.load(Relaxed)) as *mut u32).write(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sections nest, and each thread has its own depth.
    #[test]
    fn sections_nest() {
        assert_eq!(depth(), 0);
        enter();
        enter();
        assert_eq!(depth(), 2);
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(depth(), 0));
        });
        leave();
        leave();
        assert_eq!(depth(), 0);
    }
}
