//! Blocking calls that are abandoned when a context ends.
//!
//! # The word of a call
//!
//! ```text
//!   NEW ──it has a place──▶ RUNNING ──it is over──▶ DONE      the caller takes the result
//!    │                        │
//!    └──the context ends──────┴────────────────────▶ ABANDONED
//! ```
//! A call that is abandoned in NEW never begins. One that is abandoned in RUNNING is counted until
//! it is over. Each step is one exchange, so caller and call agree on what happened.

use super::{Context, ContextError};
use crate::chan;
use crate::sched::{self, ABANDONED_CALLS};
use crate::select;
use crate::sys::sync::{AtomicU8, Ordering::AcqRel, Ordering::Acquire};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

const NEW: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const ABANDONED: u8 = 3;

impl Context {
    /// Runs `f` inside [`blocking`](crate::blocking), and waits until it returns or the context is
    /// done. For this, `f` gets a goroutine of its own.
    ///
    /// Nothing can stop `f` on its thread. If the context ends first, `f` is **abandoned**:
    ///
    /// - It goes on, and its result is dropped. Its thread can be used again when it returns.
    /// - [`metrics::Snapshot::blocking_abandoned`](crate::metrics::Snapshot::blocking_abandoned)
    ///   counts the calls that still run.
    /// - A call that has not begun, because of the limit of
    ///   [`set_blocking_limit`](crate::set_blocking_limit), never begins.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no (another one is in `f`). P: no.
    ///
    /// # Errors
    ///
    /// The reason why the context is done, as from [`err`](Context::err).
    ///
    /// # Panics
    ///
    /// If `f` panics before it is abandoned, or if the runtime was not started.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::{Context, ContextError};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let ctx = Context::background();
    ///     assert_eq!(ctx.blocking(|| std::fs::read("/proc/self/comm").is_ok()), Ok(true));
    ///
    ///     let (ctx, _cancel) = ctx.with_timeout(Duration::from_millis(5));
    ///     let slow = ctx.blocking(|| std::thread::sleep(Duration::from_secs(1)));
    ///     assert_eq!(slow, Err(ContextError::DeadlineExceeded));
    /// })
    /// ```
    pub fn blocking<R, F>(&self, f: F) -> Result<R, ContextError>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        if let Some(e) = self.err() {
            return Err(e);
        }
        let (tell, result) = chan::bounded(1);
        let word = Arc::new(AtomicU8::new(NEW));
        let call = word.clone();
        sched::go(move || {
            let outcome = sched::blocking(|| {
                // It may have waited for a place until it was abandoned.
                let begins = call.compare_exchange(NEW, RUNNING, AcqRel, Acquire).is_ok();
                begins.then(|| catch_unwind(AssertUnwindSafe(f)))
            });
            let Some(outcome) = outcome else { return };
            match call.swap(DONE, AcqRel) {
                ABANDONED => ABANDONED_CALLS.end(),
                // The caller's channel has room for it.
                _ => drop(tell.send(outcome)),
            }
        });
        select! {
            recv(result) -> outcome => match outcome.expect("a call that was not abandoned gives its result") {
                Ok(r) => Ok(r),
                Err(payload) => resume_unwind(payload),
            },
            recv(self.done()) -> _ => {
                if word.swap(ABANDONED, AcqRel) == RUNNING {
                    ABANDONED_CALLS.begin();
                }
                Err(self.err().expect("it is done"))
            }
        }
    }
}
