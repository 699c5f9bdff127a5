//! Waiting for permits under a context. Here and not in `sync`, since that lies a floor below.

use super::{Context, ContextError};
use crate::sync::interrupt::Interrupt;
use crate::sync::{Semaphore, SemaphorePermit};
use std::sync::Arc;

impl Semaphore {
    /// Takes `n` permits, parking until they are free or `ctx` is done.
    ///
    /// A context that is done wins, even if permits are free. Who asks for more than there is at all waits
    /// for the context, and does not keep others from being served.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// What [`Context::err`] says.
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
        // Permits that came together with the end are given back.
        match (ctx.err(), permit) {
            (None, Some(permit)) => Ok(permit),
            (Some(err), _) => Err(err),
            (None, None) => unreachable!("only the end of the context interrupts"),
        }
    }
}
