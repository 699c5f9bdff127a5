//! `Timer` and `Ticker`: the public face of `chan/timer.rs`.

use crate::chan::timer::{TimerChan, from_now};
use crate::chan::{Receiver, timer_receiver};
use std::fmt;
use std::time::{Duration, Instant};

/// Gives one message, the moment, when its time has come; it can be stopped and set again.
///
/// The channel has no buffer: its length and capacity are zero, and the moment is made when it is received. So after
/// [`stop`](Timer::stop) or [`reset`](Timer::reset) has returned, nothing of before can be received. A goroutine that
/// waits at the channel waits for the new time.
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
    /// A timer that is due after `duration`.
    pub fn new(duration: Duration) -> Timer {
        Timer(timer_receiver(TimerChan::new(from_now(duration), None, false)))
    }

    /// Where the moment is received.
    pub fn receiver(&self) -> &Receiver<Instant> {
        &self.0
    }

    /// Stops it. True if its moment had not been received (also if it was due already).
    pub fn stop(&self) -> bool {
        channel(&self.0).set(None, None)
    }

    /// Makes it due after `duration` from now. True if its moment of before had not been received; it cannot be any
    /// more.
    pub fn reset(&self, duration: Duration) -> bool {
        channel(&self.0).set(Some(from_now(duration)), None)
    }
}

/// Gives a message, the moment, at regular times; it can be stopped and set again.
///
/// A receiver that is slow misses ticks, but for the first; those after it keep step. The channel has no
/// buffer, as that of a [`Timer`].
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
/// })
/// ```
pub struct Ticker(Receiver<Instant>);

impl Ticker {
    /// A ticker whose first tick comes after `period`.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub fn new(period: Duration) -> Ticker {
        assert_period(period);
        Ticker(timer_receiver(TimerChan::new(from_now(period), Some(period), false)))
    }

    /// Where the ticks are received.
    pub fn receiver(&self) -> &Receiver<Instant> {
        &self.0
    }

    /// Stops it. True if it was running.
    pub fn stop(&self) -> bool {
        channel(&self.0).set(None, None)
    }

    /// Starts it anew: the next tick comes after `period` from now. True if it was running.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    pub fn reset(&self, period: Duration) -> bool {
        assert_period(period);
        channel(&self.0).set(Some(from_now(period)), Some(period))
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
