//! Groups: goroutines that work on one task and may fail, as in Go's `errgroup`.
//!
//! A [`Group`] waits for all its goroutines and returns the first error, or their results. For
//! goroutines that borrow from the stack of the caller, use [`scope`](fn@crate::scope).
#![forbid(unsafe_code)]

use crate::context::{Cancel, Context};
use crate::sched;
use crate::sync::{Condvar, Mutex, MutexGuard, WaitGroup};
use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError};
use std::{fmt, io, mem};

/// Any error. `?` makes it of each error type, also of `anyhow::Error` and of `&str`.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A group of goroutines that work on one task. It waits for all of them, and returns the first
/// error, or their results.
///
/// A group is a handle: clones are the same group, so the functions in a group can start others. A
/// drop does not wait.
///
/// # Results
///
/// The functions of a `Group<T>` return a `T`. [`results`](Group::results) waits and returns them
/// in the order in which the functions were started. Most groups are a `Group<()>`, which is what
/// `Group` alone means: [`wait`](Group::wait) waits and returns `()`. The compiler finds `T`
/// from what the functions return.
///
/// # Errors in a group
///
/// The first error counts. If the group has a context ([`with_context`](Group::with_context)), the
/// error cancels it and becomes its [`cause`](Context::cause). [`wait`](Group::wait) and
/// [`results`](Group::results) return it as a [`SharedError`]. With `?` that becomes a `BoxError`,
/// an [`io::Error`] of the same kind, or an `anyhow::Error`.
///
/// The functions return a [`BoxError`], so that `?` works on any error in them, without a type to
/// be named. For a function with another error type there is [`go_any`](Group::go_any).
///
/// # Panics in a group
///
/// A function that panics is finished, and cancels the context as an error does. The first panic
/// continues in the caller of [`wait`](Group::wait) or [`results`](Group::results), as with
/// `std::thread::scope`. (In Go, it ends the process.) A function that ends by
/// [`goexit`](crate::goexit) is finished, without an error and without a result.
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
///
/// With results:
///
/// ```
/// use gort::group::Group;
/// use std::io;
///
/// fn size(path: &str) -> io::Result<u64> {
///     gort::blocking(|| Ok(std::fs::read(path)?.len() as u64))
/// }
///
/// fn sizes() -> io::Result<Vec<u64>> {
///     let group = Group::new();
///     for path in ["/proc/self/comm", "/proc/self/stat"] {
///         group.go(move || Ok(size(path)?));
///     }
///     Ok(group.results()?)
/// }
///
/// gort::run(|| assert_eq!(sizes().unwrap().len(), 2))
/// ```
pub struct Group<T = ()>(Arc<Inner<T>>);

struct Inner<T> {
    tasks: WaitGroup,
    cancel: Option<Cancel>,
    synced: Mutex<Synced<T>>,
    /// Notified when a goroutine has finished.
    room: Condvar,
}

struct Synced<T> {
    active: usize,
    /// `None` if there is no limit.
    limit: Option<usize>,
    /// How many functions were started: the number of the next one.
    started: usize,
    results: Results<T>,
    error: Option<SharedError>,
    panic: Option<Panic>,
}

/// The results of the functions that have finished since the last wait.
struct Results<T> {
    /// With the numbers of their functions.
    numbered: Vec<(usize, T)>,
    /// Those of a type without a size, such as `()`: a group may run functions for as long as the
    /// process lives, so they must not take memory. No order can be seen in them.
    sizeless: Vec<T>,
}

/// The first panic in the group.
enum Panic {
    Payload(Box<dyn Any + Send>),
    /// A caller of `wait` has resumed it.
    Resumed,
}

impl<T> Group<T> {
    fn from_parts(cancel: Option<Cancel>) -> Group<T> {
        let results = Results { numbered: Vec::new(), sizeless: Vec::new() };
        let synced = Synced { active: 0, limit: None, started: 0, results, error: None, panic: None };
        Group(Arc::new(Inner {
            tasks: WaitGroup::default(),
            cancel,
            synced: Mutex::new(synced),
            room: Condvar::new(),
        }))
    }

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
    pub fn new() -> Group<T> {
        Group::from_parts(None)
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
    ///     assert!(group.wait().is_err());
    /// })
    /// ```
    pub fn with_context(parent: &Context) -> (Group<T>, Context) {
        let (ctx, cancel) = parent.with_cancel();
        (Group::from_parts(Some(cancel)), ctx)
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
}

impl<T: Send + 'static> Group<T> {
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
    ///     let (numbers, received) = gort::chan::unbounded();
    ///     let group = Group::new();
    ///     for text in ["1", "2"] {
    ///         let numbers = numbers.clone();
    ///         group.go(move || {
    ///             let n: i32 = text.parse()?; // errors of different types
    ///             numbers.send(n)?;
    ///             Ok(())
    ///         });
    ///     }
    ///     group.wait().unwrap();
    ///     assert_eq!(received.try_iter().sum::<i32>(), 3);
    /// })
    /// ```
    #[track_caller]
    pub fn go<F: FnOnce() -> Result<T, BoxError> + Send + 'static>(&self, f: F) {
        let inner = &*self.0;
        let full = |s: &mut Synced<T>| s.is_full();
        let mut synced = inner.room.wait_while(inner.synced(), full).unwrap_or_else(PoisonError::into_inner);
        let number = synced.begin();
        drop(synced);
        self.start(number, f);
    }

    /// As [`go`](Group::go), for a function whose error is of any type that converts to a
    /// [`BoxError`], such as [`io::Error`] or `anyhow::Error`.
    ///
    /// This is for functions that have an error type already. A closure with `?` in it has none:
    /// the compiler could not find one, so use `go`.
    ///
    /// # Blocking
    ///
    /// As [`go`](Group::go).
    ///
    /// # Panics
    ///
    /// As [`go`](Group::go).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    /// use std::io;
    ///
    /// fn read(path: &str) -> io::Result<Vec<u8>> {
    ///     gort::blocking(|| std::fs::read(path))
    /// }
    ///
    /// fn read_both() -> io::Result<Vec<Vec<u8>>> {
    ///     let group = Group::new();
    ///     group.go_any(|| read("/proc/self/comm"));
    ///     group.go_any(|| read("/no/such/file"));
    ///     Ok(group.results()?)
    /// }
    ///
    /// gort::run(|| assert_eq!(read_both().unwrap_err().kind(), io::ErrorKind::NotFound))
    /// ```
    #[track_caller]
    pub fn go_any<F, E>(&self, f: F)
    where
        F: FnOnce() -> Result<T, E> + Send + 'static,
        E: Into<BoxError>,
    {
        self.go(move || f().map_err(E::into));
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
    #[track_caller]
    pub fn try_go<F: FnOnce() -> Result<T, BoxError> + Send + 'static>(&self, f: F) -> bool {
        let number = {
            let mut synced = self.0.synced();
            if synced.is_full() {
                return false;
            }
            synced.begin()
        };
        self.start(number, f);
        true
    }

    /// Waits until all goroutines of the group have finished, cancels the context, and returns the
    /// results.
    ///
    /// They are in the order in which the functions were started, each once: a later call returns
    /// those of functions that were started later. A function that ended by
    /// [`goexit`](crate::goexit) has no result, so the list is shorter.
    ///
    /// The group can be used again afterwards. It keeps its first error, and drops the results
    /// beside one.
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
    /// As [`wait`](Group::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     for text in ["1", "2", "3"] {
    ///         group.go(move || Ok(text.parse::<u32>()?));
    ///     }
    ///     assert_eq!(group.results().unwrap(), [1, 2, 3]);
    ///
    ///     group.go(|| Ok("x".parse()?));
    ///     assert_eq!(group.results().unwrap_err().to_string(), "invalid digit found in string");
    /// })
    /// ```
    pub fn results(&self) -> Result<Vec<T>, SharedError> {
        let results = self.0.wait();
        let Results { mut numbered, mut sizeless } = results?;
        numbered.sort_unstable_by_key(|(number, _)| *number);
        sizeless.extend(numbered.into_iter().map(|(_, result)| result));
        Ok(sizeless)
    }

    /// Starts a goroutine that is counted as active already.
    #[track_caller]
    fn start<F: FnOnce() -> Result<T, BoxError> + Send + 'static>(&self, number: usize, f: F) {
        self.0.tasks.add(1);
        let finished = Finished(self.0.clone());
        drop(sched::go(move || {
            let finished = finished;
            match catch_unwind(AssertUnwindSafe(f)) {
                Ok(Ok(result)) => finished.0.succeed(number, result),
                Ok(Err(error)) => finished.0.fail(SharedError::new(error), None),
                Err(goexit) if sched::is_goexit(&*goexit) => resume_unwind(goexit),
                Err(payload) => finished.0.fail(SharedError(Arc::new(TaskPanicked)), Some(payload)),
            }
        }));
    }
}

impl Group {
    /// Waits until all goroutines of the group have finished, and then cancels the context.
    ///
    /// The group can be used again afterwards. It keeps its first error. A group whose functions
    /// return something has [`results`](Group::results) instead.
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
    pub fn wait(&self) -> Result<(), SharedError> {
        self.0.wait().map(drop)
    }
}

impl<T> Inner<T> {
    /// No user code runs under this lock, so poison has no meaning here.
    fn synced(&self) -> MutexGuard<'_, Synced<T>> {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until all have finished, and takes what they have returned.
    fn wait(&self) -> Result<Results<T>, SharedError> {
        self.tasks.wait();
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        let mut synced = self.synced();
        let panic = synced.panic.as_mut().map(|panic| mem::replace(panic, Panic::Resumed));
        let error = synced.error.clone();
        let results = synced.results.take();
        drop(synced);
        match panic {
            Some(Panic::Payload(payload)) => resume_unwind(payload),
            Some(Panic::Resumed) => panic!("a goroutine of the group panicked"),
            None => error.map_or(Ok(results), Err),
        }
    }

    fn succeed(&self, number: usize, result: T) {
        let mut synced = self.synced();
        if synced.error.is_none() {
            synced.results.put(number, result);
        } else {
            drop(synced);
            drop(result);
        }
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

impl<T> Synced<T> {
    /// Counts a function that begins; returns its number.
    fn begin(&mut self) -> usize {
        self.active += 1;
        self.started += 1;
        self.started
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.active >= limit)
    }
}

impl<T> Results<T> {
    fn put(&mut self, number: usize, result: T) {
        if size_of::<T>() == 0 {
            self.sizeless.push(result);
        } else {
            self.numbered.push((number, result));
        }
    }

    fn take(&mut self) -> Results<T> {
        Results { numbered: mem::take(&mut self.numbered), sizeless: mem::take(&mut self.sizeless) }
    }
}

/// Counts a goroutine as finished when dropped: however it ends, and also if it never started.
struct Finished<T>(Arc<Inner<T>>);

impl<T> Drop for Finished<T> {
    fn drop(&mut self) {
        self.0.synced().active -= 1;
        self.0.room.notify_one();
        self.0.tasks.done();
    }
}

impl<T> Clone for Group<T> {
    fn clone(&self) -> Group<T> {
        Group(self.0.clone())
    }
}

impl<T> Default for Group<T> {
    fn default() -> Group<T> {
        Group::new()
    }
}

impl<T> fmt::Debug for Group<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("active", &self.0.synced().active).finish_non_exhaustive()
    }
}

/// The first error of a [`Group`]. The context of the group has the same value as its cause.
///
/// It has the text and the source of the error that the goroutine returned. To get at the type of
/// that error, use [`downcast_ref`](SharedError::downcast_ref).
///
/// With `?` it becomes a [`BoxError`], an `anyhow::Error`, or an [`io::Error`]: of the same kind if
/// the goroutine returned an [`io::Error`], and else of the kind `Other`.
///
/// # Examples
///
/// ```
/// use gort::group::Group;
/// use std::io;
///
/// fn task() -> io::Result<()> {
///     let group = Group::new();
///     group.go(|| Err(io::Error::from(io::ErrorKind::NotFound).into()));
///     group.wait()?;
///     Ok(())
/// }
///
/// gort::run(|| assert_eq!(task().unwrap_err().kind(), io::ErrorKind::NotFound))
/// ```
#[derive(Clone)]
pub struct SharedError(Arc<dyn Error + Send + Sync>);

impl SharedError {
    /// Wraps `error`. An error that comes from a group inside the group is shared as it is.
    fn new(error: BoxError) -> SharedError {
        error.downcast::<SharedError>().map_or_else(|error| SharedError(Arc::from(error)), |shared| *shared)
    }

    /// Returns the error that the goroutine returned, if it is an `E`.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    /// use std::num::ParseIntError;
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.go(|| Ok("x".parse::<u32>()?));
    ///     let error = group.results().unwrap_err();
    ///     assert!(error.downcast_ref::<ParseIntError>().is_some());
    ///     assert!(error.downcast_ref::<std::io::Error>().is_none());
    /// })
    /// ```
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// Returns a reference to the error that the goroutine returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.go(|| Err("disk full".into()));
    ///     let error = group.wait().unwrap_err();
    ///     assert_eq!(error.get_ref().to_string(), "disk full");
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
    /// use gort::group::Group;
    ///
    /// gort::run(|| {
    ///     let group = Group::new();
    ///     group.go(|| Err("disk full".into()));
    ///     assert_eq!(group.wait().unwrap_err().into_inner().to_string(), "disk full");
    /// })
    /// ```
    pub fn into_inner(self) -> Arc<dyn Error + Send + Sync> {
        self.0
    }
}

/// So that `group.wait()?` works in a function that returns an `io::Result`.
///
/// An error of the system (with [`raw_os_error`](io::Error::raw_os_error)) becomes the same one.
/// Others are in the new error, with their kind if they are [`io::Error`]s, and `Other` if not.
impl From<SharedError> for io::Error {
    fn from(e: SharedError) -> io::Error {
        let Some(inner) = e.downcast_ref::<io::Error>() else { return io::Error::other(e) };
        match inner.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(inner.kind(), e),
        }
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
