//! The FS base: the register that every access to a thread-local uses.

use std::arch::asm;
use std::sync::OnceLock;

/// Bit of `AT_HWCAP2` that says that user code may use `wrfsbase`.
const HWCAP2_FSGSBASE: u64 = 1 << 1;
const ARCH_SET_FS: usize = 0x1002;
const SYS_ARCH_PRCTL: usize = 158;

/// Whether `wrfsbase` may be used here. Without it each change of the base is a system call.
pub(crate) fn has_fsgsbase() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    // SAFETY: getauxval only reads the vector that the kernel passed at start.
    *HAS.get_or_init(|| unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE != 0)
}

/// Reads the FS base: glibc keeps the address of the descriptor in its first word, `fs:0`.
#[inline(always)]
pub(crate) fn read() -> usize {
    let base;
    // SAFETY: every thread of a glibc program has a descriptor whose first word points to itself,
    // and so do the blocks of goroutines (checked at start).
    unsafe { asm!("mov {}, fs:0", out(reg) base, options(readonly, nostack, preserves_flags)) };
    base
}

/// The value that glibc mixes into the addresses it stores for jumps; the same in all threads.
pub(crate) fn pointer_guard() -> u64 {
    let guard;
    // SAFETY: the word is in the header of every thread and of every goroutine's block.
    unsafe { asm!("mov {}, fs:0x30", out(reg) guard, options(readonly, nostack, preserves_flags)) };
    guard
}

/// Sets the FS base.
///
/// # Safety
/// `base` is a thread descriptor with its TLS block, no other thread runs on it, and the code up to
/// the next change of the base may use its thread-locals.
#[inline(always)]
pub(crate) unsafe fn write(base: usize) {
    if has_fsgsbase() {
        // SAFETY: the kernel allows the instruction (HWCAP2); the base is the caller's promise.
        unsafe { asm!("wrfsbase {}", in(reg) base, options(nostack, preserves_flags)) };
    } else {
        // SAFETY: arch_prctl(ARCH_SET_FS) does the same by a system call. The raw instruction is
        // used because a libc wrapper would write errno through the base that is being changed.
        unsafe {
            asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => _, in("rdi") ARCH_SET_FS, in("rsi") base,
                 out("rcx") _, out("r11") _, options(nostack));
        }
    }
}
