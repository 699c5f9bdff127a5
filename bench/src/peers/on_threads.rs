//! Peers of some rows only: threads with std's and parking_lot's locks, and rayon.

use super::*;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Runs a workload with std's locks (`locked`: with std's threads). `None`: no such workload.
pub(crate) fn with_std(workload: &str, n: u64) -> Option<Vec<f64>> {
    let total = match workload {
        "mutex" | "mutex-8" => {
            let count = std::sync::Mutex::new(0u64);
            together(of(workload), n, |_| *count.lock().unwrap() += 1)
        }
        "rwlock-8" => {
            let count = std::sync::RwLock::new(0u64);
            together(8, n, |i| match i % WRITES_ONE_OF {
                0 => *count.write().unwrap() += 1,
                _ => use_up(*count.read().unwrap()),
            })
        }
        "locked" => round_trips(n),
        _ => return None,
    };
    Some(vec![total / n as f64])
}

/// Runs a workload with parking_lot's locks.
pub(crate) fn with_parking_lot(workload: &str, n: u64) -> Option<Vec<f64>> {
    let total = match workload {
        "mutex" | "mutex-8" => {
            let count = parking_lot::Mutex::new(0u64);
            together(of(workload), n, |_| *count.lock() += 1)
        }
        "rwlock-8" => {
            let count = parking_lot::RwLock::new(0u64);
            together(8, n, |i| match i % WRITES_ONE_OF {
                0 => *count.write() += 1,
                _ => use_up(*count.read()),
            })
        }
        _ => return None,
    };
    Some(vec![total / n as f64])
}

fn of(workload: &str) -> u64 {
    if workload == "mutex" { 1 } else { 8 }
}

fn together(threads: u64, n: u64, f: impl Fn(u64) + Sync) -> f64 {
    let start = Instant::now();
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| (0..n / threads).for_each(&f));
        }
    });
    nanos(start)
}

fn round_trips(n: u64) -> f64 {
    let turn = Arc::new(AtomicU64::new(0));
    let wait_for = |turn: &AtomicU64, mine: u64| {
        while turn.load(Acquire) != mine {
            std::thread::park();
        }
    };
    let main = std::thread::current();
    let other = std::thread::spawn({
        let turn = turn.clone();
        move || {
            for i in 0..n {
                wait_for(&turn, 2 * i + 1);
                turn.store(2 * i + 2, Release);
                main.unpark();
            }
        }
    });
    let start = Instant::now();
    for i in 0..n {
        turn.store(2 * i + 1, Release);
        other.thread().unpark();
        wait_for(&turn, 2 * i + 2);
    }
    let total = nanos(start);
    other.join().unwrap();
    total
}

/// Runs a fork-join workload with rayon.
pub(crate) fn with_rayon(workload: &str, n: u64, procs: usize) -> Option<Vec<f64>> {
    fn fib(n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let (a, b) = rayon::join(|| fib(n - 1), || fib(n - 2));
        a + b
    }
    fn quick_sort(v: &mut [u64]) {
        if v.len() <= GRAIN {
            return v.sort_unstable();
        }
        let at = partition(v);
        let (low, high) = v.split_at_mut(at);
        rayon::join(|| quick_sort(low), || quick_sort(&mut high[1..]));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(procs).build().expect("threads");
    pool.install(|| match workload {
        "fib" => {
            let (k, forks) = fib_of(n);
            let start = Instant::now();
            black_box(fib(k));
            Some(vec![nanos(start) / forks as f64])
        }
        "sort" => {
            let mut v = numbers(n);
            let start = Instant::now();
            quick_sort(&mut v);
            let total = nanos(start);
            assert!(v.is_sorted());
            Some(vec![total / n as f64])
        }
        _ => None,
    })
}
