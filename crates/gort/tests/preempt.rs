//! Goroutines that compute are stopped, and nothing notices but the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// GO-CASES S9: a goroutine that only computes does not keep the others from running.
#[test]
fn s9_hogs_do_not_stop_the_others() {
    gort::Runtime::builder().gomaxprocs(1).run(|| ()).ok();
    gort::run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Vec<_> = (0..4).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let hogs: Vec<_> = counts
            .iter()
            .map(|n| {
                let (n, stop) = (n.clone(), stop.clone());
                gort::go(move || {
                    while !stop.load(Relaxed) {
                        n.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        while counts.iter().any(|n| n.load(Relaxed) == 0) {
            gort::sleep(Duration::from_millis(1));
        }
        let t = Instant::now();
        for _ in 0..20 {
            let t = Instant::now();
            gort::sleep(Duration::from_millis(1));
            println!("{:?}", t.elapsed());
        }
        println!("{:?} {:?}", t.elapsed(), gort::metrics::snapshot());
        stop.store(true, Relaxed);
        hogs.into_iter().for_each(|h| h.join().unwrap());
    });
}
