//! Contexts: cancellation, deadlines and values that belong to one piece of work, handed down from call to
//! call.
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

/// What belongs to one piece of work: when it has to be over, whether it was cancelled, and values that it
/// carries.
///
/// Contexts form a tree. Cancelling one cancels all below it, at once: when [`Cancel::cancel`] returns, every
/// descendant is done. The parent never notices. A context is a cheap handle; clones are the same context.
///
/// A child that nobody uses any more is taken out of its parent, whether it was cancelled or not.
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
    /// What ends this context, shared with the parent where it adds nothing; `None`: nothing does.
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

/// What [`Context::done`] gives for contexts that nothing ends.
static NEVER: LazyLock<(Sender<Infallible>, Receiver<Infallible>)> = LazyLock::new(|| chan::bounded(0));

impl Context {
    /// The root of all contexts: nothing ends it, and it has no values.
    pub fn background() -> Context {
        static BACKGROUND: LazyLock<Context> = LazyLock::new(|| {
            Context(Arc::new(Node { kind: Kind::Background, parent: None, handle: None, deadline: None }))
        });
        BACKGROUND.clone()
    }

    /// A child that the returned [`Cancel`] can end.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    pub fn with_cancel(&self) -> (Context, Cancel) {
        self.cancellable(Kind::Cancel, self.0.deadline)
    }

    /// A child that is over after `timeout`, with [`ContextError::DeadlineExceeded`].
    ///
    /// # Blocking
    ///
    /// G: yes, if the time has passed already, while another one is cancelling the same contexts;
    /// else no. M: no. P: no.
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

    /// Like [`with_timeout`](Context::with_timeout), with a [`cause`](Context::cause) for the case that the
    /// time runs out.
    ///
    /// # Blocking
    ///
    /// G: yes, if the time has passed already, while another one is cancelling the same contexts;
    /// else no. M: no. P: no.
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

    /// A child that is over at `deadline`, with [`ContextError::DeadlineExceeded`]; or at the parent's, if
    /// that is earlier. A deadline that has passed ends it at once.
    ///
    /// # Blocking
    ///
    /// G: yes, if the time has passed already, while another one is cancelling the same contexts;
    /// else no. M: no. P: no.
    pub fn with_deadline(&self, deadline: Instant) -> (Context, Cancel) {
        self.deadlined(deadline, None)
    }

    /// Like [`with_deadline`](Context::with_deadline), with a [`cause`](Context::cause) for the case that the
    /// deadline passes.
    ///
    /// # Blocking
    ///
    /// G: yes, if the time has passed already, while another one is cancelling the same contexts;
    /// else no. M: no. P: no.
    pub fn with_deadline_cause(
        &self,
        deadline: Instant,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> (Context, Cancel) {
        self.deadlined(deadline, Some(Arc::from(cause.into())))
    }

    /// A child that carries `value`. It is found by its type: give each purpose a type of its own.
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

    /// A child with this one's values that nothing ends: for work that has to be finished anyhow.
    pub fn without_cancel(&self) -> Context {
        self.child(Kind::WithoutCancel, None, None)
    }

    /// The value of type `T` that this context, or the nearest one above it, carries.
    pub fn value<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.line().find_map(|node| match &node.kind {
            Kind::Value { value, .. } => value.downcast_ref(),
            _ => None,
        })
    }

    /// A channel on which nothing is ever sent and that disconnects when the context is done.
    ///
    /// A clone of it that outlives the context and its `Cancel`s may disconnect without a cancellation,
    /// because nothing can tell any more: keep the context, too.
    pub fn done(&self) -> &Receiver<Infallible> {
        self.0.handle.as_ref().map_or_else(|| &NEVER.1, |handle| handle.done())
    }

    /// Why the context is done; `None` while it is not. Once it says something, it says the same for ever,
    /// and [`done`](Context::done) is disconnected.
    ///
    /// # Blocking
    ///
    /// G: yes, for the moment in which another one is ending the context; else no. M: no. P: no.
    pub fn err(&self) -> Option<ContextError> {
        self.outcome().map(|outcome| outcome.err)
    }

    /// What ended the context: what was given to [`Cancel::cancel_cause`], here or above, whichever came
    /// first; otherwise the same as [`err`](Context::err).
    ///
    /// # Blocking
    ///
    /// G: yes, for the moment in which another one is ending the context; else no. M: no. P: no.
    pub fn cause(&self) -> Option<Arc<dyn Error + Send + Sync>> {
        self.outcome().map(|outcome| outcome.cause.clone())
    }

    /// When the context will be over, if it has a deadline, its own or from above.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Runs `f` in a goroutine of its own when the context is done; at once if it is done already.
    ///
    /// Cancelling does not wait for `f`. Dropping the [`AfterFunc`] does not stop it.
    ///
    /// # Blocking
    ///
    /// As [`go`](crate::go), if the context is done already; else G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If the context is done already and the runtime was not started.
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

    /// Fires `interrupt` when the context is done, as long as the returned guard lives.
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

    /// This context and those above it.
    fn line(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(&*self.0), |node| node.parent.as_ref().map(|parent| &*parent.0))
    }
}

impl Drop for Node {
    /// One after the other, from here up: a long line of contexts must not need a deep stack.
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

/// Ends a [`Context`] and all below it. Dropping it does not.
#[derive(Clone)]
pub struct Cancel(Arc<Handle>);

impl Cancel {
    /// Ends the context with [`ContextError::Canceled`], unless it is done already. When this returns, the
    /// context and all below it are done.
    ///
    /// # Blocking
    ///
    /// G: yes, while another one is cancelling the same contexts. M: no. P: no.
    pub fn cancel(&self) {
        self.0.cancel(&Outcome::new(ContextError::Canceled, None));
    }

    /// Like [`cancel`](Cancel::cancel), with a reason that [`Context::cause`] will give.
    ///
    /// # Blocking
    ///
    /// G: yes, while another one is cancelling the same contexts. M: no. P: no.
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

    /// [`cancel_cause`](Cancel::cancel_cause) with a cause that somebody else has, too.
    pub(crate) fn cancel_shared(&self, cause: Arc<dyn Error + Send + Sync>) {
        self.0.cancel(&Outcome::new(ContextError::Canceled, Some(cause)));
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").finish_non_exhaustive()
    }
}

/// What [`Context::after_func`] has registered.
pub struct AfterFunc {
    /// `None`: the context never ends, and the function was dropped.
    registration: Option<Registration>,
    stopped: AtomicBool,
}

impl AfterFunc {
    /// Keeps the function from running. True if this call did that: false if it runs, has run or was stopped
    /// before.
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

/// Takes the interrupt's registration back when dropped.
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
