//! libc's list of threads, on which blocks are.
//!
//! # Why
//! What one thread does to all others, libc does by a walk over its lists of threads: it gives each
//! the initial values of a library's initial-exec thread-locals, waits until none is in the middle
//! of a symbol's look-up before it frees what that reads, and resets what must not be shared with a
//! child of `fork`. So every block is on the list of those threads whose stacks are not libc's own
//! (`_dl_stack_user`), from before it is laid until it is given up, except while its goroutine is
//! swapped out: then nobody runs on it, nobody will before it is back, and it has no memory to be
//! written to.
//!
//! The walks of `setuid` and its family pass blocks by, since these say that they are exiting
//! (`Layout::build`): Ms are on the list as well, and a thread must change its credentials once.
//!
//! # The lock
//! is libc's own, a word that is 0 when free, 1 when held, 2 when held and wanted
//! (`lowlevellock.h`); it lies 48 bytes behind the list's head in each glibc since 2.34. A check at
//! start takes it and looks whether libc then waits for it. Older ones keep the list to themselves:
//! [`find`] says so.
//!
//! # A fork in the middle
//! In the child libc walks the list forwards, once, and forgets it. So an element's own links are
//! written before it is linked, and a walk that meets a removal half done finds its way.

use super::tls::{LayoutError, thread_db_offset, word};
use crate::sys::{futex, pin};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Where libc has its list.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: usize,
    /// Of a descriptor's links: to the next one, and to the one before.
    links: isize,
}

/// From the head to the lock: the head, that of the cache, and two words.
const TO_LOCK: usize = 16 + 16 + 8 + 8;

/// Finds the list, and makes sure that it is one and that its lock is where it was. `rtld_global`
/// is libc's variable of that name.
pub(super) fn find(rtld_global: usize) -> Result<List, LayoutError> {
    let Ok(offset) = thread_db_offset(c"_thread_db_rtld_global__dl_stack_user") else {
        return Err(LayoutError::new(
            "this libc keeps its list of threads to itself (2.34 and newer do not)",
        ));
    };
    let list =
        List { head: rtld_global + offset, links: thread_db_offset(c"_thread_db_pthread_list")? as isize };
    // SAFETY: the head is two pointers in libc's data, and each element of what is a list points
    // back.
    let is_list = unsafe {
        let (next, previous) = (*list.next_of(list.head), *list.previous_of(list.head));
        next != 0
            && previous != 0
            && *list.previous_of(next) == list.head
            && *list.next_of(previous) == list.head
    };
    if !is_list {
        return Err(LayoutError::new("the list of threads is not where libthread_db says"));
    }
    if list.lock_word().load(Relaxed) > 2 || !list.is_guarded() {
        return Err(LayoutError::new("the lock of the list of threads is not where it was"));
    }
    Ok(list)
}

impl List {
    fn next_of(&self, links: usize) -> *mut usize {
        links as *mut usize
    }

    fn previous_of(&self, links: usize) -> *mut usize {
        (links + 8) as *mut usize
    }

    fn lock_word(&self) -> &AtomicU32 {
        // SAFETY: aligned, in libc's data, which lives as long as the process; libc too uses it by
        // atomic operations alone.
        unsafe { AtomicU32::from_ptr((self.head + TO_LOCK) as *mut u32) }
    }

    /// Whether a thread that starts another one waits for the lock that we hold.
    fn is_guarded(&self) -> bool {
        let (go, gone) = mpsc::channel::<()>();
        let Ok(starter) = std::thread::Builder::new().spawn(move || {
            let _ = gone.recv();
            std::thread::Builder::new().spawn(|| ()).is_ok_and(|thread| thread.join().is_ok())
        }) else {
            return false;
        };
        let held = self.lock();
        drop(go);
        let begin = Instant::now();
        while self.lock_word().load(Relaxed) != 2 && begin.elapsed() < Duration::from_secs(1) {
            std::thread::yield_now();
        }
        let wanted = self.lock_word().load(Relaxed) == 2;
        drop(held);
        starter.join().unwrap_or(false) && wanted
    }

    /// As `lll_lock`. Its owner is pinned: what stops threads lets it finish.
    fn lock(&self) -> Locked<'_> {
        pin::enter();
        let word = self.lock_word();
        if word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            while word.swap(2, Acquire) != 0 {
                futex::wait(word, 2, None);
            }
        }
        Locked(self)
    }

    /// As [`lock`](List::lock), if nobody has it.
    fn try_lock(&self) -> Option<Locked<'_>> {
        pin::enter();
        if self.lock_word().compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            pin::leave();
            return None;
        }
        Some(Locked(self))
    }

    /// Puts the block at `tp` on the list.
    ///
    /// # Safety
    /// It is not on it, its memory stays until it is taken off, and what libc's walks read of a
    /// descriptor is there.
    pub(super) unsafe fn add(&self, tp: usize) {
        let own = word(tp, self.links) as usize;
        let _held = self.lock();
        // SAFETY: under the lock the list's links are ours, and all its elements are mapped.
        unsafe {
            let first = *self.next_of(self.head);
            self.next_of(own).write_volatile(first);
            self.previous_of(own).write_volatile(self.head);
            self.previous_of(first).write_volatile(own);
            self.next_of(self.head).write_volatile(own);
        }
    }

    /// Takes the block at `tp` off.
    ///
    /// # Safety
    /// It is on the list.
    pub(super) unsafe fn remove(&self, tp: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.remove_locked(tp, self.lock()) };
    }

    /// As [`remove`](List::remove), if nobody has the lock.
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn try_remove(&self, tp: usize) -> bool {
        let Some(held) = self.try_lock() else { return false };
        // SAFETY: the caller's promise.
        unsafe { self.remove_locked(tp, held) };
        true
    }

    /// # Safety
    /// As [`remove`](List::remove).
    unsafe fn remove_locked(&self, tp: usize, _held: Locked<'_>) {
        let own = word(tp, self.links) as usize;
        // SAFETY: under the lock the list's links are ours, and all its elements are mapped.
        unsafe {
            let (next, previous) = (*self.next_of(own), *self.previous_of(own));
            self.previous_of(next).write_volatile(previous);
            self.next_of(previous).write_volatile(next);
            // Points to itself: a `fork` that still finds it may unlink it.
            self.next_of(own).write_volatile(own);
            self.previous_of(own).write_volatile(own);
        }
    }
}

/// As long as this lives, the list stays as it is.
struct Locked<'a>(&'a List);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.0.lock_word().swap(0, Release) == 2 {
            futex::wake(self.0.lock_word(), 1);
        }
        pin::leave();
    }
}
