//! The FS base: the register through which every thread-local access goes.

use std::arch::asm;
use std::sync::OnceLock;

/// `AT_HWCAP2` bit by which the kernel says that user code may use `wrfsbase`.
const HWCAP2_FSGSBASE: u64 = 1 << 1;
const ARCH_SET_FS: usize = 0x1002;
const SYS_ARCH_PRCTL: usize = 158;

/// Whether `wrfsbase` may be used here. Without it each switch of the base is a system call.
pub(crate) fn has_fsgsbase() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    // SAFETY: getauxval only reads the vector that the kernel passed at start.
    *HAS.get_or_init(|| unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE != 0)
}

/// The FS base: glibc keeps the address of the descriptor in its first word, `fs:0`.
#[inline(always)]
pub(crate) fn read() -> usize {
    let base;
    // SAFETY: every thread of a glibc program has a descriptor whose first word points to itself; so do the
    // blocks of goroutines (checked at start).
    unsafe { asm!("mov {}, fs:0", out(reg) base, options(readonly, nostack, preserves_flags)) };
    base
}

/// What glibc mixes into the addresses that it keeps for jumps: the same in all threads.
pub(crate) fn pointer_guard() -> u64 {
    let guard;
    // SAFETY: the word lies in every thread's header, and in those of blocks.
    unsafe { asm!("mov {}, fs:0x30", out(reg) guard, options(readonly, nostack, preserves_flags)) };
    guard
}

/// Sets the FS base.
///
/// # Safety
/// `base` is a thread descriptor with its TLS block, nobody else runs on it, and the code up to the next
/// change of the base may use its thread-locals.
#[inline(always)]
pub(crate) unsafe fn write(base: usize) {
    if has_fsgsbase() {
        // SAFETY: the kernel allows the instruction (HWCAP2); the base is the caller's promise.
        unsafe { asm!("wrfsbase {}", in(reg) base, options(nostack, preserves_flags)) };
    } else {
        // SAFETY: arch_prctl(ARCH_SET_FS) does the same by a system call; the raw instruction is used because a
        // libc wrapper would write errno through a base that is just changing.
        unsafe {
            asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => _, in("rdi") ARCH_SET_FS, in("rsi") base,
                 out("rcx") _, out("r11") _, options(nostack));
        }
    }
}
