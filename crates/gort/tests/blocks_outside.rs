//! Code that blocks its thread outside gort: in std, in the kernel, at another crate's lock. Sysmon
//! takes the P without a signal. Each scene has a process of its own.

#![expect(clippy::disallowed_methods, reason = "it blocks the threads of goroutines on purpose")]

mod child;

use child::{play, scene};
use gort::JoinHandle;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Plays the scene of `test` on one P and on two, each also without the signal.
fn ends_well(test: &str) {
    for (procs, debug) in
        [("1", ""), ("2", ""), ("1", "asyncpreemptoff=1"), ("2", "asyncpreemptoff=1"), ("2", "shared")]
    {
        let shared = if debug == "shared" { "1" } else { "0" };
        let env = [("GOMAXPROCS", procs), ("GORT_DEBUG", debug), ("GORT_TEST_SHARED", shared)];
        let end = play(test, "scene", &env);
        assert_eq!(end.code, Some(0), "{procs} Ps, {debug:?}: {}", end.text);
    }
}

/// Runs `f`, if this is the child.
fn is_played(f: fn()) -> bool {
    if scene().is_none() {
        return false;
    }
    let builder = gort::Runtime::builder();
    let shared = std::env::var("GORT_TEST_SHARED").is_ok_and(|shared| shared == "1");
    // SAFETY: no goroutine of these scenes parks with anything of its thread at hand.
    let builder = if shared { unsafe { builder.shared_thread_locals() } } else { builder };
    builder.run(f).unwrap();
    true
}

fn join<T>(all: Vec<JoinHandle<T>>) -> Vec<T> {
    all.into_iter().map(|h| h.join().unwrap()).collect()
}

/// CPU-bound goroutines, as many as there are Ps, until this is dropped. Each slice of them ends by
/// a signal, or, where there is none, by a yield.
struct Hogs(Arc<AtomicBool>);

impl Hogs {
    fn start() -> Hogs {
        let stop = Arc::new(AtomicBool::new(false));
        let yields = std::env::var("GORT_DEBUG").is_ok_and(|debug| debug == "asyncpreemptoff=1");
        for _ in 0..gort::gomaxprocs() {
            let stop = stop.clone();
            gort::go(move || {
                while !stop.load(Relaxed) {
                    if yields {
                        gort::yield_now();
                    }
                }
            });
        }
        Hogs(stop)
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A server on a thread that answers each byte after 50 ms.
fn slow_echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    std::thread::sleep(Duration::from_millis(50));
                    if stream.write_all(&byte).is_err() {
                        break;
                    }
                }
            });
        }
    });
    addr
}

/// A read with a time-out is not started again after a signal. None comes.
#[test]
fn reads_with_a_time_out_see_no_signal() {
    if is_played(|| {
        let addr = slow_echo();
        let hogs = Hogs::start();
        let all = (0..20)
            .map(|_| {
                gort::go(move || {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    stream.write_all(b"x").unwrap();
                    stream.read(&mut [0; 8]).unwrap()
                })
            })
            .collect();
        assert_eq!(join(all), [1; 20]);
        let all = (0..20)
            .map(|_| {
                gort::go(|| {
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                    socket.recv(&mut [0; 8]).unwrap_err().kind()
                })
            })
            .collect();
        assert_eq!(join(all), [ErrorKind::WouldBlock; 20]);
        drop(hogs);
    }) {
        return;
    }
    ends_well("reads_with_a_time_out_see_no_signal");
}

/// A sleeping thread keeps nothing from running: the sleeps overlap.
#[test]
fn sleeps_overlap() {
    if is_played(|| {
        // On two Ps, one after the other, these would take longer than a scene may.
        let all = (0..100).map(|_| gort::go(|| std::thread::sleep(Duration::from_secs(3)))).collect();
        join::<()>(all);
    }) {
        return;
    }
    let end = play("sleeps_overlap", "scene", &[("GOMAXPROCS", "2")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// A raw sleep is as long as it was to be, in `no_preempt` too: no signal ends it.
#[test]
fn raw_sleeps_are_not_cut_short() {
    if is_played(|| {
        let hogs = Hogs::start();
        for guards in [false, true] {
            let all = (0..4)
                .map(|_| {
                    gort::go(move || {
                        let _guard = guards.then(gort::no_preempt);
                        // SAFETY: only a number is passed.
                        unsafe { libc::usleep(100_000) }
                    })
                })
                .collect();
            assert_eq!(join(all), [0; 4]);
        }
        drop(hogs);
    }) {
        return;
    }
    ends_well("raw_sleeps_are_not_cut_short");
}

/// Locks of std and of another crate, held over parks: their waiters block their threads, and the
/// owner needs a P to go on.
#[test]
fn locks_of_others_over_parks() {
    if is_played(|| {
        let counter = Arc::new(Mutex::new(0));
        let all = (0..30)
            .map(|_| {
                let counter = counter.clone();
                gort::go(move || {
                    for _ in 0..5 {
                        let mut counter = counter.lock().unwrap();
                        gort::sleep(Duration::from_micros(100));
                        *counter += 1;
                    }
                })
            })
            .collect();
        join::<()>(all);
        assert_eq!(*counter.lock().unwrap(), 150);
    }) {
        return;
    }
    ends_well("locks_of_others_over_parks");
}

/// More goroutines than Ps wait for each other by std's means.
#[test]
fn waits_of_std() {
    if is_played(|| {
        let barrier = Arc::new(Barrier::new(20));
        let waits: Vec<_> = (0..20)
            .map(|_| {
                let barrier = barrier.clone();
                gort::go(move || (0..3).filter(|_| barrier.wait().is_leader()).count())
            })
            .collect();
        assert_eq!(join(waits).into_iter().sum::<usize>(), 3);

        let (to, from) = mpsc::sync_channel::<usize>(0);
        let receiver = gort::go(move || from.iter().sum::<usize>());
        let senders = (0..10)
            .map(|i| {
                let to = to.clone();
                gort::go(move || to.send(i).unwrap())
            })
            .collect();
        drop(to);
        join::<()>(senders);
        assert_eq!(receiver.join().unwrap(), 45);

        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let waiting = (0..10)
            .map(|_| {
                let pair = pair.clone();
                gort::go(move || {
                    let mut n = pair.0.lock().unwrap();
                    *n += 1;
                    pair.1.notify_all();
                    drop(pair.1.wait_while(n, |n| *n < 10).unwrap());
                })
            })
            .collect();
        join::<()>(waiting);
    }) {
        return;
    }
    ends_well("waits_of_std");
}

/// The runtime's own waits go on as before, in goroutines whose P was taken while they blocked:
/// channels, locks, timers, sockets, spawns, `blocking`, the end.
#[test]
fn every_call_works_without_a_p() {
    if is_played(|| {
        /// Blocks the thread until sysmon has taken the P.
        fn block() {
            std::thread::sleep(Duration::from_millis(3));
        }
        let _hogs = Hogs::start();
        let (to, from) = gort::chan::bounded(0);
        let (lock, done) = (Arc::new(gort::sync::Mutex::new(0)), Arc::new(AtomicUsize::new(0)));
        let listener = gort::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let accepts = gort::go(move || {
            for _ in 0..10 {
                let (mut stream, _) = listener.accept().unwrap();
                block();
                stream.write_all(b"y").unwrap();
            }
        });
        let all: Vec<_> = (0..10)
            .map(|i| {
                let (to, from, lock, done) = (to.clone(), from.clone(), lock.clone(), done.clone());
                gort::go(move || {
                    block();
                    if i % 2 == 0 {
                        to.send(i).unwrap()
                    } else {
                        _ = from.recv().unwrap()
                    }
                    block();
                    *lock.lock().unwrap() += 1;
                    block();
                    gort::sleep(Duration::from_millis(1));
                    block();
                    assert_eq!(gort::go(|| 7).join().unwrap(), 7);
                    block();
                    gort::blocking(block);
                    block();
                    gort::yield_now();
                    block();
                    let mut stream = gort::net::TcpStream::connect(addr).unwrap();
                    block();
                    assert_eq!(stream.read(&mut [0; 4]).unwrap(), 1);
                    block();
                    gort::select! {
                        recv(gort::chan::after(Duration::from_millis(1))) -> _ => {},
                        recv(gort::chan::never::<()>()) -> _ => {},
                    }
                    {
                        let _lock = gort::lock_os_thread();
                        block();
                        gort::sleep(Duration::from_millis(1));
                        block();
                    }
                    assert!(
                        std::panic::catch_unwind(|| {
                            block();
                            std::panic::resume_unwind(Box::new(()))
                        })
                        .is_err()
                    );
                    done.fetch_add(1, SeqCst);
                    block();
                })
            })
            .collect();
        join(all);
        accepts.join().unwrap();
        assert_eq!((*lock.lock().unwrap(), done.load(SeqCst)), (10, 10));
    }) {
        return;
    }
    ends_well("every_call_works_without_a_p");
}

/// A goroutine that blocks its thread does not keep others from stopping the world, or from
/// changing the number of Ps.
#[test]
fn the_world_stops_beside_blocked_threads() {
    if is_played(|| {
        let n = gort::gomaxprocs();
        let stop = Arc::new(AtomicBool::new(false));
        let all = (0..2 * n)
            .map(|_| {
                let stop = stop.clone();
                gort::go(move || {
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                    let mut times = 0;
                    while !stop.load(Relaxed) {
                        assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
                        times += 1;
                    }
                    times
                })
            })
            .collect();
        for i in 0..20 {
            gort::set_gomaxprocs(1 + i % 3);
            gort::debug::goroutines();
            gort::sleep(Duration::from_millis(5));
        }
        gort::set_gomaxprocs(n);
        stop.store(true, Relaxed);
        assert!(join::<usize>(all).into_iter().all(|times| times > 0));
    }) {
        return;
    }
    ends_well("the_world_stops_beside_blocked_threads");
}

/// A goroutine that computes after it has blocked has no P. It is stopped, and gets its turn among
/// the others.
#[test]
fn one_that_computes_without_a_p_is_stopped() {
    if is_played(|| {
        let before = gort::metrics::snapshot().preemptions;
        let all: Vec<_> = (0..6)
            .map(|_| {
                gort::go(|| {
                    std::thread::sleep(Duration::from_millis(20));
                    let begun = Instant::now();
                    let mut turns = 0u64;
                    while begun.elapsed() < Duration::from_millis(300) {
                        turns += 1;
                    }
                    turns
                })
            })
            .collect();
        join(all);
        let preemptions = gort::metrics::snapshot().preemptions - before;
        assert!(preemptions > 10, "{preemptions}");
    }) {
        return;
    }
    for procs in ["1", "2"] {
        let end = play("one_that_computes_without_a_p_is_stopped", "scene", &[("GOMAXPROCS", procs)]);
        assert_eq!(end.code, Some(0), "{}", end.text);
    }
}
