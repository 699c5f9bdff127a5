//! `select`: Go's own cases (GO-CASES A3, C and T), and what only gort has: promises, panics,
//! threads.

use gort::chan::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded,
};
use gort::{go, run, select, select_biased, sleep, yield_now};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A sender whose sends never succeed, like one to Go's nil channel.
fn nil<T>() -> (Sender<T>, Receiver<T>) {
    bounded(0)
}

// ---- C3 .. C9

/// GO-CASES C3: while some arm is always ready, `default` is never taken, although the ready arm
/// changes.
#[test]
fn c3_nonblocking_select_race() {
    run(|| {
        for close in [false, true] {
            for _ in 0..10_000 {
                let (s1, r1) = bounded(1);
                let (s2, r2) = bounded(1);
                s1.send(1).unwrap();
                let selecting = {
                    let (r1, r2) = (r1.clone(), r2.clone());
                    go(move || {
                        select! {
                            recv(r1) -> _ => true,
                            recv(r2) -> _ => true,
                            default => false,
                        }
                    })
                };
                if close {
                    drop(s2);
                } else {
                    s2.send(1).unwrap();
                }
                let _ = r1.try_recv();
                assert!(selecting.join().unwrap());
            }
        }
    });
}

/// GO-CASES C4: two goroutines that send to and receive from one channel do not block each other.
/// Without a buffer none gets its own message.
#[test]
fn c4_self_select() {
    run(|| {
        for cap in [0, 10] {
            let (s, r) = bounded(cap);
            let both: Vec<_> = (0..2)
                .map(|me| {
                    let (s, r) = (s.clone(), r.clone());
                    go(move || {
                        for i in 0..1000 {
                            let got = if me == 0 || i % 2 == 0 {
                                select! {
                                    send(s, me) -> res => { res.unwrap(); None }
                                    recv(r) -> m => m.ok(),
                                }
                            } else {
                                select! {
                                    recv(r) -> m => m.ok(),
                                    send(s, me) -> res => { res.unwrap(); None }
                                }
                            };
                            assert!(cap > 0 || got != Some(me));
                        }
                    })
                })
                .collect();
            both.into_iter().for_each(|t| t.join().unwrap());
        }
    });
}

/// GO-CASES C5: four channels with senders and receivers, and two goroutines that do it all by
/// `select`.
#[test]
fn c5_select_stress() {
    const N: usize = 2000;
    run(|| {
        let chans: Vec<_> = [0, 0, 2, 3].map(bounded::<usize>).into_iter().collect();
        let mut all = Vec::new();
        for (s, r) in &chans {
            let (s, r) = (s.clone(), r.clone());
            all.push(go(move || (0..N).for_each(|i| s.send(i).unwrap())));
            all.push(go(move || assert_eq!(r.iter().take(N).count(), N)));
        }
        let senders: Vec<_> = chans.iter().map(|(s, _)| s.clone()).collect();
        all.push(go(move || {
            let (off, _keep) = nil();
            let mut left = [N; 4];
            while left.iter().any(|&n| n > 0) {
                let on = |i: usize| if left[i] > 0 { &senders[i] } else { &off };
                let chosen = select! {
                    send(on(0), 0) -> res => { res.unwrap(); 0 }
                    send(on(1), 1) -> res => { res.unwrap(); 1 }
                    send(on(2), 2) -> res => { res.unwrap(); 2 }
                    send(on(3), 3) -> res => { res.unwrap(); 3 }
                };
                left[chosen] -= 1;
            }
        }));
        let receivers: Vec<_> = chans.iter().map(|(_, r)| r.clone()).collect();
        all.push(go(move || {
            let off = never();
            let mut left = [N; 4];
            while left.iter().any(|&n| n > 0) {
                let on = |i: usize| if left[i] > 0 { &receivers[i] } else { &off };
                let chosen = select! {
                    recv(on(0)) -> m => { m.unwrap(); 0 }
                    recv(on(1)) -> m => { m.unwrap(); 1 }
                    recv(on(2)) -> m => { m.unwrap(); 2 }
                    recv(on(3)) -> m => { m.unwrap(); 3 }
                };
                left[chosen] -= 1;
            }
        }));
        drop(chans);
        all.into_iter().for_each(|t| t.join().unwrap());
    });
}

/// GO-CASES C6: of two arms that are always ready, each is chosen half of the time (within 10
/// sigma).
#[test]
fn c6_fairness() {
    const TRIALS: i64 = 10_000;
    run(|| {
        let (s1, r1) = bounded(TRIALS as usize + 1);
        let (s2, r2) = bounded(TRIALS as usize + 1);
        (0..=TRIALS).for_each(|i| {
            s1.send(i).unwrap();
            s2.send(i).unwrap();
        });
        let (_s3, r3) = bounded::<i64>(0);
        let (s4, _r4) = bounded(0);
        let mut first = 0;
        for _ in 0..TRIALS {
            select! {
                recv(r3) -> _ => unreachable!(),
                recv(r1) -> _ => first += 1,
                send(s4, 0) -> _ => unreachable!(),
                recv(r2) -> _ => {}
            }
        }
        // sigma = sqrt(n p q) = 50
        assert!((first - TRIALS / 2_i64).abs() < 500, "{first} of {TRIALS}");
    });
}

/// GO-CASES C7: sending a one or a zero, whichever is chosen, gives some of both.
#[test]
fn c7_pseudo_random_send() {
    const N: usize = 100;
    run(|| {
        for cap in [0, N] {
            let (s, r) = bounded(cap);
            let receiving = go(move || {
                let mut ones = 0;
                for _ in 0..N {
                    yield_now();
                    ones += r.recv().unwrap();
                }
                ones
            });
            for _ in 0..N {
                select! {
                    send(s, 1) -> res => res.unwrap(),
                    send(s, 0) -> res => res.unwrap(),
                }
            }
            let ones = receiving.join().unwrap();
            assert!((N / 10..=N - N / 10).contains(&ones), "{ones} ones of {N}");
        }
    });
}

/// GO-CASES C9: a `select` with two arms on one channel leaves the queue intact for the receiver
/// behind it.
#[test]
fn c9_duplicate_channel() {
    run(|| {
        for _ in 0..20 {
            let (s, r) = bounded::<i32>(0);
            let (end, ended) = bounded::<()>(0);
            let first = {
                let r = r.clone();
                go(move || {
                    select! {
                        recv(r) -> _ => false,
                        recv(r) -> _ => false,
                        recv(ended) -> _ => true,
                    }
                })
            };
            sleep(ms(2)); // Likely, not surely, in the queue before the second.
            let second = go(move || r.recv());
            sleep(ms(2));
            end.send(()).unwrap();
            assert!(first.join().unwrap());
            s.send(3).unwrap();
            assert_eq!(second.join().unwrap(), Ok(3));
        }
    });
}

// ---- T1

/// GO-CASES T1: a table of what blocks: an operation in a `select` with and without `default`.
#[test]
fn t1_truth_table() {
    /// Checks, in each way to ask, whether a `select` over one operation would wait for ever.
    fn check(
        name: &str,
        blocks: bool,
        add: impl for<'a> Fn(&mut Select<'a>, &'a Sender<i32>, &'a Receiver<i32>),
        (s, r): &(Sender<i32>, Receiver<i32>),
    ) {
        let mut select = Select::new();
        add(&mut select, s, r);
        assert_eq!(select.try_ready().is_err(), blocks, "{name}: try_ready");
        assert_eq!(select.ready_timeout(ms(2)).is_err(), blocks, "{name}: ready_timeout");
        // If another arm is ready, the operation is not chosen.
        let (always, there) = unbounded::<()>();
        always.send(()).unwrap();
        if blocks {
            let other = select.recv(&there);
            assert_eq!(select.ready(), other, "{name}");
            let oper = select.select();
            assert_eq!(oper.index(), other, "{name}");
            oper.recv(&there).unwrap();
        }
    }
    run(|| {
        fn recv<'a>(select: &mut Select<'a>, _: &'a Sender<i32>, r: &'a Receiver<i32>) {
            select.recv(r);
        }
        fn send<'a>(select: &mut Select<'a>, s: &'a Sender<i32>, _: &'a Receiver<i32>) {
            select.send(s);
        }
        let closed_for_receivers = || {
            let (s, r) = bounded(1);
            s.send(1).unwrap();
            let (_, dead) = bounded(1);
            drop((s, r));
            (nil().0, dead)
        };
        let open_buffered = || bounded(1);
        let full = || {
            let c = bounded(1);
            c.0.send(1).unwrap();
            c
        };
        check("recv on nil", true, recv, &(nil().0, never()));
        check("send on nil", true, send, &nil());
        check("recv on empty", true, recv, &open_buffered());
        check("send with space", false, send, &open_buffered());
        check("recv on full", false, recv, &full());
        check("send on full", true, send, &full());
        check("recv on unbuffered", true, recv, &nil());
        check("recv on closed", false, recv, &closed_for_receivers());
        let (s, r) = bounded(1);
        drop(r);
        check("send on closed", false, send, &(s, never()));
        check(
            "send and recv of one unbuffered channel",
            true,
            |select, s, r| {
                select.send(s);
                select.recv(r);
            },
            &nil(),
        );
        // No operation at all.
        assert!(Select::new().try_select().is_err());
        assert!(Select::new().select_timeout(ms(2)).is_err());
        select! { default => {} }
        let start = Instant::now();
        select! { default(ms(2)) => assert!(start.elapsed() >= ms(2)) }
        // The end of a closed channel is received repeatedly. A send without a receiver returns the
        // message.
        let (_, dead) = bounded::<i32>(1);
        for _ in 0..3 {
            select! { recv(dead) -> m => assert_eq!(m, Err(RecvError)), default => unreachable!() }
        }
        let (s, r) = bounded(1);
        drop(r);
        select! { send(s, 9) -> res => assert_eq!(res, Err(SendError(9))), default => unreachable!() }
        // A ready arm is chosen over default.
        let (s, r) = full();
        select! { recv(r) -> m => assert_eq!(m, Ok(1)), default => unreachable!() }
        select! { send(s, 2) -> res => res.unwrap(), default => unreachable!() }
    });
}

// ---- T2, T6, T8, T9, T10

/// GO-CASES T2: a `select` that sends on one of four channels sends on one only.
#[test]
fn t2_double_select() {
    const N: usize = 20_000;
    run(|| {
        let chans: Vec<_> = (0..4).map(|_| bounded(0)).collect();
        let (merged, all) = bounded(0);
        for (_, r) in &chans {
            let (r, merged) = (r.clone(), merged.clone());
            go(move || r.iter().for_each(|i: usize| merged.send(i).unwrap()));
        }
        drop(merged);
        let senders: Vec<_> = chans.into_iter().map(|(s, _)| s).collect();
        go(move || {
            for i in 0..N {
                select! {
                    send(senders[0], i) -> res => res.unwrap(),
                    send(senders[1], i) -> res => res.unwrap(),
                    send(senders[2], i) -> res => res.unwrap(),
                    send(senders[3], i) -> res => res.unwrap(),
                }
            }
        });
        let mut seen = vec![false; N];
        for i in all {
            assert!(!std::mem::replace(&mut seen[i], true), "{i} came twice");
        }
        assert!(seen.into_iter().all(|seen| seen));
    });
}

/// GO-CASES T6, T8: what is evaluated, when, and how often. (Unlike in Go, a message is evaluated
/// only if its send was chosen.)
#[test]
fn t6_t8_evaluation() {
    run(|| {
        let log = RefCell::new(Vec::new());
        let note = |what: &'static str| log.borrow_mut().push(what);
        let (s1, r1) = unbounded::<i32>();
        let (s2, _keep) = bounded::<i32>(0);
        let (_s3, r3) = unbounded::<i32>();
        let s1 = || {
            note("s1");
            &s1
        };
        let s2 = || {
            note("s2");
            &s2
        };
        let r3 = || {
            note("r3");
            &r3
        };
        let value = |name, v| {
            note(name);
            v
        };
        select! {
            send(s2(), value("v2", 2)) -> _ => unreachable!(),
            send(s1(), value("v1", 1)) -> res => { res.unwrap(); note("body 1") }
            recv(r3()) -> _ => unreachable!(),
            default({ note("timeout"); ms(1000) }) => unreachable!(),
        }
        assert_eq!(log.take(), ["s2", "s1", "r3", "timeout", "v1", "body 1"]);
        assert_eq!(r1.try_recv(), Ok(1));
        select! {
            send(s2(), value("v2", 2)) -> _ => unreachable!(),
            default => note("default"),
            recv(r3()) -> _ => unreachable!(),
        }
        assert_eq!(log.take(), ["s2", "r3", "default"]);
    });
}

/// GO-CASES T9: after a `select` in the middle of a queue has lost, the waiters before and behind
/// it are found.
#[test]
fn t9_loser_in_the_middle() {
    run(|| {
        for _ in 0..20 {
            let (s, r) = bounded(0);
            let (other, never_used) = bounded::<i32>(0);
            let before = {
                let r = r.clone();
                go(move || r.recv())
            };
            sleep(ms(1));
            let loser = {
                let r = r.clone();
                go(move || {
                    select! {
                        recv(r) -> m => m.map(Some),
                        recv(never_used) -> _ => Ok(None),
                    }
                })
            };
            sleep(ms(1));
            let behind = go(move || r.recv());
            drop(other); // The select has its answer, if it is there already.
            let lost = loser.join().unwrap().unwrap();
            if lost.is_none() {
                s.send(1).unwrap();
                s.send(1).unwrap();
            }
            assert_eq!((before.join().unwrap(), behind.join().unwrap()), (Ok(1), Ok(1)));
        }
    });
}

/// GO-CASES T10: every way to receive meets every way to send.
#[test]
fn t10_every_pairing() {
    type Way = (&'static str, fn(&Sender<i32>, &Receiver<i32>));
    let sends: [Way; 5] = [
        ("send", |s, _| s.send(1).unwrap()),
        ("send_timeout", |s, _| s.send_timeout(1, Duration::MAX).unwrap()),
        ("select of one", |s, _| {
            select! { send(s, 1) -> res => res.unwrap() }
        }),
        ("select of two", |s, _| {
            let off = never::<()>();
            select! { send(s, 1) -> res => res.unwrap(), recv(off) -> _ => unreachable!() }
        }),
        ("Select", |s, _| {
            let mut select = Select::new();
            select.send(s);
            select.select().send(s, 1).unwrap();
        }),
    ];
    let receives: [Way; 5] = [
        ("recv", |_, r| assert_eq!(r.recv(), Ok(1))),
        ("recv_timeout", |_, r| assert_eq!(r.recv_timeout(Duration::MAX), Ok(1))),
        ("select of one", |_, r| {
            select! { recv(r) -> m => assert_eq!(m, Ok(1)) }
        }),
        ("select of two", |_, r| {
            let off = never::<()>();
            select! { recv(r) -> m => assert_eq!(m, Ok(1)), recv(off) -> _ => unreachable!() }
        }),
        ("Select", |_, r| {
            let mut select = Select::new();
            select.recv(r);
            assert_eq!(select.select().recv(r), Ok(1));
        }),
    ];
    run(move || {
        for (send_name, send) in sends {
            for (recv_name, receive) in receives {
                for i in 0..20 {
                    for cap in [0, 1] {
                        let (s, r) = bounded(cap);
                        let other = {
                            let (s, r) = (s.clone(), r.clone());
                            go(move || send(&s, &r))
                        };
                        // Sometimes one of them is there first, sometimes the other.
                        (0..i % 4).for_each(|_| yield_now());
                        if i % 5 == 0 {
                            sleep(Duration::from_micros(200));
                        }
                        receive(&s, &r);
                        assert!(other.join().is_ok(), "{send_name} to {recv_name}");
                    }
                }
            }
        }
    });
}

// ---- Not among Go's cases

/// A goroutine that waits on the other side of a rendezvous, by a plain operation or by `select`.
fn waiting_receiver(r: &Receiver<i32>, selecting: bool) -> gort::JoinHandle<Result<i32, RecvError>> {
    let r = r.clone();
    let t = go(move || {
        if selecting {
            let off = never();
            select! { recv(r) -> m => m, recv(off) -> m => m }
        } else {
            r.recv()
        }
    });
    sleep(ms(2));
    t
}

/// A message expression that panics leaves the channel as it was. The receiver still waits and gets
/// the next message.
#[test]
fn a_panic_in_the_message_strands_no_receiver() {
    fn explode() -> i32 {
        panic!("on purpose")
    }
    run(|| {
        for cap in [0, 1] {
            for selecting in [false, true] {
                let (s, r) = bounded(cap);
                let receiver = waiting_receiver(&r, selecting);
                let off = never::<()>();
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    select! { send(s, explode()) -> _ => unreachable!(), recv(off) -> _ => unreachable!() }
                }));
                assert!(panicked.is_err());
                assert!(!receiver.is_finished());
                s.send(7).unwrap();
                assert_eq!(receiver.join().unwrap(), Ok(7));
                // The promised place is free again.
                assert_eq!(s.try_send(1).is_ok(), cap == 1);
            }
        }
    });
}

/// The same with a message expression that returns from the function.
#[test]
fn a_message_that_returns_strands_no_receiver() {
    fn leave(s: &Sender<i32>, message: Option<i32>) -> Option<()> {
        let off = never::<()>();
        select! { send(s, message?) -> res => res.ok(), recv(off) -> _ => unreachable!() }
    }
    run(|| {
        for selecting in [false, true] {
            let (s, r) = bounded(0);
            let receiver = waiting_receiver(&r, selecting);
            assert_eq!(leave(&s, None), None);
            assert_eq!(leave(&s, Some(8)), Some(()));
            assert_eq!(receiver.join().unwrap(), Ok(8));
        }
    });
}

/// A promised place that is given back goes to the sender that waits for one.
#[test]
fn a_place_given_back_is_for_the_next() {
    run(|| {
        let (s, r) = bounded(1);
        let mut select = Select::new();
        select.send(&s);
        let oper = select.select();
        assert!(s.is_full());
        assert_eq!(s.try_send(1), Err(TrySendError::Full(1)));
        let waiting = {
            let s = s.clone();
            go(move || s.send(2))
        };
        sleep(ms(2));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(oper))).is_err());
        waiting.join().unwrap().unwrap();
        assert_eq!(r.try_recv(), Ok(2));
    });
}

/// A promised message that is given back goes to the receiver that waits for one.
#[test]
fn a_message_given_back_is_for_the_next() {
    run(|| {
        for cap in [0, 1] {
            let (s, r) = bounded(cap);
            let sender = {
                let s = s.clone();
                go(move || s.send(5))
            };
            let mut select = Select::new();
            select.recv(&r);
            let oper = select.select();
            assert_eq!(r.try_recv().ok(), None);
            let waiting = {
                let r = r.clone();
                go(move || r.recv())
            };
            sleep(ms(2));
            assert!(catch_unwind(AssertUnwindSafe(|| drop(oper))).is_err());
            assert_eq!(waiting.join().unwrap(), Ok(5));
            sender.join().unwrap().unwrap();
        }
    });
}

/// A selected operation keeps its promised place or message, whatever others do meanwhile.
#[test]
fn a_promise_is_kept() {
    run(|| {
        let (s, r) = bounded(2);
        s.send(1).unwrap();
        let (mut receiving, mut sending) = (Select::new(), Select::new());
        receiving.recv(&r);
        sending.send(&s);
        let (receive, send) = (receiving.select(), sending.select());
        assert!(sending.try_select().is_err(), "one message and one promised place: full");
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty), "the only message is promised");
        assert_eq!(r.len(), 1, "a promised message counts until it is taken");
        drop((receiving, sending)); // An operation does not need its Select any more.
        send.send(&s, 2).unwrap();
        assert_eq!(r.try_recv().or(Err(TryRecvError::Empty)), Ok(1), "messages stay in order");
        assert_eq!(receive.recv(&r), Ok(2));
    });
}

/// A receiver that was matched with a sending `select` waits while the message is computed, also
/// with a deadline.
#[test]
fn a_receiver_waits_for_the_message_expression() {
    run(|| {
        for parked in [false, true] {
            let (s, r) = bounded(0);
            let (started, computing) = bounded::<()>(0);
            let selecting = {
                go(move || {
                    let off = never::<()>();
                    if parked {
                        sleep(ms(3)); // The receiver is there first.
                    }
                    select! {
                        send(s, { sleep(ms(20)); started.send(()).unwrap(); 3 }) -> res => res.unwrap(),
                        recv(off) -> _ => unreachable!(),
                    }
                })
            };
            let receiving = go(move || {
                loop {
                    if let Ok(v) = r.recv_timeout(ms(5)) {
                        return v;
                    }
                }
            });
            computing.recv().unwrap();
            assert_eq!(receiving.join().unwrap(), 3);
            selecting.join().unwrap();
        }
    });
}

#[test]
#[should_panic = "dropped `SelectedOperation` without completing the operation"]
fn a_selected_operation_must_be_completed() {
    let (s, _r) = unbounded::<i32>();
    let mut select = Select::new();
    select.send(&s);
    drop(select.select());
}

/// Completing with another handle panics, and gives the promise back.
#[test]
fn a_wrong_handle_is_refused() {
    let (s, r) = bounded::<i32>(1);
    let other = s.clone();
    let mut select = Select::new();
    select.send(&s);
    let oper = select.select();
    assert!(catch_unwind(AssertUnwindSafe(|| oper.send(&other, 1))).is_err());
    s.try_send(2).unwrap();
    assert_eq!(r.try_recv(), Ok(2));
}

/// `remove` takes an operation out; the indices of the others stay.
#[test]
fn remove() {
    let (s1, r1) = unbounded();
    let (s2, r2) = unbounded();
    s1.send(1).unwrap();
    s2.send(2).unwrap();
    let mut select = Select::new_biased();
    let one = select.recv(&r1);
    let two = select.recv(&r2);
    select.remove(one);
    let mut copy = select.clone();
    assert_eq!(copy.ready(), two);
    let oper = select.select();
    assert_eq!(oper.index(), two);
    assert_eq!(oper.recv(&r2), Ok(2));
    assert!(catch_unwind(AssertUnwindSafe(|| select.remove(one))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| select.remove(7))).is_err());
}

/// `select_biased!` takes the first arm that is ready, also when it had to wait.
#[test]
fn biased() {
    let (s1, r1) = unbounded();
    let (s2, r2) = unbounded();
    for _ in 0..100 {
        s1.send(()).unwrap();
        s2.send(()).unwrap();
    }
    for _ in 0..100 {
        select_biased! {
            recv(r1) -> m => m.unwrap(),
            recv(r2) -> _ => unreachable!(),
            default => unreachable!(),
        }
    }
    assert_eq!(r2.len(), 100);
}

/// A dynamic `Select` over sixty-four channels whose arms are added and removed.
#[test]
fn many_arms() {
    const N: usize = 64;
    run(|| {
        let chans: Vec<_> = (0..N).map(|i| bounded(i % 3)).collect();
        for (i, (s, _)) in chans.iter().enumerate() {
            let s = s.clone();
            go(move || (0..20).for_each(|n| s.send(i * 100 + n).unwrap()));
        }
        let receivers: Vec<_> = chans.into_iter().map(|(_, r)| r).collect();
        let mut select = Select::new();
        for r in &receivers {
            select.recv(r);
        }
        let mut next = [0; N];
        for open in (1..=N).rev() {
            assert_eq!(next.iter().filter(|&&n| n < 21).count(), open);
            let closed = loop {
                let oper = select.select();
                let i = oper.index();
                match oper.recv(&receivers[i]) {
                    Ok(m) => assert_eq!(m, i * 100 + next[i]),
                    Err(RecvError) => break i,
                }
                next[i] += 1;
            };
            assert_eq!(std::mem::replace(&mut next[closed], 21), 20);
            select.remove(closed);
        }
    });
}

/// Threads and goroutines `select` against each other, sending and receiving, without a buffer.
#[test]
fn threads_and_goroutines_select() {
    const N: usize = 3000;
    run(|| {
        let (s, r) = bounded(0);
        let sum = Arc::new(AtomicUsize::new(0));
        let work = {
            let sum = sum.clone();
            move || {
                let sent = Cell::new(0);
                let mut received = 0;
                while sent.get() + received < N {
                    select! {
                        send(s, { sent.set(sent.get() + 1); 1 }) -> res => res.unwrap(),
                        recv(r) -> m => { received += 1; sum.fetch_add(m.unwrap(), SeqCst); }
                        default(ms(200)) => break, // The last one may have no partner.
                    }
                }
                sent.get()
            }
        };
        let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(work.clone())).collect();
        let goroutines: Vec<_> = (0..2).map(|_| go(work.clone())).collect();
        drop(work);
        let mut sent: usize = goroutines.into_iter().map(|g| g.join().unwrap()).sum();
        sent += gort::blocking(|| threads.into_iter().map(|t| t.join().unwrap()).sum::<usize>());
        assert_eq!(sent, sum.load(SeqCst));
        assert!(sent > 0);
    });
}

/// Thirty-two operations, as many as crossbeam allows, within the compiler's default recursion
/// limit.
#[test]
fn thirty_two_operations() {
    let (s, r) = bounded(1);
    for _ in 0..100 {
        let got: Result<i32, RecvError> = select! {
            send(s, 0) -> res => { res.unwrap(); Ok(0) }
            recv(r) -> m => m,
            send(s, 2) -> res => { res.unwrap(); Ok(2) }
            recv(r) -> m => m,
            send(s, 4) -> res => { res.unwrap(); Ok(4) }
            recv(r) -> m => m,
            send(s, 6) -> res => { res.unwrap(); Ok(6) }
            recv(r) -> m => m,
            send(s, 8) -> res => { res.unwrap(); Ok(8) }
            recv(r) -> m => m,
            send(s, 10) -> res => { res.unwrap(); Ok(10) }
            recv(r) -> m => m,
            send(s, 12) -> res => { res.unwrap(); Ok(12) }
            recv(r) -> m => m,
            send(s, 14) -> res => { res.unwrap(); Ok(14) }
            recv(r) -> m => m,
            send(s, 16) -> res => { res.unwrap(); Ok(16) }
            recv(r) -> m => m,
            send(s, 18) -> res => { res.unwrap(); Ok(18) }
            recv(r) -> m => m,
            send(s, 20) -> res => { res.unwrap(); Ok(20) }
            recv(r) -> m => m,
            send(s, 22) -> res => { res.unwrap(); Ok(22) }
            recv(r) -> m => m,
            send(s, 24) -> res => { res.unwrap(); Ok(24) }
            recv(r) -> m => m,
            send(s, 26) -> res => { res.unwrap(); Ok(26) }
            recv(r) -> m => m,
            send(s, 28) -> res => { res.unwrap(); Ok(28) }
            recv(r) -> m => m,
            send(s, 30) -> res => { res.unwrap(); Ok(30) }
            recv(r) -> m => m,
            default(HANGS) => unreachable!(),
        };
        assert!(got.unwrap() % 2 == 0);
    }
}

/// The same with receives only, which the macro expands in another way.
#[test]
fn thirty_two_receives() {
    macro_rules! receive_from {
        ($($r:ident)*) => { select! { $(recv($r) -> m => m,)* default(HANGS) => unreachable!() } };
    }
    let (s, r) = bounded(1);
    for i in 0..100 {
        s.send(i).unwrap();
        let got: Result<i32, RecvError> =
            receive_from!(r r r r r r r r r r r r r r r r r r r r r r r r r r r r r r r r);
        assert_eq!(got, Ok(i));
    }
}

/// With receives only, two ready arms of eight are chosen equally often, whatever is before them. A
/// biased select takes the first of them. A timer that is due is not passed over for long.
#[test]
fn selects_that_only_receive_are_fair() {
    const N: i32 = 2000;
    let (s, r): (Vec<_>, Vec<_>) = (0..8).map(|_| unbounded()).unzip();
    let first_of = |biased: bool| {
        if biased {
            select_biased! { recv(r[0]) -> m => m, recv(r[1]) -> m => m, recv(r[2]) -> m => m, recv(r[7]) -> m => m }
        } else {
            select! {
                recv(r[0]) -> m => m, recv(r[1]) -> m => m, recv(r[2]) -> m => m, recv(r[3]) -> m => m,
                recv(r[4]) -> m => m, recv(r[5]) -> m => m, recv(r[6]) -> m => m, recv(r[7]) -> m => m,
            }
        }
    };
    for _ in 0..N {
        s[1].send(1).unwrap();
        s[2].send(2).unwrap();
    }
    let ones = (0..N).filter(|_| first_of(false) == Ok(1)).count() as i32;
    // Ten sigma.
    assert!((ones - N / 2).abs() < 224, "{ones} of {N}");
    for _ in 0..r[1].len() {
        assert_eq!(first_of(true), Ok(1));
    }
    assert_eq!(first_of(true), Ok(2));

    let due = gort::chan::after(Duration::ZERO);
    let mut passed_over = 0;
    loop {
        s[0].send(0).unwrap();
        select! {
            recv(r[0]) -> _ => passed_over += 1,
            recv(due) -> _ => break,
        }
        assert!(passed_over < 1000);
    }
}

/// A received message is dropped once, by the body or while unwinding. A closed channel is ready.
#[test]
fn what_was_taken_at_once_is_dropped_once() {
    let (s, r) = unbounded::<Arc<()>>();
    let (gone, closed) = unbounded::<Arc<()>>();
    let counted = Arc::new(());
    for _ in 0..2 {
        s.send(counted.clone()).unwrap();
    }
    for _ in 0..2 {
        let left = catch_unwind(AssertUnwindSafe(|| {
            select! {
                recv(r) -> m => { let _m = m.unwrap(); panic!("with the message") }
                recv(closed) -> _ => unreachable!(),
            }
        }));
        assert!(left.is_err());
    }
    assert_eq!(Arc::strong_count(&counted), 1);
    drop(gone);
    assert!(select! {
        recv(r) -> _ => false,
        recv(closed) -> m => m.is_err(),
    });
}

/// A message that is promised to a `select` that has not run yet still takes its place: a lone
/// sender can send if the channel is empty, and a lone receiver finds a message if it is not.
#[test]
fn a_promised_message_counts() {
    const COUNT: u32 = 20_000;
    run(|| {
        let (s, r) = bounded(1);
        let receiver = go(move || {
            for i in 0..COUNT {
                if i % 3 == 0 && !r.is_empty() {
                    assert_eq!(r.try_recv(), Ok(i));
                    continue;
                }
                select! {
                    recv(r) -> n => assert_eq!(n, Ok(i)),
                    recv(never::<()>()) -> _ => unreachable!(),
                }
            }
        });
        for i in 0..COUNT {
            if s.is_empty() {
                assert!(!s.is_full(), "empty and full");
                s.try_send(i).expect("it was empty");
            } else {
                s.send(i).unwrap();
            }
        }
        receiver.join().unwrap();
    });
}

const HANGS: Duration = Duration::from_secs(20);
