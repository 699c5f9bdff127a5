//! A million goroutines parked at once. Prints how long it takes, how much memory each uses, and
//! how many OS threads there are. With `--swap`, also prints how much memory is left when idle
//! stacks are swapped out.
//!
//! `cargo run --release -p gort --example million -- [N] [--shared] [--swap]`

use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long swapping out may take. An old kernel cannot do it at all; gort reports that.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut n = 1_000_000;
    let (mut shared, mut swap) = (false, false);
    for arg in std::env::args().skip(1) {
        match (arg.as_str(), arg.parse()) {
            ("--shared", _) => shared = true,
            ("--swap", _) => swap = true,
            (_, Ok(number)) if number > 0 => n = number,
            _ => {
                eprintln!("usage: million [N] [--shared] [--swap]     N goroutines (default 1000000)");
                std::process::exit(2);
            }
        }
    }
    let mut builder = gort::Runtime::builder();
    if shared {
        // SAFETY: nothing below keeps state bound to a thread across a park.
        builder = unsafe { builder.shared_thread_locals() };
    }
    if swap {
        // SAFETY: no goroutine below lends memory of its stack to another thread or goroutine.
        builder = unsafe { builder.swap_idle_stacks(Duration::from_millis(100)) };
    }
    builder.run(|| park(n, swap)).expect("the first to start it");
}

fn park(n: usize, swap: bool) {
    let before = resident_bytes();
    let (hold, held) = gort::chan::bounded::<()>(0);
    let parked = Arc::new(gort::sync::WaitGroup::new());
    parked.add(n);

    let start = Instant::now();
    let all: Vec<_> = (0..n)
        .map(|_| {
            let (held, parked) = (held.clone(), parked.clone());
            gort::go(move || {
                parked.done();
                held.recv().is_err()
            })
        })
        .collect();
    parked.wait();
    let threads = gort::metrics::snapshot().threads;
    let each = resident_bytes().saturating_sub(before) / n;
    println!(
        "{n} goroutines parked in {:.2?}: {each} bytes resident each, on {threads} OS threads",
        start.elapsed()
    );

    if swap {
        let out = || gort::metrics::snapshot().swap_outs as usize;
        while out() < n && start.elapsed() < PATIENCE {
            gort::sleep(Duration::from_millis(20));
        }
        let each = resident_bytes().saturating_sub(before) / n;
        println!("{} swapped out after {:.2?}: {each} bytes resident each", out().min(n), start.elapsed());
    }

    let start = Instant::now();
    drop(hold);
    let woken =
        all.into_iter().map(|h| h.join().expect("none panics")).filter(|&disconnected| disconnected).count();
    assert_eq!(woken, n);
    println!("all woken and joined in {:.2?}", start.elapsed());
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is there");
    let pages: usize = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number of pages");
    pages * 4096
}
