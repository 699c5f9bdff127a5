//! The counters that all goroutines of the load share.

use crate::rt::sync::{Mutex, MutexGuard, PoisonError};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const SHARDS: usize = 16;

/// The counters of a load.
pub(crate) struct Tally {
    base: Instant,
    shards: Vec<Mutex<Histogram<u64>>>,
    pub(crate) delivered: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) out_of_order: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) lost_reason: Mutex<Option<String>>,
    /// The load is over: from now on, connections end because the load closes them.
    pub(crate) over: AtomicBool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A histogram from one microsecond to ten minutes, with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    let mut histogram =
        Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("these bounds are in order");
    histogram.auto(true);
    histogram
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            base: Instant::now(),
            shards: (0..SHARDS).map(|_| Mutex::new(histogram())).collect(),
            delivered: AtomicU64::new(0),
            published: AtomicU64::new(0),
            out_of_order: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lost_reason: Mutex::new(None),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn ns_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.ns_of(Instant::now())
    }

    pub(crate) fn published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self, shard: usize, latency_ns: u64) {
        lock(&self.shards[shard % SHARDS]).saturating_record(latency_ns);
        self.delivered.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn out_of_order(&self, n: u64) {
        self.out_of_order.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, why: &str) {
        if !self.over.load(Ordering::Acquire) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            lock(&self.lost_reason).get_or_insert_with(|| why.to_string());
        }
    }

    /// Moves what has come since the last call into `total`, and returns it.
    pub(crate) fn collect(&self, total: &mut Histogram<u64>) -> Histogram<u64> {
        let mut interval = histogram();
        for shard in &self.shards {
            let mut shard = lock(shard);
            interval.add(&*shard).expect("the same bounds");
            shard.reset();
        }
        total.add(&interval).expect("the same bounds");
        interval
    }
}
