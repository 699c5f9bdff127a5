//! Threads of this process, as the kernel sees them.

/// The kernel's id of this thread.
pub(crate) fn tid() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// Asks the kernel to end this thread's sleeps as precisely as it can (the default slack is 50 µs).
pub(crate) fn precise_sleeps() {
    // SAFETY: PR_SET_TIMERSLACK takes a number.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1usize) };
}

/// How many threads the process has; `None` if /proc is not there.
pub(crate) fn count() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// CPUs that this process may run on.
pub(crate) fn cpus() -> usize {
    // SAFETY: a zeroed set is a valid place for the result.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return 1;
        }
        (libc::CPU_COUNT(&set) as usize).max(1)
    }
}
