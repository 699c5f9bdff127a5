//! Known problems of other runtimes that no other test file covers; `docs/peers.md` has the whole
//! list. Each scene runs in a process of its own, because the scenes set GOMAXPROCS and limits.

mod child;

use child::{play, scene};
use gort::{blocking, chan, go, sync};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Plays this test's scene with `env` and checks that it succeeds.
fn ends_well(test: &str, env: &[(&str, &str)]) {
    let end = play(test, "scene", env);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// tokio's LIFO slot cannot be stolen from, so a task that a CPU-bound one has just woken waits for
/// it. Here the CPU-bound goroutine ends only when the woken one has run, on the other P.
#[test]
fn a_goroutine_that_a_hog_wakes_runs() {
    if scene().is_some() {
        return gort::run(|| {
            for _ in 0..100 {
                let (wake, woken) = chan::bounded(1);
                let ran = Arc::new(AtomicBool::new(false));
                let runs = ran.clone();
                let readied = go(move || {
                    woken.recv().unwrap();
                    runs.store(true, SeqCst);
                });
                gort::yield_now();
                wake.send(()).unwrap();
                while !ran.load(SeqCst) {
                    std::hint::spin_loop();
                }
                readied.join().unwrap();
            }
        });
    }
    ends_well("a_goroutine_that_a_hog_wakes_runs", &[("GOMAXPROCS", "2")]);
}

/// tokio's `spawn_blocking` stalls at 60 000 to 100 000 calls. Here 100 000 goroutines call
/// `blocking` at once: as many are inside as the limit allows, the others park.
#[test]
fn a_hundred_thousand_blocking_calls() {
    if scene().is_some() {
        return gort::run(|| {
            let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let calls: Vec<_> = (0..100_000)
                .map(|i| {
                    let (inside, most) = (inside.clone(), most.clone());
                    go(move || {
                        blocking(|| {
                            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                            if i % 100 == 0 {
                                rustix::thread::sched_yield();
                            }
                            inside.fetch_sub(1, SeqCst);
                        });
                        i
                    })
                })
                .collect();
            let sum: usize = calls.into_iter().map(|call| call.join().unwrap()).sum();
            assert_eq!(sum, 100_000 * 99_999 / 2);
            assert!(most.load(SeqCst) <= 16, "{} inside at once", most.load(SeqCst));
        });
    }
    ends_well("a_hundred_thousand_blocking_calls", &[("GORT_BLOCKING_LIMIT", "16")]);
    ends_well("a_hundred_thousand_blocking_calls", &[("GORT_BLOCKING_LIMIT", "16"), ("GOMAXPROCS", "1")]);
}

/// If a thread cannot be created, a message says so and what to do; tokio's `spawn_blocking` hangs.
#[test]
fn no_more_threads_is_said() {
    if scene().is_some() {
        return gort::run(|| {
            no_more_threads();
            let (mut hold, held) = UnixStream::pair().unwrap();
            let held = Arc::new(held);
            let calls: Vec<_> = (0..50)
                .map(|_| {
                    let held = held.clone();
                    go(move || blocking(|| (&*held).read_exact(&mut [0]).unwrap()))
                })
                .collect();
            // The message comes long before; without the limit all goroutines are inside by then.
            gort::sleep(Duration::from_secs(10));
            hold.write_all(&[0; 50]).unwrap();
            calls.into_iter().for_each(|call| call.join().unwrap());
        });
    }
    let end = play("no_more_threads_is_said", "scene", &[("GOMAXPROCS", "2")]);
    assert_eq!(end.code, Some(2), "{}", end.text);
    assert!(end.text.contains("gort: failed to create new OS thread (have "), "{}", end.text);
    assert!(end.text.contains("ulimit -u") && end.text.contains("[syscall]"), "{}", end.text);
}

/// Makes the system refuse more threads for this process.
fn no_more_threads() {
    // Root has no such limit, so this becomes another user; a process that cannot is not root.
    // SAFETY: plain system calls, which libc applies to the whole process.
    unsafe {
        libc::setuid(65534);
        let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &limit), 0);
    }
}

/// If a thread cannot be created, the runtime goes on with the threads it has: calls that block
/// end, and CPU-bound goroutines take turns.
#[test]
fn no_more_threads_is_survived() {
    if scene().is_some() {
        return gort::run(|| {
            no_more_threads();
            let hogs: Vec<_> = (0..6)
                .map(|_| {
                    go(|| {
                        let until = Instant::now() + Duration::from_millis(40);
                        while Instant::now() < until {}
                    })
                })
                .collect();
            let calls: Vec<_> =
                (0..50).map(|_| go(|| blocking(|| std::thread::sleep(Duration::from_millis(5))))).collect();
            calls.into_iter().for_each(|call| call.join().unwrap());
            hogs.into_iter().for_each(|hog| hog.join().unwrap());
        });
    }
    let end = play("no_more_threads_is_survived", "scene", &[("GOMAXPROCS", "2")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
    assert_eq!(end.text.matches("the system refuses another OS thread").count(), 1, "{}", end.text);
}

/// Loom's carriers: more goroutines than Ps are in foreign code and wait for another goroutine,
/// which holds a lock meanwhile. That goroutine goes on. (Also may: a database driver that blocks
/// stops all workers.)
#[test]
fn a_lock_holder_runs_beside_blocked_ones() {
    if scene().is_some() {
        return gort::run(|| {
            let lock = Arc::new(sync::Mutex::new(0));
            let (mut hold, held) = UnixStream::pair().unwrap();
            let held = Arc::new(held);
            let holder = lock.lock().unwrap();
            let blocked: Vec<_> = (0..16)
                .map(|_| {
                    let (lock, held) = (lock.clone(), held.clone());
                    go(move || {
                        blocking(|| (&*held).read_exact(&mut [0]).unwrap());
                        *lock.lock().unwrap() += 1;
                    })
                })
                .collect();
            let others: Vec<_> = (0..16)
                .map(|_| {
                    let lock = lock.clone();
                    go(move || *lock.lock().unwrap() += 1)
                })
                .collect();
            gort::sleep(Duration::from_millis(5));
            drop(holder);
            others.into_iter().for_each(|other| other.join().unwrap());
            hold.write_all(&[0; 16]).unwrap();
            blocked.into_iter().for_each(|call| call.join().unwrap());
            assert_eq!(*lock.lock().unwrap(), 32);
        });
    }
    ends_well("a_lock_holder_runs_beside_blocked_ones", &[("GOMAXPROCS", "2")]);
}
