//! The workloads on tokio, as its users write them. Its channels have one receiver and a capacity
//! of at least one. For several receivers the channel is async-channel's; a capacity of one stands
//! for an unbuffered channel.

use super::*;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::task::TaskTracker;

type Run = Pin<Box<dyn Future<Output = Vec<f64>> + Send>>;

/// Runs a workload; this process does nothing else. `None`: there is no such workload.
pub(crate) fn measure(workload: &str, n: u64, procs: usize) -> Option<Vec<f64>> {
    fn each(n: u64, run: impl Future<Output = f64> + Send + 'static) -> Run {
        Box::pin(async move { vec![run.await / n as f64] })
    }
    let run: Run = match workload {
        "spawn-join" => each(n, spawn_join(n)),
        "spawn-1" => each(n, spawn_all(n)),
        "spawn-8" => each(n, spawn_from_eight(n)),
        "yield-2" => each(n, yielding(2, n)),
        "yield-1000" => each(n, yielding(1000, n)),
        "ping-pong" => each(n, ping_pong(n)),
        "chan-1-1" => each(n, channel_to_one(1, n)),
        "chan-4-4" => each(n, channel_to_four(4, 1, n)),
        "chan-1-1-buf" => each(n, channel_to_one(1024, n)),
        "chan-4-4-buf" => each(n, channel_to_four(4, 1024, n)),
        "chan-1-4-buf" => each(n, channel_to_four(1, 1024, n)),
        "select-2-ready" => each(n, select_2_ready(n)),
        "select-8-ready" => each(n, select_8_ready(n)),
        "select-2" => each(n, select_2(n)),
        "select-8" => each(n, select_8(n)),
        "timeout" => each(n, timeout(n)),
        "mutex" => each(n, mutex(1, n)),
        "mutex-8" => each(n, mutex(8, n)),
        "rwlock-8" => each(n, rwlock(n)),
        "skynet" => Box::pin(skynet(n)),
        "fib" => Box::pin(fork_join(n)),
        "sort" => each(n, sort(n)),
        "syscall" => Box::pin(syscall(n)),
        "sleepers-1m" => each(n, sleep_once(n)),
        "sleepers-10k" => Box::pin(sleep_in_turn(n)),
        "late" => Box::pin(late(n)),
        "parked" => Box::pin(parked(n)),
        _ => return None,
    };
    Some(in_runtime(procs, run))
}

/// Runs `f` in a task, as the workloads do: the thread of `block_on` is not a worker.
pub(super) fn in_runtime<R: Send + 'static>(procs: usize, f: impl Future<Output = R> + Send + 'static) -> R {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(procs).enable_all().build();
    let runtime = runtime.expect("the runtime starts");
    runtime.block_on(runtime.spawn(f)).expect("the workload does not panic")
}

async fn all_of<T>(handles: Vec<tokio::task::JoinHandle<T>>) {
    for h in handles {
        black_box(h.await.unwrap());
    }
}

async fn spawn_join(n: u64) -> f64 {
    let start = Instant::now();
    for i in 0..n {
        black_box(tokio::spawn(async move { i }).await.unwrap());
    }
    nanos(start)
}

async fn spawn_all(n: u64) -> f64 {
    let start = Instant::now();
    let all = TaskTracker::new();
    for i in 0..n {
        all.spawn(async move { use_up(i) });
    }
    all.close();
    all.wait().await;
    nanos(start)
}

async fn spawn_from_eight(n: u64) -> f64 {
    let start = Instant::now();
    all_of((0..8).map(|_| tokio::spawn(spawn_all(n / 8))).collect()).await;
    nanos(start)
}

async fn yielding(tasks: u64, n: u64) -> f64 {
    let start = Instant::now();
    let one = move || async move {
        for _ in 0..n / tasks {
            tokio::task::yield_now().await;
        }
    };
    all_of((0..tasks).map(|_| tokio::spawn(one())).collect()).await;
    nanos(start)
}

async fn ping_pong(n: u64) -> f64 {
    let (ping, mut pinged) = mpsc::channel::<u64>(1);
    let (pong, mut ponged) = mpsc::channel::<u64>(1);
    tokio::spawn(async move {
        while let Some(i) = pinged.recv().await {
            pong.send(i).await.unwrap();
        }
    });
    let start = Instant::now();
    for i in 0..n {
        ping.send(i).await.unwrap();
        black_box(ponged.recv().await.unwrap());
    }
    nanos(start)
}

async fn channel_to_one(buffer: usize, n: u64) -> f64 {
    let (tx, mut rx) = mpsc::channel::<u64>(buffer);
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        for i in 0..n {
            tx.send(i).await.unwrap();
        }
    });
    let receiver = tokio::spawn(async move {
        let mut sum = 0;
        while let Some(i) = rx.recv().await {
            sum += i;
        }
        sum
    });
    sender.await.unwrap();
    black_box(receiver.await.unwrap());
    nanos(start)
}

async fn channel_to_four(senders: u64, buffer: usize, n: u64) -> f64 {
    let (tx, rx) = async_channel::bounded::<u64>(buffer);
    let start = Instant::now();
    let all_senders: Vec<_> = (0..senders)
        .map(|_| {
            let tx = tx.clone();
            tokio::spawn(async move {
                for i in 0..n / senders {
                    tx.send(i).await.unwrap();
                }
            })
        })
        .collect();
    drop(tx);
    let receivers: Vec<_> = (0..4)
        .map(|_| {
            let rx = rx.clone();
            tokio::spawn(async move {
                let mut sum = 0;
                while let Ok(i) = rx.recv().await {
                    sum += i;
                }
                sum
            })
        })
        .collect();
    all_of(all_senders).await;
    all_of(receivers).await;
    nanos(start)
}

fn channels<const N: usize>() -> (Vec<Sender<u64>>, [Receiver<u64>; N]) {
    let (tx, rx): (Vec<_>, Vec<_>) = (0..N).map(|_| mpsc::channel(1)).unzip();
    (tx, rx.try_into().expect("N of them"))
}

async fn select_2_ready(n: u64) -> f64 {
    let (tx, [mut a, mut b]) = channels();
    for tx in &tx {
        tx.send(0).await.unwrap();
    }
    let start = Instant::now();
    for i in 0..n {
        let (m, from) = tokio::select! {
            m = a.recv() => (m, 0),
            m = b.recv() => (m, 1),
        };
        black_box(m.unwrap());
        tx[from].send(i).await.unwrap();
    }
    nanos(start)
}

async fn receive_of_8(rx: &mut [Receiver<u64>; 8]) -> usize {
    let [a, b, c, d, e, f, g, h] = rx;
    let (m, from) = tokio::select! {
        m = a.recv() => (m, 0),
        m = b.recv() => (m, 1),
        m = c.recv() => (m, 2),
        m = d.recv() => (m, 3),
        m = e.recv() => (m, 4),
        m = f.recv() => (m, 5),
        m = g.recv() => (m, 6),
        m = h.recv() => (m, 7),
    };
    black_box(m.unwrap());
    from
}

async fn select_8_ready(n: u64) -> f64 {
    let (tx, mut rx) = channels();
    for tx in &tx {
        tx.send(0).await.unwrap();
    }
    let start = Instant::now();
    for i in 0..n {
        let from = receive_of_8(&mut rx).await;
        tx[from].send(i).await.unwrap();
    }
    nanos(start)
}

/// Starts a task that sends to each of the channels in turn.
fn sender_to(tx: Vec<Sender<u64>>, n: u64) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        for i in 0..n {
            tx[i as usize % tx.len()].send(i).await.unwrap();
        }
    })
}

async fn select_2(n: u64) -> f64 {
    let (tx, [mut a, mut b]) = channels();
    let start = Instant::now();
    let sender = sender_to(tx.clone(), n); // A clone: a closed channel would be ready.
    for _ in 0..n {
        let m = tokio::select! {
            m = a.recv() => m,
            m = b.recv() => m,
        };
        black_box(m.unwrap());
    }
    sender.await.unwrap();
    nanos(start)
}

async fn select_8(n: u64) -> f64 {
    let (tx, mut rx) = channels();
    let start = Instant::now();
    let sender = sender_to(tx.clone(), n);
    for _ in 0..n {
        receive_of_8(&mut rx).await;
    }
    sender.await.unwrap();
    nanos(start)
}

async fn timeout(n: u64) -> f64 {
    let (tx, mut rx) = mpsc::channel::<u64>(1);
    let sender = tokio::spawn(async move {
        for i in 0..n {
            tx.send(i).await.unwrap();
        }
    });
    let start = Instant::now();
    for _ in 0..n {
        black_box(tokio::time::timeout(Duration::from_secs(5), rx.recv()).await.unwrap());
    }
    let total = nanos(start);
    sender.await.unwrap();
    total
}

async fn mutex(tasks: u64, n: u64) -> f64 {
    let count = Arc::new(tokio::sync::Mutex::new(0u64));
    let start = Instant::now();
    let one = |count: Arc<tokio::sync::Mutex<u64>>| async move {
        for _ in 0..n / tasks {
            *count.lock().await += 1;
        }
    };
    all_of((0..tasks).map(|_| tokio::spawn(one(count.clone()))).collect()).await;
    nanos(start)
}

async fn rwlock(n: u64) -> f64 {
    let count = Arc::new(tokio::sync::RwLock::new(0u64));
    let start = Instant::now();
    let one = |count: Arc<tokio::sync::RwLock<u64>>| async move {
        for i in 0..n / 8 {
            if i % WRITES_ONE_OF == 0 {
                *count.write().await += 1;
            } else {
                black_box(*count.read().await);
            }
        }
    };
    all_of((0..8).map(|_| tokio::spawn(one(count.clone()))).collect()).await;
    nanos(start)
}

async fn skynet(n: u64) -> Vec<f64> {
    fn node(tx: Sender<u64>, number: u64, size: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if size == 1 {
                return tx.send(number).await.unwrap();
            }
            let (child_tx, mut rx) = mpsc::channel(1);
            for i in 0..10 {
                tokio::spawn(node(child_tx.clone(), number + i * (size / 10), size / 10));
            }
            let mut sum = 0;
            for _ in 0..10 {
                sum += rx.recv().await.unwrap();
            }
            tx.send(sum).await.unwrap();
        })
    }
    let size = 10u64.pow(n.ilog10());
    let start = Instant::now();
    let (tx, mut rx) = mpsc::channel(1);
    tokio::spawn(node(tx, 0, size));
    assert_eq!(rx.recv().await.unwrap(), size * (size - 1) / 2);
    vec![nanos(start) / size as f64]
}

async fn fork_join(n: u64) -> Vec<f64> {
    fn fib(n: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
        Box::pin(async move {
            if n < 2 {
                return n;
            }
            let other = tokio::spawn(fib(n - 1));
            fib(n - 2).await + other.await.unwrap()
        })
    }
    let (k, forks) = fib_of(n);
    let start = Instant::now();
    black_box(fib(k).await);
    vec![nanos(start) / forks as f64]
}

async fn sort(n: u64) -> f64 {
    fn quick_sort(mut part: Part) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            if part.get().len() <= GRAIN {
                return part.get().sort_unstable();
            }
            let (low, high) = part.halves();
            let other = tokio::spawn(quick_sort(low));
            quick_sort(high).await;
            other.await.unwrap();
        })
    }
    let mut v = numbers(n);
    let start = Instant::now();
    // SAFETY: `v` is not touched before all tasks have ended.
    quick_sort(unsafe { Part::new(&mut v) }).await;
    let total = nanos(start);
    assert!(v.is_sorted());
    total
}

async fn syscall(n: u64) -> Vec<f64> {
    let get = rustix::process::getppid;
    let raw = || {
        let start = Instant::now();
        (0..n).for_each(|_| use_up(get()));
        nanos(start)
    };
    // The first call gives the worker away. After that the task is on a thread of its own, and the
    // other calls have nothing to give away.
    let through = || {
        let start = Instant::now();
        (0..n).for_each(|_| use_up(tokio::task::block_in_place(get)));
        nanos(start)
    };
    let mut more: Vec<_> = (0..5).map(|_| through() - raw()).collect();
    more.sort_by(f64::total_cmp);
    vec![(more[2] / n as f64).max(0.0)]
}

async fn sleep_once(n: u64) -> f64 {
    let start = cpu_ns();
    let all = TaskTracker::new();
    for _ in 0..n {
        all.spawn(tokio::time::sleep(LONG_NAP));
    }
    all.close();
    all.wait().await;
    cpu_ns() - start
}

async fn sleep_in_turn(n: u64) -> Vec<f64> {
    let (start, cpu) = (Instant::now(), cpu_ns());
    let one = move || async move {
        let mut late = Vec::new();
        while start.elapsed() < NAPS_LAST {
            let before = Instant::now();
            tokio::time::sleep(NAP).await;
            late.push(before.elapsed().saturating_sub(NAP).as_nanos() as u64);
        }
        late
    };
    let all: Vec<_> = (0..n).map(|_| tokio::spawn(one())).collect();
    let mut late: Vec<u64> = Vec::new();
    for h in all {
        late.extend(h.await.unwrap());
    }
    let cpu = (cpu_ns() - cpu) / late.len() as f64;
    vec![cpu, percentile(&mut late, 50), percentile(&mut late, 99)]
}

async fn late(n: u64) -> Vec<f64> {
    let mut late = Vec::new();
    for _ in 0..n {
        let start = Instant::now();
        tokio::time::sleep(SHORT_NAP).await;
        late.push(start.elapsed().saturating_sub(SHORT_NAP).as_nanos() as u64);
    }
    vec![percentile(&mut late, 50), percentile(&mut late, 99)]
}

async fn parked(n: u64) -> Vec<f64> {
    let (_hold, held) = async_channel::bounded::<()>(1);
    let start = Instant::now();
    let waiting = Arc::new(AtomicU64::new(n));
    let (done, mut all_wait) = mpsc::channel(1);
    for _ in 0..n {
        let (held, waiting, done) = (held.clone(), waiting.clone(), done.clone());
        tokio::spawn(async move {
            if waiting.fetch_sub(1, AcqRel) == 1 {
                done.send(()).await.unwrap();
            }
            drop(done);
            let _ = held.recv().await;
        });
    }
    all_wait.recv().await.unwrap();
    println!("{}", nanos(start) / n as f64);
    tokio::task::block_in_place(until_told);
    std::process::exit(0)
}
