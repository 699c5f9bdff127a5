//! Channels: Go's own cases (GO-CASES A3, C and T).

use gort::chan::{
    Receiver, RecvError, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded,
    unbounded,
};
use gort::{go, run, select, sleep, yield_now};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// ---- C1

/// GO-CASES C1: what blocks and what does not, and what a closed channel returns.
#[test]
fn c1_empty_and_full() {
    fn check(cap: usize) {
        let (s, r) = bounded::<i32>(cap);
        // Empty: a receive blocks, or the default arm runs.
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(r.recv_timeout(ms(1)), Err(RecvTimeoutError::Timeout));
        select! {
            recv(r) -> _ => unreachable!(),
            default => {}
        }
        for i in 0..cap {
            assert_eq!((s.len(), s.is_full()), (i, false));
            s.send(i as i32).unwrap();
        }
        // Full: a send blocks, or the default arm runs.
        assert_eq!((r.len(), r.capacity()), (cap, Some(cap)));
        assert!(s.is_full());
        assert_eq!(s.try_send(-1), Err(TrySendError::Full(-1)));
        assert_eq!(s.send_timeout(-2, ms(1)), Err(SendTimeoutError::Timeout(-2)));
        select! {
            send(s, -3) -> _ => unreachable!(),
            default => {}
        }
        // Closed: the messages come in order, then the error, as often as one asks.
        drop(s);
        assert!((0..cap).all(|i| r.recv() == Ok(i as i32)));
        for _ in 0..3 {
            assert_eq!(r.recv(), Err(RecvError));
            assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
        }
    }
    run(|| (0..=200).step_by(7).chain([1, 2, 3]).for_each(check));
}

/// GO-CASES C1: closing the channel wakes a blocked receiver, and a blocked sender.
#[test]
fn c1_close_wakes() {
    run(|| {
        for cap in 0..3 {
            let (s, r) = bounded::<i32>(cap);
            let receiver = go(move || r.recv());
            sleep(ms(1));
            drop(s);
            assert_eq!(receiver.join().unwrap(), Err(RecvError));

            let (s, r) = bounded::<i32>(cap);
            for _ in 0..cap {
                s.send(0).unwrap();
            }
            let sender = go(move || s.send(7));
            sleep(ms(1));
            drop(r);
            assert_eq!(sender.join().unwrap().unwrap_err().into_inner(), 7);
        }
    });
}

/// GO-CASES C1: messages arrive in order.
#[test]
fn c1_in_order() {
    run(|| {
        for cap in [0, 1, 2, 10, 100] {
            let (s, r) = bounded(cap);
            let sender = go(move || (0..100).for_each(|i| s.send(i).unwrap()));
            assert!((0..100).all(|i| r.recv() == Ok(i)));
            sender.join().unwrap();
            assert_eq!(r.recv(), Err(RecvError));
        }
    });
}

/// GO-CASES C1: with four senders and four receivers every value arrives as often as it was sent.
#[test]
fn c1_many_to_many() {
    run(|| {
        for cap in [0, 1, 10, 1000] {
            let (s, r) = bounded(cap);
            for _ in 0..4 {
                let s = s.clone();
                go(move || (0..1000).for_each(|i| s.send(i).unwrap()));
            }
            drop(s);
            let receivers: Vec<_> = (0..4)
                .map(|_| {
                    let r = r.clone();
                    go(move || r.iter().collect::<Vec<i32>>())
                })
                .collect();
            let mut seen = BTreeMap::new();
            for value in receivers.into_iter().flat_map(|t| t.join().unwrap()) {
                *seen.entry(value).or_insert(0) += 1;
            }
            assert_eq!(seen.len(), 1000);
            assert!(seen.values().all(|&n| n == 4));
        }
    });
}

// ---- C2, C8

/// GO-CASES C2: a non-blocking receive that races with a close sees the message or the close.
#[test]
fn c2_nonblocking_receive_race() {
    run(|| {
        for _ in 0..10_000 {
            let (s, r) = bounded(1);
            s.send(1).unwrap();
            let trying = {
                let r = r.clone();
                go(move || r.try_recv())
            };
            drop(s);
            let _ = r.recv();
            assert_ne!(trying.join().unwrap(), Err(TryRecvError::Empty));
        }
    });
}

/// GO-CASES C8: with many consumers every item arrives once.
#[test]
fn c8_multi_consumer() {
    const WORKERS: usize = 23;
    const ITEMS: usize = 271_828;
    const PRIMES: [usize; 8] = [2, 3, 7, 11, 13, 17, 19, 23];
    run(|| {
        let (q, items) = bounded(WORKERS * 3);
        let (results, r) = bounded(WORKERS * 3);
        let workers: Vec<_> = (0..WORKERS)
            .map(|w| {
                let (items, results) = (items.clone(), results.clone());
                go(move || {
                    for v in items {
                        if PRIMES[w % PRIMES.len()] == v % (WORKERS + 1) {
                            yield_now();
                        }
                        results.send(v).unwrap();
                    }
                })
            })
            .collect();
        drop((items, results));
        let feeder = go(move || (0..ITEMS).map(|i| i % 1009).inspect(|&v| q.send(v).unwrap()).sum::<usize>());
        let (count, sum) = r.iter().fold((0, 0), |(n, sum), v| (n + 1, sum + v));
        assert_eq!(count, ITEMS);
        assert_eq!(sum, feeder.join().unwrap());
        workers.into_iter().for_each(|w| w.join().unwrap());
    });
}

// ---- T3, T4, T5

/// GO-CASES T3: a chain of receivers in which each lets the next go. Each gets its own number.
#[test]
fn t3_daisy_chain() {
    run(|| {
        let (s, r) = bounded(0);
        let (first, mut turn) = bounded::<()>(0);
        let mut receivers = Vec::new();
        for i in 0..10 {
            let r = r.clone();
            let (mine, next) = bounded(0);
            let before = std::mem::replace(&mut turn, next);
            receivers.push(go(move || {
                before.recv().unwrap();
                assert_eq!(r.recv(), Ok(i));
                mine.send(()).unwrap();
            }));
        }
        first.send(()).unwrap();
        (0..10).for_each(|i| s.send(i).unwrap());
        turn.recv().unwrap();
        receivers.into_iter().for_each(|t| t.join().unwrap());
    });
}

/// Blocked receivers are served in the order in which they arrived, and so are blocked senders. On
/// a busy machine they may arrive in another order, so one success in five tries is enough.
#[test]
fn waiters_are_served_in_order() {
    /// Starts five goroutines, one after the other.
    fn start<T: Send + 'static>(f: impl Fn(i32) -> T + Clone + Send + 'static) -> Vec<gort::JoinHandle<T>> {
        let one = |i| {
            let f = f.clone();
            let t = go(move || f(i));
            sleep(ms(10));
            t
        };
        (0..5).map(one).collect()
    }
    fn join<T>(all: Vec<gort::JoinHandle<T>>) -> Vec<T> {
        all.into_iter().map(|t| t.join().unwrap()).collect()
    }
    fn receivers_in_order(cap: usize) -> bool {
        let (s, r) = bounded(cap);
        let receivers = start(move |_| r.recv().unwrap());
        (0..5).for_each(|v| s.send(v).unwrap());
        join(receivers) == [0, 1, 2, 3, 4]
    }
    fn senders_in_order(cap: usize) -> bool {
        let (s, r) = bounded(cap);
        (0..cap).for_each(|_| s.send(-1).unwrap());
        let senders = start(move |i| s.send(i).unwrap());
        let got: Vec<i32> = r.iter().collect();
        join(senders);
        got[cap..] == [0, 1, 2, 3, 4]
    }
    run(|| {
        for cap in [0, 1, 3] {
            assert!((0..5).any(|_| receivers_in_order(cap)));
            assert!((0..5).any(|_| senders_in_order(cap)));
        }
    });
}

/// GO-CASES T4: a chain of ten thousand goroutines, each copying from its right to its left.
#[test]
fn t4_long_chain() {
    run(|| {
        let (leftmost_in, leftmost) = bounded::<i32>(0);
        let mut left = leftmost_in;
        for _ in 0..10_000 {
            let (s, r) = bounded(0);
            go(move || left.send(r.recv().unwrap()).unwrap());
            left = s;
        }
        left.send(42).unwrap();
        assert_eq!(leftmost.recv(), Ok(42));
    });
}

/// GO-CASES T5: a non-blocking send or receive succeeds exactly once when the other side is there.
/// The values arrive intact, whatever their size.
#[test]
fn t5_nonblocking() {
    fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(t) = f() {
                return t;
            }
            sleep(Duration::from_micros(10));
        }
        panic!("{what} never succeeded")
    }
    fn check<T: Clone + PartialEq + std::fmt::Debug + Send + 'static>(value: T) {
        for cap in [0, 1] {
            let (s, r) = bounded::<T>(cap);
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
            // A non-blocking send finds a parked receiver.
            let receiver = {
                let r = r.clone();
                go(move || r.recv().unwrap())
            };
            until("send", || s.try_send(value.clone()).ok());
            assert_eq!(receiver.join().unwrap(), value);
            // A non-blocking receive finds a parked sender.
            (0..cap).for_each(|_| s.try_send(value.clone()).unwrap());
            assert_eq!(s.try_send(value.clone()), Err(TrySendError::Full(value.clone())));
            let sender = {
                let (s, value) = (s.clone(), value.clone());
                go(move || s.send(value).unwrap())
            };
            for _ in 0..=cap {
                assert_eq!(until("receive", || r.try_recv().ok()), value);
            }
            sender.join().unwrap();
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        }
    }
    run(|| {
        check(true);
        check(-7i8);
        check(1234567890123u64);
        check([7u8; 1000]);
        check(String::from("a string"));
        check(vec![1, 2, 3]);
        check(());
    });
}

// ---- T13, T14, T15

/// GO-CASES T13: the prime sieve, a chain of filters.
#[test]
fn t13_sieve() {
    const PRIMES: [u32; 25] =
        [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97];
    run(|| {
        for cap in [0, 3] {
            let (s, mut numbers) = bounded(cap);
            go(move || (2..).take_while(|&n| s.send(n).is_ok()).for_each(drop));
            for expected in PRIMES {
                let prime = numbers.recv().unwrap();
                assert_eq!(prime, expected);
                let (s, filtered) = bounded(cap);
                let before = std::mem::replace(&mut numbers, filtered);
                go(move || {
                    for n in before.iter().filter(|n| n % prime != 0) {
                        if s.send(n).is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
}

/// A rational number, always reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rat(i64, i64);

impl Rat {
    fn new(n: i64, d: i64) -> Rat {
        fn gcd(a: i64, b: i64) -> i64 {
            if b == 0 { a.abs() } else { gcd(b, a % b) }
        }
        let g = gcd(n, d) * d.signum();
        Rat(n / g, d / g)
    }
    fn add(self, o: Rat) -> Rat {
        Rat::new(self.0 * o.1 + o.0 * self.1, self.1 * o.1)
    }
    fn mul(self, o: Rat) -> Rat {
        Rat::new(self.0 * o.0, self.1 * o.1)
    }
}

/// A power series: a goroutine that computes the next coefficient on demand, and ends when the
/// demand channel is closed.
struct Series {
    demand: Sender<()>,
    data: Receiver<Rat>,
}

struct Out {
    demand: Receiver<()>,
    data: Sender<Rat>,
}

impl Out {
    fn put(&self, value: impl FnOnce() -> Option<Rat>) -> Option<()> {
        self.demand.recv().ok()?;
        self.data.send(value()?).ok()
    }
}

impl Series {
    fn new(f: impl FnOnce(&Out) -> Option<()> + Send + 'static) -> Series {
        let ((demand, asked), (given, data)) = (bounded(0), bounded(0));
        go(move || f(&Out { demand: asked, data: given }));
        Series { demand, data }
    }

    fn get(&self) -> Option<Rat> {
        self.demand.send(()).ok()?;
        self.data.recv().ok()
    }

    fn of(f: impl Fn(i64) -> Rat + Send + 'static) -> Series {
        Series::new(move |out| {
            for n in 0.. {
                out.put(|| Some(f(n)))?;
            }
            None
        })
    }

    fn map(self, f: impl Fn(i64, Rat) -> Rat + Send + 'static) -> Series {
        Series::new(move |out| {
            for n in 0.. {
                out.put(|| Some(f(n, self.get()?)))?;
            }
            None
        })
    }

    fn add(self, other: Series) -> Series {
        Series::new(move |out| {
            loop {
                out.put(|| Some(self.get()?.add(other.get()?)))?;
            }
        })
    }

    /// Two copies of the series. The copy that is behind gets what the other has read already.
    fn split(self) -> (Series, Series) {
        let ((d0, asked0), (given0, r0)) = (bounded(0), bounded(0));
        let ((d1, asked1), (given1, r1)) = (bounded(0), bounded(0));
        go(move || {
            let mut ahead = [VecDeque::new(), VecDeque::new()];
            let (mut asked, off) = ([&asked0, &asked1], gort::chan::never());
            let given = [given0, given1];
            loop {
                let (me, open) = select! {
                    recv(asked[0]) -> m => (0, m.is_ok()),
                    recv(asked[1]) -> m => (1, m.is_ok()),
                };
                if !open {
                    asked[me] = &off; // This copy was dropped.
                    if std::ptr::eq(asked[1 - me], &off) {
                        return;
                    }
                    continue;
                }
                if ahead[me].is_empty() {
                    let Some(value) = self.get() else { return };
                    ahead.iter_mut().for_each(|q| q.push_back(value));
                }
                let value = ahead[me].pop_front().expect("filled above");
                let _ = given[me].send(value);
            }
        });
        (Series { demand: d0, data: r0 }, Series { demand: d1, data: r1 })
    }

    fn scale(self, by: Rat) -> Series {
        self.map(move |_, r| r.mul(by))
    }

    /// U V = u v + x (u V' + v U') + x^2 U' V', where U = u + x U'.
    fn mul(self, other: Series) -> Series {
        Series::new(move |out| {
            let (mut u, mut v) = (Rat(0, 1), Rat(0, 1));
            out.put(|| {
                (u, v) = (self.get()?, other.get()?);
                Some(u.mul(v))
            })?;
            let ((u0, u1), (v0, v1)) = (self.split(), other.split());
            let middle = v0.scale(u).add(u0.scale(v));
            out.put(|| middle.get())?;
            let rest = middle.add(u1.mul(v1));
            loop {
                out.put(|| rest.get())?;
            }
        })
    }

    fn diff(self) -> Series {
        Series::new(move |out| {
            self.get()?;
            for n in 1.. {
                out.put(|| Some(self.get()?.mul(Rat(n, 1))))?;
            }
            None
        })
    }

    fn integ(self, constant: Rat) -> Series {
        Series::new(move |out| {
            out.put(|| Some(constant))?;
            for n in 1.. {
                out.put(|| Some(self.get()?.mul(Rat(1, n))))?;
            }
            None
        })
    }

    /// Z = exp(U) solves Z' = Z U': the series is fed its own beginning.
    fn exp(self) -> Series {
        let (back, delayed) = unbounded();
        let mine = Series::new(move |out| {
            loop {
                out.put(|| delayed.recv().ok())?;
            }
        });
        let z = mine.mul(self.diff()).integ(Rat(1, 1));
        Series::new(move |out| {
            loop {
                out.put(|| {
                    let value = z.get()?;
                    back.send(value).ok()?;
                    Some(value)
                })?;
            }
        })
    }

    fn check(self, expected: &[(i64, i64)]) {
        for &(n, d) in expected {
            assert_eq!(self.get(), Some(Rat(n, d)));
        }
    }
}

/// GO-CASES T14: power series over demand channels: thousands of short-lived goroutines and
/// selects.
#[test]
fn t14_power_series() {
    fn ones() -> Series {
        Series::of(|_| Rat(1, 1))
    }
    let whole = |n: i64| -> Vec<(i64, i64)> { (1..=n).map(|n| (n, 1)).collect() };
    run(|| {
        ones().add(ones()).check(&[(2, 1); 10]);
        ones().diff().check(&whole(10));
        ones().integ(Rat(0, 1)).check(&[(0, 1), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]);
        ones().mul(ones()).check(&whole(10));
        ones().exp().check(&[
            (1, 1),
            (1, 1),
            (3, 2),
            (13, 6),
            (73, 24),
            (167, 40),
            (4051, 720),
            (37633, 5040),
            (43817, 4480),
            (4596553, 362880),
        ]);
        let alternating = Series::of(|n| if n % 2 == 1 { Rat(0, 1) } else { Rat(1 - n % 4, 1) });
        let atan = alternating.integ(Rat(0, 1));
        atan.check(&[(0, 1), (1, 1), (0, 1), (-1, 3), (0, 1), (1, 5), (0, 1), (-1, 7), (0, 1), (1, 9)]);
    });
}

/// GO-CASES T15: messages of size zero.
#[test]
fn t15_zero_size() {
    run(|| {
        for cap in [0, 1, 3] {
            let (s, r) = bounded(cap);
            go(move || (0..100).for_each(|_| s.send(()).unwrap()));
            assert_eq!(r.iter().count(), 100);
        }
        let (s, r) = unbounded();
        (0..10_000).for_each(|_| s.send([0u8; 0]).unwrap());
        drop(s);
        assert_eq!(r.iter().count(), 10_000);
    });
}

// ---- Not among Go's cases

/// Each message is dropped once: a received one by the receiver, the rest with the channel.
#[test]
fn every_message_is_dropped_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    run(|| {
        for (s, r) in [bounded(10), bounded(64), unbounded()] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let full = (0..50).find(|_| s.try_send(Counted(dropped.clone())).is_err());
            let sent = full.unwrap_or(50);
            let lost = usize::from(full.is_some());
            for i in 0..5 {
                drop(r.recv().unwrap());
                assert_eq!(dropped.load(SeqCst), lost + i + 1);
            }
            drop(r); // Drops the messages that are left, although there is still a sender.
            assert_eq!(dropped.load(SeqCst), lost + sent);
            let error = s.send(Counted(dropped.clone())).unwrap_err();
            drop(s);
            drop(error);
            assert_eq!(dropped.load(SeqCst), lost + sent + 1);
        }
    });
}

/// The drop of a message may use the message's channel: no lock is held then.
#[test]
fn a_message_may_use_its_channel_while_dropped() {
    struct Nosy(Sender<Nosy>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            assert!(self.0.len() <= 3);
            assert!(self.0.clone().capacity().is_none());
        }
    }
    run(|| {
        let (s, r) = unbounded();
        (0..3).for_each(|_| s.send(Nosy(s.clone())).unwrap());
        drop(r.recv());
        drop(r);
        assert!(s.send(Nosy(s.clone())).is_err());
    });
}

/// Goroutines and plain threads at the two ends, in all four combinations.
#[test]
fn threads_and_goroutines_mix() {
    fn start(thread: bool, f: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce()> {
        if thread {
            let t = std::thread::spawn(f);
            Box::new(|| gort::blocking(|| t.join().unwrap()))
        } else {
            let g = go(f);
            Box::new(|| g.join().unwrap())
        }
    }
    run(|| {
        for cap in [0, 1, 16] {
            for (sends, receives) in [(false, true), (true, false), (true, true), (false, false)] {
                let (s, r) = bounded(cap);
                let sender = start(sends, move || (0..2000).for_each(|i| s.send(i).unwrap()));
                let receiver = start(receives, move || assert!(r.iter().eq(0..2000)));
                sender();
                receiver();
            }
        }
    });
}

/// Sends and receives with deadlines under load: no message is lost or doubled.
#[test]
fn deadlines_under_load() {
    run(|| {
        for cap in [0, 1, 5] {
            let (s, r) = bounded(cap);
            let senders: Vec<_> = (0..4u64)
                .map(|id| {
                    let s = s.clone();
                    go(move || {
                        let sent = (0..500).filter(|i| {
                            let message = id * 1000 + i;
                            s.send_timeout(message, Duration::from_micros(i % 7 * 20)).is_ok()
                        });
                        sent.map(|i| id * 1000 + i).collect::<Vec<_>>()
                    })
                })
                .collect();
            drop(s);
            let receivers: Vec<_> = (0..4u64)
                .map(|id| {
                    let r = r.clone();
                    go(move || {
                        let mut got = Vec::new();
                        let mut i = id;
                        loop {
                            i += 1;
                            match r.recv_timeout(Duration::from_micros(i % 5 * 20)) {
                                Ok(message) => got.push(message),
                                Err(RecvTimeoutError::Disconnected) => return got,
                                Err(RecvTimeoutError::Timeout) => {}
                            }
                        }
                    })
                })
                .collect();
            let mut sent: Vec<u64> = senders.into_iter().flat_map(|t| t.join().unwrap()).collect();
            let mut got: Vec<u64> = receivers.into_iter().flat_map(|t| t.join().unwrap()).collect();
            sent.sort_unstable();
            got.sort_unstable();
            assert_eq!(sent, got);
        }
    });
}

/// A capacity for which no machine has the memory is refused when the channel is made.
#[test]
#[should_panic = "a channel of capacity"]
fn impossible_capacity() {
    let _ = bounded::<u64>(usize::MAX / 4);
}

/// Handles are `Send` and `Sync` under the same conditions as crossbeam's.
#[test]
fn handles_may_be_shared() {
    fn check<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    check::<Sender<std::cell::Cell<i32>>>();
    check::<Receiver<std::cell::Cell<i32>>>();
    fn check_select<T: Send + Sync>() {}
    check_select::<gort::chan::Select<'static>>();
    check_select::<gort::time::Timer>();
    check_select::<gort::time::Ticker>();
}
