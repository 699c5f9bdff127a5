//! Switching stacks.
//!
//! A suspended stack looks like this; its `sp` is all that has to be kept:
//!
//! ```text
//!        higher addresses
//!   ┌──────────────────────┐
//!   │ frames of the caller │
//!   ├──────────────────────┤
//!   │ return address       │ sp + 56   of the call of `switch`; `start` on a fresh stack
//!   │ rbp                  │ sp + 48
//!   │ rbx                  │ sp + 40
//!   │ r12                  │ sp + 32   on a fresh stack: the argument of the entry function
//!   │ r13                  │ sp + 24   on a fresh stack: the entry function
//!   │ r14                  │ sp + 16
//!   │ r15                  │ sp + 8
//!   │ x87 cw │ mxcsr       │ sp        rounding and exception masks: each goroutine has its own
//!   └──────────────────────┘
//! ```
//! The compiler saves everything else around the call, because `switch` is an ordinary function to
//! it. The FS base is written between the two stacks, where no instruction uses a thread-local.

use std::arch::{asm, naked_asm};
use std::ffi::c_void;

/// Offsets of the saved registers from the `sp` of a suspended stack.
pub(crate) const SAVED_RBP: usize = 48;
/// See [`SAVED_RBP`].
pub(crate) const SAVED_RIP: usize = 56;
const SAVED_R12: usize = 32;
const SAVED_R13: usize = 24;
const FRAME_BYTES: usize = 64;

/// The control words that a process starts with: all exceptions masked, round to nearest.
const DEFAULT_MXCSR: u32 = 0x1F80;
const DEFAULT_X87_CW: u32 = 0x037F;

macro_rules! switch_body {
    ($($set_fs:literal),*) => {
        naked_asm!(
            "push rbp",
            "push rbx",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            "sub rsp, 8",
            "stmxcsr [rsp]",
            "fnstcw [rsp + 4]",
            "mov eax, [rsp]",
            "movzx ecx, word ptr [rsp + 4]",
            "mov [rdi], rsp", // the stack can be resumed by others from here on
            "mov rsp, rsi",
            $($set_fs,)*
            // Loading a control word is slow, so it is loaded only if it differs.
            "cmp eax, [rsp]",
            "je 2f",
            "ldmxcsr [rsp]",
            "2:",
            "cmp cx, word ptr [rsp + 4]",
            "je 3f",
            "fldcw [rsp + 4]",
            "3:",
            "add rsp, 8",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbx",
            "pop rbp",
            "ret",
        )
    };
}

/// Suspends the current stack into `*save` and resumes the one suspended at `to`.
///
/// # Safety
/// `to` was written by a switch (or by [`prepare`]) and is resumed once. `save` is valid and is not
/// read before the stack is off this thread. `_fs` is ignored: both stacks use the thread's own
/// thread-locals.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch_same_fs(save: *mut usize, to: usize, _fs: usize) {
    switch_body!()
}

/// Like [`switch_same_fs`], and sets the FS base to `fs`.
///
/// # Safety
/// As for [`switch_same_fs`]. In addition, `fs` is the descriptor on which the resumed stack was
/// suspended, and the kernel allows `wrfsbase`.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch_wrfsbase(save: *mut usize, to: usize, fs: usize) {
    switch_body!("wrfsbase rdx")
}

/// Like [`switch_wrfsbase`], but with `arch_prctl(ARCH_SET_FS)`.
///
/// # Safety
/// As for [`switch_wrfsbase`], except that the kernel need not allow `wrfsbase`.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch_arch_prctl(save: *mut usize, to: usize, fs: usize) {
    switch_body!(
        "mov r8d, eax",
        "mov r9d, ecx", // the system call clobbers rax and rcx
        "mov eax, 158",
        "mov edi, 0x1002",
        "mov rsi, rdx",
        "syscall",
        "mov eax, r8d",
        "mov ecx, r9d"
    )
}

/// The caller's stack pointer. (The address of a local variable may be elsewhere: AddressSanitizer
/// keeps locals on a stack of its own.)
#[inline(always)]
pub(super) fn stack_pointer() -> usize {
    let sp;
    // SAFETY: only reads the register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

/// How a switch treats the FS base; decided once at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FsMode {
    /// Goroutines use the thread's own thread-locals.
    Shared,
    /// Each stack has its own; `wrfsbase` sets the base.
    Wrfsbase,
    /// Each stack has its own; a system call sets the base.
    ArchPrctl,
}

/// Suspends the current stack into `*save` and resumes the one suspended at `to`, on the FS base
/// `fs`.
///
/// # Safety
/// See [`switch_wrfsbase`]; `mode` is the same in every call of the process.
#[inline(always)]
pub(crate) unsafe fn switch(mode: FsMode, save: *mut usize, to: usize, fs: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match mode {
            FsMode::Wrfsbase => switch_wrfsbase(save, to, fs),
            FsMode::Shared => switch_same_fs(save, to, fs),
            FsMode::ArchPrctl => switch_arch_prctl(save, to, fs),
        }
    }
}

/// The first frame of every goroutine: calls `r13(r12)`, which never returns. `.cfi_undefined rip`
/// tells debuggers and the unwinder that there is no caller.
#[unsafe(naked)]
unsafe extern "sysv64" fn start() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",
        "mov rdi, r12",
        "call r13",
        "ud2",
        ".cfi_endproc",
    )
}

/// Prepares a fresh stack below `top`, so that the first [`switch`] to the returned `sp` calls
/// `entry(arg)`.
///
/// # Safety
/// `top` is 16-byte aligned and the end of writable memory that is not otherwise used.
pub(crate) unsafe fn prepare(top: usize, entry: extern "sysv64" fn(usize) -> !, arg: usize) -> usize {
    // After `ret` pops the return address, rsp is `top - 16`: 16-byte aligned, as `start` needs it
    // for its call.
    let sp = top - 16 - FRAME_BYTES;
    let word = |off: usize| (sp + off) as *mut usize;
    // SAFETY: the words lie in the memory that the caller gives. The rest of the frame may hold
    // anything, because `start` does not use the other registers.
    unsafe {
        (sp as *mut u32).write(DEFAULT_MXCSR);
        ((sp + 4) as *mut u32).write(DEFAULT_X87_CW);
        word(SAVED_RBP).write(0);
        word(SAVED_R12).write(arg);
        word(SAVED_R13).write(entry as usize);
        word(SAVED_RIP).write(start as *const () as usize);
        word(SAVED_RIP + 8).write(0);
    }
    sp
}

/// Calls `f(arg)`. To an unwinder that starts in `f`, the caller is the stack that was suspended at
/// `sp`: the frame description says that the registers are where [`switch`] has left them.
///
/// # Safety
/// `sp` was written by a switch, and that stack is not resumed meanwhile. `f` does not unwind.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn call_as_if_from(
    sp: usize,
    f: extern "sysv64" fn(*mut c_void),
    arg: *mut c_void,
) {
    naked_asm!(
        ".cfi_startproc",
        "push r12",
        "mov r12, rdi",
        "mov rdi, rdx",
        ".cfi_def_cfa r12, 64",
        ".cfi_offset rip, -8",
        ".cfi_offset rbp, -16",
        ".cfi_offset rbx, -24",
        ".cfi_offset r12, -32",
        ".cfi_offset r13, -40",
        ".cfi_offset r14, -48",
        ".cfi_offset r15, -56",
        "call rsi",
        "pop r12",
        "ret",
        ".cfi_endproc",
    )
}
