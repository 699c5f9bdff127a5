//! `Singleflight`, by the cases of Go's `singleflight_test.go`.

mod sync_common;

use gort::chan::bounded;
use gort::sync::{Singleflight, WaitGroup};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use sync_common::*;

type Flights<V> = Arc<Singleflight<String, V>>;

fn flights<V: Clone>() -> Flights<V> {
    Arc::new(Singleflight::new())
}

/// TestDo: a lone call has its own result, and so has the next.
#[test]
fn do_() {
    run(|| {
        let flights = flights();
        assert_eq!(flights.run("key", || "bar"), ("bar", false));
        assert_eq!(flights.run("key", || "baz"), ("baz", false));
        assert_eq!(format!("{flights:?}"), "Singleflight { .. }");
    });
}

/// TestDoErr: an error is a result like others, and is not kept.
#[test]
fn do_err() {
    run(|| {
        let flights = flights::<Result<u32, &str>>();
        assert_eq!(flights.run("key", || Err("some error")), (Err("some error"), false));
        assert_eq!(flights.run("key", || Ok(1)), (Ok(1), false));
    });
}

/// TestDoDupSuppress: goroutines and threads that come while a call is under way share it.
#[test]
fn do_dup_suppress() {
    run(|| {
        let flights = flights();
        let runs = Arc::new(AtomicU32::new(0));
        let (go_on, gate) = bounded::<()>(0);
        let (begun_tx, begun) = bounded::<()>(1);
        let first = gort::go({
            let (flights, runs) = (flights.clone(), runs.clone());
            move || {
                flights.run("key", || {
                    runs.fetch_add(1, SeqCst);
                    begun_tx.send(()).unwrap();
                    gate.recv().unwrap_err();
                    "bar".to_string()
                })
            }
        });
        begun.recv().unwrap();
        let results = gort::chan::unbounded();
        let others = gort::go({
            let (flights, runs, results) = (flights.clone(), runs.clone(), results.0.clone());
            move || {
                in_parallel(20, |_| {
                    let (flights, runs, results) = (flights.clone(), runs.clone(), results.clone());
                    move || {
                        let result = flights.run("key", || {
                            runs.fetch_add(1, SeqCst);
                            "late".to_string()
                        });
                        results.send(result).unwrap();
                    }
                });
            }
        });
        gort::sleep(Duration::from_millis(5));
        drop(go_on);
        others.join().unwrap();
        let (value, shared) = first.join().unwrap();
        assert_eq!(value, "bar");
        let got: Vec<_> = results.1.try_iter().collect();
        assert_eq!(got.len(), 20);
        let sharing = got.iter().filter(|(value, _)| value == "bar").count();
        assert_eq!(shared, sharing > 0);
        // A goroutine that came too late has made, or shared, a call of its own.
        assert!(runs.load(SeqCst) as usize <= 1 + 20 - sharing);
        assert!(got.iter().all(|(value, shared)| value == "late" || *shared));
    });
}

/// TestForget: after `forget` the next call runs its own function, and those after it share that
/// one, also when the forgotten one has ended.
#[test]
fn forget() {
    run(|| {
        let flights = flights();
        let start = |value: u32| {
            let (begun_tx, begun) = bounded::<()>(1);
            let (go_on, gate) = bounded::<()>(0);
            let flights = flights.clone();
            let task = gort::go(move || {
                flights.run("key", || {
                    begun_tx.send(()).unwrap();
                    gate.recv().unwrap_err();
                    value
                })
            });
            begun.recv().unwrap();
            (task, go_on)
        };
        let (first, end_first) = start(1);
        flights.forget("key");
        flights.forget("no such key");
        let (second, end_second) = start(2);
        drop(end_first);
        assert_eq!(first.join().unwrap(), (1, false));
        let third = gort::go({
            let flights = flights.clone();
            move || flights.run("key", || 3)
        });
        gort::sleep(Duration::from_millis(5));
        drop(end_second);
        let (third, shared) = third.join().unwrap();
        assert_eq!(second.join().unwrap(), (2, shared && third == 2));
        assert!((third, shared) == (2, true) || (third, shared) == (3, false));
    });
}

/// Calls of many for a key whose function ends as `f` says; the results, and how often it ran.
fn many<T: Send + 'static>(
    f: impl Fn() -> u32 + Send + Sync + 'static,
    of: impl Fn(&mut dyn FnMut() -> u32) -> T + Send + Sync + 'static,
) -> (Vec<Result<T, gort::JoinError>>, u32) {
    let flights = flights::<u32>();
    let runs = Arc::new(AtomicU32::new(0));
    let (f, of) = (Arc::new(f), Arc::new(of));
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (flights, runs, f, of) = (flights.clone(), runs.clone(), f.clone(), of.clone());
            gort::go(move || {
                of(&mut || {
                    flights
                        .run("key", || {
                            runs.fetch_add(1, SeqCst);
                            gort::sleep(Duration::from_millis(5));
                            f()
                        })
                        .0
                })
            })
        })
        .collect();
    (tasks.into_iter().map(|task| task.join()).collect(), runs.load(SeqCst))
}

/// TestPanicDo: a panic reaches all that wait, and none hangs; the next call runs.
#[test]
fn panic_do() {
    run(|| {
        let (results, runs) = many(
            || panic!("invalid memory"),
            |call| message(&*catch_unwind(AssertUnwindSafe(call)).unwrap_err()).to_string(),
        );
        let texts: Vec<String> = results.into_iter().map(Result::unwrap).collect();
        assert!(texts.iter().all(|text| text.contains("invalid memory")), "{texts:?}");
        let own = texts.iter().filter(|text| *text == "invalid memory").count();
        assert_eq!(own, runs as usize, "{texts:?}");

        let flights = flights();
        let payload = AssertUnwindSafe(|| flights.run("key", || std::panic::panic_any(7)));
        assert_eq!(catch_unwind(payload).unwrap_err().downcast_ref(), Some(&7));
        assert_eq!(flights.run("key", || 8), (8, false));
    });
}

/// TestGoexitDo: a goexit ends all goroutines that wait.
#[test]
fn goexit_do() {
    run(|| {
        let (results, runs) = many(|| gort::goexit(), |call| call());
        assert!(runs >= 1);
        assert!(results.into_iter().all(|result| result.unwrap_err().is_goexit()));
    });
}

/// A clone that panics is a panic for those that wait, and does not make them hang.
#[test]
fn a_clone_that_panics() {
    struct Once;
    impl Clone for Once {
        fn clone(&self) -> Once {
            panic!("no second one")
        }
    }
    run(|| {
        let flights = Arc::new(Singleflight::<u32, Once>::new());
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let flights = flights.clone();
                gort::go(move || {
                    flights.run(&1, || {
                        gort::sleep(Duration::from_millis(5));
                        Once
                    });
                })
            })
            .collect();
        assert!(tasks.into_iter().filter_map(|task| task.join().err()).all(|e| e.is_panic()));
    });
}

/// Many keys, goroutines and threads: while a key's function runs, no other for that key does.
#[test]
fn never_two_at_once() {
    run(|| {
        const KEYS: usize = 4;
        let flights = Arc::new(Singleflight::<usize, usize>::new());
        let inside: Arc<[AtomicU32; KEYS]> = Arc::default();
        let done = WaitGroup::new();
        in_parallel(16, |i| {
            let (flights, inside, done) = (flights.clone(), inside.clone(), done.clone());
            move || {
                for n in 0..200 {
                    let key = (i + n) % KEYS;
                    let (value, _) = flights.run(&key, || {
                        assert_eq!(inside[key].fetch_add(1, SeqCst), 0, "two at once");
                        if n % 3 == 0 {
                            gort::yield_now();
                        }
                        inside[key].fetch_sub(1, SeqCst);
                        key
                    });
                    assert_eq!(value, key);
                }
                drop(done);
            }
        });
    });
}
