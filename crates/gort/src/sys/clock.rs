//! CLOCK_MONOTONIC in nanoseconds, and its relation to [`Instant`].

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn now_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for the result, and CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// A counter that grows by one to five every nanosecond: a cheap way to tell that little time has
/// passed. CPUs may disagree, so a difference can be anything. Code that uses it must stay correct
/// when a difference is wrong and large.
#[inline(always)]
pub(crate) fn cycles() -> u64 {
    // SAFETY: every x86-64 has the instruction, and Linux lets programs use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// One moment on both clocks. The `Instant` is read first, so a deadline computed from it is never
/// early. Of several pairs the one read fastest is kept, so such a deadline is late by some ten
/// nanoseconds.
fn base() -> &'static (Instant, u64) {
    static BASE: OnceLock<(Instant, u64)> = OnceLock::new();
    BASE.get_or_init(|| {
        let pair = || {
            let instant = Instant::now();
            let ns = now_ns();
            (instant.elapsed(), instant, ns)
        };
        let (_, instant, ns) = (0..16).map(|_| pair()).min().expect("some");
        (instant, ns)
    })
}

/// The nanoseconds at which `t` is reached. A moment before the first call of this function counts
/// as passed.
pub(crate) fn ns_of(t: Instant) -> u64 {
    let (instant, ns) = *base();
    match t.checked_duration_since(instant) {
        Some(d) => ns.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        None => ns.saturating_sub(u64::try_from((instant - t).as_nanos()).unwrap_or(u64::MAX)),
    }
}

/// The `Instant` at `ns` of this clock.
pub(crate) fn instant_of(ns: u64) -> Instant {
    let (instant, base_ns) = *base();
    match ns.checked_sub(base_ns) {
        Some(d) => instant + std::time::Duration::from_nanos(d),
        None => instant.checked_sub(std::time::Duration::from_nanos(base_ns - ns)).unwrap_or(instant),
    }
}

/// `ns` in the form that the kernel takes.
pub(crate) fn timespec(ns: u64) -> libc::timespec {
    libc::timespec {
        tv_sec: (ns / 1_000_000_000).min(i64::MAX as u64 / 2) as i64,
        tv_nsec: (ns % 1_000_000_000) as i64,
    }
}
