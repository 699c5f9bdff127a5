//! `RwLock`: readers share, writers exclude, neither side starves.

mod sync_common;

use gort::sync::{Barrier, RwLock, RwLockWriteGuard, TryLockError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::*};
use std::time::Duration;
use sync_common::*;

/// All readers hold the lock at the same time.
// GO-CASES Y4
#[test]
fn readers_are_parallel() {
    run(|| {
        for n in [1, 3, 4, 10] {
            let lock = Arc::new(RwLock::new(()));
            let all_inside = Arc::new(Barrier::new(n));
            in_parallel(n, |_| {
                let (lock, all_inside) = (lock.clone(), all_inside.clone());
                move || {
                    let _guard = lock.read().unwrap();
                    all_inside.wait();
                }
            });
        }
    });
}

/// Readers and writers are never inside together.
// GO-CASES Y5
#[test]
fn hammer() {
    run(|| {
        let mut rng = Rng::new();
        for readers in [1, 3, 10] {
            let lock = Arc::new(RwLock::new(0u64));
            let activity = Arc::new(AtomicI32::new(0));
            let written = Arc::new(AtomicU32::new(0));
            in_parallel(readers + 2, |i| {
                let (lock, activity) = (lock.clone(), activity.clone());
                let (written, mut rng) = (written.clone(), rng.fork());
                move || {
                    for _ in 0..300 {
                        if i < 2 {
                            let guard = match rng.below(2) {
                                0 => lock.write().ok(),
                                _ => lock.try_write().ok(),
                            };
                            let Some(mut guard) = guard else { continue };
                            assert_eq!(activity.fetch_add(10_000, SeqCst), 0);
                            let before = *guard;
                            if rng.below(10) == 0 {
                                gort::yield_now();
                            }
                            *guard = before + 1;
                            written.fetch_add(1, Relaxed);
                            activity.fetch_sub(10_000, SeqCst);
                            if rng.below(5) == 0 {
                                let guard = RwLockWriteGuard::downgrade(guard);
                                assert!(lock.try_write().is_err());
                                assert_eq!(*guard, before + 1, "no writer got in between");
                            }
                        } else {
                            let guard = match rng.below(2) {
                                0 => lock.read().ok(),
                                _ => lock.try_read().ok(),
                            };
                            let Some(guard) = guard else { continue };
                            let active = activity.fetch_add(1, SeqCst);
                            assert!((0..10_000).contains(&active), "{active}");
                            let seen = *guard;
                            if rng.below(10) == 0 {
                                gort::yield_now();
                            }
                            assert_eq!(*guard, seen);
                            activity.fetch_sub(1, SeqCst);
                        }
                    }
                }
            });
            assert_eq!(*lock.read().unwrap(), u64::from(written.load(Relaxed)));
        }
    });
}

/// Which tries succeed while which guards are held.
// GO-CASES Y5
#[test]
fn try_truth_table() {
    let lock = RwLock::new(0);
    {
        let _read = lock.read().unwrap();
        assert!(lock.try_read().is_ok());
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    }
    {
        let _write = lock.write().unwrap();
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    }
    assert!(lock.try_read().is_ok());
    assert!(lock.try_write().is_ok());
}

/// A writer waits until both readers have left, and new readers wait behind it.
// GO-CASES Y6
#[test]
fn a_pending_writer_blocks_new_readers() {
    run(|| {
        let lock = Arc::new(RwLock::new(0));
        let first = lock.read().unwrap();
        let second = lock.read().unwrap();
        let written = Arc::new(AtomicBool::new(false));
        let writer = gort::go({
            let (lock, written) = (lock.clone(), written.clone());
            move || {
                *lock.write().unwrap() = 1;
                written.store(true, SeqCst);
            }
        });
        until(|| lock.try_read().is_err()); // The writer waits.
        let reader = gort::go({
            let lock = lock.clone();
            move || assert_eq!(*lock.read().unwrap(), 1, "behind the writer")
        });
        drop(first);
        nap(Duration::from_millis(2));
        assert!(!written.load(SeqCst));
        assert!(lock.try_read().is_err());
        drop(second);
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

/// A stream of writers lets readers in between, and a stream of readers lets writers in.
#[test]
fn neither_side_starves() {
    run(|| {
        let lock = Arc::new(RwLock::new(0u64));
        let stop = Arc::new(AtomicBool::new(false));
        let stream = |write: bool| {
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let (lock, stop) = (lock.clone(), stop.clone());
                    gort::go(move || {
                        while !stop.load(Relaxed) {
                            if write {
                                *lock.write().unwrap() += 1;
                            } else {
                                let guard = lock.read().unwrap();
                                gort::yield_now();
                                drop(guard);
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..20 {
                if write {
                    drop(lock.read().unwrap());
                } else {
                    *lock.write().unwrap() += 1;
                }
            }
            stop.store(true, Relaxed);
            tasks.into_iter().for_each(|t| t.join().unwrap());
            stop.store(false, Relaxed);
        };
        stream(true);
        stream(false);
    });
}

/// Only writers poison.
#[test]
fn poisoning_is_std_s() {
    run(|| {
        let lock = Arc::new(RwLock::new(5));
        let other = lock.clone();
        let reader = gort::go(move || {
            let _guard = other.read().unwrap();
            panic!("while reading");
        });
        assert!(reader.join().is_err());
        assert!(!lock.is_poisoned());
        let other = lock.clone();
        let writer = gort::go(move || {
            let _guard = other.write().unwrap();
            panic!("while writing");
        });
        assert!(writer.join().is_err());
        assert!(lock.is_poisoned());
        assert_eq!(**lock.read().unwrap_err().get_ref(), 5);
        assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
        *lock.write().unwrap_err().into_inner() = 6;
        lock.clear_poison();
        assert_eq!(*lock.read().unwrap(), 6);
        let mut lock = Arc::into_inner(lock).unwrap();
        *lock.get_mut().unwrap() = 7;
        assert_eq!(format!("{lock:?}"), "RwLock { data: 7, poisoned: false, .. }");
        assert_eq!(lock.into_inner().unwrap(), 7);
    });
}

/// Readers and writers that give up in time do not hold up others, and leave nothing behind.
#[test]
fn deadlines() {
    gort::run(|| {
        let lock = Arc::new(RwLock::new(0u64));
        let short = Duration::from_millis(2);
        let reading = lock.read().unwrap();
        assert!(matches!(lock.try_write_for(short), Err(TryLockError::WouldBlock)));
        // The writer has given up, so a reader gets in at once.
        drop(lock.try_read_for(short).unwrap());
        drop(reading);
        let writing = lock.write().unwrap();
        assert!(matches!(lock.try_read_for(short), Err(TryLockError::WouldBlock)));
        assert!(matches!(lock.try_write_for(short), Err(TryLockError::WouldBlock)));
        drop(writing);
        *lock.try_write_for(Duration::MAX).unwrap() += 1;
        assert_eq!(*lock.try_read_for(Duration::MAX).unwrap(), 1);

        let all: Vec<_> = (0..8u64)
            .map(|i| {
                let lock = lock.clone();
                gort::go(move || {
                    let mut written = 0;
                    for k in 0..400 {
                        let patience = Duration::from_micros((i * 7 + k) % 60);
                        if i % 2 == 0 {
                            if let Ok(mut n) = lock.try_write_for(patience) {
                                *n += 1;
                                written += 1;
                                gort::yield_now();
                            }
                        } else if let Ok(n) = lock.try_read_for(patience) {
                            let before = *n;
                            gort::yield_now();
                            assert_eq!(*n, before);
                        }
                    }
                    written
                })
            })
            .collect();
        let written: u64 = all.into_iter().map(|h| h.join().unwrap()).sum();
        assert_eq!(*lock.write().unwrap(), 1 + written);
    });
}
