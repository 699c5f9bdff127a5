//! Crates that live by their thread-locals, in goroutines that park in between: more rows of
//! `thread_locals.rs` of gort, whose helpers these are.

#[path = "../../gort/tests/tls_support/mod.rs"]
#[allow(dead_code, reason = "its rows are of gort's own tests")]
mod tls_support;

use std::sync::Once;
use tls_support::{PARKS, many, park};

/// Four Ps, also on a machine with fewer processors, so there is always another M to migrate to.
fn run(row: impl FnOnce() + Send) {
    static START: Once = Once::new();
    START.call_once(|| gort::Runtime::builder().gomaxprocs(4).start().unwrap());
    gort::run(row);
}

/// State that a crate keeps per thread and hands out by reference: rand's generator.
#[test]
fn thread_rng() {
    run(|| {
        many(500, |_| {
            use rand::RngCore;
            let mut rng = rand::rng();
            for i in 0..PARKS {
                rng.next_u64();
                park(i);
                rng.next_u64();
            }
        })
    });
}

/// A guard that is bound to a thread's record: crossbeam's epochs.
#[test]
fn epoch_guard() {
    run(|| {
        many(500, |_| {
            for i in 0..PARKS {
                let guard = crossbeam_epoch::pin();
                guard.defer(|| ());
                park(i);
                guard.flush();
                drop(guard);
                park(i + 1);
            }
        })
    });
}
