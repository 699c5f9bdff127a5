//! The workloads on go-lib, except those that need what it lacks: its `select!` takes at most four
//! receivers, and it cannot lock a goroutine to its thread.
//!
//! Some of these are not in the table, because they fail at its sizes: see `bench/README.md`.

use super::*;
use go_lib::chan::{Receiver, Sender, chan};
use go_lib::sync::{Mutex, RwLock, WaitGroup};
use go_lib::{context, go, scope, select};
use std::hint::black_box;
use std::sync::Arc;

type Run = Box<dyn FnOnce(u64) -> Vec<f64> + Send>;

/// Runs a workload; this process does nothing else. `None`: there is no such workload.
pub(crate) fn measure(workload: &str, n: u64, procs: usize) -> Option<Vec<f64>> {
    let each = |run: fn(u64) -> f64| move |n: u64| vec![run(n) / n as f64];
    let run: Run = match workload {
        "spawn-join" => Box::new(each(spawn_join)),
        "spawn-1" => Box::new(each(spawn_all)),
        "spawn-8" => Box::new(each(spawn_from_eight)),
        "yield-2" => Box::new(each(|n| together(2, n, |_| go_lib::gosched()))),
        "yield-1000" => Box::new(each(|n| together(1000, n, |_| go_lib::gosched()))),
        "ping-pong" => Box::new(each(ping_pong)),
        "chan-1-1" => Box::new(each(|n| channel(1, 1, 0, n))),
        "chan-4-4" => Box::new(each(|n| channel(4, 4, 0, n))),
        "chan-1-1-buf" => Box::new(each(|n| channel(1, 1, 1024, n))),
        "chan-4-4-buf" => Box::new(each(|n| channel(4, 4, 1024, n))),
        "chan-1-4-buf" => Box::new(each(|n| channel(1, 4, 1024, n))),
        "select-2-ready" => Box::new(each(select_2_ready)),
        "select-2" => Box::new(each(select_2)),
        "timeout" => Box::new(each(timeout)),
        "mutex" => Box::new(each(|n| mutex(1, n))),
        "mutex-8" => Box::new(each(|n| mutex(8, n))),
        "rwlock-8" => Box::new(each(rwlock)),
        "skynet" => Box::new(skynet),
        "fib" => Box::new(fork_join),
        "sort" => Box::new(each(sort)),
        "syscall" => Box::new(syscall),
        "sleepers-1m" => Box::new(each(sleep_once)),
        "sleepers-10k" => Box::new(sleep_in_turn),
        "late" => Box::new(late),
        "handoff" => Box::new(handoff),
        "parked" => Box::new(parked),
        _ => return None,
    };
    configure(procs);
    Some(in_runtime(run, n))
}

/// Only the environment limits its Ps: when the number is lowered later, the others go on.
#[expect(clippy::disallowed_methods, reason = "go-lib reads it there, and no other thread has begun")]
pub(super) fn configure(procs: usize) {
    // SAFETY: no other thread has begun.
    unsafe { std::env::set_var("GOMAXPROCS", procs.to_string()) };
}

/// Runs `run` as the first goroutine.
#[go_lib::main]
fn in_runtime(run: Run, n: u64) -> Vec<f64> {
    run(n)
}

fn spawn_join(n: u64) -> f64 {
    let start = Instant::now();
    scope(|s| (0..n).for_each(|i| use_up(s.go(move || i).join().unwrap())));
    nanos(start)
}

fn spawn_all(n: u64) -> f64 {
    let start = Instant::now();
    let all = Arc::new(WaitGroup::new());
    for i in 0..n {
        all.add(1);
        let all = all.clone();
        go!(move || {
            black_box(i);
            all.done();
        });
    }
    all.wait();
    nanos(start)
}

fn spawn_from_eight(n: u64) -> f64 {
    let start = Instant::now();
    all_of(8, || use_up(spawn_all(n / 8)));
    nanos(start)
}

/// Runs `f` in this many goroutines.
fn all_of(goroutines: u64, f: impl Fn() + Sync) {
    scope(|s| {
        let all: Vec<_> = (0..goroutines).map(|_| s.go(&f)).collect();
        all.into_iter().for_each(|h| h.join().unwrap());
    });
}

/// Runs `f` `n` times in all, divided over this many goroutines.
fn together(goroutines: u64, n: u64, f: impl Fn(u64) + Sync) -> f64 {
    let start = Instant::now();
    all_of(goroutines, || (0..n / goroutines).for_each(&f));
    nanos(start)
}

fn ping_pong(n: u64) -> f64 {
    let (ping, pinged) = chan::<u64>(0);
    let (pong, ponged) = chan::<u64>(0);
    go!(move || each_of(&pinged).for_each(|i| pong.send(i)));
    let start = Instant::now();
    for i in 0..n {
        ping.send(i);
        black_box(ponged.recv().unwrap());
    }
    let total = nanos(start);
    ping.close(); // Dropping the sender does not close the channel.
    total
}

/// Receives until the channel is closed.
fn each_of<T: Send + 'static>(rx: &Receiver<T>) -> impl Iterator<Item = T> {
    std::iter::from_fn(|| rx.recv())
}

fn channel(senders: u64, receivers: u64, buffer: usize, n: u64) -> f64 {
    let (tx, rx) = chan::<u64>(buffer);
    let start = Instant::now();
    scope(|s| {
        let send = || (0..n / senders).for_each(|i| tx.send(i));
        let sending: Vec<_> = (0..senders).map(|_| s.go(send)).collect();
        let receive = || each_of(&rx).sum::<u64>();
        let receiving: Vec<_> = (0..receivers).map(|_| s.go(receive)).collect();
        sending.into_iter().for_each(|h| h.join().unwrap());
        tx.close();
        receiving.into_iter().for_each(|h| use_up(h.join().unwrap()));
    });
    nanos(start)
}

/// Two channels with this capacity.
fn two_channels(buffer: usize) -> (Vec<Sender<u64>>, Vec<Receiver<u64>>) {
    (0..2).map(|_| chan(buffer)).unzip()
}

fn select_2_ready(n: u64) -> f64 {
    let (tx, rx) = two_channels(1);
    tx.iter().for_each(|tx| tx.send(0));
    let start = Instant::now();
    for i in 0..n {
        let from = select! {
            recv(rx[0]) -> m => { black_box(m.unwrap()); 0 }
            recv(rx[1]) -> m => { black_box(m.unwrap()); 1 }
        };
        tx[from].send(i);
    }
    nanos(start)
}

fn select_2(n: u64) -> f64 {
    let (tx, rx) = two_channels(0);
    let start = Instant::now();
    go!(move || (0..n).for_each(|i| tx[i as usize % 2].send(i)));
    for _ in 0..n {
        select! {
            recv(rx[0]) -> m => { black_box(m.unwrap()); }
            recv(rx[1]) -> m => { black_box(m.unwrap()); }
        }
    }
    nanos(start)
}

fn timeout(n: u64) -> f64 {
    let (tx, rx) = chan::<u64>(0);
    let background = context::background();
    go!(move || (0..n).for_each(|i| tx.send(i)));
    let start = Instant::now();
    for _ in 0..n {
        let (late, cancel) = context::with_timeout(&background, Duration::from_secs(5));
        select! {
            recv(rx) -> i => { black_box(i.unwrap()); }
            recv(late.done()) -> _done => { unreachable!() }
        }
        cancel.cancel();
    }
    nanos(start)
}

fn mutex(goroutines: u64, n: u64) -> f64 {
    let count = Mutex::new(0u64);
    together(goroutines, n, |_| *count.lock().unwrap() += 1)
}

fn rwlock(n: u64) -> f64 {
    let count = RwLock::new(0u64);
    together(8, n, |i| match i % WRITES_ONE_OF {
        0 => *count.write().unwrap() += 1,
        _ => use_up(*count.read().unwrap()),
    })
}

fn skynet(n: u64) -> Vec<f64> {
    fn node(tx: Sender<u64>, number: u64, size: u64) {
        if size == 1 {
            return tx.send(number);
        }
        let (child_tx, rx) = chan(0);
        for i in 0..10 {
            let child_tx = child_tx.clone();
            go!(move || node(child_tx, number + i * (size / 10), size / 10));
        }
        tx.send((0..10).map(|_| rx.recv().unwrap()).sum());
    }
    let size = 10u64.pow(n.ilog10());
    let start = Instant::now();
    let (tx, rx) = chan(0);
    go!(move || node(tx, 0, size));
    assert_eq!(rx.recv().unwrap(), size * (size - 1) / 2);
    vec![nanos(start) / size as f64]
}

fn fork_join(n: u64) -> Vec<f64> {
    fn fib(n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        scope(|s| {
            let other = s.go(move || fib(n - 1));
            fib(n - 2) + other.join().unwrap()
        })
    }
    let (k, forks) = fib_of(n);
    let start = Instant::now();
    black_box(fib(k));
    vec![nanos(start) / forks as f64]
}

fn sort(n: u64) -> f64 {
    fn quick_sort(v: &mut [u64]) {
        if v.len() <= GRAIN {
            return v.sort_unstable();
        }
        let at = partition(v);
        let (low, high) = v.split_at_mut(at);
        scope(|s| {
            s.go(|| quick_sort(low));
            quick_sort(&mut high[1..]);
        });
    }
    let mut v = numbers(n);
    let start = Instant::now();
    quick_sort(&mut v);
    let total = nanos(start);
    assert!(v.is_sorted());
    total
}

fn syscall(n: u64) -> Vec<f64> {
    let get = rustix::process::getppid;
    let raw = || {
        let start = Instant::now();
        (0..n).for_each(|_| use_up(get()));
        nanos(start)
    };
    let through = || {
        let start = Instant::now();
        (0..n).for_each(|_| use_up(go_lib::with_syscall(get)));
        nanos(start)
    };
    let mut more: Vec<_> = (0..5).map(|_| through() - raw()).collect();
    more.sort_by(f64::total_cmp);
    vec![(more[2] / n as f64).max(0.0)]
}

fn sleep_once(n: u64) -> f64 {
    let start = cpu_ns();
    let all = Arc::new(WaitGroup::new());
    for _ in 0..n {
        all.add(1);
        let all = all.clone();
        go!(move || {
            go_lib::sleep(LONG_NAP);
            all.done();
        });
    }
    all.wait();
    cpu_ns() - start
}

fn sleep_in_turn(n: u64) -> Vec<f64> {
    let (start, cpu) = (Instant::now(), cpu_ns());
    let one = move || {
        let mut late = Vec::new();
        while start.elapsed() < NAPS_LAST {
            let before = Instant::now();
            go_lib::sleep(NAP);
            late.push(before.elapsed().saturating_sub(NAP).as_nanos() as u64);
        }
        late
    };
    let mut late: Vec<u64> = scope(|s| {
        let all: Vec<_> = (0..n).map(|_| s.go(one)).collect();
        all.into_iter().flat_map(|h| h.join().unwrap()).collect()
    });
    let cpu = (cpu_ns() - cpu) / late.len() as f64;
    vec![cpu, percentile(&mut late, 50), percentile(&mut late, 99)]
}

fn late(n: u64) -> Vec<f64> {
    let once = |_| {
        let start = Instant::now();
        go_lib::sleep(SHORT_NAP);
        start.elapsed().saturating_sub(SHORT_NAP).as_nanos() as u64
    };
    let mut late: Vec<u64> = (0..n).map(once).collect();
    vec![percentile(&mut late, 50), percentile(&mut late, 99)]
}

fn handoff(n: u64) -> Vec<f64> {
    let once = |_| {
        let (mut rx, mut tx) = std::io::pipe().unwrap();
        let entered = Arc::new(std::sync::OnceLock::new());
        scope(|s| {
            s.go(|| {
                entered.set(Instant::now()).unwrap();
                go_lib::with_syscall(|| rx.read_exact(&mut [0]).unwrap());
            });
            go_lib::gosched(); // Returns when this goroutine has the P again.
            let took = entered.get().expect("the reader went first").elapsed().as_nanos() as u64;
            tx.write_all(&[1]).unwrap();
            took
        })
    };
    let mut took: Vec<u64> = (0..n).map(once).collect();
    vec![percentile(&mut took, 50)]
}

/// The runner measures this process's memory and its wake-ups.
fn parked(n: u64) -> Vec<f64> {
    let start = Instant::now();
    let (_hold, held) = chan::<()>(0);
    let waiting = Arc::new(WaitGroup::new());
    waiting.add(n as i64);
    for _ in 0..n {
        let (held, waiting) = (held.clone(), waiting.clone());
        go!(move || {
            waiting.done();
            held.recv();
        });
    }
    waiting.wait();
    println!("{}", nanos(start) / n as f64);
    go_lib::with_syscall(until_told);
    std::process::exit(0) // Waking all goroutines is not part of the measurement.
}
