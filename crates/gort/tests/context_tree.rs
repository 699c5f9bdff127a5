//! `Context`: cancellation, deadlines, causes, values.

mod sync_common;

use gort::chan::{Receiver, RecvTimeoutError, TryRecvError};
use gort::context::{Cancel, Context, ContextError};
use gort::sync::{Mutex, WaitGroup};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};
use sync_common::*;

const HOUR: Duration = Duration::from_secs(3600);

fn is_closed(done: &Receiver<Infallible>) -> bool {
    matches!(done.try_recv(), Err(TryRecvError::Disconnected))
}

fn assert_done(ctx: &Context, err: ContextError) {
    assert!(is_closed(ctx.done()), "{ctx}");
    assert_eq!(ctx.err(), Some(err), "{ctx}");
}

fn assert_live(ctx: &Context) {
    assert!(!is_closed(ctx.done()), "{ctx}");
    assert_eq!(ctx.err(), None, "{ctx}");
    assert!(ctx.cause().is_none(), "{ctx}");
}

fn cause(ctx: &Context) -> String {
    ctx.cause().map_or("none".into(), |cause| cause.to_string())
}

/// When `cancel` returns, everything below is done; contexts above and beside are not.
// GO-CASES K1
#[test]
fn cancel_is_synchronous_and_goes_down_only() {
    let (parent, cancel_parent) = Context::background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    let value = child.with_value(5u8);
    let (grandchild, _cancel) = value.with_deadline(Instant::now() + HOUR);
    let (sibling, _cancel) = parent.with_cancel();
    for ctx in [&parent, &child, &value, &grandchild, &sibling] {
        assert_live(ctx);
    }
    cancel_child.cancel();
    for ctx in [&child, &value, &grandchild] {
        assert_done(ctx, ContextError::Canceled);
    }
    assert_live(&parent);
    assert_live(&sibling);
    cancel_parent.cancel();
    assert_done(&parent, ContextError::Canceled);
    assert_done(&sibling, ContextError::Canceled);
    let (late, _cancel) = parent.with_cancel();
    assert_done(&late, ContextError::Canceled);
    cancel_parent.cancel(); // No effect: it is cancelled already.
}

/// A child of a cancelled parent is done from the start. Dropping a `Cancel` does not cancel.
// GO-CASES K1
#[test]
fn dropping_cancel_does_not_cancel() {
    let (ctx, cancel) = Context::background().with_cancel();
    drop(cancel);
    assert_live(&ctx);
    let (child, cancel) = ctx.with_cancel();
    let second = cancel.clone();
    drop(cancel);
    second.cancel();
    assert_done(&child, ContextError::Canceled);
    assert_live(&ctx);
}

/// A deadline in the past is done at once, no deadline is early, and of two the earlier one counts.
// GO-CASES K2
#[test]
fn deadlines() {
    run(|| {
        let past = Instant::now();
        let (ctx, cancel) = Context::background().with_deadline(past);
        assert_done(&ctx, ContextError::DeadlineExceeded);
        cancel.cancel();
        assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded), "the first one stays");
        let (ctx, _cancel) = Context::background().with_timeout(Duration::ZERO);
        assert_done(&ctx, ContextError::DeadlineExceeded);

        let start = Instant::now();
        let timeout = Duration::from_millis(5);
        let (ctx, _cancel) = Context::background().with_timeout(timeout);
        assert!(ctx.deadline().unwrap() >= start + timeout);
        let (later, _cancel2) = ctx.with_timeout(HOUR);
        assert_eq!(later.deadline(), ctx.deadline(), "a child cannot extend it");
        let _ = later.done().recv();
        assert!(start.elapsed() >= timeout, "never early");
        assert_done(&later, ContextError::DeadlineExceeded);
        assert_done(&ctx, ContextError::DeadlineExceeded);

        let (outer, _cancel) = Context::background().with_timeout(HOUR);
        let (inner, _cancel2) = outer.with_timeout(Duration::from_millis(1));
        let _ = inner.with_value(1).done().recv();
        assert_done(&inner, ContextError::DeadlineExceeded);
        assert_live(&outer);

        let (forever, _cancel) = Context::background().with_timeout(Duration::MAX);
        assert_eq!(forever.deadline(), None);
        assert_live(&forever);
    });
}

/// Every row of the cause table: what happens first decides both `err` and `cause`.
// GO-CASES K3
#[test]
fn causes() {
    use ContextError::{Canceled, DeadlineExceeded};
    let background = Context::background;
    let soon = Duration::from_millis(1);

    assert_live(&background());
    assert_live(&background().with_value(1));
    let (ctx, cancel) = background().with_cancel();
    assert_live(&ctx);
    cancel.cancel();
    assert_done(&ctx, Canceled);
    assert_eq!(cause(&ctx), "context canceled");

    let (ctx, cancel) = background().with_cancel();
    cancel.cancel_cause("first");
    cancel.cancel_cause("second");
    cancel.cancel();
    assert_done(&ctx, Canceled);
    assert_eq!(cause(&ctx), "first");

    let (ctx, cancel) = background().with_cancel();
    cancel.cancel();
    cancel.cancel_cause("too late");
    assert_eq!(cause(&ctx), "context canceled");

    // The parent first, then the child; then the other way round.
    let (parent, cancel_parent) = background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    cancel_parent.cancel_cause("parent");
    cancel_child.cancel_cause("child");
    assert_eq!((cause(&parent), cause(&child)), ("parent".into(), "parent".into()));
    let (parent, cancel_parent) = background().with_cancel();
    let (child, cancel_child) = parent.with_cancel();
    cancel_child.cancel_cause("child");
    cancel_parent.cancel_cause("parent");
    assert_eq!((cause(&parent), cause(&child)), ("parent".into(), "child".into()));
    let (grandchild, _cancel) = child.with_cancel();
    assert_eq!(cause(&grandchild), "child");
    assert_eq!(cause(&child.with_value(1)), "child");

    run(move || {
        let (ctx, cancel) = background().with_timeout(soon);
        let _ = ctx.done().recv();
        cancel.cancel_cause("too late");
        assert_done(&ctx, DeadlineExceeded);
        assert_eq!(cause(&ctx), "context deadline exceeded");

        let (ctx, _cancel) = background().with_timeout_cause(soon, "too slow");
        let _ = ctx.done().recv();
        assert_done(&ctx, DeadlineExceeded);
        assert_eq!(cause(&ctx), "too slow");

        // The timeout's cause counts only if the time ran out.
        let (ctx, cancel) = background().with_timeout_cause(HOUR, "too slow");
        cancel.cancel();
        assert_done(&ctx, Canceled);
        assert_eq!(cause(&ctx), "context canceled");
        let (ctx, cancel) = background().with_timeout_cause(HOUR, "too slow");
        cancel.cancel_cause("given up");
        assert_eq!(cause(&ctx), "given up");

        let (ctx, _cancel) = background().with_deadline_cause(Instant::now(), "already over");
        assert_done(&ctx, DeadlineExceeded);
        assert_eq!(cause(&ctx), "already over");

        // A timeout below a parent that is cancelled first, second, or before the child exists.
        let (parent, cancel_parent) = background().with_cancel();
        let (child, _cancel) = parent.with_timeout_cause(HOUR, "too slow");
        cancel_parent.cancel_cause("parent");
        assert_done(&child, Canceled);
        assert_eq!(cause(&child), "parent");
        let (parent, cancel_parent) = background().with_cancel();
        let (child, _cancel) = parent.with_timeout_cause(soon, "too slow");
        let _ = child.done().recv();
        cancel_parent.cancel_cause("parent");
        assert_done(&child, DeadlineExceeded);
        assert_eq!((cause(&parent), cause(&child)), ("parent".into(), "too slow".into()));
        let (child, _cancel) = parent.with_timeout_cause(Duration::ZERO, "too slow");
        assert_done(&child, Canceled);
        assert_eq!(cause(&child), "parent");
        // The parent's timeout is earlier; its cause counts.
        let (parent, _cancel) = background().with_timeout_cause(soon, "outer");
        let (child, _cancel2) = parent.with_timeout_cause(HOUR, "inner");
        let _ = child.done().recv();
        assert_eq!((cause(&parent), cause(&child)), ("outer".into(), "outer".into()));
    });
}

/// Only values pass `without_cancel`.
// GO-CASES K3 (WithoutCancel)
#[test]
fn without_cancel_keeps_values_only() {
    let (ctx, cancel) = Context::background().with_value("kept").with_deadline(Instant::now());
    let free = ctx.without_cancel();
    cancel.cancel();
    assert_live(&free);
    assert_eq!(free.deadline(), None);
    assert_eq!(free.value::<&str>(), Some(&"kept"));
    let (child, cancel) = free.with_cancel();
    assert_live(&child);
    cancel.cancel();
    assert_done(&child, ContextError::Canceled);
    assert_live(&free);
}

/// The error of a cause keeps its type.
// GO-CASES K3
#[test]
fn causes_keep_their_type() {
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel_cause(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    let cause = ctx.cause().unwrap();
    assert_eq!(cause.downcast_ref::<std::io::Error>().unwrap().kind(), std::io::ErrorKind::BrokenPipe);
    let (ctx, cancel) = Context::background().with_cancel();
    cancel.cancel();
    let cause = ctx.cause().unwrap();
    assert_eq!(cause.downcast_ref::<ContextError>(), Some(&ContextError::Canceled));
}

/// `after_func` runs once, in a goroutine of its own, which `cancel` does not wait for.
// GO-CASES K4
#[test]
fn after_func_runs_once() {
    run(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let (runs, gate, ran) = (Arc::new(AtomicU32::new(0)), WaitGroup::new(), WaitGroup::new());
        gate.add(1);
        ran.add(2);
        for _ in 0..2 {
            let (runs, gate, ran) = (runs.clone(), gate.clone(), ran.clone());
            ctx.with_value(1).after_func(move || {
                gate.wait(); // `cancel` returns before this function does.
                runs.fetch_add(1, SeqCst);
                ran.done();
            });
        }
        let counts = runs.clone();
        let stopped = ctx.after_func(move || {
            counts.fetch_add(100, SeqCst);
        });
        assert!(stopped.stop());
        assert!(!stopped.stop());
        let late = ctx.after_func(|| ());
        cancel.cancel();
        assert!(!late.stop(), "it runs already");
        cancel.cancel();
        assert_eq!(runs.load(SeqCst), 0);
        gate.done();
        ran.wait();
        nap(Duration::from_millis(1));
        assert_eq!(runs.load(SeqCst), 2);

        // At once, if the context is done already.
        ran.add(1);
        let also = ran.clone();
        let started = ctx.after_func(move || also.done());
        ran.wait();
        assert!(!started.stop());

        // The background is never done.
        let (dropped, never) = (Arc::new(()), Context::background());
        let held = dropped.clone();
        let after = never.after_func(move || drop(held));
        assert!(after.stop());
        assert!(!after.stop());
        assert_eq!(Arc::strong_count(&dropped), 1);
    });
}

/// A function that waits for a parent's cancellation runs even if everything else of its context
/// was dropped.
// GO-CASES K4
#[test]
fn after_func_outlives_its_context() {
    run(|| {
        let (parent, cancel) = Context::background().with_cancel();
        let ran = WaitGroup::new();
        ran.add(2);
        for deadline in [false, true] {
            let (middle, _cancel) = parent.with_cancel();
            let (ctx, _cancel) =
                if deadline { middle.with_timeout(HOUR) } else { middle.with_value(1).with_cancel() };
            let ran = ran.clone();
            ctx.after_func(move || ran.done());
        }
        cancel.cancel();
        ran.wait();

        let expired = WaitGroup::new();
        expired.add(1);
        let done = expired.clone();
        Context::background().with_timeout(Duration::from_millis(2)).0.after_func(move || done.done());
        expired.wait();
    });
}

/// Many contexts, all cancelled at once.
// GO-CASES K5
#[test]
fn simultaneous_cancels() {
    run(|| {
        let mut rng = Rng::new();
        for _ in 0..20 {
            let (root, cancel) = Context::background().with_cancel();
            let mut tree = vec![(root, cancel)];
            while tree.len() < 60 {
                let parent = &tree[rng.below(tree.len() as u64) as usize].0;
                let child = parent.with_value(tree.len()).with_cancel();
                tree.push(child);
            }
            let tree = Arc::new(tree);
            in_parallel(12, |i| {
                let tree = tree.clone();
                move || {
                    for (ctx, cancel) in tree.iter().skip(i).step_by(12) {
                        cancel.cancel();
                        assert_done(ctx, ContextError::Canceled);
                    }
                }
            });
            for (ctx, _) in tree.iter() {
                assert_done(ctx, ContextError::Canceled);
            }
        }
    });
}

/// When `cancel` returns, everything below is done, even if another `cancel` is on its way through
/// the same tree.
// GO-CASES K1, K5
#[test]
fn a_second_cancel_waits_for_the_first() {
    run(|| {
        for _ in 0..100 {
            let (root, cancel) = Context::background().with_cancel();
            let children: Arc<Vec<_>> = Arc::new((0..50).map(|_| root.with_cancel()).collect());
            in_parallel(4, |_| {
                let (cancel, children) = (cancel.clone(), children.clone());
                move || {
                    cancel.cancel();
                    for (child, _) in children.iter() {
                        assert_done(child, ContextError::Canceled);
                    }
                }
            });
        }
    });
}

/// A child whose cancellation is triggered by its parent's `done`.
// GO-CASES K6
#[test]
fn interlocked_cancels() {
    run(|| {
        for _ in 0..100 {
            let (parent, cancel_parent) = Context::background().with_cancel();
            let (child, cancel_child) = parent.with_cancel();
            let task = gort::go(move || {
                let _ = parent.done().recv();
                cancel_child.cancel();
            });
            cancel_parent.cancel();
            assert_done(&child, ContextError::Canceled);
            task.join().unwrap();
        }
    });
}

/// Random layers of values, timeouts and cancels. Values are found, and a cancel or a deadline ends
/// the whole chain.
// GO-CASES K7
#[test]
fn random_layers() {
    run(|| {
        let mut rng = Rng::new();
        #[derive(PartialEq, Debug)]
        struct Number<const N: usize>(u64);
        for by_timeout in [false, true] {
            let mut ctx = Context::background();
            let mut cancels: Vec<Cancel> = Vec::new();
            let mut expected = [None; 3];
            let mut timed = false;
            while cancels.is_empty() || (by_timeout && !timed) || rng.below(30) != 0 {
                let n = rng.below(1000);
                match rng.below(5) {
                    0 => {
                        let (next, cancel) = ctx.with_cancel();
                        cancels.push(cancel);
                        ctx = next;
                    }
                    1 if by_timeout => {
                        let (next, cancel) = ctx.with_timeout(Duration::from_millis(1 + rng.below(5)));
                        timed = true;
                        cancels.push(cancel);
                        ctx = next;
                    }
                    1 => {
                        let (next, cancel) = ctx.with_timeout(HOUR);
                        cancels.push(cancel);
                        ctx = next;
                    }
                    2 => {
                        ctx = ctx.with_value(Number::<0>(n));
                        expected[0] = Some(n);
                    }
                    3 => {
                        ctx = ctx.with_value(Number::<1>(n));
                        expected[1] = Some(n);
                    }
                    _ => {
                        ctx = ctx.with_value(Number::<2>(n));
                        expected[2] = Some(n);
                    }
                }
            }
            let check_values = || {
                assert_eq!(ctx.value::<Number<0>>().map(|v| v.0), expected[0]);
                assert_eq!(ctx.value::<Number<1>>().map(|v| v.0), expected[1]);
                assert_eq!(ctx.value::<Number<2>>().map(|v| v.0), expected[2]);
                assert_eq!(ctx.value::<Number<9>>(), None);
            };
            check_values();
            if by_timeout {
                let _ = ctx.done().recv();
                assert_done(&ctx, ContextError::DeadlineExceeded);
            } else {
                assert_live(&ctx);
                let which = rng.below(cancels.len() as u64) as usize;
                cancels[which].cancel();
                assert_done(&ctx, ContextError::Canceled);
            }
            check_values();
        }
    });
}

/// When `err` is set, `done` is closed, and the other way round.
// GO-CASES K8
#[test]
fn err_and_done_come_together() {
    run(|| {
        for _ in 0..300 {
            let (ctx, cancel) = Context::background().with_cancel();
            let watch = |first_err: bool| {
                let ctx = ctx.clone();
                move || {
                    if first_err {
                        while ctx.err().is_none() {
                            gort::yield_now();
                        }
                        assert!(is_closed(ctx.done()));
                    } else {
                        let _ = ctx.done().recv();
                        assert!(ctx.err().is_some());
                        assert!(ctx.cause().is_some());
                    }
                }
            };
            let tasks =
                [spawn_mixed(0, watch(true)), spawn_mixed(1, watch(true)), spawn_mixed(0, watch(false))];
            cancel.cancel();
            tasks.into_iter().for_each(Task::join);
        }
    });
}

/// A chain of contexts that is much longer than a stack is deep can be made, cancelled and dropped.
#[test]
fn long_lines() {
    run(|| {
        let (root, cancel) = Context::background().with_cancel();
        let mut ctx = root.clone();
        for i in 0..20_000 {
            ctx = if i % 2 == 0 { ctx.with_value(i) } else { ctx.with_cancel().0 };
        }
        let (leaf, _cancel) = ctx.with_cancel();
        cancel.cancel();
        assert_done(&leaf, ContextError::Canceled);
        assert_eq!(leaf.value::<i32>(), Some(&19_998));
        drop((ctx, leaf));
        // A chain that is never cancelled.
        let mut ctx = Context::background();
        for _ in 0..20_000 {
            ctx = ctx.with_cancel().0;
        }
        drop(ctx);
        // A chain that only a function keeps, until its root is dropped.
        let (root, _cancel) = Context::background().with_cancel();
        let mut ctx = root.clone();
        for _ in 0..20_000 {
            ctx = ctx.with_cancel().0;
        }
        let held = Arc::new(());
        let also = held.clone();
        ctx.after_func(move || drop(also));
        drop(ctx);
        assert_eq!(Arc::strong_count(&held), 2);
        drop((root, _cancel));
        assert_eq!(Arc::strong_count(&held), 1);
    });
}

/// The text forms of contexts and errors.
// GO-CASES K11
#[test]
fn texts() {
    let (ctx, _cancel) = Context::background().with_cancel();
    assert_eq!(ctx.to_string(), "context.Background.WithCancel");
    let ctx = ctx.with_value(7u8).without_cancel();
    assert_eq!(format!("{ctx:?}"), "context.Background.WithCancel.WithValue(u8).WithoutCancel");
    let (ctx, _cancel) = Context::background().with_deadline(Instant::now());
    let text = ctx.to_string();
    assert!(text.starts_with("context.Background.WithDeadline("), "{text}");
    assert!(text.ends_with(" ago)"), "{text}");
    run(|| {
        let (ctx, _cancel) = Context::background().with_timeout(HOUR);
        let text = ctx.to_string();
        assert!(text.starts_with("context.Background.WithDeadline(in "), "{text}");
    });
    assert_eq!(ContextError::Canceled.to_string(), "context canceled");
    assert_eq!(ContextError::DeadlineExceeded.to_string(), "context deadline exceeded");
    assert!(ContextError::DeadlineExceeded.is_timeout());
    assert!(!ContextError::Canceled.is_timeout());
}

/// `done` wakes all waiters, goroutines and threads, also through values.
#[test]
fn done_wakes_all() {
    run(|| {
        let (ctx, cancel) = Context::background().with_cancel();
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..10)
            .map(|i| {
                let (ctx, order) = (ctx.with_value(i), order.clone());
                spawn_mixed(i, move || {
                    let timed_out = ctx.done().recv_timeout(Duration::from_micros(1));
                    if ctx.err().is_none() {
                        assert!(matches!(timed_out, Err(RecvTimeoutError::Timeout)));
                    }
                    let _ = ctx.done().recv();
                    order.lock().unwrap().push(*ctx.value::<usize>().unwrap());
                })
            })
            .collect();
        nap(Duration::from_millis(2));
        assert!(order.lock().unwrap().is_empty());
        cancel.cancel();
        tasks.into_iter().for_each(Task::join);
        assert_eq!(order.lock().unwrap().len(), 10);
    });
}

/// A blocking call that the context abandons: the caller goes on at once. The call counts until it
/// is over, and its result or panic is dropped. A call that has not begun never begins. A call that
/// is in time gives its result, or its panic.
#[test]
fn blocking_calls_are_abandoned() {
    gort::run(|| {
        let ctx = Context::background();
        assert_eq!(ctx.blocking(|| 7), Ok(7));
        let panic = catch_unwind(AssertUnwindSafe(|| ctx.blocking(|| std::panic::panic_any(8)))).unwrap_err();
        assert_eq!(*panic.downcast::<i32>().unwrap(), 8);

        let abandoned = || gort::metrics::snapshot().blocking_abandoned;
        let before = abandoned();
        let (let_go, gate) = std::sync::mpsc::channel::<()>();
        let (ctx, cancel) = Context::background().with_cancel();
        let (inside, is_inside) = gort::chan::bounded(1);
        let h = gort::go(move || {
            ctx.blocking(move || {
                inside.send(()).unwrap();
                let _ = gate.recv();
                std::panic::panic_any(9);
            })
        });
        is_inside.recv().unwrap();
        cancel.cancel();
        assert_eq!(h.join().unwrap(), Err(ContextError::Canceled));
        assert_eq!(abandoned(), before + 1);
        drop(let_go);
        while abandoned() != before {
            gort::sleep(Duration::from_millis(1));
        }

        let (ctx, cancel) = Context::background().with_cancel();
        cancel.cancel();
        assert_eq!(
            ctx.blocking(|| unreachable!("it was cancelled before")),
            Err::<(), _>(ContextError::Canceled)
        );
    });
}
