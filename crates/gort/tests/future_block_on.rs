//! `block_on` with any future, at any depth, woken from anywhere.

mod sync_common;

use gort::future::block_on;
use gort::sync::Mutex;
use std::cell::Cell;
use std::future::{poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use sync_common::*;

/// A future that is ready once `fire` was called. It counts its polls.
#[derive(Default, Clone)]
struct Flag(Arc<FlagState>);

#[derive(Default)]
struct FlagState {
    set: AtomicBool,
    waker: Mutex<Option<Waker>>,
    polls: AtomicU32,
}

impl Flag {
    fn fire(&self) {
        self.0.set.store(true, SeqCst);
        let waker = self.0.waker.lock().unwrap().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Future for Flag {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.polls.fetch_add(1, SeqCst);
        *self.0.waker.lock().unwrap() = Some(cx.waker().clone());
        if self.0.set.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A ready future is polled once. Futures may borrow, and need not be `Send`.
#[test]
fn ready_futures() {
    run(|| {
        assert_eq!(block_on(ready(3)), 3);
        let local = Rc::new(Cell::new(1));
        block_on(async { local.set(local.get() + 1) });
        assert_eq!(local.get(), 2);
    });
    assert_eq!(block_on(async { 5 }), 5); // on a plain thread
}

/// Futures are woken from goroutines and from threads, without useless polls.
#[test]
fn woken_from_anywhere() {
    run(|| {
        for i in 0..100 {
            let flag = Flag::default();
            let other = flag.clone();
            let task = spawn_mixed(i, move || other.fire());
            block_on(flag.clone());
            task.join();
            assert!(flag.0.polls.load(SeqCst) <= 2);
        }
    });
}

/// A wake during a poll is not lost, and several wakes cause one poll.
#[test]
fn a_wake_during_the_poll_counts() {
    run(|| {
        let mut polls = 0;
        let output = block_on(poll_fn(|cx| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready("done");
            }
            cx.waker().wake_by_ref();
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        assert_eq!((output, polls), ("done", 3));

        // The wake comes from another thread, for which the poll waits.
        let mut polls = 0;
        block_on(poll_fn(|cx| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(());
            }
            let waker = cx.waker().clone();
            spawn_mixed(1, move || waker.wake()).join();
            Poll::Pending
        }));
        assert_eq!(polls, 2);
    });
}

/// Two wakes of a parked goroutine cause one poll.
#[test]
fn spurious_polls_are_few() {
    run(|| {
        let flag = Flag::default();
        let other = flag.clone();
        let task = gort::go(move || {
            until(|| other.0.waker.lock().unwrap().is_some());
            nap(Duration::from_millis(5));
            let waker = other.0.waker.lock().unwrap().clone().unwrap();
            other.0.set.store(true, SeqCst);
            waker.wake_by_ref();
            waker.wake_by_ref();
        });
        block_on(flag.clone());
        task.join().unwrap();
        // One, if both wakes came before the goroutine looked at the flag.
        assert!((1..=2).contains(&flag.0.polls.load(SeqCst)));
    });
}

/// A waker may be used long after its `block_on` has returned, by any goroutine or thread, without
/// affecting a later one.
#[test]
fn stale_wakers_are_harmless() {
    run(|| {
        let wakers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let hammer: Vec<_> = (0..2)
            .map(|i| {
                let (wakers, stop) = (wakers.clone(), stop.clone());
                spawn_mixed(i, move || {
                    while !stop.load(SeqCst) {
                        let all: Vec<Waker> = wakers.lock().unwrap().clone();
                        all.iter().for_each(Waker::wake_by_ref);
                        gort::yield_now();
                    }
                })
            })
            .collect();
        for i in 0..200 {
            // The waker outlives the goroutine that waited.
            let wakers = wakers.clone();
            spawn_mixed(i, move || {
                let mut first = true;
                block_on(poll_fn(|cx| {
                    let mut wakers = wakers.lock().unwrap();
                    if wakers.len() > 10 {
                        wakers.clear();
                    }
                    wakers.push(cx.waker().clone());
                    if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
                }));
            })
            .join();
        }
        stop.store(true, SeqCst);
        hammer.into_iter().for_each(Task::join);
        // A wait that no stale waker may end.
        let flag = Flag::default();
        let other = flag.clone();
        let task = gort::go(move || {
            wakers.lock().unwrap().iter().for_each(Waker::wake_by_ref);
            nap(Duration::from_millis(1));
            other.fire();
        });
        block_on(flag.clone());
        assert!(flag.0.polls.load(SeqCst) <= 2);
        task.join().unwrap();
    });
}

/// Inside a future, plain code blocks on another future, and so on.
// PEERS: tokio, `block_on` inside the runtime hangs or panics: nested at any depth, 1 000 times
#[test]
fn nests_to_any_depth() {
    fn nested(depth: u32) -> u32 {
        block_on(async move {
            yield_once().await;
            if depth == 0 { 0 } else { 1 + nested(depth - 1) }
        })
    }
    run(|| {
        for i in 0..1000 {
            assert_eq!(nested(i % 20), i % 20);
        }
        let tasks: Vec<_> = (0..20).map(|i| spawn_mixed(i, || assert_eq!(nested(10), 10))).collect();
        tasks.into_iter().for_each(Task::join);
    });
}

async fn yield_once() {
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await
}

/// gort's blocking calls park inside a future as elsewhere. A wake that comes meanwhile is kept.
#[test]
fn futures_may_park() {
    run(|| {
        let flag = Flag::default();
        let other = flag.clone();
        let mut first = true;
        block_on(poll_fn(|cx| {
            if std::mem::take(&mut first) {
                assert!(Pin::new(&mut flag.clone()).poll(cx).is_pending());
                let other = other.clone();
                assert!(gort::go(move || other.fire()).join().is_ok());
                nap(Duration::from_micros(200));
                return Poll::Pending;
            }
            Pin::new(&mut flag.clone()).poll(cx)
        }));
    });
}

/// A panic in the future continues in the caller.
#[test]
fn panics_pass() {
    run(|| {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            block_on(async {
                yield_once().await;
                panic!("in the future");
            })
        }));
        assert_eq!(message(&*panicked.unwrap_err()), "in the future");
        assert_eq!(block_on(async { 1 }), 1);
    });
}
