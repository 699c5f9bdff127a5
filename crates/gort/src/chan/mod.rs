//! Channels: how goroutines and threads hand each other messages.
//!
//! The names, the bounds and the errors are those of crossbeam-channel; the order of arrival, the direct hand-off
//! and `select` over one atomic look are those of Go. A channel is closed by dropping all its senders (receivers
//! then get what is left, and after that an error) or all its receivers (senders get their message back).
//!
//! Both ends work in goroutines and in plain OS threads alike, so a channel can join the two worlds.
//!
//! ```
//! use gort::chan::{bounded, unbounded};
//!
//! gort::run(|| {
//!     let (jobs, inbox) = bounded(2);
//!     let (done, results) = unbounded();
//!     for _ in 0..3 {
//!         let (inbox, done) = (inbox.clone(), done.clone());
//!         gort::go(move || {
//!             for n in inbox {
//!                 done.send(n * n).unwrap();
//!             }
//!         });
//!     }
//!     drop(done); // the workers have their own
//!     for n in 1..=10 {
//!         jobs.send(n).unwrap();
//!     }
//!     drop(jobs); // no more: the workers' loops end
//!     assert_eq!(results.iter().sum::<i32>(), 385);
//! })
//! ```
//!
//! | constructor | capacity | `send` waits | `recv` waits |
//! | --- | --- | --- | --- |
//! | [`bounded(0)`](bounded) | none: a rendezvous | for a receiver | for a sender |
//! | [`bounded(n)`](bounded) | `n` | while it is full | while it is empty |
//! | [`unbounded()`](unbounded) | as memory | never | while it is empty |
//! | [`after`], [`at`], [`tick`] | | | until the moment |
//! | [`never()`] | | | for ever |
//!
//! # Blocking
//!
//! What may wait says so, in a section of this name. All else does not: G: no. M: no. P: no.

mod buffer;
mod channel;
mod core;
mod error;
mod macros;
mod select;
pub(crate) mod timer;
mod waitq;

pub use self::error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError, SendTimeoutError,
    TryReadyError, TryRecvError, TrySelectError, TrySendError,
};
pub use self::select::{Select, SelectedOperation};
pub use crate::{select, select_biased};

use self::channel::{Chan, Nothing, Refused};
use self::core::{Patience, Permit, UNBOUNDED};
use self::select::{Hint, Target};
use self::timer::TimerChan;
use crate::sched::{WaitReason, WaiterRef};
use std::fmt;
use std::iter::FusedIterator;
use std::mem::{ManuallyDrop, transmute_copy};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the macros need; not for use by name.
#[doc(hidden)]
pub mod internal {
    pub use super::core::Patience;
    pub use super::select::{Arm, Committed, Handle, Hint, Selected, likely, run, slot};
}

/// A channel that holds at most `cap` messages. With capacity zero, every send meets its receive.
///
/// # Panics
///
/// If so many messages could not be allocated on any machine. (Memory is taken by the first message that has to lie
/// in the channel.)
///
/// # Examples
///
/// ```
/// use gort::chan::{TrySendError, bounded};
///
/// let (s, r) = bounded(1);
/// s.send(1).unwrap();
/// assert_eq!(s.try_send(2), Err(TrySendError::Full(2)));
/// assert_eq!(r.recv(), Ok(1));
/// ```
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    if let Err(error) = buffer::check_capacity::<T>(cap) {
        panic!("a channel of capacity {cap}: {error}");
    }
    new(cap)
}

/// A channel that holds any number of messages. What is sent faster than it is received takes memory.
///
/// # Examples
///
/// ```
/// let (s, r) = gort::chan::unbounded();
/// for i in 0..100 {
///     s.send(i).unwrap();
/// }
/// drop(s);
/// assert_eq!(r.iter().sum::<i32>(), 4950);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    new(UNBOUNDED)
}

fn new<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    let chan = Chan::new(cap);
    (Sender { chan }, Receiver { flavor: Flavor::Chan(chan) })
}

/// A receiver that gives one message, the moment, after `duration`.
///
/// It costs nothing while nobody waits for it; there is nothing to stop.
///
/// # Examples
///
/// ```
/// use gort::chan::{after, unbounded};
/// use std::time::Duration;
///
/// gort::run(|| {
///     let (_s, r) = unbounded::<i32>();
///     gort::select! {
///         recv(r) -> _ => unreachable!(),
///         recv(after(Duration::from_millis(5))) -> _ => println!("timed out"),
///     }
/// })
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    Instant::now().checked_add(duration).map_or(never(), at)
}

/// A receiver that gives one message, `when`, at that moment.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let when = Instant::now() + Duration::from_millis(5);
/// assert_eq!(gort::chan::at(when).recv(), Ok(when));
/// assert!(Instant::now() >= when);
/// ```
pub fn at(when: Instant) -> Receiver<Instant> {
    timer_receiver(TimerChan::new(when, None, true))
}

/// A receiver that gives the moment every `duration`. Ticks that are not received in time are dropped, but for the
/// first; those after it keep step.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let ticker = gort::chan::tick(Duration::from_millis(5));
/// for n in 1..4 {
///     assert!(ticker.recv().unwrap() >= start + n * Duration::from_millis(5));
/// }
/// ```
pub fn tick(duration: Duration) -> Receiver<Instant> {
    match Instant::now().checked_add(duration) {
        Some(first) => timer_receiver(TimerChan::new(first, Some(duration), true)),
        None => never(),
    }
}

/// A receiver that never gives a message: an arm of a `select` that is switched off.
///
/// ```
/// use gort::chan::{Receiver, after, never};
/// use std::time::Duration;
///
/// fn timeout(d: Option<Duration>) -> Receiver<std::time::Instant> {
///     d.map(after).unwrap_or(never())
/// }
/// assert!(timeout(None).try_recv().is_err());
/// ```
pub const fn never<T>() -> Receiver<T> {
    Receiver { flavor: Flavor::Never }
}

pub(crate) fn timer_receiver(timer: TimerChan) -> Receiver<Instant> {
    Receiver { flavor: Flavor::Timer(Arc::new(timer)) }
}

/// The sending end of a channel. Clones send to the same channel; when the last one is dropped, it is closed.
pub struct Sender<T> {
    chan: NonNull<Chan<T>>,
}

// SAFETY: messages move through the channel to other threads, which T: Send allows; all else is under its lock.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: as above; a shared sender only moves messages in.
unsafe impl<T: Send> Sync for Sender<T> {}
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> Sender<T> {
    #[inline]
    fn chan(&self) -> &Chan<T> {
        // SAFETY: a sender keeps its channel alive (it is counted in `senders`).
        unsafe { self.chan.as_ref() }
    }

    fn target(&self) -> Target<'_> {
        Target::Send(&self.chan().core)
    }

    /// Sends `message`, waiting while the channel is full. With capacity zero: until a receiver takes it.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the message, if all receivers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{SendError, bounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = bounded(0);
    ///     gort::go(move || assert_eq!(r.recv(), Ok(1))); // and drops r
    ///     assert_eq!(s.send(1), Ok(()));
    ///     assert_eq!(s.send(2), Err(SendError(2)));
    /// })
    /// ```
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.chan().send(message, Patience::Forever) {
            Ok(()) => Ok(()),
            Err(Refused::Full(message) | Refused::Disconnected(message)) => Err(SendError(message)),
        }
    }

    /// Sends `message` if that is possible without waiting.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the message: the channel is full (with capacity zero: nobody is waiting to receive),
    /// or all receivers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{TrySendError, bounded};
    ///
    /// let (s, r) = bounded(1);
    /// assert_eq!(s.try_send(1), Ok(()));
    /// assert_eq!(s.try_send(2), Err(TrySendError::Full(2)));
    /// drop(r);
    /// assert_eq!(s.try_send(3), Err(TrySendError::Disconnected(3)));
    /// ```
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.chan().send(message, Patience::None).map_err(|refused| match refused {
            Refused::Full(message) => TrySendError::Full(message),
            Refused::Disconnected(message) => TrySendError::Disconnected(message),
        })
    }

    /// As [`send`](Sender::send), for at most `timeout`.
    ///
    /// A receiver that has committed to the message (a [`Select`] between its choice and its
    /// completion) is waited for also past the deadline.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the message: the time is over, or all receivers are gone.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_patiently(message, Patience::lasting(timeout))
    }

    /// As [`send_timeout`](Sender::send_timeout), until `deadline`.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the message: the time is over, or all receivers are gone.
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_patiently(message, Patience::Until(deadline))
    }

    fn send_patiently(&self, message: T, patience: Patience) -> Result<(), SendTimeoutError<T>> {
        self.chan().send(message, patience).map_err(|refused| match refused {
            Refused::Full(message) => SendTimeoutError::Timeout(message),
            Refused::Disconnected(message) => SendTimeoutError::Disconnected(message),
        })
    }

    /// Whether there is no message in the channel; with capacity zero, always.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no place in the channel; with capacity zero, always.
    pub fn is_full(&self) -> bool {
        self.chan().is_full()
    }

    /// How many messages are in the channel.
    pub fn len(&self) -> usize {
        self.chan().len()
    }

    /// How many messages the channel can hold; `None`: any number.
    pub fn capacity(&self) -> Option<usize> {
        self.chan().capacity()
    }

    /// Whether both are ends of one channel.
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        self.chan == other.chan
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.chan().add_sender();
        Sender { chan: self.chan }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // SAFETY: this sender is counted, and is not used any more.
        unsafe { Chan::drop_sender(self.chan) }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}

/// The receiving end of a channel. Clones share its messages, each of which goes to one of them; when the last
/// receiver is dropped, what is left in the channel is dropped too, and senders fail.
pub struct Receiver<T> {
    flavor: Flavor<T>,
}

enum Flavor<T> {
    Chan(NonNull<Chan<T>>),
    /// Only in a `Receiver<Instant>`.
    Timer(Arc<TimerChan>),
    Never,
}

// SAFETY: messages move through the channel to other threads, which T: Send allows; all else is under its lock.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above; a shared receiver only moves messages out.
unsafe impl<T: Send> Sync for Receiver<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

/// A timer's moment as the message that it is.
fn moment<T>(moment: Instant) -> T {
    let moment = ManuallyDrop::new(moment);
    debug_assert_eq!(size_of::<T>(), size_of::<Instant>());
    // SAFETY: called for `Flavor::Timer` only, and those receivers are made by `timer_receiver`: T is Instant.
    unsafe { transmute_copy::<ManuallyDrop<Instant>, T>(&moment) }
}

impl<T> Receiver<T> {
    #[inline]
    fn recv_patiently(&self, patience: Patience) -> Result<T, Nothing> {
        match &self.flavor {
            // SAFETY: a receiver keeps its channel alive (it is counted in `receivers`).
            Flavor::Chan(chan) => unsafe { chan.as_ref() }.recv(patience),
            Flavor::Timer(timer) => timer.recv(patience).map(moment),
            Flavor::Never => {
                wait_out(patience);
                Err(Nothing::Empty)
            }
        }
    }

    fn target(&self) -> Target<'_> {
        match &self.flavor {
            // SAFETY: as above.
            Flavor::Chan(chan) => Target::Recv(&unsafe { chan.as_ref() }.core),
            Flavor::Timer(timer) => Target::Timer(timer),
            Flavor::Never => Target::Never,
        }
    }

    /// For a `select!` that only receives: what is likely to be found here.
    #[doc(hidden)]
    #[inline]
    pub fn hint(&self) -> Hint {
        match &self.flavor {
            // SAFETY: as above.
            Flavor::Chan(chan) if unsafe { chan.as_ref() }.core.may_recv() => Hint::Likely,
            Flavor::Chan(_) | Flavor::Never => Hint::Unlikely,
            Flavor::Timer(_) => Hint::Unknown,
        }
    }

    /// For a `select!` whose arm is likely to be ready: what it receives, if it is.
    #[doc(hidden)]
    #[inline(never)]
    pub fn take_likely(&self) -> Option<Result<T, RecvError>> {
        let Flavor::Chan(chan) = &self.flavor else { return None };
        // SAFETY: as above.
        match unsafe { chan.as_ref() }.recv_unchecked(Patience::None) {
            Ok(message) => Some(Ok(message)),
            Err(Nothing::Disconnected) => Some(Err(RecvError)),
            Err(Nothing::Empty) => None,
        }
    }

    /// Completes a selected receive.
    fn redeem(&self, permit: Permit) -> Result<T, RecvError> {
        match (&self.flavor, permit) {
            // SAFETY: as above.
            (Flavor::Chan(chan), permit) => unsafe { chan.as_ref() }.redeem_recv(permit).ok_or(RecvError),
            (Flavor::Timer(_), Permit::Tick(at)) => Ok(moment(at)),
            _ => unreachable!("the permit is of another channel"),
        }
    }

    /// Receives a message, waiting while the channel is empty.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if the channel is empty and all senders are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{RecvError, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     gort::go(move || s.send(1).unwrap()); // and drops s
    ///     assert_eq!(r.recv(), Ok(1));
    ///     assert_eq!(r.recv(), Err(RecvError));
    /// })
    /// ```
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_patiently(Patience::Forever).map_err(|_| RecvError)
    }

    /// Receives a message if there is one.
    ///
    /// # Blocking
    ///
    /// G: no, but for one case: with capacity zero, a `select` that waits to send is waited for while it computes
    /// its message. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: the channel is empty (with capacity zero: nobody is waiting to send), and perhaps all
    /// senders are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{TryRecvError, unbounded};
    ///
    /// let (s, r) = unbounded();
    /// assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    /// s.send(1).unwrap();
    /// drop(s);
    /// assert_eq!(r.try_recv(), Ok(1));
    /// assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.recv_patiently(Patience::None).map_err(|nothing| match nothing {
            Nothing::Empty => TryRecvError::Empty,
            Nothing::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// As [`recv`](Receiver::recv), for at most `timeout`.
    ///
    /// A sender that has committed to this receiver (a `select` that computes its message) is waited for also
    /// past the deadline.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: the time is over, or the channel is empty and all senders are gone.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Patience::lasting(timeout))
    }

    /// As [`recv_timeout`](Receiver::recv_timeout), until `deadline`.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: the time is over, or the channel is empty and all senders are gone.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Patience::Until(deadline))
    }

    fn recv_until(&self, patience: Patience) -> Result<T, RecvTimeoutError> {
        self.recv_patiently(patience).map_err(|nothing| match nothing {
            Nothing::Empty => RecvTimeoutError::Timeout,
            Nothing::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// Whether there is no message in the channel; with capacity zero, always.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no place in the channel; with capacity zero, always.
    pub fn is_full(&self) -> bool {
        match &self.flavor {
            // SAFETY: a receiver keeps its channel alive.
            Flavor::Chan(chan) => unsafe { chan.as_ref() }.is_full(),
            Flavor::Timer(timer) => timer.is_full(),
            Flavor::Never => true,
        }
    }

    /// How many messages are in the channel.
    pub fn len(&self) -> usize {
        match &self.flavor {
            // SAFETY: a receiver keeps its channel alive.
            Flavor::Chan(chan) => unsafe { chan.as_ref() }.len(),
            Flavor::Timer(timer) => timer.len(),
            Flavor::Never => 0,
        }
    }

    /// How many messages the channel can hold; `None`: any number.
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavor {
            // SAFETY: a receiver keeps its channel alive.
            Flavor::Chan(chan) => unsafe { chan.as_ref() }.capacity(),
            Flavor::Timer(timer) => timer.capacity(),
            Flavor::Never => Some(0),
        }
    }

    /// Receives until the channel is empty and all senders are gone, waiting for each message.
    ///
    /// # Blocking
    ///
    /// `next`: G: yes. M: no. P: no.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Receives what is there, without waiting.
    ///
    /// # Blocking
    ///
    /// As [`try_recv`](Receiver::try_recv).
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Whether both are ends of one channel.
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        match (&self.flavor, &other.flavor) {
            (Flavor::Chan(a), Flavor::Chan(b)) => a == b,
            (Flavor::Timer(a), Flavor::Timer(b)) => Arc::ptr_eq(a, b),
            (Flavor::Never, Flavor::Never) => true,
            _ => false,
        }
    }
}

impl Receiver<Instant> {
    /// The timer behind this receiver.
    pub(crate) fn timer(&self) -> Option<&TimerChan> {
        match &self.flavor {
            Flavor::Timer(timer) => Some(timer),
            Flavor::Chan(_) | Flavor::Never => None,
        }
    }
}

fn wait_out(patience: Patience) {
    while !patience.is_over() {
        let me = WaiterRef::current();
        me.arm();
        me.wait(WaitReason::ChanReceiveNever, patience.deadline());
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let flavor = match &self.flavor {
            Flavor::Chan(chan) => {
                // SAFETY: a receiver keeps its channel alive.
                unsafe { chan.as_ref() }.add_receiver();
                Flavor::Chan(*chan)
            }
            Flavor::Timer(timer) => Flavor::Timer(timer.clone()),
            Flavor::Never => Flavor::Never,
        };
        Receiver { flavor }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Flavor::Chan(chan) = self.flavor {
            // SAFETY: this receiver is counted, and is not used any more.
            unsafe { Chan::drop_receiver(chan) }
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}

/// Iterates over messages, waiting for each; made by [`Receiver::iter`].
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for Iter<'_, T> {}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Iter { .. }")
    }
}

/// Iterates over the messages that are there; made by [`Receiver::try_iter`].
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("TryIter { .. }")
    }
}

/// Iterates over messages, waiting for each, and owns the receiver.
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> FusedIterator for IntoIter<T> {}

impl<T> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("IntoIter { .. }")
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
