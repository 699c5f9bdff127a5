//! Why a context is done.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The reason why a [`Context`](super::Context) is done.
///
/// # Examples
///
/// ```
/// use gort::context::{Context, ContextError};
///
/// let (ctx, cancel) = Context::background().with_cancel();
/// cancel.cancel();
/// assert_eq!(ctx.err(), Some(ContextError::Canceled));
/// assert_eq!(ctx.err().unwrap().to_string(), "context canceled");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// The context was cancelled, or one above it was.
    Canceled,
    /// The deadline of the context passed.
    DeadlineExceeded,
}

impl ContextError {
    /// Whether this is [`DeadlineExceeded`](ContextError::DeadlineExceeded).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::ContextError;
    ///
    /// assert!(ContextError::DeadlineExceeded.is_timeout());
    /// assert!(!ContextError::Canceled.is_timeout());
    /// ```
    pub fn is_timeout(self) -> bool {
        self == ContextError::DeadlineExceeded
    }
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ContextError::Canceled => "context canceled",
            ContextError::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl Error for ContextError {}

/// How a context ended: what [`err`](super::Context::err) and [`cause`](super::Context::cause)
/// return.
#[derive(Clone)]
pub(super) struct Outcome {
    pub(super) err: ContextError,
    pub(super) cause: Arc<dyn Error + Send + Sync>,
}

impl Outcome {
    pub(super) fn new(err: ContextError, cause: Option<Arc<dyn Error + Send + Sync>>) -> Outcome {
        Outcome { err, cause: cause.unwrap_or_else(|| Arc::new(err)) }
    }
}
