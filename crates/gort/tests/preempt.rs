//! CPU-bound goroutines are preempted by a signal, which nothing but the clock shows. Each scene
//! has a process of its own.

mod child;

use child::{play, scene};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn ends_well(test: &str, env: &[(&str, &str)]) -> String {
    let end = play(test, "scene", env);
    assert_eq!(end.code, Some(0), "{}", end.text);
    end.text
}

fn preemptions() -> u64 {
    gort::metrics::snapshot().preemptions
}

/// Returns when `done` is true. It has no limit: the scene's time limit ends a hang.
fn until(done: impl Fn() -> bool) {
    while !done() {
        gort::sleep(Duration::from_millis(1));
    }
}

/// CPU-bound goroutines that run until they are told to stop, with a count of each one's progress.
struct Hogs {
    stop: Arc<AtomicBool>,
    turns: Arc<Vec<AtomicU64>>,
    all: Vec<gort::JoinHandle<()>>,
}

impl Hogs {
    fn start(n: usize) -> Hogs {
        let stop = Arc::new(AtomicBool::new(false));
        let turns: Arc<Vec<AtomicU64>> = Arc::new((0..n).map(|_| AtomicU64::new(0)).collect());
        let all = (0..n)
            .map(|i| {
                let (stop, turns) = (stop.clone(), turns.clone());
                gort::go(move || {
                    while !stop.load(Relaxed) {
                        turns[i].fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        Hogs { stop, turns, all }
    }

    /// Waits until each has run since this call.
    fn wait_for_a_turn_each(&self) {
        self.wait_for_a_turn(|_| true);
    }

    /// As [`wait_for_a_turn_each`](Self::wait_for_a_turn_each), for those whose count so far is
    /// `awaited`.
    fn wait_for_a_turn(&self, awaited: fn(u64) -> bool) {
        let before: Vec<u64> = self.turns.iter().map(|t| t.load(Relaxed)).collect();
        until(|| self.turns.iter().zip(&before).all(|(t, &b)| !awaited(b) || t.load(Relaxed) != b));
    }

    fn end(self) {
        self.stop.store(true, Relaxed);
        self.all.into_iter().for_each(|h| h.join().unwrap());
    }
}

/// GO-CASES S9: two goroutines that wait for each other in busy loops, on one P.
#[test]
fn s9_busy_waiting_for_each_other() {
    if scene().is_some() {
        return gort::run(|| {
            let turn = Arc::new(AtomicUsize::new(0));
            let pair: Vec<_> = (0..2)
                .map(|me| {
                    let turn = turn.clone();
                    gort::go(move || {
                        for _ in 0..5 {
                            while turn.load(SeqCst) != me {
                                std::hint::spin_loop();
                            }
                            turn.store(1 - me, SeqCst);
                        }
                    })
                })
                .collect();
            pair.into_iter().for_each(|h| h.join().unwrap());
        });
    }
    ends_well("s9_busy_waiting_for_each_other", &[("GOMAXPROCS", "1")]);
}

/// GO-CASES S10, S16: the number of Ps goes down while goroutines compute on all of them.
#[test]
fn s10_resizing_beside_hogs() {
    if scene().is_some() {
        return gort::run(|| {
            let hogs = Hogs::start(4);
            for i in 0..30 {
                gort::set_gomaxprocs(1 + i % 4);
                gort::yield_now();
            }
            hogs.wait_for_a_turn_each();
            hogs.end();
        });
    }
    ends_well("s10_resizing_beside_hogs", &[("GOMAXPROCS", "3")]);
}

/// GO-CASES S11: an empty loop, an arithmetic loop and one with calls. The program goes on and ends
/// beside them.
#[test]
fn s11_loops_without_any_call() {
    if scene().is_some() {
        return gort::run(|| {
            let begun = Arc::new(AtomicUsize::new(0));
            let loops: [fn(); 3] = [
                || loop {
                    std::hint::spin_loop();
                },
                || {
                    let mut x = 1u64;
                    for i in 0..1u64 << 62 {
                        x = std::hint::black_box(x.wrapping_mul(i | 1));
                    }
                },
                || loop {
                    leaf(std::hint::black_box(7));
                },
            ];
            for body in loops {
                let begun = begun.clone();
                gort::go(move || {
                    begun.fetch_add(1, SeqCst);
                    body();
                });
            }
            while begun.load(SeqCst) < 3 {
                gort::yield_now();
            }
            for _ in 0..3 {
                gort::yield_now();
            }
        });
    }
    ends_well("s11_loops_without_any_call", &[("GOMAXPROCS", "1")]);
}

#[inline(never)]
fn leaf(n: u32) -> u32 {
    n.wrapping_add(1)
}

/// GO-CASES S12: loops of system calls that return at once.
#[test]
fn s12_system_call_loops() {
    if scene().is_some() {
        return gort::run(|| {
            let null = Arc::new(std::fs::File::open("/dev/null").unwrap());
            for _ in 0..2 {
                let null = null.clone();
                gort::go(move || {
                    loop {
                        let _ = (&*null).write(b"x"); // EBADF
                    }
                });
            }
            gort::sleep(Duration::from_millis(10));
        });
    }
    ends_well("s12_system_call_loops", &[("GOMAXPROCS", "1")]);
}

/// GO-CASES S13: loops that allocate all get their turns.
#[test]
fn s13_allocating_loops_are_fair() {
    if scene().is_some() {
        return gort::run(|| {
            let turns: Arc<[AtomicU64; 3]> = Arc::default();
            for i in 0..3 {
                let turns = turns.clone();
                gort::go(move || {
                    loop {
                        drop(std::hint::black_box(vec![0u8; 1 << (i + 8)]));
                        turns[i].fetch_add(1, Relaxed);
                    }
                });
            }
            while turns.iter().any(|t| t.load(Relaxed) == 0) {
                gort::sleep(Duration::from_millis(5));
            }
        });
    }
    ends_well("s13_allocating_loops_are_fair", &[("GOMAXPROCS", "1")]);
}

/// GO-CASES S28: calls of `blocking` of 10 µs to 1 ms give up their P like any other call.
#[test]
fn s28_short_stays_are_preempted() {
    if scene().is_some() {
        return gort::run(|| {
            let all: Vec<_> = (0..8)
                .map(|i| {
                    gort::go(move || {
                        let stay = Duration::from_micros([10, 100, 1000][i % 3]);
                        let end = Instant::now() + Duration::from_millis(100);
                        while Instant::now() < end {
                            gort::blocking(|| {
                                let t = Instant::now();
                                while t.elapsed() < stay {}
                            });
                        }
                    })
                })
                .collect();
            all.into_iter().for_each(|h| h.join().unwrap());
        });
    }
    ends_well("s28_short_stays_are_preempted", &[("GOMAXPROCS", "2")]);
}

/// `asyncpreemptoff=1`: no goroutine is preempted by a signal. Goroutines that call gort still
/// share.
#[test]
fn it_can_be_switched_off() {
    if scene().is_some() {
        return gort::run(|| {
            let until = Instant::now() + Duration::from_millis(60);
            let all: Vec<_> = (0..4).map(|_| gort::go(move || while Instant::now() < until {})).collect();
            all.into_iter().for_each(|h| h.join().unwrap());
            assert_eq!(preemptions(), 0);
        });
    }
    ends_well("it_can_be_switched_off", &[("GOMAXPROCS", "1"), ("GORT_DEBUG", "asyncpreemptoff=1")]);
}

/// A goroutine that starts many others and computes on does not keep them waiting: they take turns.
#[test]
fn one_that_starts_many_does_not_outrun_them() {
    const STARTED: usize = 10_000;
    /// Turns of one slice each in which the others must be done; theirs are much shorter.
    const PREEMPTIONS: u64 = 200;
    if scene().is_some() {
        return gort::run(|| {
            for _ in 0..3 {
                let done = Arc::new(AtomicUsize::new(0));
                let seen = {
                    let _guard = gort::no_preempt(); // No other goroutine runs until all exist.
                    for _ in 0..STARTED {
                        let done = done.clone();
                        drop(gort::go(move || done.fetch_add(1, SeqCst)));
                    }
                    preemptions()
                };
                // Only this goroutine computes, so it is the one that is preempted.
                while preemptions() < seen + PREEMPTIONS && done.load(SeqCst) < STARTED {}
                assert_eq!(done.load(SeqCst), STARTED);
            }
        });
    }
    ends_well("one_that_starts_many_does_not_outrun_them", &[("GOMAXPROCS", "1")]);
}

/// A goroutine that starts many lets them run in between, except while it must not be preempted.
#[test]
fn starting_many_does_not_run_far_ahead() {
    fn start_and_count(n: usize, ahead: &mut usize) {
        for _ in 0..n {
            drop(gort::go(|| ()));
            *ahead = (*ahead).max(gort::num_goroutine());
        }
    }
    if let Some(scene) = scene() {
        return gort::run(move || {
            let mut ahead = 0;
            if scene == "no_preempt" {
                let before = gort::num_goroutine();
                let _guard = gort::no_preempt();
                start_and_count(20_000, &mut ahead);
                assert_eq!(ahead, before + 20_000);
            } else {
                // Without a pause all of them would exist at once. With it there are some
                // thousands, or more if this thread does not get the processor back for a while.
                start_and_count(500_000, &mut ahead);
                assert!(ahead < 400_000, "{ahead} existed at once");
            }
        });
    }
    for scene in ["free", "no_preempt"] {
        let env = [("GOMAXPROCS", "1"), ("GORT_DEBUG", "asyncpreemptoff=1")];
        let end = play("starting_many_does_not_run_far_ahead", scene, &env);
        assert_eq!(end.code, Some(0), "{}", end.text);
    }
}

/// Under `no_preempt` a goroutine is not preempted; when the guard is gone, it is.
#[test]
fn no_preempt_keeps_going() {
    if scene().is_some() {
        return gort::run(|| {
            let ran = Arc::new(AtomicBool::new(false));
            let guard = gort::no_preempt();
            let nested = gort::no_preempt();
            let h = {
                let ran = ran.clone();
                gort::go(move || ran.store(true, SeqCst))
            };
            let until = Instant::now() + Duration::from_millis(60);
            while Instant::now() < until {
                assert!(!ran.load(SeqCst));
            }
            drop(nested);
            assert!(!ran.load(SeqCst));
            drop(guard);
            while !ran.load(SeqCst) {}
            h.join().unwrap();
        });
    }
    ends_well("no_preempt_keeps_going", &[("GOMAXPROCS", "1")]);
}

/// A goroutine that must not be preempted waits, with the only P, for a lock of a preempted
/// goroutine, which gets its turn.
#[test]
fn no_preempt_waits_for_a_preempted_owner() {
    if scene().is_some() {
        return gort::run(|| {
            let lock = Arc::new(Mutex::new(()));
            for _ in 0..5 {
                let (locked, seen) =
                    (Arc::new(AtomicBool::new(false)), gort::metrics::snapshot().preemptions);
                let owner = gort::go({
                    let (lock, locked) = (lock.clone(), locked.clone());
                    move || {
                        let _guard = lock.lock().unwrap();
                        locked.store(true, SeqCst);
                        // Until it has been preempted once while it has the lock.
                        while preemptions() == seen {
                            std::hint::spin_loop();
                        }
                    }
                });
                // Continues here when the owner is preempted.
                while !locked.load(SeqCst) {
                    gort::yield_now();
                }
                let _guard = gort::no_preempt();
                drop(lock.lock().unwrap());
                owner.join().unwrap();
            }
        });
    }
    ends_well("no_preempt_waits_for_a_preempted_owner", &[("GOMAXPROCS", "1")]);
}

/// Far more CPU-bound goroutines than may be held with their threads, and a std lock whose owner is
/// often preempted. The others compute, and the owner gets its turn. A goroutine woken by a timer runs
/// meanwhile.
#[test]
fn more_hogs_than_threads_may_be_held() {
    if scene().is_some() {
        return gort::run(|| {
            let lock = Arc::new(Mutex::new(0u64));
            let stop = Arc::new(AtomicBool::new(false));
            let hogs: Vec<_> = (0..3000)
                .map(|_| {
                    let (lock, stop) = (lock.clone(), stop.clone());
                    gort::go(move || {
                        let mut n = 0;
                        while !stop.load(Relaxed) {
                            let mut guard = lock.try_lock();
                            let (mut own, has_it) = (0, guard.is_ok());
                            let counted = guard.as_deref_mut().unwrap_or(&mut own);
                            for _ in 0..20_000 {
                                *counted = std::hint::black_box(*counted + 1);
                            }
                            n += u64::from(has_it);
                        }
                        n
                    })
                })
                .collect();
            // Until the limit is reached, and for some time after.
            let mut most = 0;
            let mut looks_at_bound = 0;
            while looks_at_bound < 100 {
                most = most.max(gort::metrics::snapshot().preempted);
                looks_at_bound += usize::from(most > 256);
                gort::sleep(Duration::from_millis(5));
            }
            stop.store(true, Relaxed);
            let turns: u64 = hogs.into_iter().map(|h| h.join().unwrap()).sum();
            assert_eq!(*lock.lock().unwrap(), turns * 20_000);
            assert!(most <= 1024, "{most} were held");
        });
    }
    ends_well("more_hogs_than_threads_may_be_held", &[("GOMAXPROCS", "2"), ("GORT_DEBUG", "sliceus=500")]);
}

/// Far more CPU-bound goroutines than may be held with their threads, and most have not begun.
/// Goroutines that have run before do not wait behind them: sleepers that are due at once, two that
/// take turns, one that only yields. The clock of such a program is the number of preemptions.
#[test]
fn goroutines_that_have_run_go_on_under_overload() {
    const SLEEPERS: usize = 50;
    const SLEEPS: usize = 5;
    const TURNS: usize = 200;
    const DEADLINES: usize = 20;
    if scene().is_some() {
        return gort::run(|| {
            let (gate, open) = gort::chan::bounded::<()>(0);
            let (ping, pong) = (gort::chan::bounded::<()>(0), gort::chan::bounded::<()>(0));
            let begun = Arc::new(AtomicUsize::new(0));
            let begin = |f: Box<dyn FnOnce() + Send>| {
                let (open, begun) = (open.clone(), begun.clone());
                gort::go(move || {
                    begun.fetch_add(1, SeqCst);
                    assert!(open.recv().is_err());
                    f();
                })
            };
            // The length of the sleep does not matter, only that they are due together.
            let mut all: Vec<_> = (0..SLEEPERS)
                .map(|_| begin(Box::new(|| (0..SLEEPS).for_each(|_| gort::sleep(Duration::from_millis(3))))))
                .collect();
            all.push(begin(Box::new(|| (0..TURNS).for_each(|_| gort::yield_now()))));
            all.push(begin(Box::new(move || {
                for _ in 0..TURNS {
                    ping.0.send(()).unwrap();
                    pong.1.recv().unwrap();
                }
            })));
            all.push(begin(Box::new(move || {
                for _ in 0..TURNS {
                    ping.1.recv().unwrap();
                    pong.0.send(()).unwrap();
                }
            })));
            let stop = Arc::new(AtomicBool::new(false));
            let yielders: Vec<_> = (0..2)
                .map(|_| {
                    let stop = stop.clone();
                    begin(Box::new(move || {
                        while !stop.load(Relaxed) {
                            gort::yield_now();
                        }
                    }))
                })
                .collect();
            while begun.load(SeqCst) < all.len() + yielders.len() {
                gort::yield_now();
            }
            let hogs = Hogs::start(4000);
            until(|| gort::metrics::snapshot().preempted >= 400);
            let begin = preemptions();
            drop(gate);
            // Deadlines that are due together are kept too, although each starts a goroutine.
            let background = gort::context::Context::background();
            let deadlines: Vec<_> =
                (0..DEADLINES).map(|_| background.with_timeout(Duration::from_millis(2))).collect();
            until(|| deadlines.iter().all(|(context, _)| context.err().is_some()));
            all.into_iter().for_each(|h| h.join().unwrap());
            let took = preemptions() - begin;
            // CPU-bound goroutines do not starve either while two yield without end: all that have
            // begun go on, and more begin.
            let count_begun = || hogs.turns.iter().filter(|t| t.load(Relaxed) != 0).count();
            let begun = count_begun();
            hogs.wait_for_a_turn(|until_now| until_now != 0);
            until(|| count_begun() > begun);
            stop.store(true, Relaxed);
            yielders.into_iter().for_each(|h| h.join().unwrap());
            hogs.end();
            // Each turn takes one visit at most, and every second preemption is a visit.
            let turns = SLEEPERS * SLEEPS + TURNS + 2 * TURNS + DEADLINES;
            assert!(took < 8 * turns as u64, "{took} preemptions for {turns} turns");
        });
    }
    ends_well(
        "goroutines_that_have_run_go_on_under_overload",
        &[("GOMAXPROCS", "1"), ("GORT_DEBUG", "sliceus=500")],
    );
}

/// Goroutines that were queued before the overload do not wait behind the goroutines that are to
/// begin: one in the global queue, where a plain thread has put it, and one in the ring, where it
/// was moved from `next`. Counted as above; otherwise each would take some thousand preemptions, or
/// for ever.
#[test]
fn goroutines_queued_before_an_overload_run() {
    if scene().is_some() {
        return gort::run(|| {
            // Waits for a message, and returns how many preemptions there had been when it went on.
            let waiter = || {
                let (word, waits) = gort::chan::bounded::<()>(0);
                let waiter = gort::go(move || waits.recv().map(|()| preemptions()).unwrap());
                gort::yield_now();
                (word, waiter)
            };
            let (of_thread, globally) = waiter();
            let hogs = Hogs::start(1000);
            gort::blocking(|| std::thread::spawn(move || of_thread.send(()).unwrap()).join().unwrap());
            let begin = preemptions();
            let took = globally.join().unwrap().saturating_sub(begin);
            hogs.end();
            assert!(took < 600, "{took} preemptions in the global queue");

            let stopped = Hogs::start(240);
            until(|| gort::metrics::snapshot().preempted >= 235);
            let ((first, in_ring), (second, in_next)) = (waiter(), waiter());
            let hogs = Hogs::start(240);
            first.send(()).unwrap();
            second.send(()).unwrap();
            let begin = preemptions();
            let took = in_ring.join().unwrap().saturating_sub(begin);
            in_next.join().unwrap();
            stopped.end();
            hogs.end();
            assert!(took < 600, "{took} preemptions in the ring");
        });
    }
    ends_well(
        "goroutines_queued_before_an_overload_run",
        &[("GOMAXPROCS", "1"), ("GORT_DEBUG", "sliceus=2000")],
    );
}

/// Goroutines on the smallest stacks, nearly full, are preempted too: the handler has its own
/// stack.
#[test]
fn small_stacks_are_preempted() {
    #[inline(never)]
    fn deep(left: usize, until: Instant) -> u64 {
        let frame = std::hint::black_box([left as u64; 16]);
        if left > 0 {
            return deep(left - 1, until) + frame[7];
        }
        let mut turns = 0;
        // A goroutine that begins late has a turn, too.
        loop {
            turns += 1;
            if Instant::now() >= until {
                break;
            }
        }
        std::hint::black_box(turns.min(1)) + frame[7]
    }
    if scene().is_some() {
        return gort::run(|| {
            // On a busy machine the time may end before a preemption; then it repeats.
            loop {
                let until = Instant::now() + Duration::from_millis(200);
                let all: Vec<_> = (0..6)
                    .map(|_| gort::Builder::new().stack_size(16 << 10).spawn(move || deep(8, until)).unwrap())
                    .collect();
                all.into_iter().for_each(|h| assert_eq!(h.join().unwrap(), 1 + (0..=8).sum::<u64>()));
                if preemptions() > 0 {
                    break;
                }
            }
        });
    }
    ends_well("small_stacks_are_preempted", &[("GOMAXPROCS", "1")]);
}

/// System calls that block the thread outside `blocking` continue after the signal.
#[test]
fn interrupted_system_calls_go_on() {
    if scene().is_some() {
        return gort::run(|| {
            let hogs = Hogs::start(2);
            let (mut rx, mut tx) = std::io::pipe().unwrap();
            let reader = gort::go(move || {
                let mut all = Vec::new();
                let (mut a, mut b) = ([0; 3], [0; 5]);
                loop {
                    let mut bufs = [std::io::IoSliceMut::new(&mut a), std::io::IoSliceMut::new(&mut b)];
                    match rx.read_vectored(&mut bufs).unwrap() {
                        0 => return all,
                        n => all.push(n),
                    }
                }
            });
            // Until there was a preemption, which may take longer on a busy machine.
            let mut rounds = 0;
            while rounds < 3 || preemptions() == 0 {
                let t = Instant::now();
                std::thread::sleep(Duration::from_millis(30));
                assert!(t.elapsed() >= Duration::from_millis(30));
                tx.write_all(&[1; 8]).unwrap();
                rounds += 1;
            }
            drop(tx);
            assert_eq!(reader.join().unwrap().iter().sum::<usize>(), 8 * rounds);
            hogs.end();
        });
    }
    ends_well("interrupted_system_calls_go_on", &[("GOMAXPROCS", "2")]);
}

/// A goroutine that blocks the signal on its thread is preempted only when it unblocks the signal.
/// The other goroutines go on meanwhile.
#[test]
fn a_masked_signal_comes_late() {
    if scene().is_some() {
        return gort::run(|| {
            let masked = gort::go(|| {
                let _lock = gort::lock_os_thread();
                mask(libc::SIG_BLOCK);
                let until = Instant::now() + Duration::from_millis(100);
                while Instant::now() < until {}
                mask(libc::SIG_UNBLOCK);
                while Instant::now() < until + Duration::from_millis(50) {}
            });
            let hogs = Hogs::start(3);
            hogs.wait_for_a_turn_each();
            masked.join().unwrap();
            hogs.end();
        });
    }
    ends_well("a_masked_signal_comes_late", &[("GOMAXPROCS", "2")]);
}

fn mask(how: i32) {
    // SAFETY: plain calls with a signal set of this function's own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, libc::SIGURG);
        assert_eq!(libc::pthread_sigmask(how, &set, std::ptr::null_mut()), 0);
    }
}

static FOREIGN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn foreign_handler(_sig: i32) {
    FOREIGN.fetch_add(1, SeqCst);
}

fn install_foreign() {
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGURG, foreign_handler as extern "C" fn(i32) as usize) };
}

/// A handler that was there before gort gets the signals that are not gort's, and only those.
#[test]
fn an_earlier_handler_is_called() {
    if scene().is_some() {
        install_foreign();
        return gort::run(|| {
            let hogs = Hogs::start(3);
            hogs.wait_for_a_turn_each();
            assert!(preemptions() > 0);
            assert_eq!(FOREIGN.load(SeqCst), 0);
            // SAFETY: to this process, which has a handler.
            unsafe { libc::kill(libc::getpid(), libc::SIGURG) };
            until(|| FOREIGN.load(SeqCst) != 0);
            hogs.end();
        });
    }
    ends_well("an_earlier_handler_is_called", &[("GOMAXPROCS", "1")]);
}

/// A handler that is installed later stays in place and gets none of gort's signals. A message says
/// so once.
#[test]
fn a_later_handler_is_said() {
    if scene().is_some() {
        return gort::run(|| {
            install_foreign();
            // Each has a time of its own: the second one waits while the first computes, and must
            // run too.
            let compute = || {
                let until = Instant::now() + Duration::from_secs(1);
                while Instant::now() < until {}
            };
            let all: Vec<_> = (0..2).map(|_| gort::go(compute)).collect();
            all.into_iter().for_each(|h| h.join().unwrap());
            assert_eq!((FOREIGN.load(SeqCst), preemptions()), (0, 0));
        });
    }
    let text = ends_well("a_later_handler_is_said", &[("GOMAXPROCS", "1")]);
    assert_eq!(text.matches("the program has replaced the handler of SIGURG").count(), 1, "{text}");
}

thread_local! {
    static BORROWED: RefCell<u64> = const { RefCell::new(0) };
}

/// Counts drops while unwinding.
struct Counted<'a>(&'a AtomicU64);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[inline(never)]
fn unwind_through(depth: u32, drops: &AtomicU64) {
    let _counted = Counted(drops);
    if depth == 0 {
        std::panic::panic_any(7u32);
    }
    unwind_through(depth - 1, drops);
}

/// Goroutines allocate, lock std's mutexes, print, unwind, take backtraces, borrow thread-locals
/// and do vectored writes while they are preempted every millisecond. Sums over everything are
/// right. `GORT_STRESS_SECONDS` says for how long (default: 2).
#[test]
fn stress() {
    if let Some(scene) = scene() {
        let builder = gort::Runtime::builder();
        // SAFETY: no goroutine below keeps state of its thread across a park.
        let builder = if scene == "shared" { unsafe { builder.shared_thread_locals() } } else { builder };
        return builder.run(play_stress).unwrap();
    }
    for mode in ["own", "shared"] {
        let end = play("stress", mode, &[("GOMAXPROCS", "2"), ("GORT_DEBUG", "sliceus=1000")]);
        assert_eq!(end.code, Some(0), "{mode}: {}", end.text);
    }
}

fn play_stress() {
    const HOGS: u64 = 8;
    std::panic::set_hook(Box::new(|_| ()));
    let seconds = std::env::var("GORT_STRESS_SECONDS").map_or(2, |s| s.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let table: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
    let drops = Arc::new(AtomicU64::new(0));
    let (mut lines, out) = std::io::pipe().unwrap();
    let out = Arc::new(Mutex::new(std::io::LineWriter::new(out)));
    let counting = std::thread::spawn(move || {
        let mut all = String::new();
        lines.read_to_string(&mut all).unwrap();
        all.lines().map(|line| line.strip_prefix("sum ").unwrap().parse::<u64>().unwrap()).sum::<u64>()
    });
    let (sink, mut source) = std::os::unix::net::UnixStream::pair().unwrap();
    let sink = Arc::new(sink);
    let sunk = std::thread::spawn(move || std::io::copy(&mut source, &mut std::io::sink()).unwrap());
    let hogs: Vec<_> = (0..HOGS)
        .map(|id| {
            let (table, drops, out, sink) = (table.clone(), drops.clone(), out.clone(), sink.clone());
            gort::go(move || {
                let (mut rounds, mut printed, mut sent) = (0u64, 0, 0);
                while Instant::now() < until {
                    let kept: Vec<Vec<u64>> = (1..40).map(|n| vec![id * 1000 + n; n as usize * 7]).collect();
                    *table.lock().unwrap().entry(rounds % 50).or_default() += 1;
                    let caught = catch_unwind(AssertUnwindSafe(|| unwind_through(20, &drops)));
                    assert_eq!(*caught.unwrap_err().downcast::<u32>().unwrap(), 7);
                    if rounds.is_multiple_of(16) {
                        let trace = std::backtrace::Backtrace::force_capture().to_string();
                        assert!(trace.contains("play_stress"), "{trace}");
                    }
                    BORROWED.with_borrow_mut(|n| {
                        let before = *n;
                        for _ in 0..500 {
                            *n = std::hint::black_box(*n + 1);
                        }
                        assert_eq!(*n, before + 500);
                    });
                    let words = kept.iter().map(|v| v.iter().sum::<u64>()).sum::<u64>();
                    assert_eq!(words, (1..40).map(|n| (id * 1000 + n) * n * 7).sum::<u64>());
                    writeln!(out.lock().unwrap(), "sum {words}").unwrap();
                    printed += words;
                    let middle = [id as u8; 500];
                    let parts = [&b"abc"[..], &middle, &b"xyz"[..]].map(std::io::IoSlice::new);
                    sent += (&*sink).write_vectored(&parts).unwrap() as u64;
                    rounds += 1;
                }
                (rounds, printed, sent)
            })
        })
        .collect();
    let (mut rounds, mut printed, mut sent) = (0, 0, 0);
    for hog in hogs {
        let (r, p, s) = hog.join().unwrap();
        assert!(r > 0, "one of them never had a turn");
        (rounds, printed, sent) = (rounds + r, printed + p, sent + s);
    }
    drop((out, sink));
    assert_eq!(counting.join().unwrap(), printed);
    assert_eq!(sunk.join().unwrap(), sent);
    assert_eq!(table.lock().unwrap().values().sum::<u64>(), rounds);
    assert_eq!(drops.load(Relaxed), rounds * 21);
    let stopped = preemptions();
    println!("{rounds} rounds, {stopped} preemptions");
    // On an idle machine there are many more; this one may be busy.
    assert!(stopped > 10 * seconds, "{stopped} preemptions in {seconds} s");
}
