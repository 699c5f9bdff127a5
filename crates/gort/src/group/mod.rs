//! Groups: goroutines that work on one thing and may fail, as Go's `errgroup`.
#![forbid(unsafe_code)]

use crate::context::{Cancel, Context};
use crate::sched;
use crate::sync::{Condvar, Mutex, MutexGuard, WaitGroup};
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};

type BoxError = Box<dyn Error + Send + Sync>;

/// Goroutines that work on one thing: waits for all, and gives back the first error.
///
/// A handle: clones are the same group, so tasks can start tasks. Dropping a group waits for nobody.
///
/// # Errors of tasks
///
/// The first error wins. It cancels the group's context, if there is one
/// ([`with_context`](Group::with_context)), and is its [`cause`](Context::cause); [`wait`](Group::wait) gives
/// it back as a [`SharedError`].
///
/// # Panics of tasks
///
/// A task that panics is finished, cancels the context like an error, and the first panic goes on in whoever
/// [waits](Group::wait), as `std::thread::scope` does it. (Go lets it end the process.) A task that ends by
/// `goexit` is just finished.
///
/// # Examples
///
/// ```
/// use gort::context::Context;
/// use gort::group::Group;
///
/// gort::run(|| {
///     let (group, ctx) = Group::with_context(&Context::background());
///     group.go(|| Err("disk full".into()));
///     group.go(move || {
///         let _ = ctx.done().recv(); // the other one's error ends this one
///         Ok(())
///     });
///     assert_eq!(group.wait().unwrap_err().to_string(), "disk full");
/// })
/// ```
#[derive(Clone, Default)]
pub struct Group(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tasks: WaitGroup,
    cancel: Option<Cancel>,
    synced: Mutex<Synced>,
    /// A task has finished.
    room: Condvar,
}

#[derive(Default)]
struct Synced {
    active: usize,
    /// `None`: as many as there are.
    limit: Option<usize>,
    error: Option<SharedError>,
    panic: Option<Panic>,
}

/// The first panic of a task.
enum Panic {
    Payload(Box<dyn Any + Send>),
    /// Somebody's `wait` has gone on with it.
    Resumed,
}

impl Group {
    /// A group without a context.
    pub fn new() -> Group {
        Group::default()
    }

    /// A group, and a child of `parent` that ends with the first error, and at the latest when
    /// [`wait`](Group::wait) returns.
    pub fn with_context(parent: &Context) -> (Group, Context) {
        let (ctx, cancel) = parent.with_cancel();
        (Group(Arc::new(Inner { cancel: Some(cancel), ..Inner::default() })), ctx)
    }

    /// Limits how many tasks are active at once; `usize::MAX` takes the limit away. With 0, nothing can be
    /// started.
    ///
    /// # Panics
    ///
    /// While tasks are active.
    pub fn set_limit(&self, n: usize) {
        let mut synced = self.0.synced();
        let active = synced.active;
        if active > 0 {
            drop(synced);
            panic!("group: modify limit while {active} goroutines in the group are still active");
        }
        synced.limit = (n != usize::MAX).then_some(n);
        drop(synced);
        self.0.room.notify_all();
    }

    /// Runs `f` in a goroutine of its own, as soon as the limit allows.
    ///
    /// # Blocking
    ///
    /// G: yes, at the limit, and as [`go`](crate::go). M: no. P: no.
    ///
    /// # Panics
    ///
    /// If the runtime was not started.
    pub fn go<F: FnOnce() -> Result<(), BoxError> + Send + 'static>(&self, f: F) {
        let inner = &*self.0;
        let full = |s: &mut Synced| s.is_full();
        let mut synced = inner.room.wait_while(inner.synced(), full).unwrap_or_else(PoisonError::into_inner);
        synced.active += 1;
        drop(synced);
        self.start(f);
    }

    /// Runs `f` in a goroutine of its own if the limit allows it now.
    ///
    /// # Blocking
    ///
    /// As [`go`](crate::go).
    ///
    /// # Panics
    ///
    /// If the runtime was not started.
    pub fn try_go<F: FnOnce() -> Result<(), BoxError> + Send + 'static>(&self, f: F) -> bool {
        {
            let mut synced = self.0.synced();
            if synced.is_full() {
                return false;
            }
            synced.active += 1;
        }
        self.start(f);
        true
    }

    /// Waits until all tasks have finished, and cancels the group's context. Tasks may be started again
    /// afterwards; the first error stays.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The first error of a task, in every call.
    ///
    /// # Panics
    ///
    /// If a task panicked: the first waiter goes on with the first panic, the others say so.
    pub fn wait(&self) -> Result<(), BoxError> {
        self.0.tasks.wait();
        if let Some(cancel) = &self.0.cancel {
            cancel.cancel();
        }
        let mut synced = self.0.synced();
        let panic = synced.panic.as_mut().map(|panic| std::mem::replace(panic, Panic::Resumed));
        let error = synced.error.clone();
        drop(synced);
        match panic {
            Some(Panic::Payload(payload)) => resume_unwind(payload),
            Some(Panic::Resumed) => panic!("a goroutine of the group panicked"),
            None => error.map_or(Ok(()), |e| Err(Box::new(e))),
        }
    }

    /// Starts a task that is counted as active already.
    fn start<F: FnOnce() -> Result<(), BoxError> + Send + 'static>(&self, f: F) {
        self.0.tasks.add(1);
        let finished = Finished(self.0.clone());
        drop(sched::go(move || {
            let finished = finished;
            match catch_unwind(AssertUnwindSafe(f)) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => finished.0.fail(SharedError::new(error), None),
                Err(goexit) if sched::is_goexit(&*goexit) => resume_unwind(goexit),
                Err(payload) => finished.0.fail(SharedError(Arc::new(TaskPanicked)), Some(payload)),
            }
        }));
    }
}

impl Inner {
    /// No user code runs under this lock, so there is nothing that poison could tell.
    fn synced(&self) -> MutexGuard<'_, Synced> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: SharedError, panic: Option<Box<dyn Any + Send>>) {
        let mut synced = self.synced();
        let first = synced.error.is_none() && synced.panic.is_none();
        let mut late = None;
        match panic {
            None if first => synced.error = Some(error.clone()),
            None => {}
            Some(payload) if synced.panic.is_none() => synced.panic = Some(Panic::Payload(payload)),
            Some(payload) => late = Some(payload),
        }
        drop(synced);
        drop(late);
        if first && let Some(cancel) = &self.cancel {
            cancel.cancel_shared(error.0);
        }
    }
}

impl Synced {
    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.active >= limit)
    }
}

/// Counts a task as finished, however it ends, also if it never started.
struct Finished(Arc<Inner>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.synced().active -= 1;
        self.0.room.notify_one();
        self.0.tasks.done();
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("active", &self.0.synced().active).finish_non_exhaustive()
    }
}

/// The first error of a [`Group`], which its context has as its cause, too: the same value, shared.
///
/// It looks like the error that the task returned: it has its text and its source. To get at that one's type,
/// downcast what [`get_ref`](SharedError::get_ref) gives.
///
/// # Examples
///
/// ```
/// use gort::group::{Group, SharedError};
/// use std::io;
///
/// gort::run(|| {
///     let group = Group::new();
///     group.go(|| Err(io::Error::from(io::ErrorKind::NotFound).into()));
///     let error = group.wait().unwrap_err();
///     let shared: &SharedError = error.downcast_ref().unwrap();
///     let error: &io::Error = shared.get_ref().downcast_ref().unwrap();
///     assert_eq!(error.kind(), io::ErrorKind::NotFound);
/// })
/// ```
#[derive(Clone)]
pub struct SharedError(Arc<dyn Error + Send + Sync>);

impl SharedError {
    /// An error that comes from a group inside the group is shared as it is.
    fn new(error: BoxError) -> SharedError {
        error.downcast::<SharedError>().map_or_else(|error| SharedError(Arc::from(error)), |shared| *shared)
    }

    /// The error that the task returned.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// The error that the task returned.
    pub fn into_inner(self) -> Arc<dyn Error + Send + Sync> {
        self.0
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The cause of a group's context after a panic.
#[derive(Debug)]
struct TaskPanicked;

impl fmt::Display for TaskPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a goroutine of the group panicked")
    }
}

impl Error for TaskPanicked {}
