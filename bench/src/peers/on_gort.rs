//! The workloads on gort.

use super::*;
use gort::chan::{Receiver, Sender, after, bounded};
use gort::sync::{Mutex, RwLock, WaitGroup};
use std::hint::black_box;
use std::sync::{Arc, OnceLock};

/// Runs a workload; this process does nothing else. `None`: there is no such workload.
pub(crate) fn measure(workload: &str, n: u64, procs: usize, shared: bool) -> Option<Vec<f64>> {
    let each = |run: fn(u64) -> f64| move |n: u64| vec![run(n) / n as f64];
    let run: Box<dyn FnOnce(u64) -> Vec<f64> + Send> = match workload {
        "spawn-join" => Box::new(each(spawn_join)),
        "spawn-1" => Box::new(each(spawn_all)),
        "spawn-8" => Box::new(each(spawn_from_eight)),
        "yield-2" => Box::new(each(|n| yielding(2, n))),
        "yield-1000" => Box::new(each(|n| yielding(1000, n))),
        "ping-pong" => Box::new(each(|n| ping_pong(n, false))),
        "chan-1-1" => Box::new(each(|n| channel(1, 1, 0, n))),
        "chan-4-4" => Box::new(each(|n| channel(4, 4, 0, n))),
        "chan-1-1-buf" => Box::new(each(|n| channel(1, 1, 1024, n))),
        "chan-4-4-buf" => Box::new(each(|n| channel(4, 4, 1024, n))),
        "chan-1-4-buf" => Box::new(each(|n| channel(1, 4, 1024, n))),
        "select-2-ready" => Box::new(each(select_2_ready)),
        "select-8-ready" => Box::new(each(select_8_ready)),
        "select-2" => Box::new(each(select_2)),
        "select-8" => Box::new(each(select_8)),
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
        "locked" => Box::new(each(|n| ping_pong(n, true))),
        "parked" => Box::new(parked),
        "parked-swapped" => Box::new(parked_and_swapped),
        "swap-wake" => Box::new(swap_wake),
        _ => return None,
    };
    Some(in_runtime(procs, shared, move || run(n)))
}

/// Runs `f` as the main goroutine.
pub(super) fn in_runtime<R: Send>(procs: usize, shared: bool, f: impl FnOnce() -> R + Send) -> R {
    let mut builder = gort::Runtime::builder().gomaxprocs(procs);
    if shared {
        // SAFETY: no workload holds a thread-local across a park.
        builder = unsafe { builder.shared_thread_locals() };
    }
    // SAFETY: no workload lends its goroutines' stacks or thread-locals to other threads. Swapping
    // stays off unless GORT_SWAP turns it on.
    builder = unsafe { builder.swap_idle_stacks(std::time::Duration::MAX) };
    builder.run(f).expect("the runtime starts")
}

fn spawn_join(n: u64) -> f64 {
    let start = Instant::now();
    for i in 0..n {
        black_box(gort::go(move || i).join().unwrap());
    }
    nanos(start)
}

fn spawn_all(n: u64) -> f64 {
    let start = Instant::now();
    let all = WaitGroup::new();
    for i in 0..n {
        all.go(move || use_up(i));
    }
    all.wait();
    nanos(start)
}

fn spawn_from_eight(n: u64) -> f64 {
    let start = Instant::now();
    let spawners: Vec<_> = (0..8).map(|_| gort::go(move || spawn_all(n / 8))).collect();
    spawners.into_iter().for_each(|h| use_up(h.join().unwrap()));
    nanos(start)
}

fn yielding(goroutines: u64, n: u64) -> f64 {
    let start = Instant::now();
    let all: Vec<_> = (0..goroutines)
        .map(|_| gort::go(move || (0..n / goroutines).for_each(|_| gort::yield_now())))
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    nanos(start)
}

fn ping_pong(n: u64, locked: bool) -> f64 {
    let (ping, pinged) = bounded::<u64>(0);
    let (pong, ponged) = bounded::<u64>(0);
    let other = gort::go(move || {
        let _lock = locked.then(gort::lock_os_thread);
        pinged.iter().for_each(|i| pong.send(i).unwrap());
    });
    let start = Instant::now();
    for i in 0..n {
        ping.send(i).unwrap();
        black_box(ponged.recv().unwrap());
    }
    let total = nanos(start);
    drop(ping);
    other.join().unwrap();
    total
}

fn channel(senders: u64, receivers: u64, buffer: usize, n: u64) -> f64 {
    let (tx, rx) = bounded::<u64>(buffer);
    let start = Instant::now();
    let senders: Vec<_> = (0..senders)
        .map(|_| {
            let tx = tx.clone();
            gort::go(move || (0..n / senders).for_each(|i| tx.send(i).unwrap()))
        })
        .collect();
    drop(tx);
    let receivers: Vec<_> = (0..receivers)
        .map(|_| {
            let rx = rx.clone();
            gort::go(move || rx.iter().sum::<u64>())
        })
        .collect();
    senders.into_iter().for_each(|h| h.join().unwrap());
    for h in receivers {
        black_box(h.join().unwrap());
    }
    nanos(start)
}

/// `n` channels with this capacity.
fn channels(n: usize, buffer: usize) -> (Vec<Sender<u64>>, Vec<Receiver<u64>>) {
    (0..n).map(|_| bounded(buffer)).unzip()
}

fn select_2_ready(n: u64) -> f64 {
    let (tx, rx) = channels(2, 1);
    tx.iter().for_each(|tx| tx.send(0).unwrap());
    let start = Instant::now();
    for i in 0..n {
        let from = gort::select! {
            recv(rx[0]) -> m => { black_box(m.unwrap()); 0 }
            recv(rx[1]) -> m => { black_box(m.unwrap()); 1 }
        };
        tx[from].send(i).unwrap();
    }
    nanos(start)
}

fn receive_of_8(rx: &[Receiver<u64>]) -> usize {
    let (m, from) = gort::select! {
        recv(rx[0]) -> m => (m, 0),
        recv(rx[1]) -> m => (m, 1),
        recv(rx[2]) -> m => (m, 2),
        recv(rx[3]) -> m => (m, 3),
        recv(rx[4]) -> m => (m, 4),
        recv(rx[5]) -> m => (m, 5),
        recv(rx[6]) -> m => (m, 6),
        recv(rx[7]) -> m => (m, 7),
    };
    black_box(m.unwrap());
    from
}

fn select_8_ready(n: u64) -> f64 {
    let (tx, rx) = channels(8, 1);
    tx.iter().for_each(|tx| tx.send(0).unwrap());
    let start = Instant::now();
    for i in 0..n {
        let from = receive_of_8(&rx);
        tx[from].send(i).unwrap();
    }
    nanos(start)
}

/// Starts a goroutine that sends to each of the channels in turn.
fn sender_to(tx: Vec<Sender<u64>>, n: u64) -> gort::JoinHandle<()> {
    gort::go(move || (0..n).for_each(|i| tx[i as usize % tx.len()].send(i).unwrap()))
}

fn select_2(n: u64) -> f64 {
    let (tx, rx) = channels(2, 0);
    let start = Instant::now();
    let sender = sender_to(tx, n);
    for _ in 0..n {
        gort::select! {
            recv(rx[0]) -> m => { black_box(m.unwrap()); }
            recv(rx[1]) -> m => { black_box(m.unwrap()); }
        }
    }
    sender.join().unwrap();
    nanos(start)
}

fn select_8(n: u64) -> f64 {
    let (tx, rx) = channels(8, 0);
    let start = Instant::now();
    let sender = sender_to(tx, n);
    for _ in 0..n {
        receive_of_8(&rx);
    }
    sender.join().unwrap();
    nanos(start)
}

fn timeout(n: u64) -> f64 {
    let (tx, rx) = bounded::<u64>(0);
    let sender = gort::go(move || (0..n).for_each(|i| tx.send(i).unwrap()));
    let start = Instant::now();
    for _ in 0..n {
        gort::select! {
            recv(rx) -> i => { black_box(i.unwrap()); }
            recv(after(Duration::from_secs(5))) -> _ => unreachable!(),
        }
    }
    let total = nanos(start);
    sender.join().unwrap();
    total
}

/// Runs `f` `n` times in all, divided over this many goroutines.
fn together(goroutines: u64, n: u64, f: impl Fn(u64) + Send + Sync + 'static) -> f64 {
    let f = Arc::new(f);
    let start = Instant::now();
    let all: Vec<_> = (0..goroutines)
        .map(|_| {
            let f = f.clone();
            gort::go(move || (0..n / goroutines).for_each(|i| f(i)))
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    nanos(start)
}

fn mutex(goroutines: u64, n: u64) -> f64 {
    let count = Mutex::new(0u64);
    together(goroutines, n, move |_| *count.lock().unwrap() += 1)
}

fn rwlock(n: u64) -> f64 {
    let count = RwLock::new(0u64);
    together(8, n, move |i| {
        if i % WRITES_ONE_OF == 0 {
            *count.write().unwrap() += 1;
        } else {
            black_box(*count.read().unwrap());
        }
    })
}

fn skynet(n: u64) -> Vec<f64> {
    fn node(tx: Sender<u64>, number: u64, size: u64) {
        if size == 1 {
            return tx.send(number).unwrap();
        }
        let (child_tx, rx) = bounded(0);
        for i in 0..10 {
            let child_tx = child_tx.clone();
            gort::go(move || node(child_tx, number + i * (size / 10), size / 10));
        }
        tx.send((0..10).map(|_| rx.recv().unwrap()).sum()).unwrap();
    }
    let size = 10u64.pow(n.ilog10());
    let start = Instant::now();
    let (tx, rx) = bounded(0);
    gort::go(move || node(tx, 0, size));
    assert_eq!(rx.recv().unwrap(), size * (size - 1) / 2);
    vec![nanos(start) / size as f64]
}

fn fork_join(n: u64) -> Vec<f64> {
    fn fib(n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let other = gort::go(move || fib(n - 1));
        fib(n - 2) + other.join().unwrap()
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
        gort::scope(|s| {
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
        (0..n).for_each(|_| use_up(gort::blocking(get)));
        nanos(start)
    };
    let mut more: Vec<_> = (0..5).map(|_| through() - raw()).collect();
    more.sort_by(f64::total_cmp);
    vec![(more[2] / n as f64).max(0.0)]
}

fn sleep_once(n: u64) -> f64 {
    let start = cpu_ns();
    let all = WaitGroup::new();
    (0..n).for_each(|_| all.go(|| gort::sleep(LONG_NAP)));
    all.wait();
    cpu_ns() - start
}

fn sleep_in_turn(n: u64) -> Vec<f64> {
    let (start, cpu) = (Instant::now(), cpu_ns());
    let one = move || {
        let mut late = Vec::new();
        while start.elapsed() < NAPS_LAST {
            let before = Instant::now();
            gort::sleep(NAP);
            late.push((before.elapsed() - NAP).as_nanos() as u64);
        }
        late
    };
    let all: Vec<_> = (0..n).map(|_| gort::go(one)).collect();
    let mut late: Vec<u64> = all.into_iter().flat_map(|h| h.join().unwrap()).collect();
    let cpu = (cpu_ns() - cpu) / late.len() as f64;
    vec![cpu, percentile(&mut late, 50), percentile(&mut late, 99)]
}

fn late(n: u64) -> Vec<f64> {
    let once = |_| {
        let start = Instant::now();
        gort::sleep(SHORT_NAP);
        (start.elapsed() - SHORT_NAP).as_nanos() as u64
    };
    let mut late: Vec<u64> = (0..n).map(once).collect();
    vec![percentile(&mut late, 50), percentile(&mut late, 99)]
}

fn handoff(n: u64) -> Vec<f64> {
    let once = |_| {
        let (mut rx, mut tx) = std::io::pipe().unwrap();
        let entered = Arc::new(OnceLock::new());
        let reader = {
            let entered = entered.clone();
            gort::go(move || {
                entered.set(Instant::now()).unwrap();
                gort::blocking(|| rx.read_exact(&mut [0]).unwrap());
            })
        };
        gort::yield_now(); // Returns when this goroutine has the P again.
        let took = entered.get().expect("the reader went first").elapsed().as_nanos() as u64;
        std::io::Write::write_all(&mut tx, &[1]).unwrap();
        reader.join().unwrap();
        took
    };
    let mut took: Vec<u64> = (0..n).map(once).collect();
    vec![percentile(&mut took, 50)]
}

/// Blocks until `n` stacks are swapped out. The caller's waits are too short for its own to be.
fn until_swapped(n: u64) {
    let never = gort::chan::never::<()>();
    let (mut out, mut progress) = (0, Instant::now());
    while out < n {
        let _ = never.recv_timeout(Duration::from_millis(20));
        let now = gort::metrics::snapshot().swap_outs;
        if now != out {
            (out, progress) = (now, Instant::now());
        }
        assert!(progress.elapsed() < Duration::from_secs(30), "{out} of {n} stacks are swapped out, no more");
    }
}

/// As `parked`, but ready when all stacks are swapped out. Goroutines start in batches, because ten
/// million would not fit into memory before they are swapped out.
fn parked_and_swapped(n: u64) -> Vec<f64> {
    const AT_ONCE: u64 = 500_000;
    let cpu = cpu_ns();
    let mut hold = Vec::new();
    for begun in (0..n).step_by(AT_ONCE as usize) {
        hold.push(park(AT_ONCE.min(n - begun)));
        until_swapped(n.min(begun + AT_ONCE));
    }
    println!("{}", (cpu_ns() - cpu) / n as f64);
    gort::blocking(until_told);
    std::process::exit(0)
}

/// Each goroutine waits on a channel of its own until it is swapped out, then twice for a message.
fn swap_wake(n: u64) -> Vec<f64> {
    let (answer, answered) = bounded::<()>(1);
    let all: Vec<Sender<()>> = (0..n)
        .map(|_| {
            let (tx, rx) = bounded::<()>(1);
            let answer = answer.clone();
            gort::go(move || rx.iter().try_for_each(|()| answer.send(())));
            tx
        })
        .collect();
    until_swapped(n);
    let ask_all = || {
        let ask = |tx: &Sender<()>| {
            let start = Instant::now();
            tx.send(()).unwrap();
            answered.recv().unwrap();
            start.elapsed().as_nanos() as u64
        };
        percentile(&mut all.iter().map(ask).collect::<Vec<u64>>(), 50)
    };
    vec![ask_all(), ask_all()]
}

/// Starts `n` goroutines that block until the returned sender is dropped.
fn park(n: u64) -> Sender<()> {
    let (hold, held) = bounded::<()>(0);
    let waiting = Arc::new(WaitGroup::new());
    waiting.add(n as usize);
    for _ in 0..n {
        let (held, waiting) = (held.clone(), waiting.clone());
        gort::go(move || {
            waiting.done();
            let _ = held.recv();
        });
    }
    waiting.wait();
    hold
}

/// The runner measures this process's memory and its wake-ups.
fn parked(n: u64) -> Vec<f64> {
    let start = Instant::now();
    let _hold = park(n);
    println!("{}", nanos(start) / n as f64);
    gort::blocking(until_told);
    std::process::exit(0) // Waking all goroutines is not part of the measurement.
}
