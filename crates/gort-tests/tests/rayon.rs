//! rayon's pool of threads under goroutines.

#[path = "../../gort/tests/child/mod.rs"]
mod child;

use child::{play, scene};
use gort::go;
use rayon::prelude::*;
use std::time::Duration;

/// rayon in goroutines, more of them than rayon and gort have threads together. The threads of
/// rayon's pool are foreign threads. A goroutine that waits for them keeps its own thread, and is
/// preempted like a CPU-bound goroutine.
#[test]
fn rayon_inside_goroutines() {
    if scene().is_some() {
        return gort::run(|| {
            let all: Vec<_> = (0..50u64)
                .map(|i| {
                    go(move || {
                        let sum: u64 = (0..20_000u64).into_par_iter().map(|n| n ^ i).sum();
                        let (a, b) = rayon::join(|| fib(12), || fib(13));
                        (sum, a + b)
                    })
                })
                .collect();
            let ticker = go(|| (0..20).for_each(|_| gort::sleep(Duration::from_millis(1))));
            for (i, h) in (0..50u64).zip(all) {
                assert_eq!(h.join().unwrap(), ((0..20_000u64).map(|n| n ^ i).sum(), fib(14)));
            }
            ticker.join().unwrap();
        });
    }
    let end = play("rayon_inside_goroutines", "scene", &[("GOMAXPROCS", "2")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

fn fib(n: u32) -> u64 {
    if n < 2 { u64::from(n) } else { fib(n - 1) + fib(n - 2) }
}
