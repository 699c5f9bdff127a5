//! How deep this thread is in sections that must not lose their P to a signal.
//!
//! # Role
//! The handler that preempts (`sched/preempt/`) leaves a thread alone whose depth is not zero: it holds a lock of the
//! runtime, or works on the P. Entering and leaving is one instruction on a thread-local, so it is right at every instant at which
//! a signal can come.
//!
//! # Why assembly
//! In shared mode a goroutine changes its thread at parks, and the compiler may keep a thread-local's address across them. The
//! instruction here names the word by its offset from the FS base, which is the same on every thread and in every goroutine's
//! block (static TLS; `Layout::discover` checks that for the thread-locals beside it).

use super::fs;
use std::arch::asm;
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Where `DEPTH` lies, counted from the FS base; 0 before anybody asked.
static OFFSET: AtomicIsize = AtomicIsize::new(0);

#[cold]
fn find_offset() -> isize {
    let offset = DEPTH.with(|d| std::ptr::from_ref(d) as usize).wrapping_sub(fs::read()) as isize;
    OFFSET.store(offset, Relaxed);
    offset
}

/// Begins such a section; they nest.
#[inline(always)]
pub(crate) fn enter() {
    let mut offset = OFFSET.load(Relaxed);
    if offset == 0 {
        offset = find_offset();
    }
    // SAFETY: the word is this thread's own `DEPTH`.
    unsafe { asm!("inc dword ptr fs:[{}]", in(reg) offset, options(nostack)) };
}

/// Ends the section that the caller began last.
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

/// Whoever first runs on the block at `tp` is inside one section, which it ends.
///
/// # Safety
/// `tp` is the thread pointer of a block of thread-locals that nobody runs on.
pub(crate) unsafe fn begin_suspended(tp: usize) {
    let mut offset = OFFSET.load(Relaxed);
    if offset == 0 {
        offset = find_offset();
    }
    // SAFETY: `DEPTH` lies there in every block, and this one is the caller's.
    unsafe { (tp.wrapping_add_signed(offset) as *mut u32).write(1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sections nest, and are a thread's own.
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
