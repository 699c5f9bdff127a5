//! `pthread_getattr_np`, which crates ask how much stack is left.
//!
//! libc answers from the descriptor, which knows its slot, but also asks the kernel for the affinity of the descriptor's
//! thread id, and the kernel has never heard of a block's own. So this takes the symbol's place in programs that link gort, and lends the
//! block the thread's real id for the length of the call.

use super::m;
use super::start::fixed;
use crate::sys::fs;
use crate::sys::sync::{AtomicUsize, Ordering::Relaxed};

type GetAttr = unsafe extern "C" fn(libc::pthread_t, *mut libc::pthread_attr_t) -> libc::c_int;

/// libc's own function, once looked up.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// As libc's, also for a goroutine that asks about itself.
///
/// # Safety
/// As libc's: `thread` is alive and `attr` writable.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn pthread_getattr_np(
    thread: libc::pthread_t,
    attr: *mut libc::pthread_attr_t,
) -> libc::c_int {
    let mut next = NEXT.load(Relaxed);
    if next == 0 {
        // SAFETY: a NUL-terminated name.
        next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_getattr_np".as_ptr()) } as usize;
        if next == 0 {
            return libc::ENOSYS;
        }
        NEXT.store(next, Relaxed);
    }
    // SAFETY: libc's function of that name has this type.
    let next: GetAttr = unsafe { std::mem::transmute(next) };
    let tp = fs::read();
    let goroutine = m::current().filter(|m| m.g().is_some() && m.fs.get() != tp && thread as usize == tp);
    let Some((m, layout)) = goroutine.and_then(|m| Some((m, fixed().layout.as_ref()?))) else {
        // SAFETY: the caller's promise.
        return unsafe { next(thread, attr) };
    };
    // SAFETY: the block is the caller's own, and the attributes are the caller's promise.
    unsafe {
        let own = layout.tid(tp);
        layout.set_tid(tp, m.tid.load(Relaxed) as u32);
        let rc = next(thread, attr);
        layout.set_tid(tp, own);
        rc
    }
}
