//! `lock_os_thread`: binds a goroutine and a thread together, for code that keeps state in the
//! kernel's thread.

use crate::sched::core::fixed::fixed;
use crate::sched::core::g::G;
use crate::sched::core::m::{self, M};
use crate::sched::core::owner::Owner;
use crate::sys::sync::Ordering::*;
use std::ptr::null_mut;

/// While this lives, the goroutine stays on its thread; see [`lock_os_thread`].
#[must_use = "the goroutine is unlocked when this is dropped"]
#[derive(Debug)]
pub struct OsThreadLock {
    owner: Owner,
}

/// Keeps the calling goroutine on its OS thread, and all others off it, until the guard is dropped.
/// Guards nest.
///
/// Goroutines need this for what the kernel keeps per thread: signal masks, affinity, namespaces,
/// priority, credentials, robust and priority-inheriting mutexes. They also need it for libraries
/// that must be called from one thread (OpenGL). The thread id in the thread-locals is the real one
/// meanwhile.
///
/// A goroutine that ends while it is locked takes its thread with it. It counts as locked, too, if
/// its guard
/// - was dropped by unwinding,
/// - was forgotten, or
/// - outlives it, in a `thread_local!`. The next goroutine on that stack comes to have such a
///   guard; dropped there, it does nothing.
///
/// On a plain thread this does nothing.
///
/// # Blocking
///
/// G: no. M: no. P: no. Each later park costs two switches of threads.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let lock = gort::lock_os_thread();
///     let thread = rustix::thread::gettid();
///     gort::yield_now();
///     assert_eq!(rustix::thread::gettid(), thread);
///     drop(lock);
/// })
/// ```
pub fn lock_os_thread() -> OsThreadLock {
    let lock = OsThreadLock { owner: Owner::current() };
    let Some((m, g)) = here() else { return lock };
    if g.thread_locks.fetch_add(1, Relaxed) == 0 {
        g.bound_m.store(std::ptr::from_ref(m).cast_mut(), Relaxed);
        g.own_tid.set(set_tid(g, m.tid.load(Relaxed) as u32));
    }
    lock
}

impl Drop for OsThreadLock {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // code that unwinds through this has left the thread's state in disorder
        }
        let Some(g) = self.owner.goroutine() else { return };
        if g.thread_locks.fetch_sub(1, Relaxed) == 1 {
            set_tid(g, g.own_tid.get());
            g.bound_m.store(null_mut(), Relaxed);
        }
    }
}

fn here() -> Option<(&'static M, &'static G)> {
    let m = m::current()?;
    Some((m, m.g()?))
}

/// Sets the thread's id that the calling goroutine, `g`, shows to libc. Returns the one before.
fn set_tid(g: &G, tid: u32) -> u32 {
    // SAFETY: a goroutine that runs has a slot, which is its own, and so is the block.
    unsafe { fixed().blocks.set_tid((*g.slot.get()).as_ref().expect("it runs"), tid) }
}

/// Called when the goroutine `g` is about to move to the block that it had before, for good: the one
/// that it leaves gets its own id back, whatever guards are left. Returns whether there are any.
pub(crate) fn leave_block(g: &G) -> bool {
    at_end(g);
    g.is_locked_to_thread()
}

/// Called after [`leave_block`] returned true: the guards are on this block now.
pub(crate) fn came_back(g: &G) {
    let thread = m::current().map_or(0, |m| m.tid.load(Relaxed) as u32);
    g.own_tid.set(set_tid(g, thread));
}

/// Called when the goroutine ends, after its last user code: its block goes to others without the
/// thread's id. The thread ends in `retire` (`run/schedule.rs`).
pub(crate) fn at_end(g: &G) {
    if g.is_locked_to_thread() {
        set_tid(g, g.own_tid.get());
    }
}
