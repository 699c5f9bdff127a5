//! The counters of a hub.

use crate::rt;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The live counters. Each is exact, but several are not read at one instant.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicUsize,
    pub(crate) connections_total: AtomicU64,
    pub(crate) messages_in: AtomicU64,
    pub(crate) messages_out: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) slow_consumers: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) rate_limited: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// The state of a hub and of the process around it, as `/stats.json` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Open WebSocket connections.
    pub connections: usize,
    /// Other open connections: the HTTP API and handshakes.
    pub http_connections: usize,
    /// WebSocket connections since the start.
    pub connections_total: u64,
    /// Channels with at least one subscriber.
    pub channels: usize,
    /// Messages that clients sent.
    pub messages_in: u64,
    /// Messages that were written to clients.
    pub messages_out: u64,
    /// Events that were published, by the HTTP API and by clients.
    pub published: u64,
    /// Connections closed because they were too slow.
    pub slow_consumers: u64,
    /// Connections closed because a ping was not answered.
    pub timed_out: u64,
    /// Client events over the rate limit.
    pub rate_limited: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// Idle HTTP connections closed to make room for others.
    pub evicted: u64,
    /// Connections ended by a panic.
    pub panics: u64,
    /// How often `accept` failed, for example because there were no file descriptors.
    pub accept_errors: u64,
    /// Whether the hub is going down.
    pub draining: bool,
    /// Milliseconds since the start of the hub.
    pub uptime_ms: u64,
    /// Goroutines of the process.
    pub goroutines: usize,
    /// OS threads of the process.
    pub os_threads: usize,
    /// Resident memory of the process, in bytes.
    pub resident_bytes: u64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            connections: self.connections.load(Ordering::Relaxed),
            connections_total: get(&self.connections_total),
            messages_in: get(&self.messages_in),
            messages_out: get(&self.messages_out),
            published: get(&self.published),
            slow_consumers: get(&self.slow_consumers),
            timed_out: get(&self.timed_out),
            rate_limited: get(&self.rate_limited),
            refused: get(&self.refused),
            evicted: get(&self.evicted),
            panics: get(&self.panics),
            accept_errors: get(&self.accept_errors),
            goroutines: rt::num_goroutine(),
            os_threads: rt::threads(),
            resident_bytes: resident_bytes(),
            ..Stats::default()
        }
    }
}

/// Resident memory of this process in bytes, from `/proc/self/statm`; 0 if that cannot be read.
pub fn resident_bytes() -> u64 {
    let text = rt::blocking(|| std::fs::read_to_string("/proc/self/statm")).unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
