//! What `fork` does to the runtime: the handlers of `pthread_atfork`.
//!
//! In the child the runtime is dead (`sys/fork.rs`). The one thread there is made a plain thread,
//! whether it was an M's or not: it has no M any more ([`M::bind`]). So all that gort does for
//! goroutines is closed there, and what it does for threads looks whether this is a child.
//!
//! A goroutine that has forked has nothing to come back to in the child. When it ends, the process
//! ends (`goroutine_ended` in `spawn/task.rs`). By then its closure has returned, and should have
//! called `exec` or `_exit`.
//!
//! A child made by the bare system call runs no such handlers, so its thread still has an M. The
//! child is told at the next step that would reach into the parent: `Poller` refuses, and a wait
//! for I/O or time ends the process.

use crate::sched::core::m::{self, M};
use crate::sched::preempt::handler;
use crate::sys::{fork, pin, signal};
use std::io;
use std::sync::OnceLock;

/// Makes forks be noticed from here on. May be called again.
pub(crate) fn watch() -> io::Result<()> {
    static HANDLERS: OnceLock<()> = OnceLock::new();
    fork::watch()?;
    HANDLERS.get_or_init(|| {
        // SAFETY: the three functions change words of this thread, and of `sys/fork.rs`.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    });
    Ok(())
}

/// Pins, so that no goroutine is stopped inside `fork`. The kernel starts that call anew at each
/// signal, so it would never end if it takes longer than a slice. Also, it holds all of malloc's
/// locks.
extern "C" fn before() {
    pin::enter();
}

extern "C" fn in_parent() {
    pin::leave();
}

/// Takes back what an M has changed of its thread, since the process may execute another program
/// next.
extern "C" fn in_child() {
    fork::become_child();
    handler::uninstall();
    if m::current().is_some() {
        signal::block_again();
        M::bind(None);
    }
    pin::leave();
}
