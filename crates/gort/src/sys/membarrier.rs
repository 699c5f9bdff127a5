//! A fence of which one side pays for both.
//!
//! Two threads each write a word and then read the other's: at least one must see the other's write. Normally both need a full fence in
//! between. Where one side runs millions of times a second and the other seldom, the first has [`fence_light`], which costs
//! nothing, and the second [`fence_heavy`], which makes every running thread of the process pass a full fence.

use std::io;
use std::sync::atomic::{Ordering, compiler_fence};

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// To be called once before the first [`fence_heavy`].
///
/// # Errors
/// What the kernel says that does not have it.
pub(crate) fn register() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// The seldom side's fence, some microseconds.
///
/// # Errors
/// There was none: the process has not [registered](register), or may not ask any more.
pub(crate) fn fence_heavy() -> io::Result<()> {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

/// The frequent side's fence: the compiler keeps the order, and [`fence_heavy`] has the processor keep it.
#[inline(always)]
pub(crate) fn fence_light() {
    compiler_fence(Ordering::SeqCst);
}
