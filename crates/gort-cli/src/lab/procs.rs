//! Processors: how many there are, which goroutines run on them, and for how long.

use crate::lab::finding::{Finding, p50_p99};
use crate::out::Failure;
use crate::rt;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// A counter with its own cache lines, so that other counters do not slow it down.
#[repr(align(128))]
struct Turns(AtomicU64);

/// CPU-bound goroutines that run until they are told to stop, and how far each has come.
struct Hogs {
    stop: Arc<AtomicBool>,
    turns: Arc<Vec<Turns>>,
    all: Vec<gort::JoinHandle<()>>,
}

impl Hogs {
    fn start(n: usize) -> Hogs {
        let stop = Arc::new(AtomicBool::new(false));
        let turns: Arc<Vec<Turns>> = Arc::new((0..n).map(|_| Turns(AtomicU64::new(0))).collect());
        let all = (0..n)
            .map(|i| {
                let (stop, turns) = (stop.clone(), turns.clone());
                rt::go(move || {
                    while !stop.load(Relaxed) {
                        turns[i].0.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        Hogs { stop, turns, all }
    }

    /// Ends them. Returns the least that one has done, as a share of the most.
    fn end(self) -> Result<f64, Failure> {
        self.stop.store(true, Relaxed);
        for h in self.all {
            h.join().map_err(|e| e.to_string())?;
        }
        let turns = || self.turns.iter().map(|t| t.0.load(Relaxed) as f64);
        Ok(turns().fold(f64::INFINITY, f64::min) / turns().fold(1.0, f64::max))
    }
}

/// The CPU time of this process, in seconds.
fn cpu_seconds() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

pub(super) fn procs() -> Result<Finding, Failure> {
    let mut found = Finding::default();
    let cpus = gort::num_cpu();
    let use_of = |n: usize| -> Result<(f64, f64), Failure> {
        gort::set_gomaxprocs(n);
        let hogs = Hogs::start(4 * cpus);
        let (t, cpu) = (Instant::now(), cpu_seconds());
        gort::sleep(Duration::from_millis(1500));
        let used = (cpu_seconds() - cpu) / t.elapsed().as_secs_f64();
        Ok((used, hogs.end()?))
    };
    let (one, fair_one) = use_of(1)?;
    let (all, fair_all) = use_of(cpus)?;
    found.figure("cpus", cpus as f64, "CPUs here");
    found.figure("cpu_use_with_1", one, "CPUs busy with GOMAXPROCS=1");
    found.figure("cpu_use_with_all", all, "CPUs busy with one P for each CPU");
    found.figure("fairness_with_1", fair_one, "the slowest goroutine's share of the fastest's");
    found.figure("fairness_with_all", fair_all, "the same with all");
    found.held = one < 1.2 && fair_one > 0.0 && fair_all > 0.0 && (cpus == 1 || all > 1.2);
    Ok(found)
}

pub(super) fn preempt() -> Result<Finding, Failure> {
    let mut found = Finding::default();
    gort::set_gomaxprocs(1);
    let hogs = Hogs::start(1);
    gort::yield_now();
    let mut late = Vec::new();
    for _ in 0..100 {
        let t = Instant::now();
        gort::sleep(Duration::from_millis(1));
        late.push(t.elapsed().as_nanos() as f64 / 1e6 - 1.0);
    }
    hogs.end()?;
    let (p50, p99) = p50_p99(&mut late);
    found.figure("late_p50_ms", p50, "ms late: sleeps of 1 ms beside an endless loop, GOMAXPROCS=1");
    found.figure("late_p99_ms", p99, "ms");
    gort::set_gomaxprocs(2);
    let (echo_p50, echo_p99) = echo_beside(8)?;
    found.figure(
        "echo_p50_us",
        echo_p50 * 1e3,
        "µs: an echo every 5 ms beside 8 CPU-bound goroutines, GOMAXPROCS=2",
    );
    found.figure("echo_p99_us", echo_p99 * 1e3, "µs");
    found.figure(
        "preemptions",
        gort::metrics::snapshot().preemptions as f64,
        "times that a goroutine was preempted",
    );
    found.held = p50 < 10.0 && echo_p50 < 10.0;
    Ok(found)
}

/// The round trips through an echo server beside `n` hogs, in milliseconds: one every 5 ms,
/// measured from its intended time. The client is a plain thread.
fn echo_beside(n: usize) -> Result<(f64, f64), Failure> {
    let listener = rt::net::TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = rt::go(move || -> std::io::Result<()> {
        let (mut conn, _) = listener.accept()?;
        conn.set_nodelay(true)?;
        let mut buf = [0; 64];
        loop {
            match conn.read(&mut buf)? {
                0 => return Ok(()),
                n => conn.write_all(&buf[..n])?,
            }
        }
    });
    let hogs = Hogs::start(n);
    let client = std::thread::spawn(move || -> std::io::Result<Vec<f64>> {
        let mut conn = std::net::TcpStream::connect(addr)?;
        conn.set_nodelay(true)?;
        let begun = Instant::now();
        let mut all = Vec::new();
        for round in 0..600 {
            let due = begun + round * Duration::from_millis(5);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            conn.write_all(&[1; 32])?;
            conn.read_exact(&mut [0; 32])?;
            all.push(due.elapsed().as_nanos() as f64 / 1e6);
        }
        Ok(all)
    });
    let mut all = rt::blocking(|| client.join()).map_err(|_| "the client panicked")??;
    server.join().map_err(|e| e.to_string())??;
    hogs.end()?;
    Ok(p50_p99(&mut all))
}

pub(super) fn procresize() -> Result<Finding, Failure> {
    const CHANGES: usize = 200;
    let mut found = Finding::default();
    let hogs = Hogs::start(4);
    let (tx, rx) = rt::chan::bounded::<u64>(8);
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (tx, stop) = (tx.clone(), stop.clone());
            rt::go(move || {
                let mut sent = 0;
                while !stop.load(Relaxed) && tx.send(1).is_ok() {
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    drop(tx);
    let receiver = rt::go(move || rx.iter().sum::<u64>());
    let mut took = Vec::new();
    for i in 0..CHANGES {
        // Until the hogs are on all Ps.
        gort::sleep(Duration::from_millis(5));
        let t = Instant::now();
        gort::set_gomaxprocs([1, 8, 2, 4][i % 4]);
        took.push(t.elapsed().as_nanos() as f64 / 1e6);
    }
    stop.store(true, Relaxed);
    let mut sent = 0u64;
    for h in senders {
        sent += h.join().map_err(|e| e.to_string())?;
    }
    let received = receiver.join().map_err(|e| e.to_string())?;
    hogs.end()?;
    let (p50, p99) = p50_p99(&mut took);
    found.figure("changes", CHANGES as f64, "of GOMAXPROCS under full load");
    found.figure("change_p50_ms", p50, "ms until the caller goes on, queued behind CPU-bound goroutines");
    found.figure("change_p99_ms", p99, "ms");
    let s = gort::metrics::snapshot();
    let mean = s.resize_time.as_secs_f64() * 1e3 / s.resizes.max(1) as f64;
    found.figure("resize_mean_ms", mean, "ms until no more goroutines ran than allowed; the others ran on");
    found.figure("resize_longest_ms", s.resize_longest.as_secs_f64() * 1e3, "ms");
    found.figure("messages", sent as f64, "sent during the changes");
    found.figure("lost", sent.abs_diff(received) as f64, "messages lost");
    found.held = sent == received;
    Ok(found)
}

/// A control group for this process, with the `cpu` controller. When it is dropped, the process
/// moves to its parent.
struct Group {
    dir: PathBuf,
    v1: bool,
}

impl Group {
    fn make() -> Option<Group> {
        let name = format!("gort-lab-{}", std::process::id());
        for (parent, v1) in [("/sys/fs/cgroup/cpu", true), ("/sys/fs/cgroup", false)] {
            let dir = PathBuf::from(parent).join(&name);
            if std::fs::create_dir(&dir).is_ok() {
                let group = Group { dir, v1 };
                if group.dir.join(if v1 { "cpu.cfs_quota_us" } else { "cpu.max" }).exists() {
                    return Some(group);
                }
            }
        }
        None
    }

    fn limit(&self, percent: u32) -> std::io::Result<()> {
        match self.v1 {
            true => std::fs::write(self.dir.join("cpu.cfs_quota_us"), (percent * 1000).to_string()),
            false => std::fs::write(self.dir.join("cpu.max"), format!("{} 100000", percent * 1000)),
        }
    }

    fn enter(&self) -> std::io::Result<()> {
        std::fs::write(self.dir.join("cgroup.procs"), std::process::id().to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let parent = self.dir.parent().map(|p| p.join("cgroup.procs"));
        let _ = parent.map(|procs| std::fs::write(procs, std::process::id().to_string()));
        let _ = std::fs::remove_dir(&self.dir);
    }
}

pub(super) fn cgroup() -> Result<Finding, Failure> {
    let mut found = Finding::default();
    found.figure("cpus", gort::num_cpu() as f64, "CPUs here");
    let Some(group) = Group::make() else {
        found.note = Some("not tested: no control group with the cpu controller can be made here".into());
        return Ok(found);
    };
    gort::set_default_gomaxprocs();
    group.limit(100 * gort::num_cpu() as u32)?;
    group.enter()?;
    let hogs = Hogs::start(1);
    let mut held = true;
    for (percent, expected) in [(50, 1), (150, 2.min(gort::num_cpu())), (100, 1)] {
        group.limit(percent)?;
        let t = Instant::now();
        while gort::gomaxprocs() != expected && t.elapsed() < Duration::from_secs(4) {
            gort::sleep(Duration::from_millis(5));
        }
        held &= gort::gomaxprocs() == expected;
        found.figure(&format!("procs_at_{percent}_percent"), gort::gomaxprocs() as f64, "GOMAXPROCS");
        found.figure(
            &format!("seconds_to_{percent}_percent"),
            t.elapsed().as_secs_f64(),
            "s until GOMAXPROCS followed",
        );
    }
    group.limit(100 * gort::num_cpu() as u32)?;
    hogs.end()?;
    found.held = held;
    Ok(found)
}
