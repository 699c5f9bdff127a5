//! An asymmetric fence: one side pays for both.
//!
//! Two threads each write a word and then read the other's word; at least one must see the other's
//! write. Normally both need a full fence in between. Here one side runs millions of times a second
//! and the other seldom. The frequent side uses [`fence_light`], which costs nothing. The other
//! side uses [`fence_heavy`], which makes every running thread of the process pass a full fence.

use std::io;
use std::sync::atomic::{Ordering, compiler_fence};

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Must be called once before the first [`fence_heavy`].
///
/// # Errors
/// The kernel's error, if it does not support the call.
pub(crate) fn register() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// The fence of the seldom side; takes some microseconds.
///
/// # Errors
/// No fence was made: the process has not [registered](register), or is no longer allowed to
/// ask.
pub(crate) fn fence_heavy() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

/// The fence of the frequent side. The compiler keeps the order here; [`fence_heavy`] makes the CPU
/// keep it.
#[inline(always)]
pub(crate) fn fence_light() {
    compiler_fence(Ordering::SeqCst);
}
