//! The workloads on may, except most of those with channels: its channels are unbounded.

use super::*;
use may::go;
use may::sync::mpsc::{self, Sender};
use may::sync::{Mutex, RwLock, WaitGroup};
use std::hint::black_box;
use std::sync::Arc;

/// Runs a workload; this process does nothing else. `None`: there is no such workload.
pub(crate) fn measure(workload: &str, n: u64, procs: usize) -> Option<Vec<f64>> {
    let each = |run: fn(u64) -> f64| move |n: u64| vec![run(n) / n as f64];
    let run: Box<dyn FnOnce(u64) -> Vec<f64> + Send> = match workload {
        "spawn-join" => Box::new(each(spawn_join)),
        "spawn-1" => Box::new(each(spawn_all)),
        "spawn-8" => Box::new(each(spawn_from_eight)),
        "yield-2" => Box::new(each(|n| yielding(2, n))),
        "yield-1000" => Box::new(each(|n| yielding(1000, n))),
        "ping-pong" => Box::new(each(ping_pong)),
        "mutex" => Box::new(each(|n| mutex(1, n))),
        "mutex-8" => Box::new(each(|n| mutex(8, n))),
        "rwlock-8" => Box::new(each(rwlock)),
        "fib" => Box::new(fork_join),
        "sort" => Box::new(each(sort)),
        "sleepers-10k" => Box::new(sleep_in_turn),
        "late" => Box::new(late),
        _ => return None,
    };
    configure(procs);
    Some(go!(move || run(n)).join().unwrap())
}

pub(super) fn configure(procs: usize) {
    // In words: twice may's default of 32 KiB, for which a panic message is too large.
    may::config().set_workers(procs).set_stack_size(0x2000);
}

fn spawn_join(n: u64) -> f64 {
    let start = Instant::now();
    for i in 0..n {
        black_box(go!(move || i).join().unwrap());
    }
    nanos(start)
}

fn spawn_all(n: u64) -> f64 {
    let start = Instant::now();
    let all = WaitGroup::new();
    for i in 0..n {
        let one = all.clone();
        go!(move || {
            black_box(i);
            drop(one);
        });
    }
    all.wait();
    nanos(start)
}

fn spawn_from_eight(n: u64) -> f64 {
    let start = Instant::now();
    let spawners: Vec<_> = (0..8).map(|_| go!(move || spawn_all(n / 8))).collect();
    spawners.into_iter().for_each(|h| use_up(h.join().unwrap()));
    nanos(start)
}

fn yielding(coroutines: u64, n: u64) -> f64 {
    let start = Instant::now();
    let all: Vec<_> = (0..coroutines)
        .map(|_| go!(move || (0..n / coroutines).for_each(|_| may::coroutine::yield_now())))
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    nanos(start)
}

fn ping_pong(n: u64) -> f64 {
    let (ping, pinged) = mpsc::channel::<u64>();
    let (pong, ponged): (Sender<u64>, _) = mpsc::channel();
    go!(move || pinged.iter().for_each(|i| pong.send(i).unwrap()));
    let start = Instant::now();
    for i in 0..n {
        ping.send(i).unwrap();
        black_box(ponged.recv().unwrap());
    }
    nanos(start)
}

fn together(coroutines: u64, n: u64, f: impl Fn(u64) + Send + Sync + 'static) -> f64 {
    let f = Arc::new(f);
    let start = Instant::now();
    let all: Vec<_> = (0..coroutines)
        .map(|_| {
            let f = f.clone();
            go!(move || (0..n / coroutines).for_each(|i| f(i)))
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    nanos(start)
}

fn mutex(coroutines: u64, n: u64) -> f64 {
    let count = Mutex::new(0u64);
    together(coroutines, n, move |_| *count.lock().unwrap() += 1)
}

fn rwlock(n: u64) -> f64 {
    let count = RwLock::new(0u64);
    together(8, n, move |i| match i % WRITES_ONE_OF {
        0 => *count.write().unwrap() += 1,
        _ => use_up(*count.read().unwrap()),
    })
}

fn fork_join(n: u64) -> Vec<f64> {
    fn fib(n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let other = go!(move || fib(n - 1));
        fib(n - 2) + other.join().unwrap()
    }
    let (k, forks) = fib_of(n);
    let start = Instant::now();
    black_box(fib(k));
    vec![nanos(start) / forks as f64]
}

fn sort(n: u64) -> f64 {
    fn quick_sort(mut part: Part) {
        if part.get().len() <= GRAIN {
            return part.get().sort_unstable();
        }
        let (low, high) = part.halves();
        let other = go!(move || quick_sort(low));
        quick_sort(high);
        other.join().unwrap();
    }
    let mut v = numbers(n);
    let start = Instant::now();
    // SAFETY: `v` is not touched before all coroutines have ended.
    quick_sort(unsafe { Part::new(&mut v) });
    let total = nanos(start);
    assert!(v.is_sorted());
    total
}

fn sleep_in_turn(n: u64) -> Vec<f64> {
    let (start, cpu) = (Instant::now(), cpu_ns());
    let one = move || {
        let mut late = Vec::new();
        while start.elapsed() < NAPS_LAST {
            let before = Instant::now();
            may::coroutine::sleep(NAP);
            late.push(before.elapsed().saturating_sub(NAP).as_nanos() as u64);
        }
        late
    };
    let all: Vec<_> = (0..n).map(|_| go!(one)).collect();
    let mut late: Vec<u64> = all.into_iter().flat_map(|h| h.join().unwrap()).collect();
    let cpu = (cpu_ns() - cpu) / late.len() as f64;
    vec![cpu, percentile(&mut late, 50), percentile(&mut late, 99)]
}

fn late(n: u64) -> Vec<f64> {
    let once = |_| {
        let start = Instant::now();
        may::coroutine::sleep(SHORT_NAP);
        start.elapsed().saturating_sub(SHORT_NAP).as_nanos() as u64
    };
    let mut late: Vec<u64> = (0..n).map(once).collect();
    vec![percentile(&mut late, 50), percentile(&mut late, 99)]
}
