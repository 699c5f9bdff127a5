//! Blocking calls that a context may give up.
//!
//! # The word of a call
//! ```text
//!   NEW ──it has a place──▶ RUNNING ──it is over──▶ DONE           the caller takes the result
//!    │                        │
//!    └──the context ends──────┴────────────────────▶ ABANDONED     from NEW: it never begins; from RUNNING: it is counted until it is over
//! ```
//! Each step is one exchange, so the two parties agree on what happened.

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
    /// Runs `f` inside [`blocking`](crate::blocking), in a goroutine of its own, and waits for it or for the context's end.
    ///
    /// Nothing can stop `f` on its thread. When the context ends first, `f` is **abandoned**: it goes on, its result is dropped when it
    /// comes, and the thread is of use again then. `metrics::Snapshot::blocking_abandoned` counts those that still run. A call that has not
    /// begun (at the limit of [`set_blocking_limit`](crate::set_blocking_limit)) never does.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no (another one is in `f`). P: no.
    ///
    /// # Errors
    ///
    /// Why the context is done.
    ///
    /// # Panics
    ///
    /// If `f` does, and was not abandoned; if the runtime was not started.
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
                // It may have waited for a place until nobody wants it any more.
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
