//! `timeout`: a call that is given up when its time is over.

use crate::sched;
use std::error::Error;
use std::panic::resume_unwind;
use std::time::Duration;
use std::{fmt, io};

/// Runs `f` in a goroutine of its own, and waits for its result: for `duration` at most.
///
/// Nothing can stop a goroutine from outside (see [cancellation](crate::guide::cancellation)). So
/// if the time is over first, `f` is **abandoned**:
///
/// - It goes on, at the same time as the caller, until it returns. What it does until then, it
///   does: a message is sent, a file is written.
/// - Its result is dropped. If it panics, that is reported on stderr, and ends nothing else.
/// - It keeps what it owns, such as a lock's guard or a connection, until it returns.
///
/// Use this around code that knows no time limit, and where a rest that goes on does no harm. Where
/// there is a closer way, it is better, because it ends the work and not only the wait:
///
/// | what `f` would wait for | instead |
/// | --- | --- |
/// | a channel | `recv_timeout`, `send_timeout`, or [`select!`](crate::select!) with [`after`](crate::chan::after) |
/// | a socket | `set_deadline` |
/// | a lock | `try_lock_for`, `acquire_timeout` |
/// | a call that blocks its thread | [`Context::blocking`](crate::context::Context::blocking), which counts what it has abandoned |
/// | work of many steps | a [`Context`](crate::context::Context) with a deadline, at which each step looks |
///
/// `f` runs in any case, also if `duration` is zero.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Errors
///
/// [`Elapsed`] if the time was over before `f` had returned. It converts to [`io::Error`], of the
/// kind `TimedOut`.
///
/// # Panics
///
/// If `f` panics before the time is over, with its panic. If the runtime was not started, and in a
/// [forked child](crate#forks).
///
/// # Examples
///
/// ```
/// use gort::time::{Elapsed, timeout};
/// use std::time::Duration;
///
/// gort::run(|| {
///     assert_eq!(timeout(Duration::from_secs(60), || 6 * 7), Ok(42));
///
///     let (tx, rx) = gort::chan::bounded(0);
///     let slow = timeout(Duration::from_millis(1), move || rx.recv());
///     assert_eq!(slow, Err(Elapsed));
///     tx.send(1).unwrap(); // it still waits, and takes the message
/// })
/// ```
///
/// With `?`, for the time and for what `f` returns:
///
/// ```
/// use gort::net::TcpStream;
/// use gort::time::timeout;
/// use std::io;
/// use std::time::Duration;
///
/// fn connect(addr: &'static str) -> io::Result<TcpStream> {
///     timeout(Duration::from_secs(5), move || TcpStream::connect(addr))?
/// }
/// # gort::run(|| drop(connect("127.0.0.1:1")))
/// ```
#[track_caller]
pub fn timeout<T, F>(duration: Duration, f: F) -> Result<T, Elapsed>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match sched::go(f).join_timeout(duration) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(e)) if e.is_goexit() => sched::goexit(),
        Ok(Err(e)) => resume_unwind(e.into_panic()),
        Err(_abandoned) => Err(Elapsed),
    }
}

/// The error of [`timeout`]: the time was over before the function had returned.
///
/// # Examples
///
/// ```
/// use gort::time::Elapsed;
/// use std::io;
///
/// assert_eq!(Elapsed.to_string(), "the time is over");
/// assert_eq!(io::Error::from(Elapsed).kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is over")
    }
}

impl Error for Elapsed {}

/// So that `timeout(…)?` works in a function that returns an `io::Result`.
impl From<Elapsed> for io::Error {
    fn from(e: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, e)
    }
}
