//! Time: sleeping, timers, tickers.
//!
//! A sleeping goroutine holds no thread. [`Timer`] and [`Ticker`] are as Go's since 1.23: their channels have no buffer,
//! so after `stop` or `reset` has returned, no moment of before can be received; and one that nobody waits for costs
//! nothing, so it need not be stopped.
//!
//! # Blocking
//!
//! Sleeping and receiving wait (G: yes. M: no. P: no.); making, stopping and resetting do not.

mod timer;

pub use self::timer::{Ticker, Timer};
pub use std::time::Instant;

use crate::sched::{WaiterRef, yield_now};
use std::time::Duration;

/// Sleeps for at least `duration`. For zero, it only lets others run.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// gort::run(|| {
///     let start = Instant::now();
///     gort::sleep(Duration::from_millis(3));
///     assert!(start.elapsed() >= Duration::from_millis(3));
/// })
/// ```
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        return yield_now();
    }
    sleep_for(Instant::now().checked_add(duration));
}

/// Sleeps until `deadline` is reached. If it is, it only lets others run.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
pub fn sleep_until(deadline: Instant) {
    if Instant::now() >= deadline {
        return yield_now();
    }
    sleep_for(Some(deadline));
}

/// Nobody but the deadline can end this wait. None: for ever.
fn sleep_for(deadline: Option<Instant>) {
    let me = WaiterRef::current();
    me.arm();
    me.sleep(deadline);
}
