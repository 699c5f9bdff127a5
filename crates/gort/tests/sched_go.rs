//! The scheduler: Go's own cases (`docs/go-cases.md`, A1) and the contract of `ARCHITECTURE.md`.
//! Tests that need their own GOMAXPROCS run in child processes.

mod child;

use child::{ends_well_in_both_modes, is_played, play, scene};
use gort::chan;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// After how long a wait counts as a hang.
const HANG: Duration = Duration::from_secs(60);

fn tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Plays this test's scene with `env` and checks that it succeeds.
fn ends_well(test: &str, env: &[(&str, &str)]) {
    let end = play(test, "scene", env);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// Yields until `done` is true.
#[track_caller]
fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "hangs");
        gort::sleep(Duration::from_millis(1));
    }
}

/// GO-CASES S1: GOMAXPROCS changes all the time beside goroutines that respawn themselves.
#[gort::test]
fn s1_gomaxprocs_beside_respawning_goroutines() {
    fn generation(stop: Arc<AtomicBool>, ended: chan::Sender<()>) {
        if stop.load(SeqCst) {
            return ended.send(()).unwrap();
        }
        gort::go(move || generation(stop, ended));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (tx, rx) = chan::bounded(0);
    generation(stop.clone(), tx);
    let before = gort::gomaxprocs();
    for i in 0..200 {
        gort::set_gomaxprocs(1 + i % 5);
    }
    assert_eq!(gort::set_gomaxprocs(before), 5);
    stop.store(true, SeqCst);
    rx.recv().unwrap();
}

/// GO-CASES S2: a goroutine that polls and yields sees the message, also when it is locked to its
/// thread.
#[test]
fn s2_yield_progress() {
    if scene().is_some() {
        return gort::run(|| {
            for locked in [false, true] {
                let (tx, rx) = chan::bounded(0);
                let (ack_tx, ack) = chan::bounded(0);
                gort::go(move || {
                    let _lock = locked.then(gort::lock_os_thread);
                    while rx.try_recv().is_err() {
                        gort::yield_now();
                    }
                    ack_tx.send(()).unwrap();
                });
                gort::sleep(Duration::from_millis(10));
                tx.send(()).unwrap();
                ack.recv().unwrap();
            }
        });
    }
    ends_well("s2_yield_progress", &[("GOMAXPROCS", "1")]);
}

/// Two goroutines that take turns on one P soon run on two, when another goroutine has ended on the
/// other P. A thread that looks for work when nothing is queued yet is woken for them.
#[test]
fn two_that_yield_are_not_overlooked() {
    if scene().is_some() {
        // On a busy machine a round takes long, and a few rounds are enough.
        let start = Instant::now();
        let rounds = (0..2_000).take_while(|_| start.elapsed() < Duration::from_secs(10));
        return gort::run(|| rounds.for_each(|_| take_turns_beside_one_that_ends()));
    }
    ends_well("two_that_yield_are_not_overlooked", &[("GOMAXPROCS", "2")]);
}

fn take_turns_beside_one_that_ends() {
    let (computes, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let apart = Arc::new(AtomicBool::new(false));
    let (c, t, a) = (computes.clone(), turns.clone(), apart.clone());
    let other = gort::go(move || {
        c.store(true, SeqCst);
        // (The two may get apart while this goroutine is preempted.)
        while t.load(SeqCst) < 100 && !a.load(SeqCst) {
            std::hint::spin_loop();
        }
    });
    while !computes.load(SeqCst) {
        gort::yield_now();
    }
    let threads = Arc::new([AtomicI64::new(0), AtomicI64::new(0)]);
    let yields = |i: usize| {
        let (threads, turns, apart) = (threads.clone(), turns.clone(), apart.clone());
        move || {
            for turn in 0.. {
                assert!(turn < 20_000_000, "the other P takes no work");
                threads[i].store(i64::from(tid()), SeqCst);
                let of_other = threads[1 - i].load(SeqCst);
                if of_other != 0 && of_other != i64::from(tid()) {
                    apart.store(true, SeqCst);
                }
                if apart.load(SeqCst) {
                    return; // The other one returns too, wherever it is then.
                }
                turns.fetch_add(1, SeqCst);
                gort::yield_now();
            }
        }
    };
    let both = [gort::go(yields(0)), gort::go(yields(1))];
    both.into_iter().for_each(|one| one.join().unwrap());
    other.join().unwrap();
}

/// A goroutine that joins a child lets that child run first, even if older ones are queued before
/// it. The older ones do not starve.
#[test]
fn a_join_prefers_the_last_child() {
    if scene().is_some() {
        return gort::run(|| {
            // On a busy machine a preempted goroutine goes to the end of the queue, so once is
            // enough.
            let once = (0..1_000).any(|_| {
                let order = Arc::new(Mutex::new(Vec::new()));
                let child = |i: usize| {
                    let order = order.clone();
                    gort::go(move || order.lock().unwrap().push(i))
                };
                let [a, b, c] = [0, 1, 2].map(child);
                [c, b, a].into_iter().for_each(|child| child.join().unwrap());
                let order = order.lock().unwrap();
                assert_eq!(order.iter().collect::<HashSet<_>>().len(), 3);
                *order == [2, 1, 0]
            });
            assert!(once, "never in the order of the joins");

            let stop = Arc::new(AtomicBool::new(false));
            let s = stop.clone();
            let other = gort::go(move || s.store(true, SeqCst));
            let start = Instant::now();
            while !stop.load(SeqCst) {
                assert!(start.elapsed() < HANG, "the other goroutine starves");
                let [a, b] = [0, 1].map(|_| gort::go(|| ()));
                b.join().unwrap();
                a.join().unwrap();
            }
            other.join().unwrap();
        });
    }
    ends_well("a_join_prefers_the_last_child", &[("GOMAXPROCS", "1")]);
}

/// GO-CASES S3, S23: a goroutine that ends locked takes its thread with it; no other goroutine gets
/// that thread.
#[gort::test]
fn s3_locked_to_the_end() {
    let thread = gort::go(|| {
        std::mem::forget(gort::lock_os_thread());
        for _ in 0..10 {
            gort::yield_now();
            gort::sleep(Duration::from_millis(1));
        }
        tid()
    })
    .join()
    .unwrap();
    until(|| !std::path::Path::new(&format!("/proc/self/task/{thread}")).exists());
}

/// A guard that is dropped by unwinding keeps the goroutine locked, also when the panic is caught.
#[gort::test]
fn unwinding_through_the_lock_keeps_it() {
    let thread = gort::go(|| {
        let caught = std::panic::catch_unwind(|| {
            let _lock = gort::lock_os_thread();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(caught.is_err());
        let thread = tid();
        for _ in 0..20 {
            gort::sleep(Duration::from_micros(100));
            assert_eq!(tid(), thread);
        }
        thread
    })
    .join()
    .unwrap();
    until(|| !std::path::Path::new(&format!("/proc/self/task/{thread}")).exists());
}

/// GO-CASES S4: GOMAXPROCS goroutines run at the same time. They pass a token by spinning, without
/// any gort call.
#[test]
fn s4_parallelism() {
    const P: i64 = 4;
    if scene().is_some() {
        return gort::run(|| {
            for _ in 0..10 {
                let turn = Arc::new(AtomicI64::new(0));
                let all: Vec<_> = (0..P)
                    .map(|me| {
                        let turn = turn.clone();
                        gort::go(move || {
                            for round in 0..3 {
                                while turn.load(SeqCst) != P * round + me {
                                    std::hint::spin_loop();
                                }
                                turn.store(P * round + me + 1, SeqCst);
                            }
                        })
                    })
                    .collect();
                all.into_iter().for_each(|h| h.join().unwrap());
            }
        });
    }
    ends_well("s4_parallelism", &[("GOMAXPROCS", "4")]);
}

/// GO-CASES S5: the same, with goroutines that were spawned by spawned ones, after workers have
/// parked, beside a listener.
#[test]
fn s5_parallelism_nested() {
    const P: i64 = 4;
    fn pass(me: i64, turn: Arc<AtomicI64>) {
        for round in 0..3 {
            while turn.load(SeqCst) != P * round + me {
                std::hint::spin_loop();
            }
            turn.store(P * round + me + 1, SeqCst);
        }
    }
    if scene().is_some() {
        return gort::run(|| {
            let _listener = gort::net::TcpListener::bind("127.0.0.1:0").unwrap();
            for _ in 0..10 {
                let warm: Vec<_> =
                    (0..100).map(|_| gort::go(|| gort::sleep(Duration::from_micros(50)))).collect();
                warm.into_iter().for_each(|h| h.join().unwrap());
                let turn = Arc::new(AtomicI64::new(0));
                let all: Vec<_> = (0..P / 2)
                    .map(|i| {
                        let turn = turn.clone();
                        gort::go(move || {
                            let other = turn.clone();
                            let h = gort::go(move || pass(2 * i + 1, other));
                            pass(2 * i, turn);
                            h.join().unwrap();
                        })
                    })
                    .collect();
                all.into_iter().for_each(|h| h.join().unwrap());
            }
        });
    }
    ends_well("s5_parallelism_nested", &[("GOMAXPROCS", "4")]);
}

/// GO-CASES S6: a locked goroutine sends; its M hands its P over each time.
#[gort::test]
fn s6_block_locked() {
    let (tx, rx) = chan::bounded(0);
    gort::go(move || {
        let _lock = gort::lock_os_thread();
        (0..10).for_each(|i| tx.send(i).unwrap());
    });
    assert_eq!(rx.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

/// GO-CASES S7: a timer fires beside two goroutines that send without end.
#[gort::test]
fn s7_timer_fairness() {
    let (tx, rx) = chan::bounded(0);
    let (done_tx, done) = chan::bounded::<()>(0);
    for _ in 0..2 {
        let (tx, done) = (tx.clone(), done.clone());
        gort::go(move || {
            loop {
                gort::select! {
                    send(tx, true) -> sent => if sent.is_err() { return },
                    recv(done) -> _ => return,
                }
            }
        });
    }
    let timer = chan::after(Duration::from_millis(20));
    loop {
        gort::select! {
            recv(rx) -> _ => {}
            recv(timer) -> _ => break,
        }
    }
    drop(done_tx);
}

/// GO-CASES S8: timers fire although their Ps are always busy with blocking calls.
#[gort::test]
fn s8_timers_beside_blocking_calls() {
    let (tx, rx) = chan::bounded(0);
    let both: Vec<_> = (0..2)
        .map(|_| {
            let (tx, rx) = (tx.clone(), rx.clone());
            gort::go(move || {
                let timer = chan::after(Duration::from_millis(20));
                loop {
                    gort::blocking(rustix::process::getppid);
                    gort::select! {
                        send(tx, 0) -> _ => {}
                        recv(rx) -> _ => {}
                        recv(timer) -> _ => return,
                    }
                }
            })
        })
        .collect();
    both.into_iter().for_each(|h| h.join().unwrap());
}

/// GO-CASES S12, PEERS: with one P, loops of blocking calls do not keep other goroutines from
/// running.
#[test]
fn s12_blocking_loops_are_fair() {
    if scene().is_some() {
        return gort::run(|| {
            for _ in 0..2 {
                gort::go(|| {
                    loop {
                        gort::blocking(rustix::process::getppid);
                    }
                });
            }
            gort::sleep(Duration::from_millis(10));
        });
    }
    ends_well("s12_blocking_loops_are_fair", &[("GOMAXPROCS", "1")]);
}

/// GO-CASES S14: the count is the number of goroutines in a dump.
#[test]
fn s14_num_goroutine_and_dump() {
    if scene().is_some() {
        return gort::run(|| {
            assert_eq!(gort::num_goroutine(), 1);
            let (hold, held) = chan::bounded::<()>(0);
            let all: Vec<_> = (0..10)
                .map(|_| {
                    let held = held.clone();
                    gort::go(move || held.recv().unwrap_err())
                })
                .collect();
            until(|| gort::debug::dump().matches("[chan receive]").count() == 10);
            assert_eq!(gort::num_goroutine(), 11);
            let dump = gort::debug::dump();
            assert_eq!(dump.lines().filter(|l| l.starts_with("goroutine ")).count(), 11, "{dump}");
            assert!(dump.starts_with("goroutine 1 [running]:\n"), "{dump}");
            drop(hold);
            all.into_iter().for_each(|h| assert!(h.join().is_ok()));
            assert_eq!(gort::num_goroutine(), 1);
        });
    }
    ends_well("s14_num_goroutine_and_dump", &[]);
}

/// GO-CASES S15, PEERS (may): with one P, a pair that plays ping-pong does not keep other
/// goroutines from starting.
#[test]
fn s15_ping_pong_hog() {
    if scene().is_some() {
        return gort::run(|| {
            let (ping, pinged) = chan::bounded::<u32>(0);
            let (pong, ponged) = chan::bounded::<u32>(0);
            gort::go(move || pinged.iter().all(|n| pong.send(n).is_ok()));
            gort::go(move || {
                while ping.send(1).is_ok() {
                    let _ = ponged.recv();
                }
            });
            gort::sleep(Duration::from_millis(5));
            let started = Arc::new(AtomicUsize::new(0));
            for _ in 0..300 {
                let started = started.clone();
                gort::go(move || started.fetch_add(1, SeqCst));
            }
            until(|| started.load(SeqCst) == 300);
        });
    }
    ends_well("s15_ping_pong_hog", &[("GOMAXPROCS", "1")]);
}

/// The same when a thread sends goroutines through the global queue all the time. Each of those
/// begins a new time slice, which the pair must not get.
#[test]
fn ping_pong_hog_with_visitors() {
    if scene().is_some() {
        return gort::run(|| {
            let (ping, pinged) = chan::bounded::<u32>(0);
            let (pong, ponged) = chan::bounded::<u32>(0);
            gort::go(move || pinged.iter().all(|n| pong.send(n).is_ok()));
            gort::go(move || {
                while ping.send(1).is_ok() {
                    let _ = ponged.recv();
                }
            });
            let (ask, asked) = chan::bounded::<()>(0);
            let (answer, answered) = chan::bounded::<()>(0);
            gort::go(move || asked.iter().all(|()| answer.send(()).is_ok()));
            let stop = Arc::new(AtomicBool::new(false));
            let visits = std::thread::spawn({
                let stop = stop.clone();
                move || {
                    while !stop.load(SeqCst) {
                        ask.send(()).unwrap();
                        answered.recv().unwrap();
                    }
                }
            });
            gort::sleep(Duration::from_millis(5)); // By then all of them are running.
            // No timers from here on: a goroutine that a timer wakes runs before the pair, and
            // breaks it up. The ring holds more than these hundred.
            let all: Vec<_> = (0..100).map(|i| gort::go(move || i)).collect();
            all.into_iter().for_each(|g| assert!(g.join().is_ok()));
            stop.store(true, SeqCst);
            gort::blocking(|| visits.join()).unwrap();
        });
    }
    ends_well("ping_pong_hog_with_visitors", &[("GOMAXPROCS", "1")]);
}

/// GO-CASES S32: a signal every millisecond neither ends a wait early nor keeps one from ending:
/// not the poll of the timers, nor the futex of a plain thread, nor that of an M.
#[test]
fn s32_spurious_wakeups() {
    extern "C" fn nothing(_: i32) {}
    if scene().is_some() {
        // SAFETY: the handler does nothing. Without SA_RESTART a signal interrupts the system call.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGIO, &action, std::ptr::null_mut()), 0);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let sender = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(SeqCst) {
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::IO)
                        .unwrap();
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
        });
        const NAP: Duration = Duration::from_millis(500);
        let nap = || {
            let start = Instant::now();
            gort::sleep(NAP);
            let (_keep, never) = chan::bounded::<()>(0);
            assert!(never.recv_timeout(NAP).is_err());
            assert!(start.elapsed() >= 2 * NAP, "woke up early");
        };
        let thread = std::thread::spawn(nap);
        gort::run(|| {
            let goroutines: Vec<_> = (0..4).map(|_| gort::go(nap)).collect();
            let locked = gort::go(move || {
                let _lock = gort::lock_os_thread();
                nap();
            });
            goroutines.into_iter().chain([locked]).for_each(|g| g.join().unwrap());
        });
        thread.join().unwrap();
        stop.store(true, SeqCst);
        return sender.join().unwrap();
    }
    ends_well("s32_spurious_wakeups", &[]);
}

/// GO-CASES S21: locks nest.
#[gort::test]
fn s21_lock_nesting() {
    let outer = gort::lock_os_thread();
    let inner = gort::lock_os_thread();
    let thread = tid();
    drop(inner);
    for _ in 0..50 {
        gort::yield_now();
        assert_eq!(tid(), thread, "unlocked by the inner guard");
    }
    // The caller comes first in a dump.
    let is_said_locked = || gort::debug::dump().lines().next().unwrap().contains("locked to thread");
    assert!(is_said_locked());
    drop(outer);
    assert!(!is_said_locked());
}

/// GO-CASES S26: a thousand goroutines that end locked, at most a hundred at once.
#[gort::test]
fn s26_many_that_end_locked() {
    let places = Arc::new(gort::sync::Semaphore::new(100));
    let all: Vec<_> = (0..1_000)
        .map(|i| {
            let places = places.clone();
            gort::go(move || {
                let _place = places.acquire(1);
                std::mem::forget(gort::lock_os_thread());
                gort::yield_now();
                i
            })
        })
        .collect();
    all.into_iter().enumerate().for_each(|(i, h)| assert_eq!(h.join().unwrap(), i));
}

/// GO-CASES S28: short blocking calls on all Ps; every goroutine gets through.
#[gort::test]
fn s28_short_blocking_calls() {
    let all: Vec<_> = [10, 100, 1000]
        .into_iter()
        .flat_map(|us| (0..8).map(move |_| us))
        .map(|us| {
            gort::go(move || {
                for _ in 0..20_000 / us {
                    gort::blocking(|| std::thread::sleep(Duration::from_micros(us)));
                }
            })
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
}

/// GO-CASES S30: the largest GOMAXPROCS starts and runs.
#[test]
fn s30_big_gomaxprocs() {
    if scene().is_some() {
        return gort::run(|| {
            assert_eq!(gort::gomaxprocs(), 1024);
            let all: Vec<_> = (0..5_000).map(|i| gort::go(move || i)).collect();
            all.into_iter().enumerate().for_each(|(i, h)| assert_eq!(h.join().unwrap(), i));
        });
    }
    ends_well("s30_big_gomaxprocs", &[("GOMAXPROCS", "1024")]);
}

/// Never more than GOMAXPROCS goroutines run at once, including those that come out of `blocking`.
#[test]
fn never_more_than_gomaxprocs() {
    if scene().is_some() {
        return gort::run(|| {
            let running = Arc::new(AtomicUsize::new(0));
            for procs in [2, 1, 3] {
                gort::set_gomaxprocs(procs);
                let all: Vec<_> = (0..24)
                    .map(|i| {
                        let running = running.clone();
                        gort::go(move || {
                            for k in 0..100 {
                                // A goroutine that is preempted here would be counted without
                                // running.
                                let guard = gort::no_preempt();
                                let now = running.fetch_add(1, SeqCst) + 1;
                                assert!(now <= procs, "{now} run on {procs} Ps");
                                for _ in 0..2_000 {
                                    std::hint::spin_loop();
                                }
                                running.fetch_sub(1, SeqCst);
                                drop(guard);
                                match (i + k) % 3 {
                                    0 => gort::yield_now(),
                                    1 => gort::blocking(|| std::thread::sleep(Duration::from_micros(50))),
                                    _ => gort::sleep(Duration::from_micros(50)),
                                }
                            }
                        })
                    })
                    .collect();
                all.into_iter().for_each(|h| h.join().unwrap());
            }
        });
    }
    ends_well("never_more_than_gomaxprocs", &[("GOMAXPROCS", "2")]);
}

/// With one P, a call that blocks the thread does not hold up other goroutines.
#[test]
fn blocking_hands_the_p_off() {
    if scene().is_some() {
        return gort::run(|| {
            let (mut a, mut b) = std::io::pipe().unwrap();
            let reader =
                gort::go(move || gort::blocking(|| std::io::Read::read(&mut a, &mut [0; 1]).unwrap()));
            gort::sleep(Duration::from_millis(1));
            let work: Vec<_> = (0..100).map(|i| gort::go(move || i)).collect();
            work.into_iter().enumerate().for_each(|(i, h)| assert_eq!(h.join().unwrap(), i));
            assert!(!reader.is_finished());
            std::io::Write::write_all(&mut b, &[1]).unwrap();
            assert_eq!(reader.join().unwrap(), 1);
        });
    }
    ends_well("blocking_hands_the_p_off", &[("GOMAXPROCS", "1")]);
}

/// Goroutines beyond the limit of `blocking` park. All get through, and never more are inside.
#[test]
fn blocking_limit() {
    if scene().is_some() {
        return gort::Runtime::builder()
            .blocking_limit(3)
            .run(|| {
                let inside = Arc::new(AtomicUsize::new(0));
                let all: Vec<_> = (0..50)
                    .map(|_| {
                        let inside = inside.clone();
                        gort::go(move || {
                            gort::blocking(|| {
                                assert!(inside.fetch_add(1, SeqCst) < 3);
                                std::thread::sleep(Duration::from_millis(1));
                                inside.fetch_sub(1, SeqCst);
                            });
                        })
                    })
                    .collect();
                all.into_iter().for_each(|h| h.join().unwrap());
            })
            .unwrap();
    }
    ends_well("blocking_limit", &[]);
}

/// The limit changes while goroutines are inside and wait. A higher limit lets more in at once, a
/// lower one lets none in until enough have left, and no limit lets all in.
#[test]
fn the_blocking_limit_changes() {
    if scene().is_some() {
        return gort::run(|| {
            assert_eq!(gort::set_blocking_limit(2), 0);
            let (inside, entered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (go_on, gate) = chan::bounded::<()>(0);
            let all: Vec<_> = (0..10)
                .map(|_| {
                    let (inside, entered, gate) = (inside.clone(), entered.clone(), gate.clone());
                    gort::go(move || {
                        gort::blocking(|| {
                            inside.fetch_add(1, SeqCst);
                            entered.fetch_add(1, SeqCst);
                            let _ = gate.recv();
                            inside.fetch_sub(1, SeqCst);
                        });
                    })
                })
                .collect();
            let stays = |n| {
                until(|| inside.load(SeqCst) == n);
                gort::sleep(Duration::from_millis(20));
                assert_eq!(inside.load(SeqCst), n);
            };
            stays(2);
            assert_eq!(gort::set_blocking_limit(5), 2);
            stays(5);
            assert_eq!(gort::set_blocking_limit(1), 5);
            (0..4).for_each(|_| go_on.send(()).unwrap());
            stays(1);
            go_on.send(()).unwrap(); // One leaves, and another one enters.
            until(|| entered.load(SeqCst) == 6);
            stays(1);
            assert_eq!(gort::set_blocking_limit(0), 1);
            stays(5);
            drop(go_on);
            all.into_iter().for_each(|h| h.join().unwrap());
            assert_eq!(gort::blocking_limit(), 0);
        });
    }
    ends_well("the_blocking_limit_changes", &[]);
}

/// Many blocking calls at once need few threads if there is a limit. Without a limit each needs a
/// thread, and those end again.
#[test]
fn threads_of_a_storm() {
    /// The largest number of threads, and the median of those that are not idle.
    fn storm() -> (usize, usize) {
        let all: Vec<_> = (0..1000)
            .map(|_| {
                gort::go(|| {
                    gort::blocking(|| std::thread::sleep(Duration::from_millis(2)));
                    let s = gort::metrics::snapshot();
                    (s.threads, s.threads - s.threads_idle)
                })
            })
            .collect();
        let (threads, mut busy): (Vec<_>, Vec<_>) = all.into_iter().map(|h| h.join().unwrap()).unzip();
        busy.sort_unstable();
        (threads.into_iter().max().unwrap(), busy[busy.len() / 2])
    }
    if scene().is_some() {
        return gort::run(|| {
            storm();
            let baseline = 16 + gort::gomaxprocs() + 4;
            gort::set_blocking_limit(16);
            until(|| gort::metrics::snapshot().threads <= baseline);
            let (most, busy) = storm();
            assert!(busy <= baseline, "{busy} threads are busy");
            // A thread that has handed its P off and is not idle yet is briefly missing, so another
            // one is made.
            assert!(most <= 64, "{most} threads");
            gort::set_blocking_limit(0);
            storm();
            let start = Instant::now();
            // The runtime's threads, and the one that waits in `run`.
            until(|| os_threads() <= gort::gomaxprocs() + 5);
            println!("back after {:?}", start.elapsed());
        });
    }
    // Preempted goroutines hold threads. No goroutine computes here, but on a loaded machine it may
    // seem so.
    ends_well("threads_of_a_storm", &[("GOMAXPROCS", "2"), ("GORT_DEBUG", "asyncpreemptoff=1")]);
}

/// The threads of this process, without those of the test harness.
fn os_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count() - 1
}

/// Inside `blocking` the goroutine may use gort's waits, as a thread may. What they wake runs
/// elsewhere.
#[gort::test]
fn gort_calls_inside_blocking() {
    let (tx, rx) = chan::bounded(0);
    let h = gort::go(move || rx.iter().sum::<u32>());
    let thread = tid();
    gort::blocking(|| {
        for i in 0..100 {
            tx.send(i).unwrap();
            gort::blocking(|| ());
            gort::go(|| ()).join().unwrap();
        }
        gort::sleep(Duration::from_millis(1));
        drop(tx);
    });
    assert_eq!(tid(), thread);
    assert_eq!(h.join().unwrap(), 4950);
}

/// New goroutines are queued while others are woken in the middle of parking. None is lost.
#[test]
fn fresh_goroutines_beside_contended_parks() {
    if is_played(|| {
        for _ in 0..8_000 {
            let (tx, rx) = chan::bounded(16);
            let senders = [(); 4].map(|()| {
                let tx = tx.clone();
                gort::go(move || (0..200).for_each(|i| tx.send(i).unwrap()))
            });
            drop(tx);
            let receivers = [(); 4].map(|()| {
                let rx = rx.clone();
                gort::go(move || rx.iter().sum::<u32>())
            });
            senders.into_iter().for_each(|h| h.join().unwrap());
            let sum: u32 = receivers.into_iter().map(|h| h.join().unwrap()).sum();
            assert_eq!(sum, 4 * (0..200).sum::<u32>());
        }
    }) {
        return;
    }
    ends_well_in_both_modes("fresh_goroutines_beside_contended_parks", "2");
}

/// The number of threads falls after many blocking calls at once.
#[test]
fn threads_come_down() {
    if scene().is_some() {
        return gort::run(|| {
            // All of them are inside at once.
            let all_in = Arc::new(std::sync::Barrier::new(50));
            let all: Vec<_> = (0..50)
                .map(|_| {
                    let all_in = all_in.clone();
                    gort::go(move || {
                        gort::blocking(|| all_in.wait());
                    })
                })
                .collect();
            all.into_iter().for_each(|h| h.join().unwrap());
            assert!(gort::metrics::snapshot().threads >= 40);
            until(|| gort::metrics::snapshot().threads <= gort::gomaxprocs() + 4);
        });
    }
    ends_well("threads_come_down", &[]);
}

/// An idle process has no wake-ups: its threads' context switches do not increase.
#[test]
fn idle_means_idle() {
    fn switches() -> u64 {
        let mut sum = 0;
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
            let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches")).unwrap_or(":0");
            sum += line.split(':').nth(1).unwrap().trim().parse::<u64>().unwrap();
        }
        sum
    }
    if scene().is_some() {
        gort::run(|| {
            let listener = gort::net::TcpListener::bind("127.0.0.1:0").unwrap();
            gort::go(move || listener.accept());
            let all: Vec<_> =
                (0..100).map(|i| gort::go(move || gort::sleep(Duration::from_micros(i)))).collect();
            all.into_iter().for_each(|h| h.join().unwrap());
        });
        // Threads beyond GOMAXPROCS end first.
        std::thread::sleep(Duration::from_secs(6));
        let before = switches();
        std::thread::sleep(Duration::from_secs(2));
        let after = switches();
        assert!(after - before <= 2, "{} wake-ups in two idle seconds", after - before);
        return;
    }
    ends_well("idle_means_idle", &[]);
}

/// `run` works from many threads at once, from a goroutine, and repeatedly. It may borrow, and
/// panics pass through it.
#[test]
fn run_many_times() {
    let words = vec!["a".to_string(), "b".to_string()];
    std::thread::scope(|s| {
        for n in 0..16 {
            let words = &words;
            s.spawn(move || {
                for i in 0..20 {
                    assert_eq!(gort::run(|| words[i % 2].len() + n), 1 + n);
                    assert_eq!(gort::run(|| gort::run(|| gort::go(move || n * i).join().unwrap())), n * i);
                }
            });
        }
    });
    let caught = std::panic::catch_unwind(|| gort::run(|| std::panic::resume_unwind(Box::new(42))));
    assert_eq!(*caught.unwrap_err().downcast::<i32>().unwrap(), 42);
}

/// A panic ends one goroutine; `join` reports it; the others go on.
#[gort::test]
fn panics_are_isolated() {
    let h = gort::go(|| std::panic::resume_unwind(Box::new("boom")));
    let e: gort::JoinError = JoinResult::<()>::from(h.join()).unwrap_err();
    assert!(e.is_panic() && !e.is_goexit());
    assert_eq!(e.to_string(), "the goroutine panicked: boom");
    assert_eq!(*e.into_panic().downcast::<&str>().unwrap(), "boom");
    let e = gort::go(|| gort::goexit()).join().map(|never: ()| never).unwrap_err();
    assert!(e.is_goexit() && !e.is_panic());
    assert_eq!(e.to_string(), "the goroutine called goexit");
}

type JoinResult<T> = Result<T, gort::JoinError>;

/// GO-CASES D10: goexit runs the destructors of the frames that it leaves.
#[gort::test]
fn d10_goexit_runs_destructors() {
    struct Sends(chan::Sender<()>);
    impl Drop for Sends {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    let (tx, rx) = chan::bounded(1);
    let h = gort::go(move || {
        let _sends = Sends(tx);
        gort::goexit();
    });
    rx.recv().unwrap();
    assert!(h.join().map(|never: ()| never).unwrap_err().is_goexit());
}

/// A result goes to the goroutine that joins, or is dropped if there is none, for small and large
/// results.
#[gort::test]
fn results_are_dropped_once() {
    struct Counts<const N: usize>(Arc<AtomicUsize>, [u8; N]);
    impl<const N: usize> Drop for Counts<N> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    fn check<const N: usize>() {
        let drops = Arc::new(AtomicUsize::new(0));
        let make = || {
            let drops = drops.clone();
            move || Counts(drops, [1; N])
        };
        let joined = gort::go(make()).join().unwrap();
        assert_eq!((drops.load(SeqCst), joined.1.len()), (0, N));
        drop(joined);
        let finished = gort::go(make());
        until(|| finished.is_finished());
        assert_eq!(drops.load(SeqCst), 1);
        drop(finished);
        assert_eq!(drops.load(SeqCst), 2);
        let (hold, held) = chan::bounded::<()>(0);
        let task = make();
        drop(gort::go(move || {
            held.recv().unwrap_err();
            task()
        }));
        drop(hold);
        until(|| drops.load(SeqCst) == 3);
    }
    check::<1>();
    check::<1000>();
}

/// `scope` as in std: it borrows and waits for all. A panic of a goroutine that was not joined
/// continues at the end.
#[gort::test]
fn scopes() {
    let mut words = vec![1, 2, 3];
    let sum = AtomicUsize::new(0);
    let total = gort::scope(|s| {
        for w in &words {
            s.go(|| {
                gort::yield_now();
                sum.fetch_add(*w, SeqCst)
            });
        }
        let h = s.go(|| s.go(|| words.len()).join().unwrap());
        h.join().unwrap()
    });
    words.push(4);
    assert_eq!((total, sum.load(SeqCst)), (3, 6));

    let ended = AtomicBool::new(false);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        gort::scope(|s| {
            s.go(|| std::panic::resume_unwind(Box::new(1)));
            s.go(|| {
                gort::sleep(Duration::from_millis(5));
                ended.store(true, SeqCst);
            });
        });
    }));
    assert!(caught.is_err() && ended.load(SeqCst));
    // A joined panic does not come again, and goexit is not a panic.
    gort::scope(|s| {
        assert!(
            s.go(|| std::panic::resume_unwind(Box::new(1)))
                .join()
                .map(|never: ()| never)
                .unwrap_err()
                .is_panic()
        );
        s.go(|| gort::goexit());
    });
}

gort::goroutine_local! {
    static COUNT: Cell<u32> = const { Cell::new(1) };
    #[inherit]
    static TRAIL: RefCell<Vec<u64>> = RefCell::new(Vec::new());
    static LOUD: Loud = Loud(RefCell::new(None));
}

/// A local that uses another local when it is dropped.
struct Loud(RefCell<Option<chan::Sender<u32>>>);

impl Drop for Loud {
    fn drop(&mut self) {
        if let Some(tx) = self.0.take() {
            COUNT.set(COUNT.get() + 1);
            tx.send(COUNT.get()).unwrap();
        }
    }
}

/// A `goroutine_local!` is new in each goroutine, also on a used stack. It is dropped at the end,
/// and inherited if so declared.
#[gort::test]
fn goroutine_locals() {
    let (tx, rx) = chan::bounded(1);
    for _ in 0..100 {
        let tx = tx.clone();
        gort::go(move || {
            assert_eq!(COUNT.replace(7), 1, "not fresh");
            gort::yield_now();
            assert_eq!(COUNT.get(), 7);
            LOUD.with(|l| *l.0.borrow_mut() = Some(tx));
        })
        .join()
        .unwrap();
        // In its destructor COUNT exists: the old value or, if that was dropped first, a new one.
        assert!([8, 2].contains(&rx.recv().unwrap()));
    }
    TRAIL.with_borrow_mut(|t| t.push(1));
    let child = gort::go(|| {
        TRAIL.with_borrow_mut(|t| t.push(2));
        (gort::go(|| TRAIL.take()).join().unwrap(), TRAIL.take())
    });
    assert_eq!(child.join().unwrap(), (vec![1, 2], vec![1, 2]));
    assert_eq!(TRAIL.take(), [1]);
}

/// Everything that parks works on plain threads too, at either end.
#[test]
fn threads_and_goroutines_together() {
    gort::start().unwrap();
    let (tx, rx) = chan::bounded(0);
    let (back_tx, back) = chan::bounded(0);
    gort::go(move || rx.iter().for_each(|n: u32| back_tx.send(n * 2).unwrap()));
    for n in 0..1000 {
        tx.send(n).unwrap();
        assert_eq!(back.recv(), Ok(n * 2));
    }
    assert_eq!(gort::go(|| 5).join().unwrap(), 5);
    gort::sleep(Duration::from_millis(1));
}

/// Ids are never used twice, and a goroutine knows its parent.
#[gort::test]
fn ids_are_unique() {
    let seen = Mutex::new(HashSet::new());
    gort::scope(|s| {
        for _ in 0..50 {
            s.go(|| {
                for _ in 0..50 {
                    let h = gort::go(gort::yield_now);
                    assert!(seen.lock().unwrap().insert(h.id()));
                    h.join().unwrap();
                }
            });
        }
    });
    assert_eq!(seen.into_inner().unwrap().len(), 2_500);
}

/// Random work on a changing number of Ps. Nothing is lost, nothing hangs. The seed is printed.
#[gort::test]
fn stress() {
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let before = gort::gomaxprocs();
    let done = Arc::new(AtomicUsize::new(0));
    let all: Vec<_> = (0..500u64)
        .map(|i| {
            let done = done.clone();
            gort::go(move || {
                let mut random = seed.wrapping_mul(i * 2 + 1);
                for _ in 0..50 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    match random % 8 {
                        0 => gort::sleep(Duration::from_micros(random >> 56)),
                        1 => gort::blocking(|| std::thread::sleep(Duration::from_micros(random >> 57))),
                        2 => drop(gort::go(move || done_nothing(random))),
                        3 => assert_eq!(gort::go(move || random).join().unwrap(), random),
                        4 => drop(gort::lock_os_thread()),
                        5 if i == 0 => drop(gort::set_gomaxprocs(1 + random as usize % 8)),
                        _ => gort::yield_now(),
                    }
                }
                done.fetch_add(1, SeqCst);
            })
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    assert_eq!(done.load(SeqCst), 500);
    gort::set_gomaxprocs(before);
}

fn done_nothing(n: u64) -> u64 {
    gort::yield_now();
    n
}

/// `join_timeout` gives the handle back in time, any number of times. No end is lost, however close
/// it is to the timeout.
#[gort::test]
fn join_with_a_timeout() {
    let (tx, rx) = chan::bounded::<u8>(0);
    let mut h = gort::go(move || rx.recv().unwrap());
    for _ in 0..3 {
        h = h.join_timeout(Duration::from_millis(1)).unwrap_err();
    }
    tx.send(7).unwrap();
    assert_eq!(h.join_timeout(HANG).unwrap().unwrap(), 7);
    assert_eq!(gort::go(|| 8).join_timeout(Duration::MAX).unwrap().unwrap(), 8);
    let (mut early, mut late) = (0, 0);
    for i in 0..3000u64 {
        let us = Duration::from_micros(20 + i % 40);
        let h = gort::go(move || {
            gort::sleep(us);
            i
        });
        let seen = match h.join_timeout(us) {
            Ok(seen) => {
                early += 1;
                seen
            }
            Err(h) => {
                late += 1;
                h.join()
            }
        };
        assert_eq!(seen.unwrap(), i);
    }
    println!("{early} in time, {late} late");
    // The same for a plain thread that waits.
    std::thread::spawn(|| {
        let (tx, rx) = chan::bounded::<()>(0);
        let h = gort::go(move || assert!(rx.recv().is_err()));
        let h = h.join_timeout(Duration::from_micros(10)).unwrap_err();
        drop(tx);
        h.join().unwrap();
    })
    .join()
    .unwrap();
}

/// A `Clone` that panics under `#[inherit]` panics where the child was to be started. Nothing waits
/// for that child, and what it was given is dropped.
#[test]
fn a_clone_that_panics_starts_no_goroutine() {
    struct Fails(std::cell::Cell<bool>);
    impl Clone for Fails {
        fn clone(&self) -> Fails {
            assert!(!self.0.get(), "no clone");
            Fails(self.0.clone())
        }
    }
    gort::goroutine_local! {
        #[inherit]
        static FAILS: Fails = Fails(std::cell::Cell::new(false));
    }
    if is_played(|| {
        FAILS.with(|f| f.0.set(true));
        let given = Arc::new(());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            gort::scope(|s| {
                let given = given.clone();
                s.go(move || drop(given));
            });
        }));
        assert!(caught.is_err());
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let given = given.clone();
            gort::go(move || drop(given))
        }));
        assert!(caught.is_err());
        assert_eq!(Arc::strong_count(&given), 1);
        FAILS.with(|f| f.0.set(false));
        gort::scope(|s| s.go(|| FAILS.with(|f| assert!(!f.0.get()))).join().unwrap());
    }) {
        return;
    }
    ends_well_in_both_modes("a_clone_that_panics_starts_no_goroutine", "2");
}

/// The error of `join` goes through `?` beside the error of the goroutine's own result.
#[test]
fn errors_of_join_compose() {
    fn both(fails: bool) -> std::io::Result<u32> {
        gort::run(|| {
            let h = gort::go(move || match fails {
                true => panic!("it fails"),
                false => Ok::<u32, std::io::Error>(7),
            });
            h.join()?
        })
    }
    fn any(e: gort::JoinError) -> Box<dyn std::error::Error + Send + Sync> {
        e.into()
    }
    assert_eq!(both(false).unwrap(), 7);
    let error = both(true).unwrap_err();
    assert_eq!(error.to_string(), "the goroutine panicked: it fails");
    assert!(error.get_ref().is_some_and(|inner| inner.is::<gort::JoinError>()));
    let error = gort::run(|| gort::go(|| gort::goexit()).join().map_err(any).unwrap_err());
    assert_eq!(error.to_string(), "the goroutine called goexit");
}
