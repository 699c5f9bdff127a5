//! Sleeping, timers and tickers.
//!
//! A sleeping goroutine holds no thread. [`Timer`] and [`Ticker`] work as Go's do since Go 1.23:
//!
//! - Their channels have no buffer. After `stop` or `reset` has returned, no earlier moment can be
//!   received.
//! - A timer on which no goroutine waits needs no work from the runtime, so it need not be stopped.
//!
//! For one moment in a `select!`, [`chan::after`](crate::chan::after) is shorter. [`timeout`]
//! bounds how long a caller waits for code that knows no time limit.
//!
//! # Blocking
//!
//! Sleeping and receiving: G: yes. M: no. P: no.
//!
//! Making, stopping and resetting: G: no. M: no. P: no.
//!
//! # Examples
//!
//! ```
//! use gort::time::Timer;
//! use std::time::Duration;
//!
//! gort::run(|| {
//!     let (_tx, rx) = gort::chan::bounded::<u32>(0);
//!     let timer = Timer::new(Duration::from_millis(2));
//!     let answer = gort::select! {
//!         recv(rx) -> message => message.ok(),
//!         recv(timer.receiver()) -> _ => None, // too late
//!     };
//!     assert_eq!(answer, None);
//! })
//! ```

mod timeout;
mod timer;

pub use self::timeout::{Elapsed, timeout};
pub use self::timer::{Ticker, Timer};
pub use std::time::Instant;

use crate::sched::{WaiterRef, yield_now};
use std::time::Duration;

/// Parks the goroutine for at least `duration`. If that is zero, this is a
/// [`yield_now`].
///
/// On a plain OS thread, it blocks the thread.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Panics
///
/// In a [forked child](crate#forks).
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

/// Parks the goroutine until `deadline`. If that has passed, this is a
/// [`yield_now`].
///
/// On a plain OS thread, it blocks the thread. A loop that does something at regular times keeps
/// its pace with this function, however long each step takes.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Panics
///
/// In a [forked child](crate#forks).
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// gort::run(|| {
///     let start = Instant::now();
///     for n in 1..=3 {
///         gort::sleep_until(start + n * Duration::from_millis(2));
///     }
///     assert!(start.elapsed() >= Duration::from_millis(6));
/// })
/// ```
pub fn sleep_until(deadline: Instant) {
    if Instant::now() >= deadline {
        return yield_now();
    }
    sleep_for(Some(deadline));
}

/// Parks until `deadline`; only that ends the wait. With `None`, it never ends.
fn sleep_for(deadline: Option<Instant>) {
    let me = WaiterRef::current();
    me.arm();
    me.sleep(deadline);
}
