//! Threads of this process as the kernel sees them.

use std::ffi::CStr;

/// The kernel's id of this thread.
pub(crate) fn tid() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// The stack size to ask for so that a thread can use `bytes` of it: libc takes its static
/// thread-locals from the same memory, however large they are.
pub(crate) fn stack_size(bytes: usize) -> usize {
    type StaticInfo = unsafe extern "C" fn(*mut usize, *mut usize);
    let (mut size, mut align) = (0, 0);
    // SAFETY: the symbol is libc's; the function has this type in every glibc, and it writes two
    // numbers.
    unsafe {
        let info = libc::dlsym(libc::RTLD_DEFAULT, c"_dl_get_tls_static_info".as_ptr());
        if !info.is_null() {
            std::mem::transmute::<*mut libc::c_void, StaticInfo>(info)(&mut size, &mut align);
        }
    }
    bytes + size
}

/// While this lives, the kernel ends this thread's sleeps as precisely as it can (the usual slack
/// is 50 µs). Do not keep it where user code runs: new threads inherit the slack of the thread that
/// starts them.
#[must_use]
pub(crate) struct PreciseSleep {
    slack_before: libc::c_int,
}

impl PreciseSleep {
    pub(crate) fn begin() -> PreciseSleep {
        // SAFETY: both calls take and return numbers only.
        unsafe {
            let slack_before = libc::prctl(libc::PR_GET_TIMERSLACK);
            libc::prctl(libc::PR_SET_TIMERSLACK, 1usize);
            PreciseSleep { slack_before }
        }
    }
}

impl Drop for PreciseSleep {
    fn drop(&mut self) {
        // SAFETY: takes a number only. (Zero, which a real-time thread has, sets the thread's
        // default.)
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, self.slack_before.max(0) as usize) };
    }
}

/// Sleeps for `time`, and hardly longer.
pub(crate) fn sleep(time: std::time::Duration) {
    let _precise = PreciseSleep::begin();
    std::thread::sleep(time);
}

/// Asks the kernel to run this thread soon after it wakes up, before CPU-bound threads. The thread
/// must then need little time. (Sets a short slice, Linux 6.12; kernels without that ignore it.)
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
    const SLICE_NS: u64 = 100_000; // the shortest possible
    const KEEP_POLICY: u64 = 8; // another policy was chosen on purpose
    // SAFETY: reads this thread's own nice value; then the kernel reads an attribute of the size
    // given in it.
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

/// How many threads the process has; `None` if /proc is missing. Allocates nothing.
pub(crate) fn count() -> Option<usize> {
    const NUM_THREADS: usize = 17; // from the state, the first field after the name
    with_stat(c"/proc/self/stat", |stat| {
        std::str::from_utf8(stat).ok()?.split(' ').nth(NUM_THREADS)?.parse().ok()
    })
}

/// How many CPUs this thread may run on.
pub(crate) fn cpus() -> usize {
    allowed_cpus().len().max(1)
}

/// The CPUs that this thread may run on; empty if the system call fails.
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

/// Binds this thread to one CPU, if the system permits it.
pub(crate) fn pin_to(cpu: usize) {
    // SAFETY: the set is a local.
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

/// Sends `sig` to the thread `tid` of this process. A thread that has ended gets nothing.
pub(crate) fn signal(tid: i32, sig: i32) {
    if tid > 0 {
        // SAFETY: only numbers are passed. With the thread group given, the signal stays in this
        // process, whichever thread has the id now.
        unsafe { libc::syscall(libc::SYS_tgkill, process_id(), tid, sig) };
    }
}

/// Whether the thread sleeps in the kernel, or waits for a disk there. `None` if that cannot be read,
/// for example without a free file descriptor. Allocates nothing.
pub(crate) fn is_asleep(tid: i32) -> Option<bool> {
    let mut path = *b"/proc/self/task/0000000000/stat\0";
    let mut n = tid;
    for digit in path[16..26].iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    // The kernel wants the number without leading zeros.
    let mut text = [0u8; 31];
    let zeros = path[16..26].iter().take_while(|&&d| d == b'0').count();
    text[..16].copy_from_slice(&path[..16]);
    text[16..31 - zeros].copy_from_slice(&path[16 + zeros..31]);
    with_stat(CStr::from_bytes_until_nul(&text).ok()?, |stat| Some(matches!(stat.first()?, b'S' | b'D')))
}

/// How much CPU time the thread has used, in nanoseconds; `None` if it has ended.
pub(crate) fn cpu_ns(tid: i32) -> Option<u64> {
    /// The kernel's name for the clock of a thread: its id, inverted, and these bits.
    const OF_A_THREAD: i32 = 4;
    const SCHED: i32 = 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result has its place.
    let ok = unsafe { libc::clock_gettime(!tid << 3 | OF_A_THREAD | SCHED, &mut time) } == 0;
    ok.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Calls `f` with the contents of a `stat` file of /proc, from the state field on. Allocates
/// nothing.
fn with_stat<T>(path: &CStr, f: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    let mut stat = [0u8; 512];
    // SAFETY: the path ends with a zero, the buffer has the given length, and the descriptor is
    // closed again.
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
    // "tid (name) S ...": the name may contain anything.
    let end = stat.iter().rposition(|&b| b == b')')?;
    f(stat.get(end + 2..)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` agrees with what /proc lists. (Threads of other tests come and go.)
    #[test]
    fn threads_are_counted() {
        let listed = || std::fs::read_dir("/proc/self/task").expect("/proc is there").count();
        let agree = || {
            let (before, counted, after) = (listed(), count().expect("/proc is there"), listed());
            before == after && before == counted
        };
        assert!((0..10_000).any(|_| agree()));
    }

    /// A waiting thread is asleep, a running one (this one) is not, and for a missing one there is
    /// no answer.
    #[test]
    fn asleep_or_not() {
        let (tx, rx) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            tx.send(tid()).expect("the test receives");
            let _ = stopped.recv();
        });
        let other = rx.recv().expect("it sends");
        // It may not have stopped yet when it says that it sleeps.
        while is_asleep(other) != Some(true) || cpu_ns(other) != cpu_ns(other) {
            std::thread::yield_now();
        }
        assert_eq!(is_asleep(tid()), Some(false));
        assert_eq!(is_asleep(i32::MAX), None);
        assert_eq!(cpu_ns(1 << 23), None);
        assert!(cpu_ns(tid()) < cpu_ns(tid()));
        drop(stop);
        sleeper.join().expect("it ends");
    }
}
