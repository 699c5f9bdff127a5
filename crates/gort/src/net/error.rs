//! The two errors that are ours; all others are the kernel's.

use crate::sched::IoWaitError;
use std::io;

/// The handle was closed by [`close`](super::TcpStream::close): before the call, or while it waited.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "use of closed network connection")
}

/// A deadline or a time-out has passed.
pub(super) fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")
}

impl From<IoWaitError> for io::Error {
    fn from(e: IoWaitError) -> io::Error {
        match e {
            IoWaitError::Closed => closed(),
            IoWaitError::DeadlineExceeded => timed_out(),
        }
    }
}
