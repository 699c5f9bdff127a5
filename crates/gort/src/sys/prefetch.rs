//! Asking for memory before it is needed.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Asks for the cache line at `at`, which may be any address at all.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    // SAFETY: a prefetch never faults and changes nothing that a program can see.
    unsafe { _mm_prefetch(at.cast(), _MM_HINT_T0) };
}
