//! Waiting for permits under a context. It is here because `sync` must not depend on `context`.

use super::{Context, ContextError};
use crate::sync::interrupt::Interrupt;
use crate::sync::{Semaphore, SemaphorePermit};
use std::sync::Arc;

impl Semaphore {
    /// Takes `n` permits. Parks until they are free or `ctx` is done.
    ///
    /// If `ctx` is done, this fails even when permits are free. A call that asks for more permits
    /// than the semaphore has waits for the end of `ctx`, and does not delay other calls.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The reason why the context is done, as from [`Context::err`].
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::context::{Context, ContextError};
    /// use gort::sync::Semaphore;
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let seats = Semaphore::new(1);
    ///     let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
    ///     let seat = seats.acquire_context(1, &ctx).unwrap();
    ///     assert_eq!(seats.acquire_context(1, &ctx).unwrap_err(), ContextError::DeadlineExceeded);
    ///     drop(seat);
    /// })
    /// ```
    pub fn acquire_context(&self, n: usize, ctx: &Context) -> Result<SemaphorePermit<'_>, ContextError> {
        if let Some(err) = ctx.err() {
            return Err(err);
        }
        let mut permit = self.try_acquire(n);
        if permit.is_none() {
            let interrupt = Arc::new(Interrupt::new());
            let _interrupting = ctx.interrupt(&interrupt);
            permit = self.acquire_interruptible(n, &interrupt);
        }
        // Permits that came together with the end of the context are given back.
        match (ctx.err(), permit) {
            (None, Some(permit)) => Ok(permit),
            (Some(err), _) => Err(err),
            (None, None) => unreachable!("only the end of the context interrupts"),
        }
    }
}
