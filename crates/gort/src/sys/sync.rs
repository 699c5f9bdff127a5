//! The one door for atomics: std's here, loom's in `crates/gort-models`, which compiles the protocol modules
//! of this crate against a `sys::sync` of its own.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

pub(crate) use super::fork::is_child;

/// A full fence, right after a sequentially consistent read-modify-write: on x86-64 that is one already (Intel's manual, volume 3,
/// 9.2.3.9: locked instructions have a total order, and neither loads nor stores pass them).
#[inline(always)]
pub(crate) fn fence_after_rmw() {
    if cfg!(target_arch = "x86_64") {
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Waits for so many pauses of the processor, between two looks of a spin loop.
#[inline(always)]
pub(crate) fn pause(times: u32) {
    (0..times).for_each(|_| std::hint::spin_loop());
}

/// Naps after which a lock that is held in a forked child counts as one whose holder is not there.
const MANY_NAPS: u32 = 10_000;

/// Sleeps between two looks, where spinning has not helped; for the `nth` time.
pub(crate) fn nap(time: std::time::Duration, nth: u32) {
    if nth >= MANY_NAPS {
        super::fork::refuse("something that another thread was using as the process was forked");
    }
    super::thread::sleep(time);
}
