//! `Mutex`: exclusion, fairness, timeouts, poisoning.

mod sync_common;

use gort::sync::{Mutex, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::time::{Duration, Instant};
use sync_common::*;

/// `try_lock` fails while the mutex is held and succeeds when it is free. Nothing else is inside
/// meanwhile.
// GO-CASES Y1
#[test]
fn excludes_with_lock_and_try_lock() {
    run(|| {
        let mutex = Arc::new(Mutex::new(0u64));
        {
            let _guard = mutex.lock().unwrap();
            assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
        }
        assert!(mutex.try_lock().is_ok());
        let inside = Arc::new(AtomicU32::new(0));
        in_parallel(10, |_| {
            let (mutex, inside) = (mutex.clone(), inside.clone());
            move || {
                for i in 0..1000 {
                    let mut guard = loop {
                        if i % 3 != 0 {
                            break mutex.lock().unwrap();
                        }
                        if let Ok(guard) = mutex.try_lock() {
                            break guard;
                        }
                        gort::yield_now();
                    };
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    *guard += 1;
                    assert_eq!(inside.fetch_sub(1, SeqCst), 1);
                }
            }
        });
        assert_eq!(*mutex.lock().unwrap(), 10_000);
    });
}

/// An owner that takes the mutex again at once, for long, does not keep others out.
// GO-CASES Y2
#[test]
fn a_greedy_owner_does_not_starve_others() {
    run(|| {
        let mutex = Arc::new(Mutex::new(()));
        let stop = Arc::new(AtomicBool::new(false));
        let greedy = gort::go({
            let (mutex, stop) = (mutex.clone(), stop.clone());
            move || {
                while !stop.load(Relaxed) {
                    let _guard = mutex.lock().unwrap();
                    let hold = Instant::now();
                    while hold.elapsed() < Duration::from_micros(100) {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        let start = Instant::now();
        for _ in 0..10 {
            nap(Duration::from_micros(100));
            drop(mutex.lock().unwrap());
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        stop.store(true, Relaxed);
        greedy.join().unwrap();
    });
}

/// Goroutines and threads wait for a holder that parks with the guard.
#[test]
fn the_guard_may_be_held_across_a_park() {
    run(|| {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        in_parallel(8, |i| {
            let mutex = mutex.clone();
            move || {
                let mut guard = mutex.lock().unwrap();
                nap(Duration::from_millis(2));
                guard.push(i);
            }
        });
        let mut all = Arc::into_inner(mutex).unwrap().into_inner().unwrap();
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<_>>());
    });
}

/// A timed attempt is never early, fails while the mutex is held, and leaves nothing behind.
#[test]
fn timed_attempts() {
    run(|| {
        let mutex = Arc::new(Mutex::new(1));
        let guard = mutex.lock().unwrap();
        let timeout = Duration::from_millis(5);
        let start = Instant::now();
        let tried = mutex.clone();
        gort::go(move || {
            assert!(matches!(tried.try_lock_for(timeout), Err(TryLockError::WouldBlock)));
            assert!(start.elapsed() >= timeout);
            assert!(matches!(tried.try_lock_until(start), Err(TryLockError::WouldBlock)));
        })
        .join()
        .unwrap();
        let waiting = gort::go({
            let mutex = mutex.clone();
            move || {
                *mutex.try_lock_for(HANG).unwrap() += 1;
                *mutex.try_lock_for(Duration::MAX).unwrap() += 1;
            }
        });
        nap(Duration::from_millis(2));
        drop(guard);
        waiting.join().unwrap();
        assert_eq!(*mutex.try_lock_until(Instant::now()).unwrap(), 3);
    });
}

/// Goroutines and threads lock, lock with timeouts and give up, all at once. None is lost, and
/// never are two inside.
#[test]
fn stress_with_timeouts() {
    run(|| {
        let mut rng = Rng::new();
        let mutex = Arc::new(Mutex::new(0u64));
        let taken = Arc::new(AtomicU32::new(0));
        in_parallel(8, |_| {
            let (mutex, taken, mut rng) = (mutex.clone(), taken.clone(), rng.fork());
            move || {
                for _ in 0..400 {
                    let guard = match rng.below(3) {
                        0 => mutex.lock().ok(),
                        1 => mutex.try_lock_for(Duration::from_micros(rng.below(300))).ok(),
                        _ => mutex.try_lock().ok(),
                    };
                    let Some(mut guard) = guard else { continue };
                    let before = *guard;
                    match rng.below(50) {
                        // Long enough to starve some.
                        0 => nap(Duration::from_micros(rng.below(1500))),
                        1..10 => gort::yield_now(),
                        _ => {}
                    }
                    *guard = before + 1;
                    taken.fetch_add(1, Relaxed);
                }
            }
        });
        assert_eq!(*mutex.lock().unwrap(), u64::from(taken.load(Relaxed)));
        assert!(!mutex.is_poisoned());
    });
}

/// A panic under the lock poisons it. The guard is still available, and `clear_poison` removes the
/// poison.
#[test]
fn poisoning_is_std_s() {
    run(|| {
        let mutex = Arc::new(Mutex::new(5));
        let poisoner = mutex.clone();
        let joined = gort::go(move || {
            let mut guard = poisoner.lock().unwrap();
            *guard = 6;
            panic!("under the lock");
        })
        .join();
        assert!(joined.unwrap_err().is_panic());
        assert!(mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap_err().into_inner(), 6);
        let tried = mutex.try_lock();
        let Err(TryLockError::Poisoned(guard)) = tried else { panic!("poisoned") };
        drop(guard);
        assert!(matches!(mutex.try_lock_for(HANG), Err(TryLockError::Poisoned(_))));
        assert!(format!("{mutex:?}").contains("poisoned: true"));
        mutex.clear_poison();
        assert_eq!(*mutex.lock().unwrap(), 6);

        // A lock that is taken and released during a panic is not poisoned.
        struct LocksInDrop(Arc<Mutex<i32>>);
        impl Drop for LocksInDrop {
            fn drop(&mut self) {
                *self.0.lock().unwrap() += 1;
            }
        }
        let locks = LocksInDrop(mutex.clone());
        let panicked = catch_unwind(AssertUnwindSafe(move || {
            let _locks = locks;
            panic!("outside the lock");
        }));
        assert!(panicked.is_err());
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), 7);
    });
}

/// `get_mut` and `into_inner` report poison too.
#[test]
fn poison_shows_in_exclusive_access() {
    let mut mutex = Mutex::new(1);
    assert_eq!(*mutex.get_mut().unwrap(), 1);
    let poisoned = catch_unwind(AssertUnwindSafe(|| {
        let _guard = mutex.lock().unwrap();
        panic!("under the lock");
    }));
    assert!(poisoned.is_err());
    **mutex.get_mut().unwrap_err().get_mut() = 2;
    assert_eq!(mutex.into_inner().unwrap_err().into_inner(), 2);
}

/// What else std's `Mutex` has: unsized values, `Debug`, `Display`, `From`, `Default`, statics.
#[test]
fn small_shapes() {
    static STATIC: Mutex<u8> = Mutex::new(1);
    *STATIC.lock().unwrap() += 1;
    assert_eq!(*STATIC.lock().unwrap(), 2);
    let unsized_value: &Mutex<[u8]> = &Mutex::new([1, 2, 3]);
    unsized_value.lock().unwrap()[0] = 9;
    assert_eq!(unsized_value.lock().unwrap().iter().sum::<u8>(), 14);
    let mutex = Mutex::from(3);
    let guard = mutex.lock().unwrap();
    assert_eq!(format!("{mutex:?}"), "Mutex { data: <locked>, poisoned: false, .. }");
    assert_eq!(format!("{guard} {guard:?}"), "3 3");
    drop(guard);
    assert_eq!(format!("{mutex:?}"), "Mutex { data: 3, poisoned: false, .. }");
    assert_eq!(*Mutex::<u32>::default().lock().unwrap(), 0);
}
