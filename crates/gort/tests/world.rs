//! The world is stopped to see all goroutines at one moment, beside goroutines that compute, are
//! locked to their threads, block, start and end (GO-CASES S1, S10, S11, S16, S25, S27). Each scene
//! has a process of its own, in both thread-local modes.

mod child;

use child::{ends_well_in_both_modes as ends_well, is_played};
use gort::chan::bounded;
use gort::debug::{Goroutine, Status, WaitReason, goroutines_at_once};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;

fn named(name: &str, f: impl FnOnce() + Send + 'static) -> gort::JoinHandle<()> {
    gort::Builder::new().name(name.into()).spawn(f).unwrap()
}

/// Starts `n` goroutines with loops without calls. They end when `stop` is set.
fn hogs(n: usize, stop: &Arc<AtomicBool>) -> Vec<gort::JoinHandle<()>> {
    let begun = Arc::new(AtomicU64::new(0));
    let all = (0..n)
        .map(|_| {
            let (stop, begun) = (stop.clone(), begun.clone());
            named("computes", move || {
                begun.fetch_add(1, SeqCst);
                while !stop.load(Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    while begun.load(SeqCst) < n as u64 {
        gort::yield_now();
    }
    all
}

fn of<'a>(all: &'a [Goroutine], name: &str) -> Vec<&'a Goroutine> {
    all.iter().filter(|g| g.name.as_deref() == Some(name)).collect()
}

/// One goroutine of each kind: all are listed with their states, and all go on afterwards.
#[test]
fn against_locked_blocked_and_spinning() {
    if is_played(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let (tx, rx) = bounded::<()>(0);
        let (mut reads, mut pipe) = std::io::pipe().unwrap();
        let (here, there) = gort::net::UnixStream::pair().unwrap();
        let entered = Arc::new(AtomicBool::new(false));
        let mut all = hogs(3, &stop);
        let flag = stop.clone();
        all.push(named("locked, computes", move || {
            let _lock = gort::lock_os_thread();
            while !flag.load(Relaxed) {
                std::hint::spin_loop();
            }
        }));
        let receiver = rx.clone();
        all.push(named("locked, receives", move || {
            let _lock = gort::lock_os_thread();
            assert!(receiver.recv().is_err());
        }));
        all.push(named("receives", move || assert!(rx.recv().is_err())));
        let flag = entered.clone();
        all.push(named("blocks", move || {
            gort::blocking(|| {
                flag.store(true, SeqCst);
                reads.read_exact(&mut [0]).unwrap();
            });
        }));
        all.push(named("reads", move || assert_eq!((&here).read(&mut [0]).unwrap(), 0)));
        drop(named("sleeps", || gort::sleep(Duration::from_secs(3600))));
        let waits = |g: &Goroutine| matches!(g.status, Status::Waiting(_));
        while !entered.load(SeqCst)
            || ["locked, receives", "receives", "reads", "sleeps"]
                .iter()
                .any(|name| !of(&gort::debug::goroutines(), name).into_iter().all(waits))
        {
            gort::sleep(Duration::from_millis(1));
        }
        for _ in 0..20 {
            let seen = goroutines_at_once();
            assert_eq!(seen.len(), all.len() + 2);
            assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id));
            assert!(seen.iter().all(|g| g.status != Status::Running), "{seen:?}");
            let status = |name: &str| of(&seen, name)[0].status;
            assert_eq!(of(&seen, "computes").len(), 3);
            assert!(of(&seen, "computes").iter().all(|g| g.status == Status::Runnable), "{seen:?}");
            assert_eq!(status("locked, computes"), Status::Runnable);
            assert_eq!(status("locked, receives"), Status::Waiting(WaitReason::ChanReceive));
            assert!(of(&seen, "locked, receives")[0].locked_to_thread);
            assert_eq!(status("receives"), Status::Waiting(WaitReason::ChanReceive));
            assert_eq!(status("blocks"), Status::Syscall);
            assert_eq!(status("reads"), Status::Waiting(WaitReason::IoWait));
            assert_eq!(status("sleeps"), Status::Waiting(WaitReason::Sleep));
            // This goroutine asks from inside a blocking call.
            assert_eq!(of(&seen, "main").len() + seen.iter().filter(|g| g.name.is_none()).count(), 1);
        }
        let s = gort::metrics::snapshot();
        assert!(s.stops >= 20, "{s:?}");
        assert!(s.stop_stopping_time <= s.stop_time && s.stop_longest <= s.stop_time, "{s:?}");
        assert!(s.stop_stopping_longest > Duration::ZERO, "{s:?}");
        stop.store(true, SeqCst);
        drop((tx, there));
        pipe.write_all(&[1]).unwrap();
        all.into_iter().for_each(|h| h.join().unwrap());
    }) {
        return;
    }
    ends_well("against_locked_blocked_and_spinning", "2");
}

/// Two goroutines that hand a token to each other are never both seen waiting for it.
#[test]
fn it_is_one_moment() {
    if is_played(|| {
        let (to, from) = bounded::<u64>(1);
        let (back, answers) = bounded::<u64>(1);
        let stop = Arc::new(AtomicBool::new(false));
        let pong = named("player", move || {
            while let Ok(n) = from.recv() {
                if back.send(n).is_err() {
                    break;
                }
            }
        });
        let flag = stop.clone();
        let ping = named("player", move || {
            while !flag.load(Relaxed) {
                to.send(1).unwrap();
                assert_eq!(answers.recv(), Ok(1));
            }
        });
        for _ in 0..300 {
            let seen = goroutines_at_once();
            let players = of(&seen, "player");
            assert_eq!(players.len(), 2);
            let both_wait = players.iter().all(|g| matches!(g.status, Status::Waiting(_)));
            assert!(!both_wait, "no goroutine has the token: {players:?}");
            gort::yield_now();
        }
        stop.store(true, Relaxed);
        ping.join().unwrap();
        pong.join().unwrap();
    }) {
        return;
    }
    ends_well("it_is_one_moment", "2");
}

/// GO-CASES S1, and S10, S16 with CPU-bound goroutines: stopping, resizing, and goroutines that
/// start one another without end.
#[test]
fn s1_stops_beside_resizing_and_spawning() {
    if is_played(|| {
        fn next(stop: Arc<AtomicBool>, generations: Arc<AtomicU64>) {
            generations.fetch_add(1, Relaxed);
            if !stop.load(SeqCst) {
                gort::go(move || next(stop, generations));
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let generations = Arc::new(AtomicU64::new(0));
        next(stop.clone(), generations.clone());
        let hogs = hogs(2, &stop);
        let stopper = gort::go(|| (0..200).for_each(|_| assert!(goroutines_at_once().len() >= 4)));
        let resizer = gort::go(|| (0..200).map(|i| gort::set_gomaxprocs(2 + i % 2)).sum::<usize>());
        stopper.join().unwrap();
        resizer.join().unwrap();
        // They come on also where all of that took no time.
        while generations.load(Relaxed) < 100 {
            gort::yield_now();
        }
        stop.store(true, SeqCst);
        hogs.into_iter().for_each(|h| h.join().unwrap());
        assert_eq!(gort::metrics::snapshot().stops, 200);
    }) {
        return;
    }
    ends_well("s1_stops_beside_resizing_and_spawning", "3");
}

/// GO-CASES S25, S27: first locks, and threads that end with their goroutines, beside stops without
/// end.
#[test]
fn s27_locked_ends_beside_stops() {
    if is_played(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let hogs = hogs(2, &stop);
        for _ in 0..100 {
            let locked: Vec<_> =
                (0..2).map(|_| gort::go(|| std::mem::forget(gort::lock_os_thread()))).collect();
            goroutines_at_once();
            locked.into_iter().for_each(|h| h.join().unwrap());
        }
        stop.store(true, SeqCst);
        hogs.into_iter().for_each(|h| h.join().unwrap());
    }) {
        return;
    }
    ends_well("s27_locked_ends_beside_stops", "4");
}

/// Timers and I/O that become due while the world is stopped are not lost, nor are messages that
/// threads send meanwhile.
#[test]
fn nothing_that_comes_meanwhile_is_lost() {
    if is_played(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let (tx, rx) = bounded::<u64>(0);
        let thread = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut sent = 0;
                while !stop.load(SeqCst) {
                    tx.send(1).unwrap();
                    sent += 1;
                }
                sent
            })
        };
        let receiver = gort::go(move || rx.iter().sum::<u64>());
        let (mut here, mut there) = gort::net::UnixStream::pair().unwrap();
        let echo =
            gort::go(move || while there.read_exact(&mut [0]).is_ok() && there.write_all(&[1]).is_ok() {});
        let sleeper = {
            let stop = stop.clone();
            gort::go(move || {
                while !stop.load(SeqCst) {
                    gort::sleep(Duration::from_micros(100));
                }
            })
        };
        let stopper = {
            let stop = stop.clone();
            gort::go(move || {
                while !stop.load(SeqCst) {
                    goroutines_at_once();
                }
            })
        };
        for _ in 0..500 {
            here.write_all(&[1]).unwrap();
            here.read_exact(&mut [0]).unwrap();
            gort::sleep(Duration::from_micros(20));
        }
        stop.store(true, SeqCst);
        drop(here);
        assert_eq!(thread.join().unwrap(), receiver.join().unwrap());
        echo.join().unwrap();
        sleeper.join().unwrap();
        stopper.join().unwrap();
    }) {
        return;
    }
    ends_well("nothing_that_comes_meanwhile_is_lost", "2");
}
