//! Whether this process is a forked child of one in which the runtime was started.
//!
//! A child has one thread, a copy of the memory, and the parent's open files. Among these are the
//! runtime's epoll instance and eventfd. So the runtime cannot work in a child: no other thread
//! runs, and whatever the child did to those files would affect the parent. What gort does in a
//! child:
//!
//! | operation | in a child |
//! | --- | --- |
//! | waits, starts of goroutines, timers, I/O | panic with an explanation ([`refuse`]) |
//! | drops, unlocks, wake-ups | change only this process's memory: there is no thread to notify |
//!
//! A raw lock that another thread held at the fork is never free again in the child. Drops take no
//! such lock; an operation that waits for one for a second panics.
//!
//! # How it is detected
//! A word on a page that the kernel gives a child as zeroes (`MADV_WIPEONFORK`, Linux 4.14). This
//! works however the child was made, even without the handlers of `pthread_atfork`. On older
//! kernels the handler clears the word ([`become_child`]). A child that shares its parent's memory
//! until it calls `exec` (`vfork`, `posix_spawn`) does not count as a child.
//!
//! The check belongs on slow paths and on paths that end in a system call anyway.

use super::map;
use super::sync::{AtomicPtr, AtomicU32, Ordering::*};
use std::io;
use std::ptr::null_mut;

/// `madvise` advice: the page is zeroes in a child.
const MADV_WIPEONFORK: libc::c_int = 18;

/// The word: 1 in the process that has started the runtime, 0 in its children. Null before the
/// start.
static ALIVE: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

fn word() -> Option<&'static AtomicU32> {
    // SAFETY: null, or a page that is never unmapped.
    unsafe { ALIVE.load(Acquire).as_ref() }
}

/// Whether this process is such a child.
#[inline]
pub(crate) fn is_child() -> bool {
    word().is_some_and(|word| word.load(Relaxed) == 0)
}

/// Prepares the detection of children. May be called again.
pub(crate) fn watch() -> io::Result<()> {
    if word().is_some() {
        return Ok(());
    }
    let page = map::reserve(map::PAGE)?;
    // SAFETY: the page was just mapped. If the kernel does not know this advice, the handler of
    // `pthread_atfork` does the work.
    unsafe { libc::madvise(page as *mut libc::c_void, map::PAGE, MADV_WIPEONFORK) };
    let page = page as *mut AtomicU32;
    // SAFETY: mapped above, large enough and aligned.
    unsafe { (*page).store(1, Relaxed) };
    ALIVE.store(page, Release);
    Ok(())
}

/// Marks this process as a child. Called by the handler of `pthread_atfork`, in the child.
pub(crate) fn become_child() {
    if let Some(word) = word() {
        word.store(0, Relaxed);
    }
}

/// Panics in a child, because `what` needs a running runtime.
#[inline]
#[track_caller]
pub(crate) fn refuse(what: &str) {
    if is_child() {
        panic!("{}", sentence(what));
    }
}

/// The error text: why `what` is impossible in a child.
#[cold]
pub(crate) fn sentence(what: &str) -> String {
    format!(
        "gort: {what} in a forked child: this process has none of the runtime's threads, so gort \
         cannot wait, start goroutines or do I/O here; call exec or _exit, or start the runtime \
         after the fork"
    )
}
