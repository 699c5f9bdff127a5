//! Why a context is done.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a [`Context`](super::Context) is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// It was cancelled, itself or above it.
    Canceled,
    /// Its deadline passed.
    DeadlineExceeded,
}

impl ContextError {
    /// True for [`DeadlineExceeded`](ContextError::DeadlineExceeded).
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

/// How a context ended: what [`err`](super::Context::err) and [`cause`](super::Context::cause) say.
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
