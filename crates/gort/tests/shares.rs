//! Shares of the CPU: no runnable goroutine is starved, whatever runs beside it. Each scene has a
//! process of its own.

mod child;

use child::{play, scene};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

fn preemptions() -> u64 {
    gort::metrics::snapshot().preemptions
}

/// On one P, a chain of hand-overs (eight senders and a receiver), four CPU-bound goroutines, and
/// one that always yields into the ring. The ring must move on. The test counts preemptions, so the
/// machine's speed does not matter.
#[test]
fn the_ring_moves_beside_a_chain_and_hogs() {
    const PREEMPTIONS: u64 = 200;
    if scene().is_some() {
        return gort::run(|| {
            let stop = Arc::new(AtomicBool::new(false));
            let (tx, rx) = gort::chan::bounded::<u64>(8);
            for _ in 0..8 {
                let (tx, stop) = (tx.clone(), stop.clone());
                gort::go(move || while !stop.load(Relaxed) && tx.send(1).is_ok() {});
            }
            gort::go(move || rx.iter().sum::<u64>());
            let turns = Arc::new(AtomicU64::new(0));
            let watched = gort::go({
                let (turns, stop) = (turns.clone(), stop.clone());
                move || {
                    while !stop.load(Relaxed) {
                        turns.fetch_add(1, Relaxed);
                        gort::yield_now();
                    }
                }
            });
            // The judge is the fourth: it is preempted and goes on like the other three.
            let hogs: Vec<_> = (0..3)
                .map(|_| {
                    let stop = stop.clone();
                    gort::go(move || while !stop.load(Relaxed) {})
                })
                .collect();
            let judge = gort::go(move || {
                let end = preemptions() + PREEMPTIONS;
                while preemptions() < end {}
                stop.store(true, Relaxed);
                turns.load(Relaxed)
            });
            let turns = judge.join().unwrap();
            watched.join().unwrap();
            hogs.into_iter().for_each(|h| h.join().unwrap());
            assert!(turns >= PREEMPTIONS / 20, "{turns} turns in {PREEMPTIONS} preemptions");
        });
    }
    let end = play("the_ring_moves_beside_a_chain_and_hogs", "scene", &[("GOMAXPROCS", "1")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// More CPU-bound goroutines than may be held with their threads: the goroutines beyond the limit
/// begin soon too. The test counts preemptions.
#[test]
fn an_overload_is_let_in() {
    const HOGS: usize = 300;
    const PREEMPTIONS: u64 = 4_000;
    if scene().is_some() {
        return gort::run(|| {
            let begun = Arc::new(AtomicU64::new(0));
            let stop = Arc::new(AtomicBool::new(false));
            // The judge computes too, so no timer lets the scheduler look elsewhere.
            let judge = gort::go({
                let (begun, stop) = (begun.clone(), stop.clone());
                move || {
                    while begun.load(Relaxed) < HOGS as u64 && preemptions() < PREEMPTIONS {}
                    stop.store(true, Relaxed);
                    (begun.load(Relaxed), preemptions())
                }
            });
            let hogs: Vec<_> = (0..HOGS)
                .map(|_| {
                    let (begun, stop) = (begun.clone(), stop.clone());
                    gort::go(move || {
                        begun.fetch_add(1, Relaxed);
                        while !stop.load(Relaxed) {}
                    })
                })
                .collect();
            let (begun, preemptions) = judge.join().unwrap();
            hogs.into_iter().for_each(|h| h.join().unwrap());
            assert_eq!(begun, HOGS as u64, "in {preemptions} preemptions");
        });
    }
    let end = play("an_overload_is_let_in", "scene", &[("GOMAXPROCS", "1")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// Computes for longer than a slice, twice: the goroutine is charged with the slices that end where
/// it waits next, and is expired when that wait ends.
fn use_up_two_slices() {
    let compute = || {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(25) {}
    };
    compute();
    gort::sleep(Duration::from_millis(2));
    compute();
}

/// A goroutine that has used its slices up and then waits for time or I/O, while nothing else runs,
/// goes on when the wait ends: also where sysmon has gone to sleep meanwhile.
#[test]
fn a_wait_behind_used_up_slices_ends() {
    const LONG: Duration = Duration::from_millis(500);
    if scene().is_some() {
        return gort::run(|| {
            use_up_two_slices();
            gort::sleep(LONG);
            let (mut near, far) = gort::net::UnixStream::pair().unwrap();
            let writer = std::thread::spawn(move || {
                std::thread::sleep(LONG);
                drop(far);
            });
            use_up_two_slices();
            assert_eq!(near.read(&mut [0]).unwrap(), 0, "the other end is gone");
            writer.join().unwrap();
            let (_tx, rx) = gort::chan::bounded::<()>(0);
            use_up_two_slices();
            assert!(rx.recv_timeout(LONG).is_err());
        });
    }
    for procs in ["1", "2"] {
        let end = play("a_wait_behind_used_up_slices_ends", "scene", &[("GOMAXPROCS", procs)]);
        assert_eq!(end.code, Some(0), "{procs} Ps: {}", end.text);
    }
}
