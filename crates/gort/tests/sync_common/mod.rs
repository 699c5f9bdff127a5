//! Helpers for the tests of locks, contexts, groups and futures.
#![allow(dead_code, reason = "each test file uses some of it")]

use gort::sync::{Condvar, Mutex};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longer than any test here takes: only a hang reaches it.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// Runs `f` as a goroutine and fails if it hangs.
pub(crate) fn run<F: FnOnce() + Send + 'static>(f: F) {
    let (tx, rx) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        gort::run(f);
        let _ = tx.send(());
    });
    match rx.recv_timeout(HANG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Parks for `d`.
pub(crate) fn nap(d: Duration) {
    let until = Instant::now() + d;
    let (mutex, never) = (Mutex::new(()), Condvar::new());
    drop(never.wait_timeout_while(mutex.lock().unwrap(), d, |()| true));
    assert!(Instant::now() >= until, "never early");
}

/// Naps until `done` is true.
pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "it never happens");
        nap(Duration::from_micros(200));
    }
}

/// A goroutine or an OS thread.
pub(crate) enum Task {
    Goroutine(gort::JoinHandle<()>),
    Thread(std::thread::JoinHandle<()>),
}

/// Starts `f` as a goroutine if `n` is even, as an OS thread if it is odd.
pub(crate) fn spawn_mixed<F: FnOnce() + Send + 'static>(n: usize, f: F) -> Task {
    if n.is_multiple_of(2) { Task::Goroutine(gort::go(f)) } else { Task::Thread(std::thread::spawn(f)) }
}

impl Task {
    pub(crate) fn join(self) {
        match self {
            Task::Goroutine(handle) => assert!(handle.join().is_ok(), "the goroutine panicked"),
            // The thread waits for goroutines, so waiting for it must not occupy a P.
            Task::Thread(handle) => gort::blocking(|| handle.join()).expect("the thread panicked"),
        }
    }
}

/// Starts `n` tasks, half of them goroutines and half threads, and joins them.
pub(crate) fn in_parallel<F: FnOnce() + Send + 'static>(n: usize, mut make: impl FnMut(usize) -> F) {
    let tasks: Vec<_> = (0..n).map(|i| spawn_mixed(i, make(i))).collect();
    tasks.into_iter().for_each(Task::join);
}

/// A small generator, seeded from the clock or from `GORT_TEST_SEED`; prints the seed.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new() -> Rng {
        let seed = std::env::var("GORT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("after 1970").as_nanos() as u64
        });
        println!("GORT_TEST_SEED={seed}");
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }

    /// Another generator, for a task of its own.
    pub(crate) fn fork(&mut self) -> Rng {
        Rng(self.below(u64::MAX) | 1)
    }
}

/// The panic's message, if it has one.
pub(crate) fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("")
}
