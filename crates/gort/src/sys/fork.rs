//! Whether this process is a forked child of one in which the runtime was started.
//!
//! A child has one thread, a copy of the memory, and the parent's open files, the epoll instance
//! and the eventfd behind the runtime among them. So the runtime is dead in it: nobody else runs,
//! and what it did to those files it would do to the parent. What gort does in a child:
//!
//! | | |
//! | --- | --- |
//! | waits, starts of goroutines, timers, I/O | panic with a sentence ([`refuse`]) |
//! | drops, unlocks, wake-ups | change this process's memory at most: there is nobody to be told |
//!
//! Raw locks that another thread held as the process was forked are never free again. What drops
//! something takes none; what waits for one for a second panics.
//!
//! # How it is known
//! By a word on a page that the kernel gives a child as zeroes (`MADV_WIPEONFORK`, Linux 4.14):
//! however the child was made, without `pthread_atfork`'s handlers too. Older kernels have the
//! handler ([`become_child`]). A child that shares its parent's memory until it calls `exec`
//! (`vfork`, `posix_spawn`) is none.
//!
//! Looks are for slow paths and for what ends in a system call anyway.

use super::map;
use super::sync::{AtomicPtr, AtomicU32, Ordering::*};
use std::io;
use std::ptr::null_mut;

/// `madvise` advice: the page is zeroes in a child.
const MADV_WIPEONFORK: libc::c_int = 18;

/// The word: 1 in the process that has started the runtime, 0 in its children. Null before.
static ALIVE: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

fn word() -> Option<&'static AtomicU32> {
    // SAFETY: null, or a page that is never unmapped.
    unsafe { ALIVE.load(Acquire).as_ref() }
}

/// Whether this is such a child.
#[inline]
pub(crate) fn is_child() -> bool {
    word().is_some_and(|word| word.load(Relaxed) == 0)
}

/// From here on, children are told apart. May be called again.
pub(crate) fn watch() -> io::Result<()> {
    if word().is_some() {
        return Ok(());
    }
    let page = map::reserve(map::PAGE)?;
    // SAFETY: the page is ours. Where the kernel has no such advice, the handler has to do.
    unsafe { libc::madvise(page as *mut libc::c_void, map::PAGE, MADV_WIPEONFORK) };
    let page = page as *mut AtomicU32;
    // SAFETY: mapped above, large enough and aligned.
    unsafe { (*page).store(1, Relaxed) };
    ALIVE.store(page, Release);
    Ok(())
}

/// For the handler of `pthread_atfork`, in the child.
pub(crate) fn become_child() {
    if let Some(word) = word() {
        word.store(0, Relaxed);
    }
}

/// Panics in a child: `what` needs a runtime.
#[inline]
#[track_caller]
pub(crate) fn refuse(what: &str) {
    if is_child() {
        panic!("{}", sentence(what));
    }
}

/// Why `what` cannot be in a child.
#[cold]
pub(crate) fn sentence(what: &str) -> String {
    format!(
        "gort: {what} in a forked child: the runtime's threads are the parent's, so here nothing of \
         gort can wait, start goroutines or do I/O; call exec or _exit, or start the runtime after \
         the fork"
    )
}
