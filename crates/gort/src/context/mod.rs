//! Contexts: cancellation, deadlines and values of one piece of work, passed from call to call.
//!
//! They work as those of Go do. A function that may take long takes a `&Context`, and looks at it:
//!
//! - where it waits for channels: `select!` with `recv(ctx.done())`;
//! - where it waits for permits:
//!   [`Semaphore::acquire_context`](crate::sync::Semaphore::acquire_context);
//! - where it calls blocking code: [`Context::blocking`];
//! - in long computations: [`Context::err`] now and then.
//!
//! # Blocking
//!
//! What may wait has a section that says so. A cancellation waits only while another one is
//! cancelling the same contexts.
//!
//! # Examples
//!
//! ```
//! use gort::context::Context;
//! use std::time::Duration;
//!
//! gort::run(|| {
//!     let (_tx, answers) = gort::chan::bounded::<u32>(0);
//!     let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(2));
//!     let answer = gort::select! {
//!         recv(answers) -> answer => Ok(answer.unwrap()),
//!         recv(ctx.done()) -> _ => Err(ctx.err().unwrap()),
//!     };
//!     assert!(answer.unwrap_err().is_timeout());
//! })
//! ```
#![forbid(unsafe_code)]

mod blocking;
mod canceler;
mod error;
mod semaphore;

use crate::chan::{self, Receiver, Sender};
use crate::sched;
use crate::sync::LazyLock;
use crate::sync::interrupt::Interrupt;
use crate::sys::sync::{AtomicBool, Ordering::Relaxed};
use canceler::{Canceler, Child, Handle, Registration};
pub use error::ContextError;
use error::Outcome;
use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The context of one piece of work: its deadline, whether it was cancelled, and values.
///
/// Contexts form a tree. Cancelling one cancels all below it: when [`Cancel::cancel`] returns,
/// every descendant is done. The parent is not affected. A context is a cheap handle; clones are
/// the same context.
///
/// A child that is not used any more is taken out of its parent, whether it was cancelled or not.
/// It is used while there is a handle to it or its [`Cancel`], or something is registered below it.
///
/// # Examples
///
/// ```
/// use gort::context::{Context, ContextError};
/// use std::time::Duration;
///
/// gort::run(|| {
///     let (ctx, cancel) = Context::background().with_cancel();
///     let worker = gort::go({
///         let ctx = ctx.clone();
///         move || {
///             let _ = ctx.done().recv(); // or in a select
///             ctx.err()
///         }
///     });
///     cancel.cancel();
///     assert_eq!(worker.join().unwrap(), Some(ContextError::Canceled));
///
///     let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(1));
///     let _ = ctx.done().recv();
///     assert_eq!(ctx.err().unwrap().to_string(), "context deadline exceeded");
/// })
/// ```
#[derive(Clone)]
pub struct Context(Arc<Node>);

struct Node {
    kind: Kind,
    parent: Option<Context>,
    /// What ends this context. It is the parent's if this context cannot end by itself, and `None`
    /// if nothing ends it.
    handle: Option<Arc<Handle>>,
    deadline: Option<Instant>,
}

enum Kind {
    Background,
    Cancel,
    Deadline,
    Value { value: Box<dyn Any + Send + Sync>, type_name: &'static str },
    WithoutCancel,
}

/// What [`Context::done`] returns for contexts that nothing ends.
static NEVER: LazyLock<(Sender<Infallible>, Receiver<Infallible>)> = LazyLock::new(|| chan::bounded(0));

impl Context {
    /// Returns the root of all contexts: nothing ends it, and it has no values.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// let ctx = Context::background();
    /// assert!(ctx.err().is_none() && ctx.deadline().is_none());
    /// ```
    pub fn background() -> Context {
        static BACKGROUND: LazyLock<Context> = LazyLock::new(|| {
            Context(Arc::new(Node { kind: Kind::Background, parent: None, handle: None, deadline: None }))
        });
        BACKGROUND.clone()
    }

    /// Makes a child, and the [`Cancel`] that can end it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::{Context, ContextError};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// assert_eq!(ctx.err(), None);
    /// cancel.cancel();
    /// assert_eq!(ctx.err(), Some(ContextError::Canceled));
    /// ```
    pub fn with_cancel(&self) -> (Context, Cancel) {
        self.cancellable(Kind::Cancel, self.0.deadline)
    }

    /// Makes a child that is done after `timeout`, with [`ContextError::DeadlineExceeded`].
    ///
    /// If the parent has an earlier deadline, that holds for the child too.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. If the time has passed already, this cancels the child, and blocks as
    /// [`Cancel::cancel`] does.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks), and if the runtime was not started and cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (ctx, _cancel) = Context::background().with_timeout(Duration::from_secs(3600));
    ///     assert!(ctx.deadline().is_some());
    ///     assert!(ctx.err().is_none());
    /// })
    /// ```
    pub fn with_timeout(&self, timeout: Duration) -> (Context, Cancel) {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.with_deadline(deadline),
            None => self.with_cancel(), // later than any clock
        }
    }

    /// As [`with_timeout`](Context::with_timeout), with a [`cause`](Context::cause) for the case
    /// that the time runs out.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. If the time has passed already, this cancels the child, and blocks as
    /// [`Cancel::cancel`] does.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks), and if the runtime was not started and cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let short = Duration::from_millis(2);
    ///     let (ctx, _cancel) = Context::background().with_timeout_cause(short, "slow disk");
    ///     let _ = ctx.done().recv();
    ///     assert!(ctx.err().unwrap().is_timeout());
    ///     assert_eq!(ctx.cause().unwrap().to_string(), "slow disk");
    /// })
    /// ```
    pub fn with_timeout_cause(
        &self,
        timeout: Duration,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> (Context, Cancel) {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.with_deadline_cause(deadline, cause),
            None => self.with_cancel(),
        }
    }

    /// Makes a child that is done at `deadline`, with [`ContextError::DeadlineExceeded`].
    ///
    /// If the parent has an earlier deadline, that holds for the child too. With a deadline in the
    /// past, the child is done at once.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. If the time has passed already, this cancels the child, and blocks as
    /// [`Cancel::cancel`] does.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks), and if the runtime was not started and cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::{Context, ContextError};
    /// use std::time::Instant;
    ///
    /// gort::run(|| {
    ///     let (ctx, _cancel) = Context::background().with_deadline(Instant::now());
    ///     assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
    /// })
    /// ```
    pub fn with_deadline(&self, deadline: Instant) -> (Context, Cancel) {
        self.deadlined(deadline, None)
    }

    /// As [`with_deadline`](Context::with_deadline), with a [`cause`](Context::cause) for the case
    /// that the deadline passes.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. If the time has passed already, this cancels the child, and blocks as
    /// [`Cancel::cancel`] does.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks), and if the runtime was not started and cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    /// use std::time::Instant;
    ///
    /// gort::run(|| {
    ///     let now = Instant::now();
    ///     let (ctx, _cancel) = Context::background().with_deadline_cause(now, "too late");
    ///     assert_eq!(ctx.cause().unwrap().to_string(), "too late");
    /// })
    /// ```
    pub fn with_deadline_cause(
        &self,
        deadline: Instant,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> (Context, Cancel) {
        self.deadlined(deadline, Some(Arc::from(cause.into())))
    }

    /// Makes a child that carries `value`.
    ///
    /// [`value`](Context::value) finds it by its type, so give each purpose a type of its own.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// struct User(&'static str);
    ///
    /// let ctx = Context::background().with_value(User("ada"));
    /// assert_eq!(ctx.value::<User>().unwrap().0, "ada");
    /// assert!(ctx.value::<String>().is_none());
    /// ```
    pub fn with_value<T: Any + Send + Sync>(&self, value: T) -> Context {
        let kind = Kind::Value { value: Box::new(value), type_name: std::any::type_name::<T>() };
        self.child(kind, self.0.handle.clone(), self.0.deadline)
    }

    /// Makes a child that has the values of this context, but that nothing ends.
    ///
    /// This is for work that must be finished even if the context is cancelled.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_value(7).with_cancel();
    /// let clean_up = ctx.without_cancel();
    /// cancel.cancel();
    /// assert_eq!(clean_up.err(), None);
    /// assert_eq!(clean_up.value::<i32>(), Some(&7));
    /// ```
    pub fn without_cancel(&self) -> Context {
        self.child(Kind::WithoutCancel, None, None)
    }

    /// Returns the value of type `T` that this context carries, or that the nearest one above it
    /// does.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// let ctx = Context::background().with_value("outer").with_value(7);
    /// assert_eq!(ctx.value::<&str>(), Some(&"outer"));
    /// assert_eq!(ctx.with_value("inner").value::<&str>(), Some(&"inner"));
    /// assert_eq!(ctx.value::<bool>(), None);
    /// ```
    pub fn value<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.line().find_map(|node| match &node.kind {
            Kind::Value { value, .. } => value.downcast_ref(),
            _ => None,
        })
    }

    /// Returns a channel that disconnects when the context is done. Nothing is ever sent on it.
    ///
    /// Keep the context as long as a clone of the channel. If the context and its `Cancel`s are
    /// dropped first, the channel may disconnect without a cancellation.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. Receiving waits for the end of the context.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// gort::run(|| {
    ///     let (ctx, cancel) = Context::background().with_cancel();
    ///     gort::go(move || cancel.cancel());
    ///     gort::select! {
    ///         recv(ctx.done()) -> _ => assert!(ctx.err().is_some()),
    ///     }
    /// })
    /// ```
    pub fn done(&self) -> &Receiver<Infallible> {
        self.0.handle.as_ref().map_or_else(|| &NEVER.1, |handle| handle.done())
    }

    /// Returns why the context is done, or `None` while it is not.
    ///
    /// Once the context is done, the answer does not change any more, and [`done`](Context::done)
    /// is disconnected.
    ///
    /// # Blocking
    ///
    /// G: only for the moment in which another call is ending the context. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::{Context, ContextError};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let below = ctx.with_value(7);
    /// assert_eq!(below.err(), None);
    /// cancel.cancel();
    /// assert_eq!(below.err(), Some(ContextError::Canceled));
    /// ```
    pub fn err(&self) -> Option<ContextError> {
        self.outcome().map(|outcome| outcome.err)
    }

    /// Returns what ended the context, or `None` while it is not done.
    ///
    /// If the context, or one above it, was ended with a cause (as by [`Cancel::cancel_cause`]),
    /// this is the cause. The first end counts. If it had no cause, this is the same as
    /// [`err`](Context::err).
    ///
    /// # Blocking
    ///
    /// G: only for the moment in which another call is ending the context. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel_cause("shutting down");
    /// assert_eq!(ctx.cause().unwrap().to_string(), "shutting down");
    /// ```
    pub fn cause(&self) -> Option<Arc<dyn Error + Send + Sync>> {
        self.outcome().map(|outcome| outcome.cause.clone())
    }

    /// Returns the deadline of the context, if it has one. It may come from a context above.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let soon = Instant::now() + Duration::from_secs(60);
    ///     let (ctx, _cancel) = Context::background().with_deadline(soon);
    ///     let (below, _cancel) = ctx.with_timeout(Duration::from_secs(3600));
    ///     assert_eq!(below.deadline(), Some(soon));
    /// })
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Runs `f` in a goroutine of its own when the context is done.
    ///
    /// If it is done already, `f` is started at once. If nothing can end it, `f` is dropped. A
    /// cancellation does not wait for `f`. Dropping the [`AfterFunc`] does not stop it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. If the context is done already: as [`go`](crate::go).
    ///
    /// # Panics
    ///
    /// If the context is done already, and the runtime was not started or this is a
    /// [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    /// use gort::sync::OnceLock;
    ///
    /// static CLEANED_UP: OnceLock<bool> = OnceLock::new();
    ///
    /// gort::run(|| {
    ///     let (ctx, cancel) = Context::background().with_cancel();
    ///     ctx.after_func(|| CLEANED_UP.set(true).unwrap());
    ///     let other = ctx.after_func(|| unreachable!());
    ///     assert!(other.stop());
    ///     cancel.cancel();
    ///     assert!(CLEANED_UP.wait());
    /// })
    /// ```
    pub fn after_func<F: FnOnce() + Send + 'static>(&self, f: F) -> AfterFunc {
        let Some(handle) = &self.0.handle else {
            return AfterFunc { registration: None, stopped: AtomicBool::new(false) };
        };
        let (registration, linked) = Registration::new(handle, Child::Func(Box::new(f)));
        if let Err(Child::Func(f)) = linked {
            drop(sched::go(f));
        }
        AfterFunc { registration: Some(registration), stopped: AtomicBool::new(false) }
    }

    /// Fires `interrupt` when the context is done, if the returned guard still lives then.
    fn interrupt(&self, interrupt: &Arc<Interrupt>) -> Interrupting {
        Interrupting(self.0.handle.as_ref().map(|handle| {
            let (registration, linked) = Registration::new(handle, Child::Interrupt(interrupt.clone()));
            if linked.is_err() {
                interrupt.fire();
            }
            registration
        }))
    }

    fn outcome(&self) -> Option<&Outcome> {
        self.0.handle.as_ref()?.outcome()
    }

    fn child(&self, kind: Kind, handle: Option<Arc<Handle>>, deadline: Option<Instant>) -> Context {
        Context(Arc::new(Node { kind, parent: Some(self.clone()), handle, deadline }))
    }

    fn cancellable(&self, kind: Kind, deadline: Option<Instant>) -> (Context, Cancel) {
        let handle = Canceler::below(self.0.handle.as_deref());
        (self.child(kind, Some(handle.clone()), deadline), Cancel(handle))
    }

    fn deadlined(&self, deadline: Instant, cause: Option<Arc<dyn Error + Send + Sync>>) -> (Context, Cancel) {
        if self.0.deadline.is_some_and(|earlier| earlier <= deadline) {
            return self.with_cancel();
        }
        let (ctx, cancel) = self.cancellable(Kind::Deadline, Some(deadline));
        cancel.0.cancel_at(deadline, Outcome::new(ContextError::DeadlineExceeded, cause));
        (ctx, cancel)
    }

    /// Returns this context and those above it.
    fn line(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(&*self.0), |node| node.parent.as_ref().map(|parent| &*parent.0))
    }
}

impl Drop for Node {
    /// Drops the contexts above one after the other: a long line of contexts must not need a deep
    /// stack.
    fn drop(&mut self) {
        self.handle = None;
        let mut next = self.parent.take();
        while let Some(mut node) = next.and_then(|parent| Arc::into_inner(parent.0)) {
            next = node.parent.take();
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line: Vec<&Node> = self.line().collect();
        for node in line.into_iter().rev() {
            match (&node.kind, node.deadline) {
                (Kind::Background, _) => f.write_str("context.Background")?,
                (Kind::Deadline, Some(deadline)) => {
                    let now = Instant::now();
                    match deadline.checked_duration_since(now) {
                        Some(left) => write!(f, ".WithDeadline(in {left:?})")?,
                        None => write!(f, ".WithDeadline({:?} ago)", now - deadline)?,
                    }
                }
                (Kind::Cancel | Kind::Deadline, _) => f.write_str(".WithCancel")?,
                (Kind::Value { type_name, .. }, _) => write!(f, ".WithValue({type_name})")?,
                (Kind::WithoutCancel, _) => f.write_str(".WithoutCancel")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A handle that ends a [`Context`] and all below it.
///
/// Dropping it does not end the context.
///
/// # Examples
///
/// ```
/// use gort::context::Context;
///
/// gort::run(|| {
///     let (ctx, cancel) = Context::background().with_cancel();
///     let worker = gort::go({
///         let ctx = ctx.clone();
///         move || ctx.done().recv()
///     });
///     cancel.cancel();
///     assert!(worker.join().unwrap().is_err()); // disconnected
/// })
/// ```
#[derive(Clone)]
pub struct Cancel(Arc<Handle>);

impl Cancel {
    /// Ends the context with [`ContextError::Canceled`], unless it is done already.
    ///
    /// When this returns, the context and all below it are done.
    ///
    /// # Blocking
    ///
    /// G: only while another call is cancelling the same contexts. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If a function is registered ([`Context::after_func`]) and cannot be started: the runtime was
    /// not started, or this is a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let (below, _cancel) = ctx.with_cancel();
    /// cancel.cancel();
    /// assert!(ctx.err().is_some() && below.err().is_some());
    /// ```
    pub fn cancel(&self) {
        self.0.cancel(&Outcome::new(ContextError::Canceled, None));
    }

    /// As [`cancel`](Cancel::cancel), with a reason that [`Context::cause`] returns.
    ///
    /// # Blocking
    ///
    /// G: only while another call is cancelling the same contexts. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If a function is registered ([`Context::after_func`]) and cannot be started: the runtime was
    /// not started, or this is a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::{Context, ContextError};
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// cancel.cancel_cause("the client went away");
    /// assert_eq!(ctx.err(), Some(ContextError::Canceled));
    /// assert_eq!(ctx.cause().unwrap().to_string(), "the client went away");
    /// ```
    pub fn cancel_cause(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) {
        self.cancel_shared(Arc::from(cause.into()));
    }

    /// As [`cancel_cause`](Cancel::cancel_cause), with a cause that is shared.
    pub(crate) fn cancel_shared(&self, cause: Arc<dyn Error + Send + Sync>) {
        self.0.cancel(&Outcome::new(ContextError::Canceled, Some(cause)));
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").finish_non_exhaustive()
    }
}

/// A function that was registered by [`Context::after_func`].
///
/// Dropping this does not stop the function.
pub struct AfterFunc {
    /// `None` if the context never ends. The function was dropped then.
    registration: Option<Registration>,
    stopped: AtomicBool,
}

impl AfterFunc {
    /// Keeps the function from running.
    ///
    /// Returns whether this call did that: false if the function was started already, or was
    /// stopped before.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::Context;
    ///
    /// let (ctx, cancel) = Context::background().with_cancel();
    /// let registered = ctx.after_func(|| unreachable!());
    /// assert!(registered.stop());
    /// assert!(!registered.stop()); // it was stopped already
    /// cancel.cancel();
    /// ```
    pub fn stop(&self) -> bool {
        match &self.registration {
            Some(registration) => registration.remove(),
            None => !self.stopped.swap(true, Relaxed),
        }
    }
}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterFunc").finish_non_exhaustive()
    }
}

/// Takes the registration of the interrupt back when it is dropped.
struct Interrupting(Option<Registration>);

impl Drop for Interrupting {
    fn drop(&mut self) {
        if let Some(registration) = &self.0 {
            registration.remove();
        }
    }
}

#[cfg(test)]
mod tests;
