//! `Once`, `OnceLock`, `LazyLock`.

mod sync_common;

use gort::sync::{LazyLock, Once, OnceLock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::time::Duration;
use sync_common::*;

/// One of many callers runs the initialisation, and all see that it is complete.
// GO-CASES Y9 (Once)
#[test]
fn once_runs_once() {
    run(|| {
        for _ in 0..50 {
            let once = Arc::new(Once::new());
            let (runs, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
            in_parallel(10, |i| {
                let (once, runs, done) = (once.clone(), runs.clone(), done.clone());
                move || {
                    if i < 8 {
                        once.call_once(|| {
                            runs.fetch_add(1, SeqCst);
                            gort::yield_now();
                            done.store(true, SeqCst);
                        });
                    } else {
                        once.wait();
                    }
                    assert!(done.load(SeqCst));
                    assert!(once.is_completed());
                }
            });
            assert_eq!(runs.load(SeqCst), 1);
        }
    });
}

/// A panic poisons. Waiters and later callers panic; `call_once_force` repairs.
// GO-CASES Y9 (OncePanic, in std's way)
#[test]
fn once_poisoning_is_std_s() {
    run(|| {
        let once = Arc::new(Once::new());
        let running = Arc::new(AtomicBool::new(false));
        let waiter = gort::go({
            let (once, running) = (once.clone(), running.clone());
            move || {
                until(|| running.load(SeqCst));
                once.call_once(|| unreachable!("poisoned"));
            }
        });
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            once.call_once(|| {
                running.store(true, SeqCst);
                nap(Duration::from_millis(2));
                panic!("in the initialisation");
            })
        }));
        assert_eq!(message(&*panicked.unwrap_err()), "in the initialisation");
        let heard = waiter.join().unwrap_err().into_panic();
        assert_eq!(message(&*heard), "Once instance has previously been poisoned");
        assert!(catch_unwind(AssertUnwindSafe(|| once.wait())).is_err());
        assert!(!once.is_completed());
        let forced = gort::go({
            let once = once.clone();
            move || once.wait_force()
        });
        let mut told = None;
        once.call_once_force(|state| told = Some(state.is_poisoned()));
        assert_eq!(told, Some(true));
        forced.join().unwrap();
        once.call_once_force(|_| unreachable!("completed"));
        once.wait();
    });
}

/// An initialisation that ends by `goexit` does not run again.
// GO-CASES Y9 (Goexit)
#[test]
fn once_and_goexit() {
    run(|| {
        let once = Arc::new(Once::new());
        let other = once.clone();
        let exited = gort::go(move || other.call_once(|| gort::goexit())).join();
        assert!(exited.unwrap_err().is_goexit());
        assert!(catch_unwind(AssertUnwindSafe(|| once.call_once(|| unreachable!("poisoned")))).is_err());
    });
}

/// The first one sets the value, the others get theirs back, and waiters see it.
#[test]
fn once_lock_is_set_once() {
    run(|| {
        let cell = Arc::new(OnceLock::new());
        assert_eq!(cell.get(), None);
        let won = Arc::new(AtomicU32::new(0));
        in_parallel(10, |i| {
            let (cell, won) = (cell.clone(), won.clone());
            move || match i % 3 {
                0 => match cell.set(i) {
                    Ok(()) => {
                        won.fetch_add(1, SeqCst);
                    }
                    Err(back) => assert_eq!(back, i),
                },
                1 => {
                    cell.get_or_init(|| {
                        won.fetch_add(1, SeqCst);
                        gort::yield_now();
                        i
                    });
                }
                _ => assert!(*cell.wait() < 10),
            }
        });
        assert_eq!(won.load(SeqCst), 1);
        assert!(cell.get().is_some());
    });
}

/// A panicking `get_or_init` leaves the cell empty for the next one.
#[test]
fn once_lock_survives_a_panic() {
    let cell = OnceLock::new();
    assert!(catch_unwind(AssertUnwindSafe(|| cell.get_or_init(|| panic!("no value")))).is_err());
    assert_eq!(cell.get(), None);
    assert_eq!(cell.get_or_init(|| 3), &3);
}

/// Values are dropped exactly once, wherever they go.
#[test]
fn once_lock_drops_its_value() {
    let value = Arc::new(());
    let mut cell = OnceLock::from(value.clone());
    assert_eq!(Arc::strong_count(&value), 2);
    let copy = cell.clone();
    assert_eq!(Arc::strong_count(&value), 3);
    assert_eq!(copy, cell);
    assert!(cell.take().is_some());
    assert_eq!(cell.take(), None);
    assert_eq!(Arc::strong_count(&value), 2);
    cell.set(value.clone()).unwrap();
    assert!(cell.get_mut().is_some());
    drop(cell);
    assert!(copy.into_inner().is_some());
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(
        format!("{:?} {:?}", OnceLock::<u8>::new(), OnceLock::from(1)),
        "OnceLock(<uninit>) OnceLock(1)"
    );
}

/// The value is made once, on first use, while other users wait.
// GO-CASES Y9 (OnceValue)
#[test]
fn lazy_lock_is_made_once() {
    run(|| {
        static MADE: AtomicU32 = AtomicU32::new(0);
        static LAZY: LazyLock<String> = LazyLock::new(|| {
            MADE.fetch_add(1, SeqCst);
            nap(Duration::from_millis(1));
            "made".into()
        });
        assert!(LazyLock::get(&LAZY).is_none());
        in_parallel(8, |_| || assert_eq!(*LAZY, "made"));
        assert_eq!(MADE.load(SeqCst), 1);
        assert_eq!(LazyLock::get(&LAZY).unwrap(), "made");
        let mut local = LazyLock::new(|| vec![1]);
        assert_eq!(format!("{local:?}"), "LazyLock(<uninit>)");
        local.push(2);
        LazyLock::force_mut(&mut local).push(3);
        assert_eq!(LazyLock::get_mut(&mut local).unwrap(), &[1, 2, 3]);
        assert_eq!(format!("{local:?}"), "LazyLock([1, 2, 3])");
    });
}

/// A panic in the initialisation poisons the lock for good.
// GO-CASES Y9 (OnceFunc panics in every call)
#[test]
fn lazy_lock_poisons() {
    let lazy: LazyLock<u8> = LazyLock::new(|| panic!("cannot be made"));
    let first = catch_unwind(AssertUnwindSafe(|| *lazy)).unwrap_err();
    assert_eq!(message(&*first), "cannot be made");
    for _ in 0..2 {
        let again = catch_unwind(AssertUnwindSafe(|| *lazy)).unwrap_err();
        assert_eq!(message(&*again), "LazyLock instance has previously been poisoned");
    }
}
