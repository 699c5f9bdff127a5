//! Threads: hand-off, limits, locked threads, and pools.

use crate::lab::finding::{Finding, os_threads, p50_p99};
use crate::out::Failure;
use crate::rt;
use gort::affine::AffinePool;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A read from a pipe blocks its thread. With one P, measures how soon another goroutine runs.
pub(super) fn handoff() -> Result<Finding, Failure> {
    let mut found = Finding::default();
    gort::set_gomaxprocs(1);
    let mut waits = Vec::new();
    for _ in 0..50 {
        let (mut rx, mut tx) = std::io::pipe()?;
        let entered = Arc::new(rt::sync::Mutex::new(None));
        let reader = {
            let entered = entered.clone();
            rt::go(move || {
                *entered.lock().unwrap_or_else(|e| e.into_inner()) = Some(Instant::now());
                rt::blocking(|| rx.read_exact(&mut [0]))
            })
        };
        // This returns only when this goroutine has the P again.
        gort::yield_now();
        let since = entered.lock().unwrap_or_else(|e| e.into_inner()).ok_or("the reader has not run")?;
        waits.push(since.elapsed().as_nanos() as f64 / 1e3);
        tx.write_all(&[1])?;
        reader.join().map_err(|e| e.to_string())??;
    }
    let (p50, p99) = p50_p99(&mut waits);
    found.figure("handoff_p50_us", p50, "µs from entering the call until another goroutine runs");
    found.figure("handoff_p99_us", p99, "µs");
    // A thousand goroutines that read from the network hold no thread.
    let before = os_threads();
    let pairs: Vec<_> = (0..1000).map(|_| rt::net::UnixStream::pair()).collect::<std::io::Result<_>>()?;
    let (readers, writers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|(mut a, b)| (rt::go(move || a.read(&mut [0])), b)).unzip();
    while gort::metrics::snapshot().io_waiters < 1000 {
        gort::sleep(Duration::from_millis(1));
    }
    let more = os_threads().saturating_sub(before);
    drop(writers);
    for reader in readers {
        reader.join().map_err(|e| e.to_string())??;
    }
    found.figure(
        "threads_for_1000_reads",
        more as f64,
        "more OS threads for 1 000 goroutines that read from sockets",
    );
    found.held = p50 < 1000.0 && more <= 1;
    Ok(found)
}

/// Makes `n` blocking calls at once, and returns the most threads that there were.
fn storm_of(n: usize) -> Result<usize, Failure> {
    let most = Arc::new(AtomicUsize::new(0));
    let all: Vec<_> = (0..n)
        .map(|_| {
            let most = most.clone();
            rt::go(move || {
                rt::blocking(|| std::thread::sleep(Duration::from_millis(10)));
                most.fetch_max(gort::metrics::snapshot().threads, SeqCst);
            })
        })
        .collect();
    for h in all {
        h.join().map_err(|e| e.to_string())?;
    }
    Ok(most.load(SeqCst))
}

pub(super) fn storm() -> Result<Finding, Failure> {
    const CALLS: usize = 1000;
    const LIMIT: usize = 16;
    let mut found = Finding::default();
    let baseline = os_threads();
    gort::set_blocking_limit(LIMIT);
    let bounded = storm_of(CALLS)?;
    gort::set_blocking_limit(0);
    let unbounded = storm_of(CALLS)?;
    let t = Instant::now();
    let room = gort::gomaxprocs() + 5;
    while os_threads() > baseline.max(room) && t.elapsed() < Duration::from_secs(20) {
        gort::sleep(Duration::from_millis(20));
    }
    found.figure("calls", CALLS as f64, "at once, 10 ms each");
    found.figure("threads_with_limit", bounded as f64, "threads of the runtime with a limit of 16");
    found.figure("threads_without", unbounded as f64, "threads of the runtime without a limit");
    found.figure("seconds_back", t.elapsed().as_secs_f64(), "s until the threads had ended");
    found.held = bounded <= LIMIT + gort::gomaxprocs() + 4 && t.elapsed() <= Duration::from_secs(10);
    Ok(found)
}

pub(super) fn lock_os_thread() -> Result<Finding, Failure> {
    const ROUNDS: usize = 5000;
    let mut found = Finding::default();
    let round_trip = |locked: bool| -> Result<(f64, usize), Failure> {
        let (to, at_worker) = rt::chan::bounded::<usize>(0);
        let (back, answers) = rt::chan::bounded::<usize>(0);
        let worker = rt::go(move || {
            let _lock = locked.then(gort::lock_os_thread);
            let mut threads = HashSet::new();
            for n in at_worker {
                threads.insert(rustix::thread::gettid());
                if back.send(n).is_err() {
                    break;
                }
            }
            threads.len()
        });
        let t = Instant::now();
        for n in 0..ROUNDS {
            to.send(n)?;
            if answers.recv()? != n {
                return Err("an answer was lost".into());
            }
        }
        let us = t.elapsed().as_nanos() as f64 / 1e3 / ROUNDS as f64;
        drop(to);
        Ok((us, worker.join().map_err(|e| e.to_string())?))
    };
    let (free, _) = round_trip(false)?;
    let (locked, threads) = round_trip(true)?;
    found.figure("round_trip_us", free, "µs over channels to a free goroutine");
    found.figure("round_trip_locked_us", locked, "µs to a locked one");
    found.figure("threads_seen", threads as f64, "threads that the locked goroutine ran on");
    // This goroutine ends locked, so its thread ends as well.
    let tid = rt::go(|| {
        std::mem::forget(gort::lock_os_thread());
        rustix::thread::gettid().as_raw_nonzero().get()
    });
    let tid = tid.join().map_err(|e| e.to_string())?;
    let t = Instant::now();
    let there = || std::path::Path::new(&format!("/proc/self/task/{tid}")).exists();
    while there() && t.elapsed() < Duration::from_secs(5) {
        gort::sleep(Duration::from_millis(1));
    }
    found.figure(
        "thread_ended",
        f64::from(u8::from(!there())),
        "1: the thread of a goroutine that ended locked has ended",
    );
    found.held = threads == 1 && !there();
    Ok(found)
}

pub(super) fn affine() -> Result<Finding, Failure> {
    const JOBS: usize = 20_000;
    const WORKERS: usize = 4;
    let mut found = Finding::default();
    let pool = AffinePool::new(WORKERS, |_| (), |_| ());
    let homes: Vec<_> = (0..WORKERS)
        .map(|worker| pool.submit(worker, rustix::thread::gettid).join().map_err(|e| e.to_string()))
        .collect::<Result<_, _>>()?;
    let t = Instant::now();
    let jobs: Vec<_> =
        (0..JOBS).map(|i| (i % WORKERS, pool.submit(i % WORKERS, rustix::thread::gettid))).collect();
    let mut strays = 0;
    for (worker, job) in jobs {
        strays += usize::from(job.join().map_err(|e| e.to_string())? != homes[worker]);
    }
    let us = t.elapsed().as_nanos() as f64 / 1e3 / JOBS as f64;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let panicked = pool.submit(0, || std::panic::panic_any(1)).join().is_err();
    std::panic::set_hook(hook);
    let lives = pool.submit(0, rustix::thread::gettid).join().is_ok_and(|tid| tid == homes[0]);
    pool.shutdown();
    found.figure("jobs", JOBS as f64, "spread over the workers");
    found.figure("us_per_job", us, "µs for each, submitted and joined");
    found.figure("strays", strays as f64, "jobs that ran on another thread than their worker's");
    found.figure(
        "survived_a_panic",
        f64::from(u8::from(panicked && lives)),
        "1: the worker goes on after a job that has panicked",
    );
    found.held = strays == 0 && panicked && lives;
    Ok(found)
}
