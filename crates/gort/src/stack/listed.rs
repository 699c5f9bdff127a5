//! Keeps blocks on libc's list of threads.
//!
//! # Why
//! When one thread has to do something to all others, libc walks its lists of threads. It does that
//! in three cases:
//!
//! - It gives each thread the initial values of a library's initial-exec thread-locals.
//! - Before it frees what a symbol look-up reads, it waits until no thread is in the middle of one.
//! - It resets what must not be shared with a child of `fork`.
//!
//! So every block is on the list of threads whose stacks are not libc's own (`_dl_stack_user`),
//! from before it is filled until it is given up. The exception is a block whose goroutine is
//! swapped out: no thread runs on it before it is back, and it has no memory to be written to.
//!
//! The walks of `setuid` and its family skip blocks, because blocks say that they are exiting
//! (`Layout::build`). Ms are on the list as well, and a thread must change its credentials once.
//!
//! # The lock
//! The lock is libc's own: a word that is 0 when free, 1 when held, 2 when held and wanted
//! (`lowlevellock.h`). It lies 48 bytes after the list's head in each glibc since 2.34. A check at
//! start takes it and tests whether libc then waits for it. Older versions do not export the list;
//! [`find`] reports that.
//!
//! # A fork during a change
//! In the child libc walks the list forwards, once, and then forgets it. So an element's own links
//! are written before it is linked, and a walk that meets a half-done removal still gets through.

use super::tls::{LayoutError, thread_db_offset, word};
use crate::sys::{futex, pin};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Where libc has its list.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: usize,
    /// Offset of the links in a descriptor: to the next element, then to the previous one.
    links: isize,
}

/// From the head to the lock: this head, the head of the cache, and two words.
const TO_LOCK: usize = 16 + 16 + 8 + 8;

/// Finds the list, and checks that it is a list and that its lock is at the known place.
/// `rtld_global` is the address of libc's variable of that name.
pub(super) fn find(rtld_global: usize) -> Result<List, LayoutError> {
    let Ok(offset) = thread_db_offset(c"_thread_db_rtld_global__dl_stack_user") else {
        return Err(LayoutError::new(
            "this libc does not export its list of threads (glibc 2.34 and newer do)",
        ));
    };
    let list =
        List { head: rtld_global + offset, links: thread_db_offset(c"_thread_db_pthread_list")? as isize };
    // SAFETY: the head is two pointers in libc's data. If this is a list, each element points back.
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
        return Err(LayoutError::new("the lock of the list of threads is not where glibc has it"));
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
        // SAFETY: the word is aligned and in libc's data, which lives as long as the process. libc,
        // too, uses it only by atomic operations.
        unsafe { AtomicU32::from_ptr((self.head + TO_LOCK) as *mut u32) }
    }

    /// Whether a thread that starts another one waits for the lock while it is held here.
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

    /// Like `lll_lock`. The thread that holds the lock is pinned: it is not preempted before it
    /// releases it.
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

    /// Like [`lock`](List::lock), but only if the lock is free.
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
    /// It is not on the list, its memory stays until it is taken off, and the fields of a
    /// descriptor that libc's walks read are valid.
    pub(super) unsafe fn add(&self, tp: usize) {
        let own = word(tp, self.links) as usize;
        let _held = self.lock();
        // SAFETY: under the lock the list's links may be changed, and all its elements are mapped.
        unsafe {
            let first = *self.next_of(self.head);
            self.next_of(own).write_volatile(first);
            self.previous_of(own).write_volatile(self.head);
            self.previous_of(first).write_volatile(own);
            self.next_of(self.head).write_volatile(own);
        }
    }

    /// Takes the block at `tp` off the list.
    ///
    /// # Safety
    /// It is on the list.
    pub(super) unsafe fn remove(&self, tp: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.remove_locked(tp, self.lock()) };
    }

    /// Like [`remove`](List::remove), but only if the lock is free.
    ///
    /// # Safety
    /// As [`remove`](List::remove).
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
        // SAFETY: under the lock the list's links may be changed, and all its elements are mapped.
        unsafe {
            let (next, previous) = (*self.next_of(own), *self.previous_of(own));
            self.previous_of(next).write_volatile(previous);
            self.next_of(previous).write_volatile(next);
            // The element points to itself: a `fork` that still finds it may unlink it.
            self.next_of(own).write_volatile(own);
            self.previous_of(own).write_volatile(own);
        }
    }
}

/// While this lives, the list does not change.
struct Locked<'a>(&'a List);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.0.lock_word().swap(0, Release) == 2 {
            futex::wake(self.0.lock_word(), 1);
        }
        pin::leave();
    }
}
