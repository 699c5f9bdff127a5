//! What `fork` does in the middle of the runtime: the handlers of `pthread_atfork`.
//!
//! In the child the runtime is dead (`sys/fork.rs`). The one thread there, an M's or not, is made a
//! plain thread: it has no M any more ([`M::bind`]), so all that gort does for goroutines is
//! closed, and what it does for threads looks whether this is a child.
//!
//! A goroutine that was forked has nobody to come back to. When it ends, the process does
//! ([`goroutine_ended`]): by then its closure has returned, and should have called `exec` or
//! `_exit`.
//!
//! A child by the bare system call has no such handlers, and so an M. It is told at the next step
//! that would reach into the parent: `Poller` refuses, and a wait for I/O or time ends the process.

use crate::sched::core::m::{self, M};
use crate::sched::preempt::handler;
use crate::sys::{fork, pin, signal};
use std::io;
use std::sync::OnceLock;

/// From here on, forks are seen. May be called again.
pub(crate) fn watch() -> io::Result<()> {
    static HANDLERS: OnceLock<()> = OnceLock::new();
    fork::watch()?;
    HANDLERS.get_or_init(|| {
        // SAFETY: the three change words of this thread, and of `sys/fork.rs`.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    });
    Ok(())
}

/// Nobody is stopped in a `fork`: the kernel starts that call anew at each signal, and if it takes
/// longer than a slice it would never end; and it holds all of malloc's locks.
extern "C" fn before() {
    pin::enter();
}

extern "C" fn in_parent() {
    pin::leave();
}

/// What an M has changed of its thread is taken back: the process may execute something else next.
extern "C" fn in_child() {
    fork::become_child();
    handler::uninstall();
    if m::current().is_some() {
        signal::block_again();
        M::bind(None);
    }
    pin::leave();
}
