//! Everything at once, at random: goroutines block, compute, lock their threads, change GOMAXPROCS,
//! panic, exit and wait for each other in every way. At the end each one is accounted for.
//!
//! `GORT_CHAOS_SECONDS` says for how long (default: 3). `GORT_CHAOS_SEED` repeats the choices of a
//! run, but not the scheduling.

mod child;

use child::{play, scene};
use gort::sync::{Mutex, Semaphore};
use gort::{Builder, JoinHandle, chan};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How a goroutine ends, and so what its joiner must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Returns,
    Panics,
    Exits,
}

#[derive(Default)]
struct Counts {
    begun: AtomicU64,
    /// Counted by a destructor, so also for goroutines that panic or exit.
    ended: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    locked: AtomicU64,
}

struct Ended(Arc<World>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.counts.ended.fetch_add(1, SeqCst);
    }
}

struct World {
    counts: Counts,
    under_lock: Mutex<u64>,
    under_std_lock: std::sync::Mutex<u64>,
    places: Semaphore,
    tx: chan::Sender<u64>,
    rx: chan::Receiver<u64>,
    until: Instant,
}

/// A small generator (xorshift*), so that a seed has the same meaning everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn spin(d: Duration) {
    let t = Instant::now();
    while t.elapsed() < d {}
}

/// One random step of a goroutine.
fn step(world: &Arc<World>, rng: &mut Rng, depth: u32) {
    let us = |rng: &mut Rng, most| Duration::from_micros(rng.below(most));
    match rng.below(16) {
        0 => gort::yield_now(),
        1 => gort::sleep(us(rng, 500)),
        2 => spin(us(rng, 2000)),
        3 => spin(us(rng, 25_000)),
        4 => {
            let d = us(rng, 2000);
            gort::blocking(|| std::thread::sleep(d));
        }
        5 => {
            let d = us(rng, 500);
            gort::blocking(|| spin(d));
        }
        6 => {
            let _lock = gort::lock_os_thread();
            let before = rustix::thread::gettid();
            gort::sleep(us(rng, 200));
            assert_eq!(rustix::thread::gettid(), before);
        }
        7 => {
            *world.under_lock.lock().unwrap() += 1;
            world.counts.locked.fetch_add(1, SeqCst);
        }
        8 => {
            let mut n = world.under_std_lock.lock().unwrap();
            spin(us(rng, 100));
            *n += 1;
            drop(n);
            world.counts.locked.fetch_add(1, SeqCst);
        }
        9 => {
            let _place = world.places.acquire(1 + rng.below(3) as usize);
            spin(us(rng, 100));
        }
        10 => {
            let sent = world.tx.send_timeout(1, us(rng, 1000)).is_ok();
            world.counts.sent.fetch_add(u64::from(sent), SeqCst);
        }
        11 => {
            if let Ok(n) = world.rx.recv_timeout(us(rng, 1000)) {
                world.counts.received.fetch_add(n, SeqCst);
            }
        }
        12 => {
            let (tx, rx) = chan::bounded(0);
            gort::scope(|s| {
                s.go(|| tx.send(7).unwrap());
                gort::select! {
                    recv(rx) -> n => assert_eq!(n, Ok(7)),
                    recv(world.rx) -> n => {
                        world.counts.received.fetch_add(n.unwrap(), SeqCst);
                        assert_eq!(rx.recv(), Ok(7));
                    }
                }
            });
        }
        13 => {
            if rng.below(20) == 0 {
                gort::set_gomaxprocs(1 + rng.below(6) as usize);
            } else if rng.below(40) == 0 {
                let all = gort::debug::goroutines_at_once();
                assert!(all.iter().all(|g| g.status != gort::debug::Status::Running));
            } else {
                drop(std::hint::black_box(vec![1u8; rng.below(100_000) as usize]));
            }
        }
        // It blocks its thread where gort does not see it.
        14 => std::thread::sleep(us(rng, 2000)),
        _ if depth < 3 => {
            let children: Vec<_> = (0..rng.below(4)).map(|_| start(world, rng.next(), depth + 1)).collect();
            for (child, end) in children {
                check(child, end);
            }
        }
        _ => {}
    }
}

/// Starts a goroutine with random steps.
fn start(world: &Arc<World>, seed: u64, depth: u32) -> (JoinHandle<u64>, End) {
    let mut rng = Rng(seed | 1);
    let end = match rng.below(10) {
        0 => End::Panics,
        1 => End::Exits,
        _ => End::Returns,
    };
    world.counts.begun.fetch_add(1, SeqCst);
    let world = world.clone();
    let stack = [64 << 10, 256 << 10][rng.below(2) as usize];
    let body = move || {
        let _ended = Ended(world.clone());
        let stays_locked = rng.below(30) == 0;
        if stays_locked {
            std::mem::forget(gort::lock_os_thread());
        }
        let mut steps = 0;
        while Instant::now() < world.until && steps < 200 {
            step(&world, &mut rng, depth);
            steps += 1;
        }
        match end {
            End::Returns => steps,
            End::Panics => std::panic::panic_any(steps),
            End::Exits => gort::goexit(),
        }
    };
    (Builder::new().stack_size(stack).spawn(body).unwrap(), end)
}

fn check(handle: JoinHandle<u64>, end: End) {
    let seen = match handle.join() {
        Ok(_) => End::Returns,
        Err(e) if e.is_goexit() => End::Exits,
        Err(e) => {
            let payload = e.into_panic();
            if !payload.is::<u64>() {
                std::panic::resume_unwind(payload); // A failed assertion of a step.
            }
            End::Panics
        }
    };
    assert_eq!(seen, end);
}

fn play_chaos() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<u64>().is_none() {
            eprintln!("{info}");
        }
    }));
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("GORT_CHAOS_SEED")
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("GORT_CHAOS_SEED={seed}");
    let mut rng = Rng(seed | 1);
    let (tx, rx) = chan::bounded(4);
    let world = Arc::new(World {
        counts: Counts::default(),
        under_lock: Mutex::new(0),
        under_std_lock: std::sync::Mutex::new(0),
        places: Semaphore::new(5),
        tx,
        rx,
        until: Instant::now() + Duration::from_secs(number("GORT_CHAOS_SECONDS").unwrap_or(3)),
    });
    let at_start = gort::num_goroutine();
    while Instant::now() < world.until {
        let wave: Vec<_> = (0..40).map(|_| start(&world, rng.next(), 0)).collect();
        for (handle, end) in wave {
            check(handle, end);
        }
    }
    let counts = &world.counts;
    let left = world.rx.try_iter().sum::<u64>();
    assert_eq!(counts.begun.load(SeqCst), counts.ended.load(SeqCst), "goroutines were lost");
    assert_eq!(counts.sent.load(SeqCst), counts.received.load(SeqCst) + left, "messages were lost");
    let under_locks = *world.under_lock.lock().unwrap() + *world.under_std_lock.lock().unwrap();
    assert_eq!(counts.locked.load(SeqCst), under_locks);
    assert_eq!(gort::num_goroutine(), at_start);
    println!("{} goroutines, all accounted for; {:?}", counts.begun.load(SeqCst), gort::metrics::snapshot());
}

#[test]
fn chaos() {
    if let Some(scene) = scene() {
        let builder = gort::Runtime::builder();
        // SAFETY: no goroutine here keeps state of its thread across a park, except under
        // `lock_os_thread`.
        let builder = if scene == "shared" { unsafe { builder.shared_thread_locals() } } else { builder };
        return builder.run(play_chaos).unwrap();
    }
    for mode in ["own", "shared"] {
        let end = play("chaos", mode, &[]);
        assert_eq!(end.code, Some(0), "{mode}: {}", end.text);
    }
}
