//! What the same would cost with one thread for each goroutine, measured with std's threads.

use serde::Serialize;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

/// The cost of one parked thread.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ThreadCost {
    /// How many threads were started for the measurement.
    pub(crate) measured: usize,
    pub(crate) start_ns: u64,
    pub(crate) resident_bytes: u64,
    /// The kernel's stack for the thread, which is not charged to the process.
    pub(crate) kernel_stack_bytes: u64,
}

/// Starts up to `n` threads, lets each park, and measures memory and time. `None` if the system
/// starts none.
///
/// # Blocking
///
/// G: yes. M: yes. P: no: call it in `blocking`.
pub(crate) fn measure(n: usize) -> Option<ThreadCost> {
    let (resident, kernel) = (gort_hub::resident_bytes(), kernel_stacks());
    let (here, parked) = mpsc::channel::<()>();
    let start = Instant::now();
    let mut threads = Vec::with_capacity(n);
    for _ in 0..n {
        let here = here.clone();
        let body = move || {
            let _ = here.send(());
            thread::park();
        };
        match thread::Builder::new().spawn(body) {
            Ok(thread) => threads.push(thread),
            // At the limit on threads, those that were started are measured.
            Err(_) => break,
        }
    }
    for _ in &threads {
        let _ = parked.recv();
    }
    let elapsed = start.elapsed();
    let resident = gort_hub::resident_bytes().saturating_sub(resident);
    let kernel = kernel_stacks().saturating_sub(kernel);
    for thread in &threads {
        thread.thread().unpark();
    }
    let measured = threads.len();
    for thread in threads {
        let _ = thread.join();
    }
    let each = |total: u64| total / measured as u64;
    (measured > 0).then(|| ThreadCost {
        measured,
        start_ns: each(elapsed.as_nanos() as u64),
        resident_bytes: each(resident),
        kernel_stack_bytes: each(kernel),
    })
}

/// The kernel's stacks of the whole system, because there is no number for one process.
fn kernel_stacks() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("KernelStack:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_costs_something() {
        let cost = measure(50).expect("fifty threads");
        assert_eq!(cost.measured, 50);
        assert!(cost.start_ns > 0);
    }
}
