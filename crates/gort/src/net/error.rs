//! The errors of closed handles and of missed deadlines. All others come from the kernel, or are
//! about arguments.

use crate::sched::IoWaitError;
use std::io;

/// [`close`](super::TcpStream::close) was called, before the call or while it waited.
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
