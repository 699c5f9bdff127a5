//! Sleeping on a 32-bit word. All waits use absolute deadlines, so a wait that is interrupted and
//! repeated keeps its deadline.

use super::clock;
use super::sync::AtomicU32;

/// Sleeps while `*word == expected`, at most until `deadline_ns` (CLOCK_MONOTONIC). Returns after a
/// wake, a changed word, the deadline, or spuriously; the caller must check the word again.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline_ns: Option<u64>) {
    let ts = deadline_ns.map(clock::timespec);
    let ts_ptr = ts.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: `word` lives for the call because the caller holds the reference. FUTEX_WAIT_BITSET
    // only reads it. `ts_ptr` is null or points to `ts`, which outlives the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            expected,
            ts_ptr,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        );
    }
}

/// As [`wait`] without a deadline, for a caller that must not touch a thread-local: libc's wrapper
/// writes `errno`.
pub(crate) fn wait_bare(word: &AtomicU32, expected: u32) {
    // SAFETY: as in `wait`. The kernel changes no memory, and the registers that are named.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") libc::SYS_futex => _, in("rdi") word.as_ptr(),
             in("rsi") libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, in("rdx") expected, in("r10") 0,
             out("rcx") _, out("r11") _, options(nostack));
    }
}

/// What [`wake_addr`] takes for this word.
pub(crate) fn address(word: &AtomicU32) -> *const u32 {
    word.as_ptr()
}

/// Wakes at most `n` sleepers on the word at `addr`. Only the address is used: the word may already
/// be gone, because its owner saw the change and left. Then the kernel wakes no thread, or an
/// unrelated one, which checks its own word again.
pub(crate) fn wake_addr(addr: *const u32, n: i32) {
    // SAFETY: FUTEX_WAKE_PRIVATE does not read or write user memory; a stale address is harmless
    // (see above).
    unsafe {
        libc::syscall(libc::SYS_futex, addr, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, n);
    }
}

/// Wakes at most `n` sleepers on `word`.
pub(crate) fn wake(word: &AtomicU32, n: i32) {
    wake_addr(word.as_ptr(), n);
}
