//! `WaitGroup`.

mod sync_common;

use gort::sync::{Mutex, WaitGroup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::Duration;
use sync_common::*;

/// One group holds 16 goroutines back until all have arrived, another one waits for them; 8 rounds.
// GO-CASES Y8 (TestWaitGroup)
#[test]
fn reused_as_a_barrier() {
    run(|| {
        let (start, end) = (WaitGroup::new(), WaitGroup::new());
        for _ in 0..8 {
            let exited = Arc::new(AtomicU32::new(0));
            start.add(16);
            end.add(16);
            let tasks: Vec<_> = (0..16)
                .map(|i| {
                    let (start, end, exited) = (start.clone(), end.clone(), exited.clone());
                    spawn_mixed(i, move || {
                        start.done();
                        end.wait();
                        exited.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            start.wait();
            for _ in 0..16 {
                assert_eq!(exited.load(SeqCst), 0, "released too soon");
                end.done();
            }
            tasks.into_iter().for_each(Task::join);
            assert_eq!(exited.load(SeqCst), 16);
        }
    });
}

/// When `wait` returns, everything is done and visible.
// GO-CASES Y8 (Race)
#[test]
fn waits_for_all() {
    run(|| {
        for _ in 0..300 {
            let group = WaitGroup::new();
            let n = Arc::new(AtomicU32::new(0));
            group.add(1);
            for _ in 0..2 {
                let n = n.clone();
                group.go(move || {
                    n.fetch_add(1, Relaxed);
                });
            }
            group.done();
            group.wait();
            assert_eq!(n.load(Relaxed), 2);
        }
    });
}

/// A count that falls to zero and rises again at once: a waiter for the new count is not released
/// by the end of the old one.
// GO-CASES Y8 (no early release)
#[test]
fn no_early_release_on_reuse() {
    run(|| {
        let group = WaitGroup::new();
        for round in 0..2000 {
            group.add(1);
            let other = group.clone();
            let ending = gort::go(move || other.done());
            while round % 2 == 0 && !ending.is_finished() && format!("{group:?}").contains("count: 1") {
                gort::yield_now();
            }
            group.wait();
            let done = Arc::new(AtomicU32::new(0));
            group.add(1);
            let (other, also) = (group.clone(), done.clone());
            gort::go(move || {
                gort::yield_now();
                also.store(1, SeqCst);
                other.done();
            });
            group.wait();
            assert_eq!(done.load(SeqCst), 1, "released too soon");
            ending.join().unwrap();
        }
    });
}

/// The count cannot become negative.
// GO-CASES Y8 (Misuse)
#[test]
fn a_negative_count_panics() {
    let group = WaitGroup::new();
    group.add(2);
    group.done();
    group.done();
    let panic = catch_unwind(AssertUnwindSafe(|| group.done())).unwrap_err();
    assert!(message(&*panic).contains("negative WaitGroup counter"));
    group.wait();
    assert!(catch_unwind(AssertUnwindSafe(|| group.add(usize::MAX))).is_err());
    assert_eq!(format!("{group:?}"), "WaitGroup { count: 0 }");
}

/// `go` counts down however the goroutine ends.
// GO-CASES Y8 (Go), D21 (deliberately other than Go: the panic stays in its goroutine), D22
#[test]
fn go_counts_panics_and_goexit_as_done() {
    run(|| {
        let group = WaitGroup::new();
        let ended = Arc::new(Mutex::new(Vec::new()));
        struct End(&'static str, Arc<Mutex<Vec<&'static str>>>);
        impl Drop for End {
            fn drop(&mut self) {
                self.1.lock().unwrap_or_else(|e| e.into_inner()).push(self.0);
            }
        }
        let end = End("return", ended.clone());
        group.go(move || drop(end));
        let end = End("panic", ended.clone());
        group.go(move || {
            let _end = end;
            panic!("in the group");
        });
        let end = End("goexit", ended.clone());
        group.go(move || {
            let _end = end;
            nap(Duration::from_millis(1));
            gort::goexit();
        });
        group.wait();
        let mut ended = ended.lock().unwrap_or_else(|e| e.into_inner()).clone();
        ended.sort_unstable();
        assert_eq!(ended, ["goexit", "panic", "return"]);
    });
}

/// Many waiters, goroutines and threads, go on together.
#[test]
fn many_waiters() {
    run(|| {
        let group = WaitGroup::new();
        group.add(3);
        let tasks: Vec<_> = (0..20)
            .map(|i| {
                let group = group.clone();
                spawn_mixed(i, move || group.wait())
            })
            .collect();
        nap(Duration::from_millis(2));
        for _ in 0..3 {
            group.done();
        }
        tasks.into_iter().for_each(Task::join);
    });
}
