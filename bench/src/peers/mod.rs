//! The workloads, written for each peer as its users would.
//!
//! A child process runs one workload:
//!
//! - `child PEER WORKLOAD N PROCS` prints its figures and ends.
//! - `serve PEER KIND PROCS` prints its address and serves until its standard input ends.
//! - `parked` and `parked-swapped` print what starting took, and wait until standard input ends.

pub(crate) mod on_golib;
pub(crate) mod on_gort;
pub(crate) mod on_may;
pub(crate) mod on_threads;
pub(crate) mod on_tokio;
pub(crate) mod serve_bare;
pub(crate) mod serve_golib;
pub(crate) mod serve_gort;
pub(crate) mod serve_may;
pub(crate) mod serve_tokio;
pub(crate) mod shares;

use rustix::time::{ClockId, clock_gettime};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// The bytes of an echo, and the size of a server's read buffer.
pub(crate) const MESSAGE: usize = 64;
pub(crate) const ECHO_BUFFER: usize = 1_024;
/// The number of CPU-bound goroutines beside the echo of `hogs`.
pub(crate) const HOGS: usize = 8;
/// `sleepers-10k`: the length of each sleep, and how long the loops run.
pub(crate) const NAP: Duration = Duration::from_millis(10);
pub(crate) const NAPS_LAST: Duration = Duration::from_secs(3);
/// The sleep of `late`.
pub(crate) const SHORT_NAP: Duration = Duration::from_micros(100);
/// The sleep of `sleepers-1m`.
pub(crate) const LONG_NAP: Duration = Duration::from_secs(3);
/// `sort` forks for slices that are longer than this.
pub(crate) const GRAIN: usize = 2_048;
/// `rwlock-8`: one of this many accesses writes.
pub(crate) const WRITES_ONE_OF: u64 = 20;

pub(crate) fn nanos(since: Instant) -> f64 {
    since.elapsed().as_nanos() as f64
}

/// The CPU time that this process has used, in nanoseconds.
pub(crate) fn cpu_ns() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e9 + used.tv_nsec as f64
}

/// The `percent`th percentile.
pub(crate) fn percentile(values: &mut [u64], percent: usize) -> f64 {
    let at = (values.len() * percent / 100).min(values.len() - 1);
    *values.select_nth_unstable(at).1 as f64
}

/// The Fibonacci number whose computation forks about `n` times, and the number of its forks.
pub(crate) fn fib_of(n: u64) -> (u64, u64) {
    let (mut k, mut a, mut b) = (1, 1u64, 1u64); // fib(1), fib(2)
    while a + b - 1 <= n {
        (a, b) = (b, a + b);
        k += 1;
    }
    (k, b - 1)
}

/// Numbers to sort, the same in every run.
pub(crate) fn numbers(n: u64) -> Vec<u64> {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    let next = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    (0..n).map(next).collect()
}

/// Moves what is smaller than the pivot (the middle element) to the front. Returns the pivot's
/// place.
pub(crate) fn partition(v: &mut [u64]) -> usize {
    let last = v.len() - 1;
    v.swap(v.len() / 2, last);
    let pivot = v[last];
    let mut at = 0;
    for i in 0..last {
        if v[i] < pivot {
            v.swap(i, at);
            at += 1;
        }
    }
    v.swap(at, last);
    at
}

/// Keeps the optimiser from removing a value that is not used.
pub(crate) fn use_up<T>(value: T) {
    std::hint::black_box(value);
}

/// The handler of a connection on peers with blocking calls.
pub(crate) fn echo(mut stream: impl Read + Write) -> std::io::Result<()> {
    let mut buffer = [0; ECHO_BUFFER];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Returns when the runner has closed this process's standard input.
pub(crate) fn until_told() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Part of a slice, for tasks that cannot borrow.
pub(crate) struct Part(*mut u64, usize);

// SAFETY: a part is an exclusive piece of a vector that outlives the tasks (see `Part::new`).
unsafe impl Send for Part {}

impl Part {
    /// # Safety
    /// The owner of the memory keeps it, and does not access it, until all tasks that got parts of
    /// it have ended.
    pub(crate) unsafe fn new(v: &mut [u64]) -> Part {
        Part(v.as_mut_ptr(), v.len())
    }

    pub(crate) fn get(&mut self) -> &mut [u64] {
        // SAFETY: by the contract of `new`, the memory is there and this part's alone.
        unsafe { std::slice::from_raw_parts_mut(self.0, self.1) }
    }

    /// The two sides of the pivot.
    pub(crate) fn halves(mut self) -> (Part, Part) {
        let at = partition(self.get());
        let (low, high) = self.get().split_at_mut(at);
        // SAFETY: both are disjoint pieces of this part, which ends here.
        unsafe { (Part::new(low), Part::new(&mut high[1..])) }
    }
}
