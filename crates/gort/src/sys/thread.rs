//! Threads of this process, as the kernel sees them.

use std::ffi::CStr;

/// The kernel's id of this thread.
pub(crate) fn tid() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// What to ask for so that a thread has a stack of `bytes`: libc takes its static thread-locals,
/// however many, from that.
pub(crate) fn stack_size(bytes: usize) -> usize {
    type StaticInfo = unsafe extern "C" fn(*mut usize, *mut usize);
    let (mut size, mut align) = (0, 0);
    // SAFETY: a name of libc's; that is this function's type in every glibc, and it writes two
    // numbers.
    unsafe {
        let info = libc::dlsym(libc::RTLD_DEFAULT, c"_dl_get_tls_static_info".as_ptr());
        if !info.is_null() {
            std::mem::transmute::<*mut libc::c_void, StaticInfo>(info)(&mut size, &mut align);
        }
    }
    bytes + size
}

/// The kernel ends this thread's sleeps as precisely as it can while this lives (the usual slack is
/// 50 µs). Not for good, where user code runs: children of a thread inherit its slack.
#[must_use]
pub(crate) struct PreciseSleep {
    slack_before: libc::c_int,
}

impl PreciseSleep {
    pub(crate) fn begin() -> PreciseSleep {
        // SAFETY: the two take and give numbers.
        unsafe {
            let slack_before = libc::prctl(libc::PR_GET_TIMERSLACK);
            libc::prctl(libc::PR_SET_TIMERSLACK, 1usize);
            PreciseSleep { slack_before }
        }
    }
}

impl Drop for PreciseSleep {
    fn drop(&mut self) {
        // SAFETY: takes a number. (Zero, of a real-time thread, is the thread's default.)
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, self.slack_before.max(0) as usize) };
    }
}

/// Sleeps for `time`, and hardly longer.
pub(crate) fn sleep(time: std::time::Duration) {
    let _precise = PreciseSleep::begin();
    std::thread::sleep(time);
}

/// Asks the kernel to let this thread run soon when it wakes up, before those that compute; it must need little time then. (A short
/// slice, Linux 6.12; kernels that know none ignore it.)
pub(crate) fn short_slices() {
    #[repr(C)]
    struct Attr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    const SLICE_NS: u64 = 100_000; // the shortest that there is
    const KEEP_POLICY: u64 = 8; // whoever runs the program with another policy means it
    // SAFETY: asks about this thread's own nice value; then the kernel reads an attribute of the size that it says.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
        let attr = Attr {
            size: size_of::<Attr>() as u32,
            policy: 0,
            flags: KEEP_POLICY,
            nice,
            priority: 0,
            runtime_ns: SLICE_NS,
            deadline_ns: 0,
            period_ns: 0,
        };
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0);
    }
}

/// How many threads the process has; `None` if /proc is not there. Allocates nothing.
pub(crate) fn count() -> Option<usize> {
    const NUM_THREADS: usize = 17; // counted from the state, the first word behind the name
    with_stat(c"/proc/self/stat", |stat| {
        std::str::from_utf8(stat).ok()?.split(' ').nth(NUM_THREADS)?.parse().ok()
    })
}

/// How many CPUs this thread may run on.
pub(crate) fn cpus() -> usize {
    allowed_cpus().len().max(1)
}

/// The CPUs that this thread may run on (none if the system does not say).
pub(crate) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a zeroed set is a valid place for the result.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// Binds this thread to one CPU, if the system lets it.
pub(crate) fn pin_to(cpu: usize) {
    // SAFETY: a set of our own.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// The process id.
pub(crate) fn process_id() -> i32 {
    // SAFETY: getpid has no preconditions.
    unsafe { libc::getpid() }
}

/// Sends `sig` to the thread `tid` of this process. One that is gone gets nothing.
pub(crate) fn signal(tid: i32, sig: i32) {
    if tid > 0 {
        // SAFETY: plain numbers; the group keeps the signal in this process, whoever has the number now.
        unsafe { libc::syscall(libc::SYS_tgkill, process_id(), tid, sig) };
    }
}

/// Whether the thread sleeps in the kernel; `None` if that cannot be found out, for want of a descriptor perhaps. Allocates nothing.
pub(crate) fn is_asleep(tid: i32) -> Option<bool> {
    let mut path = *b"/proc/self/task/0000000000/stat\0";
    let mut n = tid;
    for digit in path[16..26].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    // The kernel wants the number without zeros before it.
    let mut text = [0u8; 31];
    let zeros = path[16..26].iter().take_while(|&&d| d == b'0').count();
    text[..16].copy_from_slice(&path[..16]);
    text[16..31 - zeros].copy_from_slice(&path[16 + zeros..31]);
    with_stat(CStr::from_bytes_until_nul(&text).ok()?, |stat| Some(*stat.first()? == b'S'))
}

/// Calls `f` with what stands in a `stat` file of /proc from the state on. Allocates nothing.
fn with_stat<T>(path: &CStr, f: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let mut stat = [0u8; 512];
    // SAFETY: the path ends with a zero, the buffer is as long as said, the descriptor is closed again.
    let len = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let len = libc::read(fd, stat.as_mut_ptr().cast(), stat.len());
        libc::close(fd);
        len
    };
    let stat = &stat[..usize::try_from(len).ok()?];
    // "tid (name) S ...": the name may hold anything.
    let end = stat.iter().rposition(|&b| b == b')')?;
    f(stat.get(end + 2..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are as many threads as /proc lists. (Other tests' threads come and go.)
    #[test]
    fn threads_are_counted() {
        let listed = || std::fs::read_dir("/proc/self/task").expect("/proc is there").count();
        let agree = || {
            let (before, counted, after) = (listed(), count().expect("/proc is there"), listed());
            before == after && before == counted
        };
        assert!((0..10_000).any(|_| agree()));
    }

    /// A thread that waits is asleep, one that runs (this one) is not, one that is not there is not.
    #[test]
    fn asleep_or_not() {
        let (tx, rx) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            tx.send(tid()).expect("somebody listens");
            let _ = stopped.recv();
        });
        let other = rx.recv().expect("it sends");
        while is_asleep(other) != Some(true) {
            std::thread::yield_now();
        }
        assert_eq!(is_asleep(tid()), Some(false));
        assert_eq!(is_asleep(i32::MAX), None);
        drop(stop);
        sleeper.join().expect("it ends");
    }
}
