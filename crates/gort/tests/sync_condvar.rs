//! `Condvar` and `Barrier`.

mod sync_common;

use gort::sync::{Barrier, Condvar, Mutex};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use sync_common::*;

type Shared<T> = Arc<(Mutex<T>, Condvar)>;

fn shared<T>(value: T) -> Shared<T> {
    Arc::new((Mutex::new(value), Condvar::new()))
}

/// Each `notify_one` wakes exactly one waiter, in the order in which they arrived.
// GO-CASES Y7 (Signal, Generations)
#[test]
fn notify_one_wakes_one_after_the_other() {
    run(|| {
        // (the number of waiters, the ones that woke)
        let state = shared((0, Vec::new()));
        let mut tasks = Vec::new();
        for i in 0..10 {
            let other = state.clone();
            tasks.push(spawn_mixed(i, move || {
                let mut guard = other.0.lock().unwrap();
                guard.0 += 1;
                let mut guard = other.1.wait(guard).unwrap();
                guard.1.push(i);
            }));
            // When the mutex is free after the count has changed, the task is in the queue.
            until(|| state.0.lock().unwrap().0 == i + 1);
        }
        for i in 0..10 {
            state.1.notify_one();
            until(|| state.0.lock().unwrap().1.len() > i);
            assert_eq!(state.0.lock().unwrap().1, (0..=i).collect::<Vec<_>>());
        }
        tasks.into_iter().for_each(Task::join);
    });
}

/// `notify_all` wakes all waiters once.
// GO-CASES Y7 (Broadcast)
#[test]
fn notify_all_wakes_all() {
    run(|| {
        let state = shared((0u32, 0u32)); // (waiting, generation)
        let rounds = 5;
        let tasks: Vec<_> = (0..20)
            .map(|i| {
                let state = state.clone();
                spawn_mixed(i, move || {
                    for round in 0..rounds {
                        let mut guard = state.0.lock().unwrap();
                        guard.0 += 1;
                        let guard = state.1.wait_while(guard, |s| s.1 == round).unwrap();
                        assert_eq!(guard.1, round + 1);
                    }
                })
            })
            .collect();
        for round in 0..rounds {
            until(|| state.0.lock().unwrap().0 == 20);
            let mut guard = state.0.lock().unwrap();
            *guard = (0, round + 1);
            drop(guard);
            state.1.notify_all();
        }
        tasks.into_iter().for_each(Task::join);
    });
}

/// A notification is for the goroutines that wait when it is given: a later one cannot take it.
// GO-CASES Y7 (SignalStealing)
#[test]
fn notifications_are_not_stolen() {
    run(|| {
        for _ in 0..200 {
            let state = shared(0);
            let other = state.clone();
            let first = gort::go(move || {
                let mut guard = other.0.lock().unwrap();
                *guard += 1;
                drop(other.1.wait(guard).unwrap());
            });
            until(|| *state.0.lock().unwrap() == 1);
            state.1.notify_one();
            let guard = state.0.lock().unwrap();
            let (guard, result) = state.1.wait_timeout(guard, Duration::from_micros(100)).unwrap();
            assert!(result.timed_out());
            drop(guard);
            first.join().unwrap();
        }
    });
}

/// Timed waits are never early, and their results differ from those of notifications.
#[test]
fn timeouts() {
    run(|| {
        let state = shared(false);
        let d = Duration::from_millis(3);
        let start = Instant::now();
        let (guard, result) = state.1.wait_timeout(state.0.lock().unwrap(), d).unwrap();
        assert!(result.timed_out());
        assert!(start.elapsed() >= d);
        let start = Instant::now();
        let (guard, result) = state.1.wait_timeout_while(guard, d, |ready| !*ready).unwrap();
        assert!(result.timed_out());
        assert!(start.elapsed() >= d);
        let (guard, result) = state.1.wait_timeout_while(guard, Duration::ZERO, |ready| *ready).unwrap();
        assert!(!result.timed_out());
        drop(guard);
        let other = state.clone();
        let task = gort::go(move || {
            nap(Duration::from_millis(1));
            *other.0.lock().unwrap() = true;
            other.1.notify_all();
        });
        let guard = state.0.lock().unwrap();
        let (guard, result) = state.1.wait_timeout_while(guard, Duration::MAX, |ready| !*ready).unwrap();
        assert!(*guard);
        assert!(!result.timed_out());
        drop(guard);
        task.join().unwrap();
    });
}

/// Every wait returns the poison of the mutex.
#[test]
fn waits_tell_of_poison() {
    run(|| {
        let state = shared(0);
        let other = state.clone();
        let waiter = gort::go(move || {
            let mut guard = other.0.lock().unwrap();
            *guard = 1;
            assert!(other.1.wait(guard).is_err());
        });
        until(|| *state.0.lock().unwrap() == 1);
        let poisoned = catch_unwind(AssertUnwindSafe(|| {
            let _guard = state.0.lock().unwrap();
            panic!("under the lock");
        }));
        assert!(poisoned.is_err());
        state.1.notify_one();
        waiter.join().unwrap();
        let guard = state.0.lock().unwrap_err().into_inner();
        let (guard, result) = state.1.wait_timeout(guard, Duration::from_micros(1)).unwrap_err().into_inner();
        assert!(result.timed_out());
        drop(guard);
        state.0.clear_poison();
        assert!(state.0.lock().is_ok());
    });
}

/// A queue with two condition variables, and many producers and consumers, goroutines and threads,
/// some of them with timeouts.
#[test]
fn stress_bounded_queue() {
    run(|| {
        let mut rng = Rng::new();
        let queue = Arc::new((Mutex::new(Vec::new()), Condvar::new(), Condvar::new()));
        let (sum, got) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        const EACH: usize = 300;
        in_parallel(8, |i| {
            let (queue, sum, got, mut rng) = (queue.clone(), sum.clone(), got.clone(), rng.fork());
            move || {
                let (items, not_full, not_empty) = &*queue;
                if i < 4 {
                    for n in 0..EACH {
                        let guard = items.lock().unwrap();
                        let mut guard = not_full.wait_while(guard, |items| items.len() == 3).unwrap();
                        guard.push(n);
                        drop(guard);
                        not_empty.notify_one();
                    }
                } else {
                    let mut mine = 0;
                    while mine < EACH {
                        let guard = items.lock().unwrap();
                        let patience = Duration::from_micros(rng.below(2000));
                        let (mut guard, _) =
                            not_empty.wait_timeout_while(guard, patience, |items| items.is_empty()).unwrap();
                        let Some(n) = guard.pop() else { continue };
                        drop(guard);
                        not_full.notify_one();
                        mine += 1;
                        sum.fetch_add(n, Relaxed);
                        got.fetch_add(1, Relaxed);
                    }
                }
            }
        });
        assert_eq!(got.load(Relaxed), 4 * EACH);
        assert_eq!(sum.load(Relaxed), 4 * EACH * (EACH - 1) / 2);
    });
}

/// No task passes before all have arrived. One of them is the leader. The barrier can be used
/// again.
#[test]
fn barrier_lets_all_through_together() {
    run(|| {
        const N: u32 = 7;
        const ROUNDS: u32 = 20;
        let barrier = Arc::new(Barrier::new(N as usize));
        let (came, leaders) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        in_parallel(N as usize, |_| {
            let (barrier, came, leaders) = (barrier.clone(), came.clone(), leaders.clone());
            move || {
                for round in 1..=ROUNDS {
                    came.fetch_add(1, SeqCst);
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, SeqCst);
                    }
                    assert!(came.load(SeqCst) >= round * N);
                    assert!(came.load(SeqCst) < (round + 1) * N);
                }
            }
        });
        assert_eq!(leaders.load(SeqCst), ROUNDS);
    });
    assert!(Barrier::new(0).wait().is_leader());
    assert!(Barrier::new(1).wait().is_leader());
    assert_eq!(format!("{:?}", Barrier::new(1).wait()), "BarrierWaitResult { is_leader: true }");
}
