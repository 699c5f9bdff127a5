//! `Semaphore`: weights, order, timeouts, contexts.

mod sync_common;

use gort::context::{Context, ContextError};
use gort::sync::{Mutex, Semaphore};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use sync_common::*;

/// `try_acquire` takes what is free and no more.
// GO-CASES A4 semaphore.Weighted: TryAcquire [T, F, T, F]
#[test]
fn try_acquire_sequence() {
    let semaphore = Semaphore::new(2);
    let one = semaphore.acquire(1);
    let tries = [semaphore.try_acquire(1), semaphore.try_acquire(1)];
    assert!(tries[0].is_some());
    assert!(tries[1].is_none());
    drop(tries);
    drop(one);
    let tries = [semaphore.try_acquire(2), semaphore.try_acquire(1)];
    assert!(tries[0].is_some());
    assert!(tries[1].is_none());
    drop(tries);
    assert_eq!(semaphore.available_permits(), 2);
    assert!(semaphore.try_acquire(3).is_none());
    assert!(semaphore.try_acquire(usize::MAX).is_none());
    assert_eq!(semaphore.try_acquire(0).map(|p| p.permits()), Some(0));
}

/// Starts a goroutine that takes `n` permits, records `n` and gives them back. Returns when it is
/// queued.
fn queued(semaphore: &Arc<Semaphore>, n: usize, order: &Arc<Mutex<Vec<usize>>>) -> gort::JoinHandle<()> {
    let (semaphore_, order_) = (semaphore.clone(), order.clone());
    let before = waiting(semaphore);
    let task = gort::go(move || {
        let _permits = semaphore_.acquire(n);
        order_.lock().unwrap().push(n);
    });
    until(|| waiting(semaphore) > before);
    task
}

/// How many goroutines are queued, taken from `Debug`.
fn waiting(semaphore: &Semaphore) -> usize {
    let text = format!("{semaphore:?}");
    let (_, rest) = text.split_once("waiting: ").expect("Debug counts the waiters");
    rest.trim_end_matches([' ', '}']).parse().expect("a number")
}

/// First come, first served: small requests do not overtake a big one.
// GO-CASES A4 semaphore.Weighted: a large request is not starved
#[test]
fn big_requests_are_not_starved() {
    run(|| {
        let semaphore = Arc::new(Semaphore::new(10));
        let order = Arc::new(Mutex::new(Vec::new()));
        let held = semaphore.acquire(5);
        let tasks = [8, 3, 2, 10].map(|n| queued(&semaphore, n, &order));
        assert_eq!(semaphore.available_permits(), 5);
        assert!(semaphore.try_acquire(1).is_none(), "the big one comes first");
        assert!(semaphore.acquire_timeout(1, Duration::from_millis(1)).is_none());
        drop(held);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(order.lock().unwrap()[0], 8);
        assert_eq!(order.lock().unwrap()[3], 10);
        assert_eq!(semaphore.available_permits(), 10);
    });
}

/// When the first in the queue gives up, those behind it that fit are served at once.
// GO-CASES A4 semaphore.Weighted: a cancelled front waiter wakes the next
#[test]
fn a_leaving_front_waiter_lets_the_next_in() {
    run(|| {
        for by_context in [true, false] {
            let semaphore = Arc::new(Semaphore::new(2));
            let order = Arc::new(Mutex::new(Vec::new()));
            let held = semaphore.acquire(1);
            let (ctx, cancel) = Context::background().with_cancel();
            let front = gort::go({
                let semaphore = semaphore.clone();
                move || {
                    if by_context {
                        let refused = semaphore.acquire_context(2, &ctx).map(|_| ()).unwrap_err();
                        assert_eq!(refused, ContextError::Canceled);
                    } else {
                        // Long enough for the next one to queue behind it on a loaded machine.
                        assert!(semaphore.acquire_timeout(2, Duration::from_secs(2)).is_none());
                    }
                }
            });
            until(|| waiting(&semaphore) == 1);
            let next = queued(&semaphore, 1, &order);
            cancel.cancel();
            next.join().unwrap();
            front.join().unwrap();
            drop(held);
            assert_eq!(semaphore.available_permits(), 2);
        }
    });
}

/// A request for more permits than there are blocks only its caller.
// GO-CASES A4 semaphore.Weighted: Acquire(n > size)
#[test]
fn impossible_requests() {
    run(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let (ctx, cancel) = Context::background().with_cancel();
        let impossible = gort::go({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_context(3, &ctx).map(|_| ()).unwrap_err()
        });
        for _ in 0..10 {
            nap(Duration::from_micros(200));
            drop(semaphore.acquire(2));
        }
        cancel.cancel();
        assert_eq!(impossible.join().unwrap(), ContextError::Canceled);
        let start = Instant::now();
        assert!(semaphore.acquire_timeout(3, Duration::from_millis(2)).is_none());
        assert!(start.elapsed() >= Duration::from_millis(2));
        let panic = catch_unwind(AssertUnwindSafe(|| drop(semaphore.acquire(3)))).unwrap_err();
        assert!(message(&*panic).contains("3 permits of a semaphore of 2"));
        assert_eq!(semaphore.available_permits(), 2);
    });
}

/// A context that is done refuses, even if permits are free.
// GO-CASES A4 semaphore.Weighted: already-done ctx always fails
#[test]
fn a_done_context_wins() {
    let semaphore = Semaphore::new(2);
    let (ctx, cancel) = Context::background().with_cancel();
    drop(semaphore.acquire_context(2, &ctx).unwrap());
    cancel.cancel();
    assert_eq!(semaphore.acquire_context(1, &ctx).unwrap_err(), ContextError::Canceled);
    let (ctx, _cancel) = Context::background().with_deadline(Instant::now());
    assert_eq!(semaphore.acquire_context(9, &ctx).unwrap_err(), ContextError::DeadlineExceeded);
    drop(semaphore.acquire_context(1, &Context::background()).unwrap());
    assert_eq!(semaphore.available_permits(), 2);
}

/// Permits that were not taken cannot be given back.
// GO-CASES A4 semaphore.Weighted: over-release
#[test]
fn over_release_panics() {
    let semaphore = Semaphore::new(2);
    semaphore.acquire(2).forget();
    semaphore.release(1);
    assert_eq!(semaphore.available_permits(), 1);
    semaphore.release(1);
    for n in [1, usize::MAX] {
        let panic = catch_unwind(AssertUnwindSafe(|| semaphore.release(n))).unwrap_err();
        assert!(message(&*panic).contains("semaphore: released more than held"));
    }
    assert_eq!(semaphore.available_permits(), 2);
    assert!(catch_unwind(|| Semaphore::new(usize::MAX)).is_err());
}

/// Owned permits can be moved to other goroutines.
#[test]
fn owned_permits() {
    run(|| {
        let semaphore = Arc::new(Semaphore::new(3));
        let active = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..30)
            .map(|_| {
                let permit = semaphore.acquire_owned(1);
                let active = active.clone();
                gort::go(move || {
                    assert!(active.fetch_add(1, SeqCst) < 3);
                    gort::yield_now();
                    active.fetch_sub(1, SeqCst);
                    assert_eq!(permit.permits(), 1);
                    drop(permit);
                })
            })
            .collect();
        tasks.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(semaphore.available_permits(), 3);
    });
}

/// All ways to ask and to give up at once. Never more permits are taken than there are, and all
/// come back.
// GO-CASES A4 semaphore.Weighted: hammer
#[test]
fn stress() {
    run(|| {
        let mut rng = Rng::new();
        const SIZE: usize = 7;
        let semaphore = Arc::new(Semaphore::new(SIZE));
        let taken = Arc::new(AtomicUsize::new(0));
        in_parallel(10, |_| {
            let (semaphore, taken, mut rng) = (semaphore.clone(), taken.clone(), rng.fork());
            move || {
                for _ in 0..200 {
                    let n = 1 + rng.below(SIZE as u64) as usize;
                    let timeout = Duration::from_micros(rng.below(500));
                    let permits = match rng.below(4) {
                        0 => Some(semaphore.acquire(n)),
                        1 => semaphore.acquire_timeout(n, timeout),
                        2 => {
                            let (ctx, _cancel) = Context::background().with_timeout(timeout);
                            semaphore.acquire_context(n, &ctx).ok()
                        }
                        _ => semaphore.try_acquire(n),
                    };
                    let Some(permits) = permits else { continue };
                    assert!(taken.fetch_add(n, SeqCst) + n <= SIZE);
                    if rng.below(4) == 0 {
                        nap(Duration::from_micros(rng.below(200)));
                    }
                    taken.fetch_sub(n, SeqCst);
                    drop(permits);
                }
            }
        });
        assert_eq!(semaphore.available_permits(), SIZE);
    });
}
