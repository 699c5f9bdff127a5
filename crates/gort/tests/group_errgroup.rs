//! `Group`: errors, limits, panics.

mod sync_common;

use gort::context::{Context, ContextError};
use gort::group::{BoxError, Group, SharedError};
use gort::sync::Semaphore;
use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;
use sync_common::*;

/// Without errors `wait` returns `Ok`. The first error stays, however often `wait` is called.
// GO-CASES A4 errgroup: first non-nil error returned by Wait
#[test]
fn the_first_error_wins() {
    run(|| {
        let group = Group::new();
        assert!(group.wait().is_ok());
        group.go(|| Ok(()));
        assert!(group.wait().is_ok());
        for error in ["first", "second", "third"] {
            group.go(move || Err(error.into()));
            assert_eq!(group.wait().unwrap_err().to_string(), "first");
        }
        assert_eq!(group.wait().unwrap_err().to_string(), "first");
    });
}

/// The first error cancels the context and is its cause: the same value, of the same type.
// GO-CASES A4 errgroup: becomes cancel cause
#[test]
fn an_error_cancels_the_context() {
    run(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        for i in 0..3 {
            let ctx = ctx.clone();
            group.go(move || {
                if i == 1 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "bad block").into());
                }
                let _ = ctx.done().recv();
                Err("a consequence".into())
            });
        }
        let error = group.wait().unwrap_err();
        assert_eq!(error.to_string(), "bad block");
        assert_eq!(format!("{error:?}"), format!("{:?}", ctx.cause().unwrap()));
        assert_eq!(ctx.err(), Some(ContextError::Canceled));
        let cause = ctx.cause().unwrap();
        let kind = cause.downcast_ref::<io::Error>().unwrap().kind();
        assert_eq!(kind, io::ErrorKind::InvalidData);
        let same = error.downcast_ref::<io::Error>().unwrap();
        assert!(std::ptr::eq(same, cause.downcast_ref::<io::Error>().unwrap()));
        assert!(error.source().is_none());
        assert!(Arc::ptr_eq(&error.into_inner(), &cause));
    });
}

/// When `wait` returns, the group's context is done; the parent's is not.
// GO-CASES A4 errgroup: ctx cancelled when Wait returns (cause Canceled)
#[test]
fn wait_cancels_the_context() {
    run(|| {
        let (parent, _cancel) = Context::background().with_cancel();
        let (group, ctx) = Group::with_context(&parent);
        group.go(|| Ok(()));
        assert!(group.wait().is_ok());
        assert_eq!(ctx.err(), Some(ContextError::Canceled));
        assert_eq!(ctx.cause().unwrap().to_string(), "context canceled");
        assert_eq!(parent.err(), None);
    });
}

/// The error of a group inside a group is the same error.
#[test]
fn nested_groups_share_the_error() {
    run(|| {
        let outer = Group::new();
        outer.go(|| {
            let inner = Group::new();
            inner.go(|| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            Ok(inner.wait()?)
        });
        let error = outer.wait().unwrap_err();
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::TimedOut);
        let outermost = Group::new();
        outermost.go_any(move || outer.wait());
        let error = io::Error::from(outermost.wait().unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

/// The limit bounds the tasks that run at once. `try_go` refuses beyond it, and always if it is 0.
/// The limit can be removed again.
// GO-CASES A4 errgroup: SetLimit, TryGo
#[test]
fn limits() {
    run(|| {
        let group = Group::new();
        group.set_limit(3);
        let active = Arc::new(AtomicUsize::new(0));
        for i in 0..50 {
            let active = active.clone();
            group.go(move || {
                assert!(active.fetch_add(1, SeqCst) < 3);
                if i % 5 == 0 {
                    nap(Duration::from_micros(300));
                }
                active.fetch_sub(1, SeqCst);
                Ok(())
            });
        }
        assert!(group.wait().is_ok());

        group.set_limit(2);
        let gate = Arc::new(Semaphore::new(2));
        gate.acquire(2).forget();
        let started: Vec<bool> = (0..4)
            .map(|_| {
                let gate = gate.clone();
                group.try_go(move || {
                    gate.acquire(1).forget();
                    Ok(())
                })
            })
            .collect();
        assert_eq!(started, [true, true, false, false]);
        gate.release(2);
        assert!(group.wait().is_ok());
        assert!(group.try_go(|| Ok(())));
        assert!(group.wait().is_ok());

        group.set_limit(0);
        assert!(!group.try_go(|| Ok(())));
        let blocked = gort::go({
            let group = group.clone();
            move || group.go(|| Ok(()))
        });
        nap(Duration::from_millis(2));
        assert!(!blocked.is_finished());
        group.set_limit(usize::MAX);
        blocked.join().unwrap();
        for _ in 0..20 {
            assert!(group.try_go(|| Ok(())));
        }
        assert!(group.wait().is_ok());
    });
}

/// The limit cannot be changed while tasks are active.
// GO-CASES A4 errgroup: changing limit while active
#[test]
fn changing_the_limit_while_active_panics() {
    run(|| {
        let group = Group::new();
        let gate = Arc::new(Semaphore::new(3));
        gate.acquire(3).forget();
        for _ in 0..3 {
            let gate = gate.clone();
            group.go(move || {
                gate.acquire(1).forget();
                Ok(())
            });
        }
        let panic = catch_unwind(AssertUnwindSafe(|| group.set_limit(1))).unwrap_err();
        assert!(message(&*panic).contains("modify limit while 3 goroutines in the group are still active"));
        gate.release(3);
        assert!(group.wait().is_ok());
        group.set_limit(1);
    });
}

/// A panic cancels the group like an error, and continues in the waiter.
// GO-CASES A4 errgroup: panics (deliberately other than Go, as std's scope)
#[test]
fn a_panic_goes_on_in_the_waiter() {
    run(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        group.set_limit(2);
        group.go(|| panic!("in a task"));
        let done = ctx.clone();
        group.go(move || {
            let _ = done.done().recv();
            Err("a consequence".into())
        });
        let panic = catch_unwind(AssertUnwindSafe(|| group.wait())).unwrap_err();
        assert_eq!(message(&*panic), "in a task");
        assert_eq!(ctx.cause().unwrap().to_string(), "a goroutine of the group panicked");
        let again = catch_unwind(AssertUnwindSafe(|| group.wait())).unwrap_err();
        assert_eq!(message(&*again), "a goroutine of the group panicked");
        group.set_limit(1); // No task is active any more.
    });
}

/// A panic after an error is not lost either.
#[test]
fn a_panic_beats_an_error() {
    run(|| {
        let group = Group::new();
        group.go(|| Err("an error".into()));
        assert!(group.wait().is_err());
        group.go(|| std::panic::panic_any(42));
        let panic = catch_unwind(AssertUnwindSafe(|| group.wait())).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&42));
    });
}

/// A task that ends by `goexit` counts as finished without an error.
#[test]
fn goexit_is_no_error() {
    run(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        group.set_limit(1);
        group.go(|| gort::goexit());
        group.go(move || {
            assert_eq!(ctx.err(), None);
            Ok(())
        });
        assert!(group.wait().is_ok());
    });
}

/// Tasks can start tasks.
#[test]
fn tasks_start_tasks() {
    run(|| {
        fn spread(group: &Group, depth: u32, count: &Arc<AtomicUsize>) {
            count.fetch_add(1, SeqCst);
            for _ in 0..2 {
                if depth > 0 {
                    let (group_, count) = (group.clone(), count.clone());
                    group.go(move || {
                        spread(&group_, depth - 1, &count);
                        Ok(())
                    });
                }
            }
        }
        let (group, count) = (Group::new(), Arc::new(AtomicUsize::new(0)));
        spread(&group, 5, &count);
        assert!(group.wait().is_ok());
        assert_eq!(count.load(SeqCst), 63);
        assert_eq!(format!("{group:?}"), "Group { active: 0, .. }");
    });
}

/// `results` returns the results in the order of the starts, each once. Functions that end by
/// `goexit` have none.
#[test]
fn results_in_the_order_of_the_starts() {
    run(|| {
        let group = Group::new();
        assert_eq!(group.results().unwrap(), []);
        group.set_limit(7);
        for i in 0..50u64 {
            group.go(move || {
                nap(Duration::from_micros(400 - 8 * i));
                Ok(i)
            });
        }
        assert_eq!(group.results().unwrap(), Vec::from_iter(0..50));
        assert_eq!(group.results().unwrap(), []);
        group.go(|| Ok(1));
        group.go(|| gort::goexit());
        assert!(group.try_go(|| Ok(2)));
        assert_eq!(group.results().unwrap(), [1, 2]);

        let units: Group = Group::new();
        (0..5).for_each(|_| units.go(|| Ok(())));
        assert_eq!(units.results().unwrap(), [(); 5]);
        units.go(|| Ok(()));
        units.wait().unwrap();
        assert_eq!(units.results().unwrap(), []);
    });
}

/// Beside an error the results are dropped, whether they come before it or after it.
#[test]
fn results_beside_an_error_are_dropped() {
    run(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        let value = Arc::new(());
        let (before, after) = (value.clone(), value.clone());
        group.go(move || Ok(before));
        group.go(|| Err("no luck".into()));
        group.go(move || {
            let _ = ctx.done().recv();
            Ok(after)
        });
        assert_eq!(group.results().unwrap_err().to_string(), "no luck");
        assert_eq!(Arc::strong_count(&value), 1);
        let late = value.clone();
        group.go(move || Ok(late));
        assert_eq!(group.results().unwrap_err().to_string(), "no luck");
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

fn not_found() -> io::Result<u32> {
    Err(io::ErrorKind::NotFound.into())
}

/// The error passes through `?` into the usual error types. An `io::Error` keeps its kind.
#[test]
fn errors_compose() {
    fn into_io() -> io::Result<Vec<u32>> {
        let group = Group::new();
        group.go_any(not_found);
        Ok(group.results()?)
    }
    fn into_io_of_the_system() -> io::Result<()> {
        let group = Group::new();
        group.go(|| Err(io::Error::from_raw_os_error(libc::ENOSPC).into()));
        Ok(group.wait()?)
    }
    fn into_io_from_another() -> io::Result<()> {
        let group = Group::new();
        group.go(|| Err("no luck".into()));
        Ok(group.wait()?)
    }
    fn into_box() -> Result<Vec<u32>, BoxError> {
        let group = Group::new();
        group.go(|| Ok(not_found()?));
        Ok(group.results()?)
    }
    run(|| {
        let error = into_io().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.get_ref().unwrap().is::<SharedError>());
        let error = into_io_of_the_system().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        let error = into_io_from_another().unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::Other, "no luck".to_string()));
        let error = into_box().unwrap_err();
        let shared: &SharedError = error.downcast_ref().unwrap();
        assert_eq!(shared.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
    });
}
