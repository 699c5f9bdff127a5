//! The only source of atomics for protocol code: std's here, loom's in `crates/gort-models`, which
//! compiles the protocol modules of this crate against its own `sys::sync`.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

pub(crate) use super::fork::is_child;

/// A full fence right after a sequentially consistent read-modify-write. On x86-64 the
/// read-modify-write already is one (Intel's manual, volume 3, 9.2.3.9: locked instructions have a
/// total order, and neither loads nor stores pass them).
#[inline(always)]
pub(crate) fn fence_after_rmw() {
    if cfg!(target_arch = "x86_64") {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Executes `times` pause instructions, between two checks of a spin loop.
#[inline(always)]
pub(crate) fn pause(times: u32) {
    (0..times).for_each(|_| std::hint::spin_loop());
}

/// After this many sleeps a waiter in a forked child assumes that the lock's holder does not exist
/// there.
const MANY_SLEEPS: u32 = 10_000;

/// Sleeps between two checks, after spinning has not helped. `nth` counts the calls of one wait.
pub(crate) fn sleep_between(time: std::time::Duration, nth: u32) {
    if nth >= MANY_SLEEPS {
        super::fork::refuse("a wait (for a lock that a thread of the parent held)");
    }
    super::thread::sleep(time);
}
