//! Sleeping, `after`, `tick`, `Timer`, `Ticker`: Go's own cases (GO-CASES A5).
//!
//! No test says that something comes soon, because the machine may be busy. A test may say: never
//! early, in order, not lost, not stale. A limit of many seconds catches only hangs.

use gort::chan::{Receiver, Select, TryRecvError, after, at, bounded, never, tick, unbounded};
use gort::time::{Elapsed, Ticker, Timer, timeout};
use gort::{go, run, select, sleep, sleep_until, yield_now};
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_secs(3600);
/// Long enough that a wait of this length is a hang.
const HANGS: Duration = Duration::from_secs(20);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// GO-CASES M1: a sleep is never too short, nor is a wait for `after`, `at`, `tick` or a timer.
#[test]
fn m1_never_early() {
    run(|| {
        for d in [Duration::from_nanos(1), Duration::from_micros(50), ms(1), ms(7)] {
            let check = |what: &str, wait: &dyn Fn()| {
                let start = Instant::now();
                wait();
                assert!(start.elapsed() >= d, "{what} of {d:?} took {:?}", start.elapsed());
            };
            check("sleep", &|| sleep(d));
            check("sleep_until", &|| sleep_until(Instant::now() + d));
            check("after", &|| assert!(after(d).recv().is_ok()));
            check("at", &|| assert!(at(Instant::now() + d).recv().is_ok()));
            check("tick", &|| assert!(tick(d).recv().is_ok()));
            check("timer", &|| assert!(Timer::new(d).receiver().recv().is_ok()));
            check("ticker", &|| assert!(Ticker::new(d).receiver().recv().is_ok()));
            check("select", &|| {
                select! { recv(after(d)) -> m => assert!(m.is_ok()), recv(never::<()>()) -> _ => unreachable!() }
            });
            check("default", &|| {
                select! { recv(never::<()>()) -> _ => unreachable!(), recv(after(HOUR)) -> _ => unreachable!(), default(d) => {} }
            });
            check("recv_timeout", &|| assert!(bounded::<()>(0).1.recv_timeout(d).is_err()));
            check("send_timeout", &|| {
                let (s, _r) = bounded(0);
                assert!(s.send_timeout((), d).is_err());
            });
            check("never", &|| assert!(never::<()>().recv_timeout(d).is_err()));
        }
    });
}

/// GO-CASES M1: ten waits in a row take ten times as long as one.
#[test]
fn m1_after_in_a_row() {
    run(|| {
        let start = Instant::now();
        for n in 1..=10 {
            after(ms(10)).recv().unwrap();
            assert!(start.elapsed() >= n * ms(10));
        }
    });
}

/// GO-CASES M3: 100 ticks of a one-nanosecond ticker arrive, for one receiver and for ten, beside a
/// goroutine that sleeps all the time.
#[test]
fn m3_ticker_stress() {
    run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = {
            let stop = stop.clone();
            go(move || {
                while !stop.load(SeqCst) {
                    sleep(Duration::from_nanos(1));
                }
            })
        };
        let ticker = Ticker::new(Duration::from_nanos(1));
        (0..100).for_each(|_| assert!(ticker.receiver().recv().is_ok()));
        let consumers: Vec<_> = (0..10)
            .map(|_| {
                let r = ticker.receiver().clone();
                go(move || (0..100).for_each(|_| assert!(r.recv().is_ok())))
            })
            .collect();
        consumers.into_iter().for_each(|t| t.join().unwrap());
        stop.store(true, SeqCst);
        busy.join().unwrap();
    });
}

/// GO-CASES M4, with a timer instead of a callback: a pair that plays ping-pong does not keep it
/// from firing.
#[test]
fn m4_ping_pong_does_not_starve_timers() {
    run(|| {
        let (s, r) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let players: Vec<_> = (0..2)
            .map(|_| {
                let (s, r, stop) = (s.clone(), r.clone(), stop.clone());
                go(move || {
                    while !stop.load(SeqCst) {
                        let _ = s.try_send(());
                        let _ = r.recv_timeout(ms(1));
                        yield_now();
                    }
                })
            })
            .collect();
        Timer::new(Duration::from_micros(1)).receiver().recv_timeout(HANGS).unwrap();
        stop.store(true, SeqCst);
        players.into_iter().for_each(|t| t.join().unwrap());
    });
}

/// GO-CASES M5: `stop` says whether it was in time; a stopped timer does not fire.
#[test]
fn m5_stop() {
    run(|| {
        let timer = Timer::new(HOUR);
        assert!(timer.stop());
        assert!(!timer.stop());
        let timers: Vec<_> = (0..10).map(|_| Timer::new(ms(5))).collect();
        let stopped = timers.iter().filter(|t| t.stop()).count();
        assert_eq!(stopped, 10, "nothing was received, so all were in time");
        sleep(ms(10));
        assert!(timers.iter().all(|t| t.receiver().try_recv() == Err(TryRecvError::Empty)));
    });
}

/// GO-CASES M6: what is due earlier comes earlier.
#[test]
fn m6_queuing() {
    const SLOTS: [u32; 13] = [5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0];
    run(|| {
        let (s, r) = unbounded();
        let start = Instant::now();
        for slot in SLOTS {
            let s = s.clone();
            go(move || s.send((slot, at(start + slot * ms(20)).recv().unwrap())).unwrap());
        }
        drop(s);
        let mut got: Vec<(u32, Instant)> = r.iter().collect();
        assert_eq!(got.len(), SLOTS.len());
        assert!(got.iter().all(|&(slot, moment)| moment == start + slot * ms(20)));
        got.sort_unstable_by_key(|&(_, moment)| moment);
        let mut sorted = SLOTS;
        sorted.sort_unstable();
        assert!(got.iter().map(|&(slot, _)| slot).eq(sorted));
        // A goroutine that waits for all of them at once gets them in order.
        let timers: Vec<_> = SLOTS.iter().map(|&slot| after(slot * ms(5))).collect();
        let mut select = Select::new();
        for timer in &timers {
            select.recv(timer);
        }
        let mut last = start;
        for _ in SLOTS {
            let oper = select.select();
            let i = oper.index();
            let moment = oper.recv(&timers[i]).unwrap();
            select.remove(i);
            assert!(Instant::now() >= moment);
            if moment < last {
                // Two were due when it looked, so either may come first.
                assert!(Instant::now() >= last);
            }
            last = moment;
        }
    });
}

/// GO-CASES M8: sleeping for no time, or until the past, returns.
#[test]
fn m8_sleep_zero() {
    run(|| {
        for _ in 0..100 {
            sleep(Duration::ZERO);
            sleep_until(Instant::now());
        }
    });
}

/// GO-CASES M9: `reset` moves a pending timer and returns true; it restarts a received one.
#[test]
fn m9_reset() {
    run(|| {
        let start = Instant::now();
        let timer = Timer::new(HOUR);
        assert!(timer.reset(ms(5)));
        let moment = timer.receiver().recv().unwrap();
        assert!(moment >= start + ms(5));
        assert!(moment < start + HOUR);
        assert!(!timer.reset(ms(5)));
        assert!(timer.receiver().recv().unwrap() >= moment + ms(5));
        assert!(!timer.stop());
    });
}

/// GO-CASES M10: the longest duration means for ever, and does not disturb others.
#[test]
fn m10_overflow() {
    run(|| {
        let sleeping = go(|| sleep(Duration::MAX));
        let timer = Timer::new(Duration::MAX);
        let ticker = Ticker::new(Duration::MAX);
        let (far, very_far) = (after(Duration::MAX), tick(Duration::MAX));
        sleep(ms(25));
        assert!(!sleeping.is_finished());
        let (s, r) = bounded::<()>(0);
        go(move || s.send(()).unwrap());
        select! {
            recv(timer.receiver()) -> _ => unreachable!(),
            recv(ticker.receiver()) -> _ => unreachable!(),
            recv(far) -> _ => unreachable!(),
            recv(very_far) -> _ => unreachable!(),
            recv(r) -> m => m.unwrap(),
            default(Duration::MAX) => unreachable!(),
        }
        assert!(timer.stop());
        assert!(ticker.reset(Duration::MAX));
        // A time in the past is due at once.
        at(Instant::now() - ms(1)).recv().unwrap();
        assert!(bounded::<()>(0).1.recv_deadline(Instant::now() - ms(1)).is_err());
    });
}

/// GO-CASES M11: a timer of zero fires.
#[test]
fn m11_zero_timer() {
    run(|| {
        for i in 0..20_000 {
            let timer = Timer::new(Duration::ZERO);
            let got = if i % 2 == 0 {
                timer.receiver().recv_timeout(HANGS)
            } else {
                timer.receiver().try_recv().or(Err(gort::chan::RecvTimeoutError::Timeout))
            };
            assert!(got.is_ok());
        }
    });
}

/// GO-CASES M12: a timer that is moved back and forth, also by a goroutine other than the waiter,
/// fires at its last time.
#[test]
fn m12_moved_earlier() {
    run(|| {
        let timer = Timer::new(HOUR);
        for _ in 0..200 {
            timer.stop();
            timer.reset(HOUR);
            timer.reset(2 * HOUR);
            timer.reset(Duration::ZERO);
            timer.receiver().recv_timeout(HANGS).unwrap();
        }
        let timer = Arc::new(timer);
        for selecting in [false, true] {
            timer.reset(HOUR);
            let waiting = {
                let timer = timer.clone();
                go(move || {
                    let r = timer.receiver();
                    if selecting {
                        select! { recv(r) -> m => m.is_ok(), recv(never::<()>()) -> _ => false }
                    } else {
                        r.recv().is_ok()
                    }
                })
            };
            for _ in 0..10 {
                timer.reset(HOUR);
                timer.stop();
                yield_now();
            }
            sleep(ms(2));
            assert!(!waiting.is_finished());
            timer.reset(ms(1));
            assert!(waiting.join().unwrap());
        }
    });
}

/// GO-CASES M13: of two timers, if the other one cannot be stopped any more, its moment was
/// received.
#[test]
fn m13_stop_and_reset_tell_the_truth() {
    run(|| {
        let all: Vec<_> = (0..300)
            .map(|i| {
                go(move || {
                    let (a, b) = (Timer::new(ms(1)), Timer::new(ms(1)));
                    let other = select! {
                        recv(a.receiver()) -> m => { m.unwrap(); &b }
                        recv(b.receiver()) -> m => { m.unwrap(); &a }
                    };
                    let in_time = if i % 2 == 0 { other.stop() } else { other.reset(HOUR) };
                    assert!(in_time, "nothing has received it");
                    assert_eq!(other.receiver().try_recv(), Err(TryRecvError::Empty));
                })
            })
            .collect();
        all.into_iter().for_each(|t| t.join().unwrap());
        // With a receiver that races: the moment is either received or stopped, never both or
        // neither.
        for _ in 0..300 {
            let timer = Arc::new(Timer::new(Duration::from_micros(100)));
            let (end, ended) = bounded::<()>(0);
            let receiving = {
                let timer = timer.clone();
                go(move || {
                    select! {
                        recv(timer.receiver()) -> m => m.is_ok(),
                        recv(ended) -> _ => false,
                    }
                })
            };
            sleep(Duration::from_micros(100));
            let stopped = timer.stop();
            drop(end);
            let received = receiving.join().unwrap();
            assert!(!(stopped && received));
            if !stopped {
                assert!(received);
            }
        }
    });
}

/// GO-CASES M14: many goroutines wait for one ticker, and for one timer that each of them resets.
#[test]
fn m14_multi_wakeup() {
    run(|| {
        let ticker = Arc::new(Ticker::new(Duration::from_micros(1)));
        let timer = Arc::new(Timer::new(Duration::from_nanos(1)));
        let all: Vec<_> = (0..8)
            .map(|i| {
                let (ticker, timer) = (ticker.clone(), timer.clone());
                go(move || {
                    for _ in 0..500 {
                        if i % 2 == 0 {
                            ticker.receiver().recv().unwrap();
                        } else {
                            timer.receiver().recv().unwrap();
                            timer.reset(Duration::from_nanos(1));
                        }
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|t| t.join().unwrap());
    });
}

/// GO-CASES M15: the period, `reset` to another period, `stop`. Missed ticks are dropped and the
/// rest keeps step.
#[test]
fn m15_ticker() {
    run(|| {
        let start = Instant::now();
        let ticker = Ticker::new(ms(4));
        let r = ticker.receiver();
        let first = r.recv().unwrap();
        assert!(first >= start + ms(4));
        let mut last = first;
        for _ in 0..5 {
            let moment = r.recv().unwrap();
            let step = moment - last;
            assert!(step >= ms(4));
            assert_eq!(step.as_nanos() % ms(4).as_nanos(), 0, "in step with the first");
            last = moment;
        }
        let asleep = Instant::now();
        sleep(ms(21)); // At least five ticks.
        let missed = r.recv().unwrap();
        // After a tick that was received late, the next one is in step with it, after the receipt.
        assert!(missed > last && missed <= asleep + ms(4), "the first that was missed");
        assert_eq!((missed - last).as_nanos() % ms(4).as_nanos(), 0);
        let next = r.recv().unwrap();
        assert!(next > missed + ms(16), "the others are dropped");
        assert_eq!((next - missed).as_nanos() % ms(4).as_nanos(), 0);

        let reset = Instant::now();
        assert!(ticker.reset(ms(7)));
        let first = r.recv().unwrap();
        assert!(first >= reset + ms(7));
        assert!(r.recv().unwrap() >= first + ms(7));
        assert!(ticker.stop());
        assert!(!ticker.stop());
        sleep(ms(10));
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert!(!ticker.reset(ms(1)));
        r.recv().unwrap();
    });
}

/// GO-CASES M16: no length, no capacity. After `stop` or `reset` nothing stale arrives, even if it
/// was due.
#[test]
fn m16_nothing_stale() {
    fn check(r: &Receiver<Instant>, stop: &dyn Fn() -> bool, reset: &dyn Fn(Duration) -> bool) {
        let shape =
            || assert_eq!((r.len(), r.capacity(), r.is_empty(), r.is_full()), (0, Some(0), true, true));
        shape();
        reset(ms(1));
        sleep(ms(3)); // Due, not received.
        shape();
        assert!(stop(), "it was not received, so this was in time");
        shape();
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert!(!reset(ms(1)));
        sleep(ms(3));
        assert!(reset(HOUR));
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        select! { recv(r) -> _ => unreachable!(), recv(never::<()>()) -> _ => unreachable!(), default => {} }
        assert!(reset(ms(1)));
        sleep(ms(3));
        r.try_recv().unwrap();
        shape();
        // A stopped timer does not wake a goroutine that waits for it.
        reset(HOUR);
        let waiting = {
            let r = r.clone();
            go(move || r.recv_timeout(ms(20)).is_ok())
        };
        sleep(ms(1));
        stop();
        assert!(!waiting.join().unwrap());
    }
    run(|| {
        let timer = Timer::new(HOUR);
        check(timer.receiver(), &|| timer.stop(), &|d| timer.reset(d));
        let ticker = Ticker::new(HOUR);
        check(ticker.receiver(), &|| ticker.stop(), &|d| ticker.reset(d));
    });
}

/// GO-CASES M16, with a race: after a reset to an hour, nothing earlier than that arrives.
#[test]
fn m16_nothing_stale_raced() {
    run(|| {
        let timer = Arc::new(Timer::new(HOUR));
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicUsize::new(0));
        let thieves: Vec<_> = (0..2)
            .map(|_| {
                let (timer, stop, received) = (timer.clone(), stop.clone(), received.clone());
                go(move || {
                    while !stop.load(SeqCst) {
                        if timer.receiver().recv_timeout(ms(1)).is_ok() {
                            received.fetch_add(1, SeqCst);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..500 {
            timer.reset(Duration::from_micros(20));
            sleep(Duration::from_micros(20));
            timer.reset(HOUR);
            let before = received.load(SeqCst);
            let stolen = timer.receiver().try_recv().is_ok();
            assert!(!stolen);
            // Each of the others may have received one and not counted it yet.
            yield_now();
            assert!(received.load(SeqCst) <= before + 2);
        }
        stop.store(true, SeqCst);
        thieves.into_iter().for_each(|t| t.join().unwrap());
    });
}

/// GO-CASES M17: the message is the time at which it was due, however late it is received.
#[test]
fn m17_the_moment_is_when_it_was_due() {
    run(|| {
        let start = Instant::now();
        let receivers = [
            after(ms(5)),
            tick(ms(5)),
            Timer::new(ms(5)).receiver().clone(),
            Ticker::new(ms(5)).receiver().clone(),
        ];
        let made = Instant::now();
        sleep(ms(30));
        for r in receivers {
            let moment = r.recv().unwrap();
            assert!(moment >= start + ms(5));
            assert!(moment <= made + ms(5));
        }
    });
}

/// GO-CASES M19: a ticker needs a period.
#[test]
fn m19_no_period() {
    assert!(catch_unwind(|| Ticker::new(Duration::ZERO)).is_err());
    let ticker = Ticker::new(HOUR);
    assert!(catch_unwind(|| ticker.reset(Duration::ZERO)).is_err());
    assert!(ticker.stop());
}

/// `after` gives one message to one of the waiters; the others still wait.
#[test]
fn after_is_for_one() {
    run(|| {
        let r = after(ms(2));
        let all: Vec<_> = (0..4)
            .map(|_| {
                let r = r.clone();
                go(move || r.recv_timeout(ms(50)).is_ok())
            })
            .collect();
        let got = all.into_iter().map(|t| t.join().unwrap()).filter(|&ok| ok).count();
        assert_eq!(got, 1);
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    });
}

/// `ready` works with timers, too.
#[test]
fn ready_knows_timers() {
    run(|| {
        let (far, farther) = (after(HOUR), after(2 * HOUR));
        let mut select = Select::new();
        select.recv(&far);
        select.recv(&farther);
        assert!(select.try_ready().is_err());
        let r = after(ms(2));
        let mut select = Select::new();
        select.recv(&far);
        let due = select.recv(&r);
        assert_eq!(select.ready(), due);
        assert_eq!(select.ready_timeout(HANGS), Ok(due));
        r.try_recv().unwrap();
        assert!(select.ready_timeout(ms(1)).is_err());
    });
}

/// A loop over a ticker gets its ticks in order, never early. A stop does not end it: it waits for
/// the reset that may come.
#[test]
fn loops_over_tickers() {
    run(|| {
        let start = Instant::now();
        let moments: Vec<Instant> = Ticker::new(ms(2)).into_iter().take(3).collect();
        assert!(moments.is_sorted() && moments[2] >= start + ms(6));

        let ticker = Arc::new(Ticker::new(ms(1)));
        let (tell, stopped) = bounded(0);
        let looping = go({
            let ticker = ticker.clone();
            move || {
                let mut ticks = 0;
                for _ in &*ticker {
                    ticks += 1;
                    if ticks == 3 {
                        assert!(ticker.stop());
                        tell.send(()).unwrap();
                    } else if ticks == 4 {
                        break;
                    }
                }
                ticks
            }
        });
        stopped.recv().unwrap();
        sleep(ms(10));
        assert!(!looping.is_finished());
        assert!(!ticker.reset(ms(1)));
        assert_eq!(looping.join().unwrap(), 4);
    });
}

/// `timeout` gives the result, the panic or the end of the time.
#[test]
fn timeouts() {
    run(|| {
        assert_eq!(timeout(HOUR, || 1), Ok(1));
        assert_eq!(timeout(Duration::MAX, || 2), Ok(2));
        let panic = catch_unwind(|| timeout(HOUR, || panic!("no luck"))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"no luck"));
        let exits = go(|| timeout(HOUR, || gort::goexit()));
        assert!(exits.join().unwrap_err().is_goexit());

        for duration in [Duration::ZERO, ms(3)] {
            let start = Instant::now();
            let (tx, rx) = bounded(0);
            assert_eq!(timeout(duration, move || rx.recv()), Err(Elapsed));
            assert!(start.elapsed() >= duration);
            assert!(tx.send(1).is_ok(), "what was abandoned goes on");
        }
    });
}

/// What was abandoned drops its result when it ends.
#[test]
fn an_abandoned_result_is_dropped() {
    run(|| {
        let value = Arc::new(());
        let (tx, rx) = bounded::<()>(0);
        let theirs = value.clone();
        let waits = move || {
            let _ = rx.recv();
            theirs
        };
        assert!(timeout(ms(1), waits).is_err());
        assert_eq!(Arc::strong_count(&value), 2);
        drop(tx);
        let start = Instant::now();
        while Arc::strong_count(&value) > 1 {
            assert!(start.elapsed() < HANGS);
            yield_now();
        }
    });
}
