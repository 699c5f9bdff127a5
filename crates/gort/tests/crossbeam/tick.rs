// Adapted from crossbeam-channel 0.5.17, tests/tick.rs.
// Licence: MIT OR Apache-2.0; the texts are in NOTICE, in this folder.
// What was changed: docs/crossbeam-tests.md.
//! Tests for the tick channel flavor.

#![cfg(not(miri))] // TODO: many assertions failed due to Miri is slow

use crate::shim::test;
use crate::shim::thread;
use std::sync::atomic::Ordering;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use crate::shim::scope;
use crate::suite::moments::not_yet;
use gort::chan::{RecvTimeoutError, Select, TryRecvError, after, select, tick};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn fire() {
    let start = Instant::now();
    let r = tick(ms(50));

    if !not_yet(r.try_recv(), TryRecvError::Empty, start + ms(50)) {
        return;
    }
    thread::sleep(ms(100));

    let fired = r.try_recv().unwrap();
    assert!(start < fired);
    assert!(fired - start >= ms(50));

    let now = Instant::now();
    assert!(fired < now);
    assert!(now - fired >= ms(50));

    if !not_yet(r.try_recv(), TryRecvError::Empty, start + ms(150)) {
        return;
    }

    select! {
        recv(r) -> due => {
            assert!(due.unwrap() - start >= ms(150));
            return;
        }
        default => {}
    }

    select! {
        recv(r) -> _ => {}
        recv(tick(ms(60_000))) -> _ => panic!(),
    }
}

#[test]
fn intervals() {
    let start = Instant::now();
    let r = tick(ms(50));

    let t1 = r.recv().unwrap();
    assert!(start + ms(50) <= t1);

    thread::sleep(ms(300));
    let t2 = r.try_recv().unwrap();
    assert!(start + ms(100) <= t2);

    if !not_yet(r.try_recv(), TryRecvError::Empty, start + ms(400)) {
        return;
    }
    let t3 = r.recv().unwrap();
    assert!(start + ms(400) <= t3);

    not_yet(r.try_recv(), TryRecvError::Empty, start + ms(450));
}

#[test]
fn capacity() {
    const COUNT: usize = 10;

    for i in 0..COUNT {
        let r = tick(ms(i as u64));
        assert_eq!(r.capacity(), Some(1));
    }
}

#[test]
fn len_empty_full() {
    let start = Instant::now();
    let r = tick(ms(50));

    assert!(r.len() == 0 || start.elapsed() >= ms(50));
    assert!(r.is_empty() || start.elapsed() >= ms(50));
    assert!(!r.is_full() || start.elapsed() >= ms(50));

    thread::sleep(ms(100));

    assert_eq!(r.len(), 1);
    assert!(!r.is_empty());
    assert!(r.is_full());

    r.try_recv().unwrap();

    assert!(r.len() == 0 || start.elapsed() >= ms(150));
    assert!(r.is_empty() || start.elapsed() >= ms(150));
    assert!(!r.is_full() || start.elapsed() >= ms(150));
}

#[test]
fn try_recv() {
    let start = Instant::now();
    let r = tick(ms(200));
    if !not_yet(r.try_recv(), TryRecvError::Empty, start + ms(200)) {
        return;
    }

    thread::sleep(ms(100));
    if !not_yet(r.try_recv(), TryRecvError::Empty, start + ms(200)) {
        return;
    }

    thread::sleep(ms(200));
    assert!(r.try_recv().is_ok());
    if !not_yet(r.try_recv(), TryRecvError::Empty, start + ms(400)) {
        return;
    }

    thread::sleep(ms(200));
    assert!(r.try_recv().is_ok());
    not_yet(r.try_recv(), TryRecvError::Empty, start + ms(600));
}

#[test]
fn recv() {
    let start = Instant::now();
    let r = tick(ms(50));

    let fired = r.recv().unwrap();
    assert!(start < fired);
    assert!(fired - start >= ms(50));

    let now = Instant::now();
    assert!(fired < now);

    not_yet(r.try_recv(), TryRecvError::Empty, start + ms(100));
}

#[test]
fn recv_timeout() {
    let start = Instant::now();
    let r = tick(ms(200));

    if !not_yet(r.recv_timeout(ms(100)), RecvTimeoutError::Timeout, start + ms(200)) {
        return;
    }
    let now = Instant::now();
    assert!(now - start >= ms(100));

    let fired = r.recv_timeout(ms(200)).unwrap();
    assert!(fired - start >= ms(200));

    if !not_yet(r.recv_timeout(ms(100)), RecvTimeoutError::Timeout, start + ms(400)) {
        return;
    }
    let now = Instant::now();
    assert!(now - start >= ms(300));

    let fired = r.recv_timeout(ms(200)).unwrap();
    assert!(fired - start >= ms(400));
}

#[test]
fn recv_two() {
    let r1 = tick(ms(50));
    let r2 = tick(ms(50));

    scope(|scope| {
        scope.spawn(|_| {
            for _ in 0..10 {
                select! {
                    recv(r1) -> _ => {}
                    recv(r2) -> _ => {}
                }
            }
        });
        scope.spawn(|_| {
            for _ in 0..10 {
                select! {
                    recv(r1) -> _ => {}
                    recv(r2) -> _ => {}
                }
            }
        });
    })
    .unwrap();
}

#[test]
fn recv_race() {
    // A receiver that comes 50 ms late finds both ready.
    let start = Instant::now();
    select! {
        recv(tick(ms(50))) -> _ => {}
        recv(tick(ms(100))) -> _ => assert!(start.elapsed() >= ms(100)),
    }

    let start = Instant::now();
    select! {
        recv(tick(ms(100))) -> _ => assert!(start.elapsed() >= ms(100)),
        recv(tick(ms(50))) -> _ => {}
    }
}

#[test]
fn stress_default() {
    const COUNT: usize = 10;

    for _ in 0..COUNT {
        select! {
            recv(tick(ms(0))) -> _ => {}
            default => panic!(),
        }
    }

    for _ in 0..COUNT {
        select! {
            recv(tick(ms(60_000))) -> _ => panic!(),
            default => {}
        }
    }
}

/// The number of ticks that were due within `WINDOW`, and whether anything was so late that a tick
/// can have been missed.
struct Hits {
    start: Instant,
    count: AtomicUsize,
    late: AtomicBool,
}

const WINDOW: Duration = Duration::from_millis(1100);

/// Far from the last tick: a goroutine that is woken late, with both ready, may take either.
const TIMEOUT: Duration = Duration::from_millis(1500);

impl Hits {
    fn new() -> Hits {
        Hits { start: Instant::now(), count: AtomicUsize::new(0), late: AtomicBool::new(false) }
    }

    /// Records that something that was due at `due` has happened now.
    fn came(&self, due: Instant) {
        if due.elapsed() >= ms(50) {
            self.late.store(true, Ordering::SeqCst);
        }
    }

    fn add(&self, due: Instant) {
        self.came(due);
        if due - self.start < WINDOW {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn check(&self, expected: usize) {
        let count = self.count.load(Ordering::SeqCst);
        assert!(count <= expected, "{count} ticks");
        assert!(count == expected || self.late.load(Ordering::SeqCst), "{count} ticks, and nothing was late");
    }
}

#[test]
fn select() {
    const THREADS: usize = 4;

    let hits = Hits::new();
    let r1 = tick(ms(200));
    let r2 = tick(ms(300));
    // The last ticks of a late ticker are outside the window.
    hits.came(hits.start);

    scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|_| {
                let timeout = after(TIMEOUT);
                loop {
                    let mut sel = Select::new();
                    let oper1 = sel.recv(&r1);
                    let oper2 = sel.recv(&r2);
                    let oper3 = sel.recv(&timeout);
                    let oper = sel.select();
                    match oper.index() {
                        i if i == oper1 => {
                            hits.add(oper.recv(&r1).unwrap());
                        }
                        i if i == oper2 => {
                            hits.add(oper.recv(&r2).unwrap());
                        }
                        i if i == oper3 => {
                            hits.came(oper.recv(&timeout).unwrap());
                            break;
                        }
                        _ => unreachable!(),
                    }
                }
            });
        }
    })
    .unwrap();

    hits.check(8);
}

#[test]
fn ready() {
    const THREADS: usize = 4;

    let hits = Hits::new();
    let r1 = tick(ms(200));
    let r2 = tick(ms(300));
    // The last ticks of a late ticker are outside the window.
    hits.came(hits.start);

    scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|_| {
                let timeout = after(TIMEOUT);
                'outer: loop {
                    let mut sel = Select::new();
                    sel.recv(&r1);
                    sel.recv(&r2);
                    sel.recv(&timeout);
                    loop {
                        match sel.ready() {
                            0 => {
                                if let Ok(due) = r1.try_recv() {
                                    hits.add(due);
                                    break;
                                }
                            }
                            1 => {
                                if let Ok(due) = r2.try_recv() {
                                    hits.add(due);
                                    break;
                                }
                            }
                            2 => {
                                if let Ok(due) = timeout.try_recv() {
                                    hits.came(due);
                                    break 'outer;
                                }
                            }
                            _ => unreachable!(),
                        }
                    }
                }
            });
        }
    })
    .unwrap();

    hits.check(8);
}

#[test]
fn fairness() {
    const COUNT: usize = 30;

    for &dur in &[0, 1] {
        let mut hits = [0usize; 2];

        for _ in 0..COUNT {
            let r1 = tick(ms(dur));
            let r2 = tick(ms(dur));

            for _ in 0..COUNT {
                select! {
                    recv(r1) -> _ => hits[0] += 1,
                    recv(r2) -> _ => hits[1] += 1,
                }
            }
        }

        assert!(hits.iter().all(|x| *x >= COUNT / hits.len() / 2));
    }
}

#[test]
fn fairness_duplicates() {
    const COUNT: usize = 30;

    for &dur in &[0, 1] {
        let mut hits = [0usize; 5];

        for _ in 0..COUNT {
            let r = tick(ms(dur));

            for _ in 0..COUNT {
                select! {
                    recv(r) -> _ => hits[0] += 1,
                    recv(r) -> _ => hits[1] += 1,
                    recv(r) -> _ => hits[2] += 1,
                    recv(r) -> _ => hits[3] += 1,
                    recv(r) -> _ => hits[4] += 1,
                }
            }
        }

        assert!(hits.iter().all(|x| *x >= COUNT / hits.len() / 2));
    }
}
