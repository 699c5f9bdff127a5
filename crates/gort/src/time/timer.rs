//! `Timer` and `Ticker`: the public interface of `chan/timer.rs`.

use crate::chan::timer::{TimerChan, from_now};
use crate::chan::{IntoIter, Iter, Receiver, timer_receiver};
use std::fmt;
use std::time::{Duration, Instant};

/// A timer: its channel gives one message, the moment, when the time has come.
///
/// It can be stopped and set again. The channel has no buffer: its length and capacity are zero,
/// and the moment is made when it is received. So after [`stop`](Timer::stop) or
/// [`reset`](Timer::reset) has returned, no earlier moment can be received. A goroutine that waits
/// at the channel then waits for the new time.
///
/// # Blocking
///
/// Receiving: G: yes. M: no. P: no. All else, and a drop: G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use gort::time::Timer;
/// use std::time::Duration;
///
/// gort::run(|| {
///     let timer = Timer::new(Duration::from_secs(3600));
///     assert!(timer.reset(Duration::from_millis(1))); // it was running
///     timer.receiver().recv().unwrap();
///     assert!(!timer.stop()); // its moment was received
///     assert!(timer.receiver().try_recv().is_err());
/// })
/// ```
pub struct Timer(Receiver<Instant>);

impl Timer {
    /// Makes a timer that is due after `duration`.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Timer;
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let start = Instant::now();
    ///     let timer = Timer::new(Duration::from_millis(2));
    ///     let moment = timer.receiver().recv().unwrap();
    ///     assert!(moment >= start + Duration::from_millis(2));
    /// })
    /// ```
    pub fn new(duration: Duration) -> Timer {
        Timer(timer_receiver(TimerChan::new(from_now(duration), None, false)))
    }

    /// Returns the channel on which the moment is received, for `recv` or `select!`.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. Receiving waits for the moment.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Timer;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let timer = Timer::new(Duration::from_millis(2));
    ///     assert!(timer.receiver().try_recv().is_err()); // not yet
    ///     assert!(timer.receiver().recv().is_ok());
    /// })
    /// ```
    pub fn receiver(&self) -> &Receiver<Instant> {
        &self.0
    }

    /// Stops the timer. Returns whether its moment was still to be received, be it due or not.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Timer;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let timer = Timer::new(Duration::from_secs(3600));
    ///     assert!(timer.stop());
    ///     assert!(!timer.stop()); // it was stopped already
    /// })
    /// ```
    pub fn stop(&self) -> bool {
        channel(&self.0).set(None, None)
    }

    /// Sets the timer anew: it is due after `duration` from now.
    ///
    /// Returns whether its previous moment was still to be received, be it due or not. It cannot be
    /// received any more.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Timer;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let timer = Timer::new(Duration::from_secs(3600));
    ///     assert!(timer.reset(Duration::from_millis(2))); // it was running
    ///     assert!(timer.receiver().recv().is_ok());
    ///     assert!(!timer.reset(Duration::from_millis(2))); // its moment was received
    /// })
    /// ```
    pub fn reset(&self, duration: Duration) -> bool {
        channel(&self.0).set(Some(from_now(duration)), None)
    }
}

/// A ticker: its channel gives a message, the moment, at regular times.
///
/// It can be stopped and set again. If a receiver is slow, it gets the first tick that it has
/// missed, and the others are dropped. The ticks after that keep step. The channel has no buffer,
/// like that of a [`Timer`].
///
/// # Iterating
///
/// A `for` loop over a ticker, or over a reference to one, gets a moment at each tick, for ever: as
/// with Go's `for range ticker.C`, nothing but the loop itself ends it. [`stop`](Ticker::stop)
/// does not, because a [`reset`](Ticker::reset) may come after it: the loop then waits for that. A
/// loop that is to be ended from outside is one around a `select!` on the
/// [receiver](Ticker::receiver) and, say, a [`Context`](crate::context::Context).
///
/// # Blocking
///
/// Receiving: G: yes. M: no. P: no. All else, and a drop: G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use gort::time::Ticker;
/// use std::time::{Duration, Instant};
///
/// gort::run(|| {
///     let start = Instant::now();
///     let ticker = Ticker::new(Duration::from_millis(2));
///     for n in 1..=3 {
///         assert!(ticker.receiver().recv().unwrap() >= start + n * Duration::from_millis(2));
///     }
///     assert!(ticker.stop());
///
///     for (n, moment) in Ticker::new(Duration::from_millis(2)).into_iter().enumerate() {
///         assert!(moment >= start);
///         if n == 2 {
///             break;
///         }
///     }
/// })
/// ```
pub struct Ticker(Receiver<Instant>);

impl Ticker {
    /// Makes a ticker whose first tick comes after `period`.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Ticker;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let ticker = Ticker::new(Duration::from_millis(2));
    ///     let first = ticker.receiver().recv().unwrap();
    ///     let second = ticker.receiver().recv().unwrap();
    ///     assert!(second > first);
    /// })
    /// ```
    pub fn new(period: Duration) -> Ticker {
        assert_period(period);
        Ticker(timer_receiver(TimerChan::new(from_now(period), Some(period), false)))
    }

    /// Returns the channel on which the ticks are received, for `recv`, `select!` or a loop.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. Receiving waits for the next tick.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Ticker;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let ticker = Ticker::new(Duration::from_millis(2));
    ///     assert_eq!(ticker.receiver().iter().take(3).count(), 3);
    /// })
    /// ```
    pub fn receiver(&self) -> &Receiver<Instant> {
        &self.0
    }

    /// Stops the ticker. Returns whether it was running.
    ///
    /// The channel is not closed: a receiver, or a loop over the ticker, then waits for ever, or
    /// for a [`reset`](Ticker::reset).
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Ticker;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let ticker = Ticker::new(Duration::from_secs(3600));
    ///     assert!(ticker.stop());
    ///     assert!(!ticker.stop()); // it was stopped already
    /// })
    /// ```
    pub fn stop(&self) -> bool {
        channel(&self.0).set(None, None)
    }

    /// Sets the ticker anew: the next tick comes after `period` from now.
    ///
    /// Returns whether it was running.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::time::Ticker;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let ticker = Ticker::new(Duration::from_secs(3600));
    ///     assert!(ticker.reset(Duration::from_millis(2))); // it was running
    ///     assert!(ticker.receiver().recv().is_ok());
    /// })
    /// ```
    pub fn reset(&self, period: Duration) -> bool {
        assert_period(period);
        channel(&self.0).set(Some(from_now(period)), Some(period))
    }
}

/// The moments of the ticks, for ever; see [`Ticker`].
///
/// # Examples
///
/// ```
/// use gort::time::Ticker;
/// use std::time::Duration;
///
/// gort::run(|| {
///     let ticker = Ticker::new(Duration::from_millis(2));
///     let mut ticks = 0;
///     for _ in &ticker {
///         ticks += 1;
///         match ticks {
///             2 => drop(ticker.reset(Duration::from_millis(1))), // faster from here on
///             4 => break,
///             _ => {}
///         }
///     }
///     assert!(ticker.stop());
/// })
/// ```
impl<'a> IntoIterator for &'a Ticker {
    type Item = Instant;
    type IntoIter = Iter<'a, Instant>;

    fn into_iter(self) -> Iter<'a, Instant> {
        self.0.iter()
    }
}

/// The moments of the ticks, for ever; see [`Ticker`].
///
/// # Examples
///
/// ```
/// use gort::time::Ticker;
/// use std::time::Duration;
///
/// gort::run(|| {
///     let ticks = Ticker::new(Duration::from_millis(2)).into_iter();
///     assert_eq!(ticks.zip(["a", "b"]).count(), 2);
/// })
/// ```
impl IntoIterator for Ticker {
    type Item = Instant;
    type IntoIter = IntoIter<Instant>;

    fn into_iter(self) -> IntoIter<Instant> {
        self.0.into_iter()
    }
}

fn assert_period(period: Duration) {
    assert!(!period.is_zero(), "a ticker needs a period that is not zero");
}

fn channel(receiver: &Receiver<Instant>) -> &TimerChan {
    receiver.timer().expect("timers are made with a timer's channel")
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Timer { .. }")
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Ticker { .. }")
    }
}
