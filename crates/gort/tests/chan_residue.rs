//! Channels and timers leave no memory behind. A process of its own, with an allocator that counts.

use gort::chan::{after, bounded, never, tick, unbounded};
use gort::time::{Ticker, Timer};
use gort::{go, select, yield_now};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::Duration;

struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: the system's allocator does everything; the counter is separate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many more bytes are allocated after `f` than before.
fn growth<R>(f: impl FnOnce() -> R) -> (isize, R) {
    let before = BYTES.load(Relaxed);
    let result = f();
    (BYTES.load(Relaxed) - before, result)
}

/// One test, because its parts must not run in parallel.
#[test]
fn nothing_is_left_behind() {
    let parts = || {
        losing_arms();
        timers();
        idle_channels();
        backlog();
        operations();
    };
    // With a fixed number of Ps the runtime does not read limits every second, which allocates.
    gort::Runtime::builder().gomaxprocs(2).run(parts).unwrap();
}

/// GO-CASES T7: two rounds of a hundred thousand selects with an arm that always loses. The second
/// round needs no memory.
fn losing_arms() {
    const N: usize = 100_000;
    let (s, r) = bounded::<usize>(0);
    let (_keep, dummy) = bounded::<usize>(0);
    let round = || {
        let s = s.clone();
        let sender = go(move || (0..N).for_each(|i| s.send(i).unwrap()));
        for i in 0..N {
            select! {
                recv(r) -> m => assert_eq!(m, Ok(i)),
                recv(dummy) -> _ => unreachable!(),
            }
        }
        sender.join().unwrap();
    };
    round();
    let (bytes, ()) = growth(round);
    assert!(bytes < 110_000, "{bytes} bytes more");
}

/// GO-CASES M18: timers without references are freed before their time.
fn timers() {
    let hour = Duration::from_secs(3600);
    let (bytes, ()) = growth(|| {
        for _ in 0..10_000 {
            drop(after(hour));
            drop(tick(hour));
            drop(Timer::new(hour));
            drop(Ticker::new(hour));
            // Also timers that a goroutine has waited for.
            select! {
                recv(after(hour)) -> _ => unreachable!(),
                recv(Timer::new(hour).receiver()) -> _ => unreachable!(),
                default => {}
            }
        }
    });
    assert!(bytes < 10_000, "{bytes} bytes more");
}

/// An empty channel takes no memory for messages, whatever its capacity.
fn idle_channels() {
    const N: usize = 1000;
    let (bytes, channels) = growth(|| {
        let bounded = (0..N).map(|_| bounded::<[u8; 100]>(1_000_000));
        bounded.chain((0..N).map(|_| unbounded())).collect::<Vec<_>>()
    });
    let each = bytes as usize / channels.len();
    assert!(each <= 512, "{each} bytes each");
}

/// The memory of a backlog is freed when the backlog has been received.
fn backlog() {
    let (s, r) = unbounded();
    let (bytes, ()) = growth(|| (0..100_000u64).for_each(|i| s.send(i).unwrap()));
    assert!(bytes >= 800_000);
    let (bytes, ()) = growth(|| assert!((0..100_000).all(|i| r.try_recv() == Ok(i))));
    assert!(bytes <= -790_000, "{bytes}");
}

/// No operation allocates after the first ones.
fn operations() {
    let (s, r) = unbounded();
    let (bs, br) = bounded(16);
    let (ping, pong) = (bounded(0), bounded(0));
    let off = never::<u64>();
    let round = || {
        for i in 0..1000u64 {
            s.send(i).unwrap();
            bs.send(i).unwrap();
            r.recv().unwrap();
            select! {
                recv(br) -> m => m.unwrap(),
                recv(off) -> m => m.unwrap(),
            };
        }
    };
    round();
    let (ping_r, pong_s) = (ping.1, pong.0);
    let player = go(move || ping_r.iter().for_each(|i: u64| pong_s.send(i).unwrap()));
    for i in 0..10 {
        ping.0.send(i).unwrap();
        pong.1.recv().unwrap();
    }
    yield_now();
    let (bytes, ()) = growth(|| {
        round();
        for i in 0..1000 {
            ping.0.send(i).unwrap();
            pong.1.recv().unwrap();
        }
    });
    assert!(bytes.abs() < 2_000, "{bytes} bytes more");
    drop(ping.0);
    player.join().unwrap();
}
