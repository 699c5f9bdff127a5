//! The errors of channels, with the names, methods and traits of crossbeam-channel's.
//!
//! The error of a failed send contains the message.

use std::error::Error;
use std::fmt;

/// The error of [`send`](super::Sender::send): all receivers are gone. It contains the message.
///
/// # Examples
///
/// ```
/// use gort::chan::{SendError, unbounded};
///
/// gort::run(|| {
///     let (s, r) = unbounded();
///     drop(r);
///     assert_eq!(s.send(1), Err(SendError(1)));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy)]
pub struct SendError<T>(pub T);

/// The error of [`try_send`](super::Sender::try_send). It contains the message.
///
/// # Examples
///
/// ```
/// use gort::chan::{TrySendError, bounded};
///
/// gort::run(|| {
///     let (s, r) = bounded(0);
///     assert_eq!(s.try_send(1), Err(TrySendError::Full(1)));
///     drop(r);
///     assert_eq!(s.try_send(1), Err(TrySendError::Disconnected(1)));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy)]
pub enum TrySendError<T> {
    /// The channel is full; or, with capacity zero, no receiver was waiting.
    Full(T),
    /// All receivers are gone.
    Disconnected(T),
}

/// The error of [`send_timeout`](super::Sender::send_timeout) and
/// [`send_deadline`](super::Sender::send_deadline). It contains the message.
///
/// # Examples
///
/// ```
/// use gort::chan::{SendTimeoutError, bounded};
/// use std::time::Duration;
///
/// gort::run(|| {
///     let (s, r) = bounded(0);
///     let timeout = Duration::from_millis(1);
///     assert_eq!(s.send_timeout(1, timeout), Err(SendTimeoutError::Timeout(1)));
///     drop(r);
///     assert_eq!(s.send_timeout(1, timeout), Err(SendTimeoutError::Disconnected(1)));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy)]
pub enum SendTimeoutError<T> {
    /// The time is over, and the channel was full (with capacity zero: no receiver came).
    Timeout(T),
    /// All receivers are gone.
    Disconnected(T),
}

/// The error of [`recv`](super::Receiver::recv): the channel is empty, and all senders are gone.
///
/// # Examples
///
/// ```
/// use gort::chan::{RecvError, unbounded};
///
/// gort::run(|| {
///     let (s, r) = unbounded::<i32>();
///     drop(s);
///     assert_eq!(r.recv(), Err(RecvError));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct RecvError;

/// The error of [`try_recv`](super::Receiver::try_recv).
///
/// # Examples
///
/// ```
/// use gort::chan::{TryRecvError, unbounded};
///
/// gort::run(|| {
///     let (s, r) = unbounded::<i32>();
///     assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
///     drop(s);
///     assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum TryRecvError {
    /// The channel is empty; or, with capacity zero, no sender was waiting.
    Empty,
    /// The channel is empty, and all senders are gone.
    Disconnected,
}

/// The error of [`recv_timeout`](super::Receiver::recv_timeout) and
/// [`recv_deadline`](super::Receiver::recv_deadline).
///
/// # Examples
///
/// ```
/// use gort::chan::{RecvTimeoutError, unbounded};
/// use std::time::Duration;
///
/// gort::run(|| {
///     let (s, r) = unbounded::<i32>();
///     let timeout = Duration::from_millis(1);
///     assert_eq!(r.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
///     drop(s);
///     assert_eq!(r.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum RecvTimeoutError {
    /// The time is over, and the channel was empty (with capacity zero: no sender came).
    Timeout,
    /// The channel is empty, and all senders are gone.
    Disconnected,
}

/// The error of [`try_select`](super::Select::try_select): no operation is ready.
///
/// # Examples
///
/// ```
/// use gort::chan::{Select, never};
///
/// gort::run(|| {
///     let r = never::<i32>();
///     let mut select = Select::new();
///     select.recv(&r);
///     assert!(select.try_select().is_err());
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct TrySelectError;

/// The error of [`select_timeout`](super::Select::select_timeout) and
/// [`select_deadline`](super::Select::select_deadline): no operation became ready in time.
///
/// # Examples
///
/// ```
/// use gort::chan::{Select, never};
/// use std::time::Duration;
///
/// gort::run(|| {
///     let r = never::<i32>();
///     let mut select = Select::new();
///     select.recv(&r);
///     assert!(select.select_timeout(Duration::from_millis(1)).is_err());
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct SelectTimeoutError;

/// The error of [`try_ready`](super::Select::try_ready): no operation is ready.
///
/// # Examples
///
/// ```
/// use gort::chan::{Select, TryReadyError, never};
///
/// gort::run(|| {
///     let r = never::<i32>();
///     let mut select = Select::new();
///     select.recv(&r);
///     assert_eq!(select.try_ready(), Err(TryReadyError));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct TryReadyError;

/// The error of [`ready_timeout`](super::Select::ready_timeout) and
/// [`ready_deadline`](super::Select::ready_deadline): no operation became ready in time.
///
/// # Examples
///
/// ```
/// use gort::chan::{ReadyTimeoutError, Select, never};
/// use std::time::Duration;
///
/// gort::run(|| {
///     let r = never::<i32>();
///     let mut select = Select::new();
///     select.recv(&r);
///     assert_eq!(select.ready_timeout(Duration::from_millis(1)), Err(ReadyTimeoutError));
/// })
/// ```
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct ReadyTimeoutError;

impl<T> SendError<T> {
    /// Returns the message.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded();
    ///     drop(r);
    ///     assert_eq!(s.send("foo").unwrap_err().into_inner(), "foo");
    /// })
    /// ```
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// Returns the message.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, _r) = gort::chan::bounded(0);
    ///     assert_eq!(s.try_send("foo").unwrap_err().into_inner(), "foo");
    /// })
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        }
    }

    /// Whether the channel was full.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, _r) = gort::chan::bounded(0);
    ///     assert!(s.try_send(1).unwrap_err().is_full());
    /// })
    /// ```
    pub fn is_full(&self) -> bool {
        matches!(self, TrySendError::Full(_))
    }

    /// Whether all receivers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded();
    ///     drop(r);
    ///     assert!(s.try_send(1).unwrap_err().is_disconnected());
    /// })
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, TrySendError::Disconnected(_))
    }
}

impl<T> SendTimeoutError<T> {
    /// Returns the message.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, _r) = gort::chan::bounded(0);
    ///     let error = s.send_timeout("foo", Duration::from_millis(1)).unwrap_err();
    ///     assert_eq!(error.into_inner(), "foo");
    /// })
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::Timeout(message) | SendTimeoutError::Disconnected(message) => message,
        }
    }

    /// Whether the time was over.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, _r) = gort::chan::bounded(0);
    ///     assert!(s.send_timeout(1, Duration::from_millis(1)).unwrap_err().is_timeout());
    /// })
    /// ```
    pub fn is_timeout(&self) -> bool {
        matches!(self, SendTimeoutError::Timeout(_))
    }

    /// Whether all receivers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded();
    ///     drop(r);
    ///     assert!(s.send_timeout(1, Duration::from_secs(1)).unwrap_err().is_disconnected());
    /// })
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, SendTimeoutError::Disconnected(_))
    }
}

impl TryRecvError {
    /// Whether the channel was empty, with senders left.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (_s, r) = gort::chan::unbounded::<i32>();
    ///     assert!(r.try_recv().unwrap_err().is_empty());
    /// })
    /// ```
    pub fn is_empty(&self) -> bool {
        matches!(self, TryRecvError::Empty)
    }

    /// Whether the channel is empty and all senders are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded::<i32>();
    ///     drop(s);
    ///     assert!(r.try_recv().unwrap_err().is_disconnected());
    /// })
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, TryRecvError::Disconnected)
    }
}

impl RecvTimeoutError {
    /// Whether the time was over.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (_s, r) = gort::chan::unbounded::<i32>();
    ///     assert!(r.recv_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    /// })
    /// ```
    pub fn is_timeout(&self) -> bool {
        matches!(self, RecvTimeoutError::Timeout)
    }

    /// Whether the channel is empty and all senders are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded::<i32>();
    ///     drop(s);
    ///     assert!(r.recv_timeout(Duration::from_secs(1)).unwrap_err().is_disconnected());
    /// })
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, RecvTimeoutError::Disconnected)
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(SendError(message): SendError<T>) -> TrySendError<T> {
        TrySendError::Disconnected(message)
    }
}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(SendError(message): SendError<T>) -> SendTimeoutError<T> {
        SendTimeoutError::Disconnected(message)
    }
}

impl From<RecvError> for TryRecvError {
    fn from(RecvError: RecvError) -> TryRecvError {
        TryRecvError::Disconnected
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(RecvError: RecvError) -> RecvTimeoutError {
        RecvTimeoutError::Disconnected
    }
}

// Debug does not require `T: Debug`, so that `unwrap` of a failed send works for every message.

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.is_full() { "Full(..)" } else { "Disconnected(..)" })
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SendTimeoutError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("sending on a disconnected channel")
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TrySendError::Full(_) => "sending on a full channel",
            TrySendError::Disconnected(_) => "sending on a disconnected channel",
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SendTimeoutError::Timeout(_) => "timed out waiting on send operation",
            SendTimeoutError::Disconnected(_) => "sending on a disconnected channel",
        })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("receiving on an empty and disconnected channel")
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TryRecvError::Empty => "receiving on an empty channel",
            TryRecvError::Disconnected => "receiving on an empty and disconnected channel",
        })
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RecvTimeoutError::Timeout => "timed out waiting on receive operation",
            RecvTimeoutError::Disconnected => "channel is empty and disconnected",
        })
    }
}

impl fmt::Display for TrySelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("all operations in select would block")
    }
}

impl fmt::Display for SelectTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("timed out waiting on select")
    }
}

impl fmt::Display for TryReadyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("no operation in select is ready")
    }
}

impl fmt::Display for ReadyTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("timed out waiting for an operation to become ready")
    }
}

impl<T: Send> Error for SendError<T> {}
impl<T: Send> Error for TrySendError<T> {}
impl<T: Send> Error for SendTimeoutError<T> {}
impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}
impl Error for TrySelectError {}
impl Error for SelectTimeoutError {}
impl Error for TryReadyError {}
impl Error for ReadyTimeoutError {}
