//! A `JoinHandle` is a future: awaited in goroutines, on plain threads, by any executor.

mod child;
mod sync_common;

use gort::chan;
use gort::future::block_on;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use sync_common::{HANG, message, run, until};

/// Counts its wakes.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn wakes(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Arc<Counter>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(waker.clone())))
}

/// A goroutine that waits for a message, which is its result.
fn waits<T: Send + 'static>() -> (chan::Sender<T>, gort::JoinHandle<T>) {
    let (tx, rx) = chan::bounded(0);
    (tx, gort::go(move || rx.recv().unwrap()))
}

/// An executor of a few lines: a queue of tasks, run by the thread that calls `run`. A wake puts
/// the task back into the queue.
struct Executor {
    queue: mpsc::Sender<Arc<Task>>,
    woken: mpsc::Receiver<Arc<Task>>,
}

struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    queue: mpsc::Sender<Arc<Task>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let _ = self.queue.send(self.clone());
    }
}

impl Executor {
    fn new() -> Executor {
        let (queue, woken) = mpsc::channel();
        Executor { queue, woken }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let future = Mutex::new(Some(Box::pin(future) as _));
        Arc::new(Task { future, queue: self.queue.clone() }).wake();
    }

    /// Runs until all tasks have ended.
    fn run(self) {
        let Executor { queue, woken } = self;
        drop(queue); // the tasks have theirs
        while let Ok(task) = woken.recv_timeout(HANG) {
            let waker = Waker::from(task.clone());
            let mut slot = task.future.lock().unwrap();
            // A wake may come late: the poll before has seen the end already.
            let Some(future) = slot.as_mut() else { continue };
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                *slot = None;
            }
        }
        assert!(matches!(woken.try_recv(), Err(mpsc::TryRecvError::Disconnected)), "hangs");
    }
}

/// `block_on` gives the result, the panic, or the `goexit`; in goroutines and on plain threads.
#[test]
fn awaited_by_block_on() {
    fn all() {
        assert_eq!(block_on(gort::go(|| 7)).unwrap(), 7);
        let large = block_on(gort::go(|| [3u64; 100])).unwrap();
        assert_eq!(large, [3; 100]);
        let panic = block_on(gort::go(|| panic!("no luck"))).unwrap_err();
        assert_eq!(panic.to_string(), "the goroutine panicked: no luck");
        assert!(block_on(gort::go(|| gort::goexit())).unwrap_err().is_goexit());
        let (tx, handle) = waits();
        let sender = gort::go(move || tx.send("late").unwrap());
        assert_eq!(block_on(handle).unwrap(), "late");
        sender.join().unwrap();
    }
    run(|| {
        all();
        gort::blocking(|| std::thread::spawn(all).join().unwrap());
    });
}

/// A goroutine that has ended before the first poll is ready at once.
#[test]
fn finished_before_the_first_poll() {
    run(|| {
        let waker = Arc::new(Counter::default());
        let mut handle = gort::go(|| "done");
        until(|| handle.is_finished());
        assert!(matches!(poll(&mut handle, &waker), Poll::Ready(Ok("done"))));
        assert!(handle.is_finished());
        drop(handle);
        assert_eq!(waker.wakes(), 0);
        assert_eq!(Arc::strong_count(&waker), 1);
    });
}

/// Only the waker of the last poll is woken, once; all are freed.
#[test]
fn the_last_waker_is_woken() {
    run(|| {
        let (tx, mut handle) = waits();
        let wakers = [(); 3].map(|()| Arc::new(Counter::default()));
        for waker in &wakers {
            assert!(poll(&mut handle, waker).is_pending());
            assert!(poll(&mut handle, waker).is_pending());
        }
        assert_eq!(wakers.each_ref().map(Arc::strong_count), [1, 1, 2]);
        tx.send(5).unwrap();
        until(|| wakers[2].wakes() == 1);
        assert!(matches!(poll(&mut handle, &wakers[0]), Poll::Ready(Ok(5))));
        until(|| wakers.each_ref().map(Arc::strong_count) == [1, 1, 1]);
        assert_eq!(wakers.each_ref().map(|waker| waker.wakes()), [0, 0, 1]);
    });
}

/// A handle that is dropped while pending frees its waker, which nothing wakes any more. The
/// goroutine goes on, and drops its result.
#[test]
fn dropped_while_pending() {
    run(|| {
        let (waker, result) = (Arc::new(Counter::default()), Arc::new(()));
        let (tx, mut handle) = waits();
        assert!(poll(&mut handle, &waker).is_pending());
        drop(handle);
        assert_eq!(Arc::strong_count(&waker), 1);
        tx.send(result.clone()).unwrap();
        until(|| Arc::strong_count(&result) == 1);
        assert_eq!(waker.wakes(), 0);
    });
}

/// A result that was awaited and is not taken is dropped with the handle.
#[test]
fn dropped_after_the_wake() {
    run(|| {
        let (waker, result) = (Arc::new(Counter::default()), Arc::new(()));
        let (tx, mut handle) = waits();
        assert!(poll(&mut handle, &waker).is_pending());
        tx.send(result.clone()).unwrap();
        until(|| waker.wakes() == 1);
        assert_eq!(Arc::strong_count(&result), 2);
        drop(handle);
        assert_eq!(Arc::strong_count(&result), 1);
    });
}

/// A handle that was polled can be joined, also for a time. The waker is freed, and not woken.
#[test]
fn polled_and_then_joined() {
    run(|| {
        let waker = Arc::new(Counter::default());
        let (tx, mut handle) = waits();
        assert!(poll(&mut handle, &waker).is_pending());
        let mut handle = handle.join_timeout(Duration::from_millis(1)).unwrap_err();
        assert_eq!(Arc::strong_count(&waker), 1);
        assert!(poll(&mut handle, &waker).is_pending());
        let sender = gort::go(move || {
            gort::sleep(Duration::from_millis(1));
            tx.send(6).unwrap();
        });
        assert_eq!(handle.join().unwrap(), 6);
        sender.join().unwrap();
        assert_eq!(Arc::strong_count(&waker), 1);
        assert_eq!(waker.wakes(), 0);
    });
}

/// When the result has been given, a second poll and a join panic; a drop does not.
#[test]
fn the_result_is_given_once() {
    run(|| {
        let waker = Arc::new(Counter::default());
        let given = || {
            let mut handle = gort::go(|| 1);
            assert_eq!(block_on(&mut handle).unwrap(), 1);
            handle
        };
        let mut handle = given();
        let again = catch_unwind(AssertUnwindSafe(|| poll(&mut handle, &waker).is_ready())).unwrap_err();
        assert!(message(&*again).contains("already given"), "{}", message(&*again));
        let handle = given();
        let joined = catch_unwind(AssertUnwindSafe(|| handle.join().is_ok())).unwrap_err();
        assert!(message(&*joined).contains("already given"), "{}", message(&*joined));
        let handle = given();
        let joined = catch_unwind(AssertUnwindSafe(|| handle.join_timeout(Duration::from_millis(1)).is_ok()));
        assert!(joined.is_err());
        drop(given());
    });
}

/// Another executor, on a plain thread: tasks await many goroutines, one after the other and at
/// once, in both orders of the end and the first poll.
#[test]
fn awaited_by_another_executor() {
    run(|| {
        gort::blocking(|| {
            std::thread::spawn(|| {
                let executor = Executor::new();
                let sum = Arc::new(AtomicUsize::new(0));
                for i in 0..500 {
                    let sum = sum.clone();
                    executor.spawn(async move {
                        let first = gort::go(move || {
                            if i % 3 == 0 {
                                gort::yield_now();
                            }
                            i
                        });
                        let second = gort::go(move || i + first.join().unwrap());
                        sum.fetch_add(second.await.unwrap(), SeqCst);
                        let (mut a, mut b) = (gort::go(|| 1), gort::go(|| 2));
                        let either = poll_fn(|cx| match Pin::new(&mut a).poll(cx) {
                            Poll::Pending => Pin::new(&mut b).poll(cx),
                            ready => ready,
                        });
                        let n = either.await.unwrap();
                        let other = if n == 1 { b } else { a };
                        sum.fetch_add(n + other.await.unwrap(), SeqCst);
                    });
                }
                executor.run();
                assert_eq!(sum.load(SeqCst), 500 * 499 + 500 * 3);
            })
            .join()
            .unwrap();
        });
    });
}

/// A waker that sends to a channel without room, and so parks.
struct Parks(chan::Sender<()>);

impl Wake for Parks {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
    }
}

/// A waker may park: the result is where the nodes of its waits are not.
#[test]
fn wakers_may_park() {
    run(|| {
        for i in 0..200usize {
            let (woken, wakes) = chan::bounded(0);
            let waker = Waker::from(Arc::new(Parks(woken)));
            let (tx, handle) = waits();
            let mut handle = pin!(handle);
            assert!(handle.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let result = [i; 7];
            tx.send(result).unwrap();
            if i % 2 == 0 {
                until(|| handle.is_finished());
            } else {
                wakes.recv().unwrap();
            }
            let result = handle.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(matches!(result, Poll::Ready(Ok(given)) if given == [i; 7]));
            if i % 2 == 0 {
                wakes.recv().unwrap();
            }
        }
    });
}

/// The end meets polls, drops and joins of every kind: results are right, and nothing leaks.
#[test]
fn the_end_beside_everything() {
    run(|| {
        let (waker, result) = (Arc::new(Counter::default()), Arc::new(3));
        for i in 0..3_000 {
            let result = result.clone();
            let mut handle = gort::go(move || result);
            if i % 2 == 0 {
                gort::yield_now();
            }
            let early = match poll(&mut handle, &waker) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            };
            let value = match (early, i % 5) {
                (Some(value), _) => value,
                (None, 0) => handle.join(),
                (None, 1) => handle.join_timeout(Duration::from_nanos(i)).unwrap_or_else(|h| h.join()),
                (None, 2) => match handle.join_timeout(Duration::from_nanos(i)) {
                    Ok(value) => value,
                    Err(handle) => block_on(handle),
                },
                (None, 3) => block_on(handle),
                (None, _) => continue, // dropped
            };
            assert_eq!(*value.unwrap(), 3);
        }
        until(|| Arc::strong_count(&result) == 1 && Arc::strong_count(&waker) == 1);
    });
}

/// A goroutine that awaits is parked: others run on its P.
#[test]
fn awaiting_parks() {
    let test = "awaiting_parks";
    if child::scene().is_some() {
        return gort::run(|| {
            let (tx, handle) = waits();
            let other = gort::go(move || tx.send(1).unwrap());
            assert_eq!(block_on(async { handle.await.unwrap() + 1 }), 2);
            other.join().unwrap();
            let mut polls = 0;
            let mut handle = gort::go(|| gort::sleep(Duration::from_millis(2)));
            block_on(poll_fn(|cx| {
                polls += 1;
                Pin::new(&mut handle).poll(cx)
            }))
            .unwrap();
            assert!(polls <= 2, "{polls} polls for one wake");
        });
    }
    let end = child::play(test, "scene", &[("GOMAXPROCS", "1")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// A waker that panics is a fatal error: the panic has no place to go to.
#[test]
fn a_waker_that_panics_is_fatal() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("in a waker");
        }
    }
    if child::scene().is_some() {
        return gort::run(|| {
            let (tx, mut handle) = waits::<()>();
            let waker = Waker::from(Arc::new(Panics));
            assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
            tx.send(()).unwrap();
            gort::sleep(HANG);
        });
    }
    let end = child::play("a_waker_that_panics_is_fatal", "scene", &[]);
    assert_ne!(end.code, Some(0));
    assert!(end.text.contains("a waker panicked at the end of the goroutine"), "{}", end.text);
}
