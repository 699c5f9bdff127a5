//! Channels: goroutines and threads send messages to each other.
//!
//! The names, the bounds and the errors are those of crossbeam-channel. The rest is as in Go:
//!
//! - Waiting senders and receivers are served in the order of their arrival.
//! - A message goes directly to a receiver that waits for it.
//! - `select` looks at all its channels in one atomic step.
//!
//! A channel is closed when all handles of one side are dropped:
//!
//! - Without senders, receivers get the messages that are left, and then an error.
//! - Without receivers, the messages that are left are dropped, and every send returns its message
//!   in an error.
//!
//! Both ends work in goroutines and in plain OS threads, so a channel can connect the two.
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
//! | [`bounded(n)`](bounded) | `n` | while the channel is full | while it is empty |
//! | [`unbounded()`](unbounded) | limited by memory | never | while it is empty |
//! | [`after`], [`at`], [`tick`] | | | until the time comes |
//! | [`never()`] | | | for ever |
//!
//! # Blocking
//!
//! A function that may wait has a section of this name. The [crate's documentation](crate) explains
//! its letters. All other functions: G: no. M: no. P: no.

mod buffer;
mod channel;
mod core;
mod error;
mod macros;
mod select;
pub(crate) mod timer;
mod waiters;

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

/// Support for the macros. Not part of the public API.
#[doc(hidden)]
pub mod internal {
    pub use super::core::Patience;
    pub use super::select::{Arm, Committed, Handle, Hint, Selected, likely, run, slot};
}

/// Creates a channel that holds at most `cap` messages.
///
/// With capacity zero, the channel holds no message: each send waits for a receive, and the message
/// goes directly from one to the other (a rendezvous).
///
/// The memory for all `cap` messages is allocated when the first message has to be stored.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Panics
///
/// If `cap` messages would take more than `isize::MAX` bytes.
///
/// # Examples
///
/// ```
/// use gort::chan::{TrySendError, bounded};
///
/// gort::run(|| {
///     let (s, r) = bounded(1);
///     s.send(1).unwrap();
///     assert_eq!(s.try_send(2), Err(TrySendError::Full(2)));
///     assert_eq!(r.recv(), Ok(1));
/// })
/// ```
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    if let Err(error) = buffer::check_capacity::<T>(cap) {
        panic!("a channel of capacity {cap}: {error}");
    }
    new(cap)
}

/// Creates a channel that holds any number of messages.
///
/// A send never waits. While messages are sent faster than they are received, the channel takes
/// more and more memory.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let (s, r) = gort::chan::unbounded();
///     for i in 0..100 {
///         s.send(i).unwrap();
///     }
///     drop(s);
///     assert_eq!(r.iter().sum::<i32>(), 4950);
/// })
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    new(UNBOUNDED)
}

fn new<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    let chan = Chan::new(cap);
    (Sender { chan }, Receiver { flavor: Flavor::Chan(chan) })
}

/// Creates a receiver that gives one message after `duration`: the time at which it was due.
///
/// After that message, the receiver never gives another one, and it is never disconnected. A
/// `duration` too long for an [`Instant`] gives no message, like [`never()`].
///
/// A timer runs only while a receive waits for the message, so there is nothing to stop: drop the
/// receiver.
///
/// # Blocking
///
/// G: no. M: no. P: no.
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

/// Creates a receiver that gives one message at the time `when`: `when` itself.
///
/// If `when` has passed, the message is there at once. Otherwise as [`after`].
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// gort::run(|| {
///     let when = Instant::now() + Duration::from_millis(5);
///     assert_eq!(gort::chan::at(when).recv(), Ok(when));
///     assert!(Instant::now() >= when);
/// })
/// ```
pub fn at(when: Instant) -> Receiver<Instant> {
    timer_receiver(TimerChan::new(when, None, true))
}

/// Creates a receiver that gives a message every `duration`: the time at which that tick was due.
///
/// If several ticks pass before a receive, it gets the first of them, and the others are dropped.
/// Later ticks stay in step with the first tick. With a `duration` of zero, a tick is always ready.
/// A `duration` too long for an [`Instant`] gives no message, like [`never()`].
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// gort::run(|| {
///     let start = Instant::now();
///     let ticker = gort::chan::tick(Duration::from_millis(5));
///     for n in 1..4 {
///         assert!(ticker.recv().unwrap() >= start + n * Duration::from_millis(5));
///     }
/// })
/// ```
pub fn tick(duration: Duration) -> Receiver<Instant> {
    match Instant::now().checked_add(duration) {
        Some(first) => timer_receiver(TimerChan::new(first, Some(duration), true)),
        None => never(),
    }
}

/// Creates a receiver that never gives a message and is never disconnected.
///
/// It switches off an arm of a `select`.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use gort::chan::{Receiver, after, never};
/// use std::time::Duration;
///
/// fn timeout(d: Option<Duration>) -> Receiver<std::time::Instant> {
///     d.map(after).unwrap_or(never())
/// }
///
/// gort::run(|| assert!(timeout(None).try_recv().is_err()))
/// ```
pub const fn never<T>() -> Receiver<T> {
    Receiver { flavor: Flavor::Never }
}

pub(crate) fn timer_receiver(timer: TimerChan) -> Receiver<Instant> {
    Receiver { flavor: Flavor::Timer(Arc::new(timer)) }
}

/// The sending end of a channel, made by [`bounded`] or [`unbounded`].
///
/// Clones send to the same channel. When the last sender is dropped, the channel is closed:
/// receivers get the messages that are left, and then an error.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let (s, r) = gort::chan::unbounded();
///     let s2 = s.clone();
///     gort::go(move || s.send(1).unwrap());
///     gort::go(move || s2.send(2).unwrap());
///     assert_eq!(r.iter().sum::<i32>(), 3); // ends when both senders are dropped
/// })
/// ```
pub struct Sender<T> {
    chan: NonNull<Chan<T>>,
}

// SAFETY: messages move through the channel to other threads, which T: Send allows; everything else
// is under the channel's lock.
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

    /// Sends `message`, waiting while the channel is full.
    ///
    /// With capacity zero, it waits until a receiver takes the message. On an unbounded channel it
    /// never waits.
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
    /// [`TrySendError`] with the message, if
    ///
    /// - the channel is full (with capacity zero: no receiver is waiting), or
    /// - all receivers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{TrySendError, bounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = bounded(1);
    ///     assert_eq!(s.try_send(1), Ok(()));
    ///     assert_eq!(s.try_send(2), Err(TrySendError::Full(2)));
    ///     drop(r);
    ///     assert_eq!(s.try_send(3), Err(TrySendError::Disconnected(3)));
    /// })
    /// ```
    #[inline]
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.chan().send(message, Patience::None).map_err(|refused| match refused {
            Refused::Full(message) => TrySendError::Full(message),
            Refused::Disconnected(message) => TrySendError::Disconnected(message),
        })
    }

    /// Sends `message`, waiting for at most `timeout` while the channel is full.
    ///
    /// There is one exception to the time limit: with capacity zero, a [`Select`] may have
    /// committed to receive the message and not yet completed that. Then this waits until it has.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the message, if the time is over or all receivers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{SendTimeoutError, bounded};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, _r) = bounded(1);
    ///     let timeout = Duration::from_millis(1);
    ///     assert_eq!(s.send_timeout(1, timeout), Ok(()));
    ///     assert_eq!(s.send_timeout(2, timeout), Err(SendTimeoutError::Timeout(2)));
    /// })
    /// ```
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_patiently(message, Patience::lasting(timeout))
    }

    /// Sends `message`, waiting until `deadline` at most while the channel is full.
    ///
    /// It is [`send_timeout`](Sender::send_timeout) with a point in time.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the message, if the time is over or all receivers are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::bounded;
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let (s, _r) = bounded(1);
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     assert!(s.send_deadline(1, deadline).is_ok());
    ///     assert!(s.send_deadline(2, deadline).unwrap_err().is_timeout());
    /// })
    /// ```
    pub fn send_deadline(&self, message: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_patiently(message, Patience::Until(deadline))
    }

    fn send_patiently(&self, message: T, patience: Patience) -> Result<(), SendTimeoutError<T>> {
        self.chan().send(message, patience).map_err(|refused| match refused {
            Refused::Full(message) => SendTimeoutError::Timeout(message),
            Refused::Disconnected(message) => SendTimeoutError::Disconnected(message),
        })
    }

    /// Whether the channel holds no message. With capacity zero: always.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, _r) = gort::chan::unbounded();
    ///     assert!(s.is_empty());
    ///     s.send(1).unwrap();
    ///     assert!(!s.is_empty());
    /// })
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the channel has no place for another message. With capacity zero: always.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, _r) = gort::chan::bounded(1);
    ///     assert!(!s.is_full());
    ///     s.send(1).unwrap();
    ///     assert!(s.is_full());
    /// })
    /// ```
    pub fn is_full(&self) -> bool {
        self.chan().is_full()
    }

    /// How many messages the channel holds.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, _r) = gort::chan::unbounded();
    ///     s.send("a").unwrap();
    ///     s.send("b").unwrap();
    ///     assert_eq!(s.len(), 2);
    /// })
    /// ```
    pub fn len(&self) -> usize {
        self.chan().len()
    }

    /// How many messages the channel can hold, or `None` if it is unbounded.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{bounded, unbounded};
    ///
    /// gort::run(|| {
    ///     assert_eq!(bounded::<i32>(3).0.capacity(), Some(3));
    ///     assert_eq!(unbounded::<i32>().0.capacity(), None);
    /// })
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        self.chan().capacity()
    }

    /// Whether `self` and `other` send to the same channel.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::unbounded;
    ///
    /// gort::run(|| {
    ///     let (s, _r) = unbounded::<i32>();
    ///     assert!(s.same_channel(&s.clone()));
    ///     assert!(!s.same_channel(&unbounded().0));
    /// })
    /// ```
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

/// The receiving end of a channel.
///
/// Clones share the channel's messages: each message goes to one of them. When the last receiver is
/// dropped, the messages that are left are dropped too, and every send fails.
///
/// [`after`], [`at`], [`tick`] and [`never()`] make receivers that have no sender.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let (s, r) = gort::chan::bounded(0);
///     gort::go(move || s.send("hello").unwrap());
///     assert_eq!(r.recv(), Ok("hello"));
///     assert!(r.recv().is_err()); // the sender was dropped
/// })
/// ```
pub struct Receiver<T> {
    flavor: Flavor<T>,
}

enum Flavor<T> {
    Chan(NonNull<Chan<T>>),
    /// Only in a `Receiver<Instant>`.
    Timer(Arc<TimerChan>),
    Never,
}

// SAFETY: messages move through the channel to other threads, which T: Send allows; everything else
// is under the channel's lock.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above; a shared receiver only moves messages out.
unsafe impl<T: Send> Sync for Receiver<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

/// The time that a timer gives, as a message of the receiver's type.
fn moment<T>(moment: Instant) -> T {
    let moment = ManuallyDrop::new(moment);
    debug_assert_eq!(size_of::<T>(), size_of::<Instant>());
    // SAFETY: called for `Flavor::Timer` only. `timer_receiver` makes those receivers, so T is
    // Instant.
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

    /// For a `select!` that only receives: whether a message is likely to be found here.
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

    /// For a `select!` with an arm that is likely to be ready: receives without waiting. None: not
    /// ready.
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

    /// Receives a message if that is possible without waiting.
    ///
    /// # Blocking
    ///
    /// G: no, with one exception: with capacity zero, the sender may be a `select!` or a
    /// [`Select`], which makes its message only now. Then this waits for the message. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - [`TryRecvError::Empty`] if the channel is empty (with capacity zero: no sender is
    ///   waiting);
    /// - [`TryRecvError::Disconnected`] if it is empty and all senders are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{TryRecvError, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    ///     s.send(1).unwrap();
    ///     drop(s);
    ///     assert_eq!(r.try_recv(), Ok(1));
    ///     assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
    /// })
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.recv_patiently(Patience::None).map_err(|nothing| match nothing {
            Nothing::Empty => TryRecvError::Empty,
            Nothing::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Receives a message, waiting for at most `timeout` while the channel is empty.
    ///
    /// There is one exception to the time limit: with capacity zero, a `select!` or a [`Select`]
    /// may have committed to send to this receiver and not yet have made its message. Then this
    /// waits for it.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`] if the time is over, or if the channel is empty and all senders are
    /// gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{RecvTimeoutError, unbounded};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     let timeout = Duration::from_millis(1);
    ///     assert_eq!(r.recv_timeout(timeout), Err(RecvTimeoutError::Timeout));
    ///     s.send(1).unwrap();
    ///     assert_eq!(r.recv_timeout(timeout), Ok(1));
    /// })
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Patience::lasting(timeout))
    }

    /// Receives a message, waiting until `deadline` at most while the channel is empty.
    ///
    /// It is [`recv_timeout`](Receiver::recv_timeout) with a point in time.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`] if the time is over, or if the channel is empty and all senders are
    /// gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{RecvTimeoutError, unbounded};
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let (_s, r) = unbounded::<i32>();
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     assert_eq!(r.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
    ///     assert!(Instant::now() >= deadline);
    /// })
    /// ```
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Patience::Until(deadline))
    }

    fn recv_until(&self, patience: Patience) -> Result<T, RecvTimeoutError> {
        self.recv_patiently(patience).map_err(|nothing| match nothing {
            Nothing::Empty => RecvTimeoutError::Timeout,
            Nothing::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// Whether the channel holds no message. With capacity zero: always.
    ///
    /// A receiver made by [`after`], [`at`] or [`tick`] holds its message from the time when it is
    /// due.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded();
    ///     assert!(r.is_empty());
    ///     s.send(1).unwrap();
    ///     assert!(!r.is_empty());
    /// })
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the channel has no place for another message. With capacity zero: always.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::bounded(1);
    ///     s.send(1).unwrap();
    ///     assert!(r.is_full());
    ///     r.recv().unwrap();
    ///     assert!(!r.is_full());
    /// })
    /// ```
    pub fn is_full(&self) -> bool {
        match &self.flavor {
            // SAFETY: a receiver keeps its channel alive.
            Flavor::Chan(chan) => unsafe { chan.as_ref() }.is_full(),
            Flavor::Timer(timer) => timer.is_full(),
            Flavor::Never => true,
        }
    }

    /// How many messages the channel holds.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded();
    ///     s.send("a").unwrap();
    ///     assert_eq!(r.len(), 1);
    ///     r.recv().unwrap();
    ///     assert_eq!(r.len(), 0);
    /// })
    /// ```
    pub fn len(&self) -> usize {
        match &self.flavor {
            // SAFETY: a receiver keeps its channel alive.
            Flavor::Chan(chan) => unsafe { chan.as_ref() }.len(),
            Flavor::Timer(timer) => timer.len(),
            Flavor::Never => 0,
        }
    }

    /// How many messages the channel can hold, or `None` if it is unbounded.
    ///
    /// It is 1 for [`after`], [`at`] and [`tick`], and 0 for [`never()`].
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{bounded, unbounded};
    ///
    /// gort::run(|| {
    ///     assert_eq!(bounded::<i32>(3).1.capacity(), Some(3));
    ///     assert_eq!(unbounded::<i32>().1.capacity(), None);
    /// })
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavor {
            // SAFETY: a receiver keeps its channel alive.
            Flavor::Chan(chan) => unsafe { chan.as_ref() }.capacity(),
            Flavor::Timer(timer) => timer.capacity(),
            Flavor::Never => Some(0),
        }
    }

    /// Iterates over the messages, waiting for each, until the channel is empty and all senders are
    /// gone.
    ///
    /// # Blocking
    ///
    /// `next`: G: yes. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::bounded(0);
    ///     gort::go(move || (1..=3).for_each(|n| s.send(n).unwrap()));
    ///     assert_eq!(r.iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// })
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Iterates over the messages that can be received without waiting.
    ///
    /// # Blocking
    ///
    /// `next`: as [`try_recv`](Receiver::try_recv).
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (s, r) = gort::chan::unbounded();
    ///     s.send(1).unwrap();
    ///     s.send(2).unwrap();
    ///     assert_eq!(r.try_iter().collect::<Vec<_>>(), [1, 2]);
    ///     assert_eq!(r.try_iter().next(), None); // the sender is still there
    /// })
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Whether `self` and `other` receive from the same channel.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::unbounded;
    ///
    /// gort::run(|| {
    ///     let (_s, r) = unbounded::<i32>();
    ///     assert!(r.same_channel(&r.clone()));
    ///     assert!(!r.same_channel(&unbounded().1));
    /// })
    /// ```
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

/// An iterator over messages that waits for each of them; made by [`Receiver::iter`].
///
/// # Blocking
///
/// `next`: G: yes. M: no. P: no.
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

/// An iterator over the messages that can be received without waiting; made by
/// [`Receiver::try_iter`].
///
/// # Blocking
///
/// `next`: as [`try_recv`](Receiver::try_recv).
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

/// An iterator over messages that waits for each of them and owns the receiver.
///
/// It is made by a `for` loop over a receiver.
///
/// # Blocking
///
/// `next`: G: yes. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let (s, r) = gort::chan::bounded(0);
///     gort::go(move || s.send(1).unwrap());
///     for message in r {
///         assert_eq!(message, 1);
///     }
/// })
/// ```
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
