//! Prefetching memory into the cache.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Prefetches the cache line at `at`, which may be any address.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    // SAFETY: a prefetch never faults and has no effect that a program can observe.
    unsafe { _mm_prefetch(at.cast(), _MM_HINT_T0) };
}
