//! What goroutines cost: time, memory, threads.

use crate::lab::finding::{Finding, os_threads, p50_p99};
use crate::out::Failure;
use crate::rt;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn resident() -> f64 {
    gort_hub::resident_bytes() as f64
}

/// Starts and joins goroutines and then threads, one after the other. Then parks many at once.
pub(super) fn spawn() -> Result<Finding, Failure> {
    const GOROUTINES: u32 = 100_000;
    const THREADS: u32 = 2_000;
    let mut found = Finding::default();
    let t = Instant::now();
    for _ in 0..GOROUTINES {
        let _ = rt::go(|| ()).join();
    }
    let goroutine = t.elapsed().as_nanos() as f64 / f64::from(GOROUTINES);
    let thread = rt::blocking(|| {
        let t = Instant::now();
        for _ in 0..THREADS {
            let _ = std::thread::spawn(|| ()).join();
        }
        t.elapsed().as_nanos() as f64 / f64::from(THREADS)
    });
    found.figure("goroutine_ns", goroutine, "ns to start and join one");
    found.figure("thread_ns", thread, "ns to start and join one");
    found.figure("ratio", thread / goroutine, "times cheaper");
    let threads =
        rt::blocking(|| crate::threads::measure(THREADS as usize)).ok_or("the system starts no threads")?;
    found.figure(
        "thread_bytes",
        (threads.resident_bytes + threads.kernel_stack_bytes) as f64,
        "bytes of a parked one, with its kernel stack",
    );
    found.figure("goroutine_bytes", parked(20_000)?.1, "bytes of a parked one");
    found.held = thread / goroutine >= 50.0;
    Ok(found)
}

/// Parks `n` goroutines and wakes them again. Returns the seconds until all are parked, the bytes
/// of each, and the number of threads while they are parked.
fn parked(n: usize) -> Result<(f64, f64, usize), Failure> {
    let before = resident();
    let (go_on, gate) = rt::chan::bounded::<()>(0);
    let t = Instant::now();
    let all: Vec<_> = (0..n)
        .map(|_| {
            let gate = gate.clone();
            rt::go(move || gate.recv().is_err())
        })
        .collect();
    // A goroutine of `all` is no longer runnable when it waits at the gate.
    while gort::metrics::snapshot().runnable > 0 {
        gort::sleep(Duration::from_millis(1));
    }
    let seconds = t.elapsed().as_secs_f64();
    let bytes = (resident() - before) / n as f64;
    let threads = os_threads();
    drop(go_on);
    for h in all {
        if !h.join().map_err(|e| e.to_string())? {
            return Err("a goroutine got a message that was not sent".into());
        }
    }
    Ok((seconds, bytes, threads))
}

/// Parks a million goroutines at once, or as many as the memory allows.
pub(super) fn million() -> Result<Finding, Failure> {
    const BYTES_EACH: u64 = 10_500;
    let n = (memory_available()? / BYTES_EACH).min(1_000_000) as usize;
    let mut found = Finding::default();
    let (seconds, bytes, threads) = parked(n)?;
    found.figure("goroutines", n as f64, "at once");
    found.figure("seconds", seconds, "s until all are parked");
    found.figure("bytes", bytes, "bytes each");
    found.figure("threads", threads as f64, "OS threads");
    found.held = n == 1_000_000 && threads <= gort::gomaxprocs() + 8;
    if n < 1_000_000 {
        found.note = Some(format!("this machine has memory for {n}"));
    }
    Ok(found)
}

fn memory_available() -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = line
        .and_then(|l| l.trim().split(' ').next())
        .and_then(|n| n.parse().ok())
        .ok_or("no MemAvailable")?;
    Ok(kib * 1024)
}

/// Many goroutines sleep until the same moment.
pub(super) fn sleepers() -> Result<Finding, Failure> {
    let n = (memory_available()? / 21_000).min(200_000) as u32;
    let mut found = Finding::default();
    let until = Instant::now() + Duration::from_secs(3);
    let all: Vec<_> = (0..n)
        .map(|_| {
            rt::go(move || {
                rt::sleep_until(until);
                until.elapsed().as_secs_f64() * 1e3
            })
        })
        .collect();
    gort::sleep(Duration::from_millis(100));
    let threads = os_threads();
    let mut late = Vec::with_capacity(all.len());
    for h in all {
        late.push(h.join().map_err(|e| e.to_string())?);
    }
    let (_, p99) = p50_p99(&mut late);
    found.figure("sleepers", f64::from(n), "at once");
    found.figure("threads", threads as f64, "OS threads while they sleep");
    found.figure("late_p99_ms", p99, "ms late, when all wake at the same moment");
    found.held = threads <= gort::gomaxprocs() + 8;
    Ok(found)
}

/// Idle connections, each with a goroutine that reads.
pub(super) fn idle_conns() -> Result<Finding, Failure> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    let n = ((files.saturating_sub(200) / 2).min(9_000)) as usize;
    let mut found = Finding::default();
    let before = resident();
    let listener = rt::net::TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let accepting = rt::go(move || -> std::io::Result<Vec<_>> {
        (0..n)
            .map(|_| {
                let (mut conn, _) = listener.accept()?;
                Ok(rt::go(move || conn.read(&mut [0; 64])))
            })
            .collect()
    });
    let clients: Vec<_> =
        (0..n).map(|_| rt::net::TcpStream::connect(addr)).collect::<std::io::Result<_>>()?;
    let readers = accepting.join().map_err(|e| e.to_string())??;
    while gort::metrics::snapshot().io_waiters < n {
        gort::sleep(Duration::from_millis(1));
    }
    let bytes = (resident() - before) / n as f64;
    let threads = os_threads();
    // All goroutines wait now, so all threads should sleep.
    let awake = |_: ()| -> Result<u64, Failure> { switches() };
    let at_start = awake(())?;
    rt::blocking(|| std::thread::sleep(Duration::from_secs(1)));
    let wakes = awake(())?.saturating_sub(at_start);
    drop(clients);
    for reader in readers {
        reader.join().map_err(|e| e.to_string())??;
    }
    found.figure("connections", n as f64, "idle");
    found.figure("bytes", bytes, "bytes each, in this process (one end has a goroutine)");
    found.figure("threads", threads as f64, "OS threads");
    found.figure(
        "wakes_per_second",
        wakes as f64,
        "switches of all threads in an idle second, with those of the measurement",
    );
    found.held = threads <= gort::gomaxprocs() + 8 && wakes < 100;
    Ok(found)
}

/// How many voluntary context switches the threads of this process have made.
fn switches() -> Result<u64, Failure> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task?.path().join("status")) else { continue };
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Measures the shortest system call, and the same inside `blocking`.
pub(super) fn syscall() -> Result<Finding, Failure> {
    const N: u32 = 2_000_000;
    let mut found = Finding::default();
    let per_call = |f: &dyn Fn()| {
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let t = Instant::now();
            (0..N / 5).for_each(|_| f());
            best = best.min(t.elapsed().as_nanos() as f64 / f64::from(N / 5));
        }
        best
    };
    let call = || drop(std::hint::black_box(Arc::new(rustix::process::getppid())));
    let raw = per_call(&call);
    let inside = per_call(&|| rt::blocking(call));
    found.figure("raw_ns", raw, "ns for the call, with an allocation");
    found.figure("blocking_ns", inside, "ns for the same inside `blocking`");
    found.figure("overhead_ns", inside - raw, "ns to enter and leave");
    found.held = inside - raw <= 100.0;
    Ok(found)
}
