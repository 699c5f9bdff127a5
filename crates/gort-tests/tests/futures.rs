//! `block_on` with the futures of other crates.

#[path = "../../gort/tests/sync_common/mod.rs"]
mod sync_common;

use gort::future::block_on;
use std::future::pending;
use sync_common::*;

/// Futures of other crates, channels and combinators, between goroutines and threads.
#[test]
fn futures_of_other_crates() {
    run(|| {
        let (tx, rx) = async_channel::bounded::<u32>(2);
        in_parallel(8, |i| {
            let (tx, rx) = (tx.clone(), rx.clone());
            move || {
                if i < 4 {
                    block_on(async {
                        for n in 0..200 {
                            tx.send(n).await.unwrap();
                        }
                    });
                } else {
                    let sum: u32 = (0..200).map(|_| block_on(rx.recv()).unwrap()).sum();
                    assert!(sum < 4 * 199 * 200);
                }
            }
        });
        assert!(rx.is_empty());
        let first = futures_lite::future::or(pending::<u32>(), async {
            futures_lite::future::yield_now().await;
            7
        });
        assert_eq!(block_on(first), 7);
        let both = futures_lite::future::zip(async { tx.send(1).await.unwrap() }, rx.recv());
        assert_eq!(block_on(both), ((), Ok(1)));
    });
}

/// A goroutine is awaited by another crate's executor, on a thread and in a goroutine.
#[test]
fn goroutines_are_awaited_by_other_executors() {
    run(|| {
        let both = || futures_lite::future::zip(gort::go(|| 1), gort::go(|| 2));
        let (a, b) = futures_lite::future::block_on(both());
        assert_eq!(a.unwrap() + b.unwrap(), 3);
        let on_a_thread = gort::blocking(|| {
            std::thread::spawn(move || futures_lite::future::block_on(both())).join().unwrap()
        });
        assert_eq!(on_a_thread.0.unwrap() + on_a_thread.1.unwrap(), 3);
    });
}
