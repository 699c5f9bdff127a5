//! The one door for atomics: std's here, loom's in `crates/gort-models`, which compiles the protocol modules
//! of this crate against a `sys::sync` of its own.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// Tells the processor that this is a spin loop.
#[inline(always)]
pub(crate) fn spin_hint() {
    std::hint::spin_loop();
}
