//! Groups: goroutines that work on one task and may fail, as in Go's `errgroup`.
//!
//! A [`Group`] waits for all its goroutines and returns the first error. For goroutines that borrow
//! from the stack of the caller, use [`scope`](fn@crate::scope).
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

/// A group of goroutines that work on one task. It waits for all of them and returns the first
/// error.
///
/// A group is a handle: clones are the same group, so the functions in a group can start others. A
/// drop does not wait.
///
/// # Errors in a group
///
/// The first error counts. If the group has a context ([`with_context`](Group::with_context)), the
/// error cancels it and becomes its [`cause`](Context::cause). [`wait`](Group::wait) returns it as
/// a [`SharedError`].
///
/// # Panics in a group
///
/// A function that panics is finished, and cancels the context as an error does. The first panic
/// continues in the caller of [`wait`](Group::wait), as with `std::thread::scope`. (In Go, it ends
/// the process.) A function that ends by [`goexit`](crate::goexit) is finished, without an error.
///
/// # Blocking
///
/// Waiting, and starting at the limit: G: yes. M: no. P: no. A drop: G: no. M: no. P: no.
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
    /// Notified when a goroutine has finished.
    room: Condvar,
}

#[derive(Default)]
struct Synced {
    active: usize,
    /// `None` if there is no limit.
    limit: Option<usize>,
    error: Option<SharedError>,
    panic: Option<Panic>,
}

/// The first panic in the group.
enum Panic {
    Payload(Box<dyn Any + Send>),
    /// A caller of `wait` has resumed it.
    Resumed,
}

impl Group {
    /// Makes a group without a context.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.go(|| Ok(()));
    ///     assert!(group.wait().is_ok());
    /// })
    /// ```
    pub fn new() -> Group {
        Group::default()
    }

    /// Makes a group, and a context for it: a child of `parent`.
    ///
    /// The first error or panic cancels the context. [`wait`](Group::wait) cancels it too, when all
    /// goroutines have finished.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
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
    ///     let _ = ctx.done().recv();
    ///     assert_eq!(ctx.cause().unwrap().to_string(), "disk full");
    /// })
    /// ```
    pub fn with_context(parent: &Context) -> (Group, Context) {
        let (ctx, cancel) = parent.with_cancel();
        (Group(Arc::new(Inner { cancel: Some(cancel), ..Inner::default() })), ctx)
    }

    /// Sets how many goroutines of the group may run at once.
    ///
    /// `usize::MAX` removes the limit. With 0, nothing can be started: [`go`](Group::go) waits and
    /// [`try_go`](Group::try_go) returns false.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If goroutines of the group are running.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.set_limit(2); // each `go` below waits for one of two places
    ///     for _ in 0..10 {
    ///         group.go(|| Ok(()));
    ///     }
    ///     assert!(group.wait().is_ok());
    /// })
    /// ```
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

    /// Runs `f` in a goroutine of its own. At the limit, waits until another one has finished.
    ///
    /// # Blocking
    ///
    /// G: yes, at the limit; otherwise as [`go`](crate::go). M: no. P: no.
    ///
    /// # Panics
    ///
    /// If the runtime was not started, and in a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let (results, received) = gort::chan::unbounded();
    ///     let group = Group::new();
    ///     for n in 0..3 {
    ///         let results = results.clone();
    ///         group.go(move || Ok(results.send(n)?));
    ///     }
    ///     group.wait().unwrap();
    ///     assert_eq!(received.try_iter().sum::<i32>(), 3);
    /// })
    /// ```
    pub fn go<F: FnOnce() -> Result<(), BoxError> + Send + 'static>(&self, f: F) {
        let inner = &*self.0;
        let full = |s: &mut Synced| s.is_full();
        let mut synced = inner.room.wait_while(inner.synced(), full).unwrap_or_else(PoisonError::into_inner);
        synced.active += 1;
        drop(synced);
        self.start(f);
    }

    /// Runs `f` in a goroutine of its own if the limit allows it now. Returns whether it does.
    ///
    /// # Blocking
    ///
    /// As [`go`](crate::go).
    ///
    /// # Panics
    ///
    /// If the runtime was not started, and in a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let (finish, wait) = gort::chan::bounded::<()>(0);
    ///     let group = Group::new();
    ///     group.set_limit(1);
    ///     group.go(move || Ok(wait.recv()?));
    ///     assert!(!group.try_go(|| Ok(()))); // at the limit
    ///     finish.send(()).unwrap();
    ///     assert!(group.wait().is_ok());
    /// })
    /// ```
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

    /// Waits until all goroutines of the group have finished, and then cancels the context.
    ///
    /// The group can be used again afterwards. It keeps its first error.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The first error in the group. Each call returns it.
    ///
    /// # Panics
    ///
    /// If a function of the group panicked. The first call continues with the first panic, later
    /// calls panic with a message that says so.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.go(|| Ok(()));
    ///     group.go(|| Err("disk full".into()));
    ///     assert_eq!(group.wait().unwrap_err().to_string(), "disk full");
    /// })
    /// ```
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

    /// Starts a goroutine that is counted as active already.
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
    /// No user code runs under this lock, so poison has no meaning here.
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

/// Counts a goroutine as finished when dropped: however it ends, and also if it never started.
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

/// The first error of a [`Group`]. The context of the group has the same value as its cause.
///
/// It has the text and the source of the error that the goroutine returned. To get at the type of
/// that error, downcast what [`get_ref`](SharedError::get_ref) returns.
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
    /// Wraps `error`. An error that comes from a group inside the group is shared as it is.
    fn new(error: BoxError) -> SharedError {
        error.downcast::<SharedError>().map_or_else(|error| SharedError(Arc::from(error)), |shared| *shared)
    }

    /// Returns a reference to the error that the goroutine returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::{Group, SharedError};
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.go(|| Err("disk full".into()));
    ///     let error = group.wait().unwrap_err();
    ///     let shared: &SharedError = error.downcast_ref().unwrap();
    ///     assert_eq!(shared.get_ref().to_string(), "disk full");
    /// })
    /// ```
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.0
    }

    /// Returns the error that the goroutine returned. It is shared with the context of the group.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::{Group, SharedError};
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.go(|| Err("disk full".into()));
    ///     let shared: Box<SharedError> = group.wait().unwrap_err().downcast().unwrap();
    ///     assert_eq!(shared.into_inner().to_string(), "disk full");
    /// })
    /// ```
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

/// The cause of the context of a group after a panic.
#[derive(Debug)]
struct TaskPanicked;

impl fmt::Display for TaskPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a goroutine of the group panicked")
    }
}

impl Error for TaskPanicked {}
