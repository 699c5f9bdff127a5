//! Why the runtime cannot start.

use crate::stack::tls::LayoutError;
use thiserror::Error;

/// Why the runtime cannot start, or not as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The runtime runs already; there is one a process, and these settings come too late.
    #[error("the gort runtime runs already, so its settings cannot be changed any more")]
    TooLate,
    /// A setting that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// This libc is not laid out as goroutines with their own thread-locals need it.
    #[error("{0}")]
    Unsupported(String),
    /// This process is a forked child of one in which the runtime was started; in a child it is
    /// dead.
    #[error("{}", crate::sys::fork::sentence("the start of the runtime"))]
    Forked,
    /// The system refused something (descriptors, threads, memory).
    #[error("the gort runtime cannot start: {0}")]
    Io(#[from] std::io::Error),
}

impl From<LayoutError> for StartError {
    fn from(e: LayoutError) -> StartError {
        match e {
            LayoutError::Unknown(_) => StartError::Unsupported(e.to_string()),
            LayoutError::Room { .. } => StartError::Invalid(e.to_string()),
        }
    }
}
