//! The workloads on tokio, as its users write them. Its channels have one receiver and at least one place; where a workload wants
//! otherwise the channel is async-channel's, with one place instead of none.

use crate::{LATE_ROUNDS, percentile, resident_bytes};
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

type Run = Pin<Box<dyn Future<Output = u64> + Send>>;

/// Nanoseconds (or bytes) of one of `n` operations. `None`: no such workload.
pub(crate) fn measure(workload: &str, n: u64, procs: usize) -> Option<f64> {
    let run: Run = match workload {
        "spawn-join" => Box::pin(spawn_join(n)),
        "spawn-all" => Box::pin(spawn_all(n)),
        "yield" => Box::pin(yielding(2, n)),
        "yield-1000" => Box::pin(yielding(1000, n)),
        "ping-pong" => Box::pin(ping_pong(n)),
        "chan-1-1" => Box::pin(channel_1_1(1, n)),
        "chan-1-1-buf" => Box::pin(channel_1_1(1024, n)),
        "chan-4-4" => Box::pin(channel_4_4(1, n)),
        "chan-4-4-buf" => Box::pin(channel_4_4(1024, n)),
        "mutex" => Box::pin(mutex(1, n)),
        "mutex-8" => Box::pin(mutex(8, n)),
        "skynet" => Box::pin(skynet(n)),
        "sleep" => Box::pin(sleep(n)),
        "late-p50" => Box::pin(late(50, n)),
        "late-p99" => Box::pin(late(99, n)),
        "timeout" => Box::pin(timeout(n)),
        "echo" => Box::pin(echo(n)),
        "parked" => Box::pin(parked(n)),
        _ => return None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(procs).enable_all().build();
    let runtime = runtime.expect("the runtime starts");
    // In a task, as the others: the thread of `block_on` is none of the workers.
    let total = runtime.block_on(runtime.spawn(run)).expect("the workload does not panic");
    Some(total as f64 / n as f64)
}

fn nanos(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

async fn spawn_join(n: u64) -> u64 {
    let start = Instant::now();
    for i in 0..n {
        black_box(tokio::spawn(async move { i }).await.unwrap());
    }
    nanos(start)
}

async fn spawn_all(n: u64) -> u64 {
    let start = Instant::now();
    let all: Vec<_> = (0..n).map(|i| tokio::spawn(async move { i })).collect();
    for h in all {
        black_box(h.await.unwrap());
    }
    nanos(start)
}

async fn yielding(tasks: u64, n: u64) -> u64 {
    let start = Instant::now();
    let one = move || async move {
        for _ in 0..n / tasks {
            tokio::task::yield_now().await;
        }
    };
    let all: Vec<_> = (0..tasks).map(|_| tokio::spawn(one())).collect();
    for h in all {
        h.await.unwrap();
    }
    nanos(start)
}

async fn ping_pong(n: u64) -> u64 {
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

async fn channel_1_1(buffer: usize, n: u64) -> u64 {
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

async fn channel_4_4(buffer: usize, n: u64) -> u64 {
    let (tx, rx) = async_channel::bounded::<u64>(buffer);
    let start = Instant::now();
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let tx = tx.clone();
            tokio::spawn(async move {
                for i in 0..n / 4 {
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
    for h in senders {
        h.await.unwrap();
    }
    for h in receivers {
        black_box(h.await.unwrap());
    }
    nanos(start)
}

async fn mutex(tasks: u64, n: u64) -> u64 {
    let count = Arc::new(tokio::sync::Mutex::new(0u64));
    let start = Instant::now();
    let all: Vec<_> = (0..tasks)
        .map(|_| {
            let count = count.clone();
            tokio::spawn(async move {
                for _ in 0..n / tasks {
                    *count.lock().await += 1;
                }
            })
        })
        .collect();
    for h in all {
        h.await.unwrap();
    }
    nanos(start)
}

async fn skynet(n: u64) -> u64 {
    fn node(tx: mpsc::Sender<u64>, number: u64, size: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
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
    nanos(start)
}

async fn sleep(n: u64) -> u64 {
    let start = Instant::now();
    let one = move || async move {
        for _ in 0..n / 10_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let all: Vec<_> = (0..10_000).map(|_| tokio::spawn(one())).collect();
    for h in all {
        h.await.unwrap();
    }
    nanos(start)
}

async fn late(percent: usize, n: u64) -> u64 {
    const NAP: Duration = Duration::from_micros(100);
    let mut late = Vec::new();
    for _ in 0..LATE_ROUNDS {
        let start = Instant::now();
        tokio::time::sleep(NAP).await;
        late.push(nanos(start) - NAP.as_nanos() as u64);
    }
    percentile(late, percent, n)
}

async fn timeout(n: u64) -> u64 {
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

async fn echo(n: u64) -> u64 {
    const CONNECTIONS: u64 = 50;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while stream.read_exact(&mut buffer).await.is_ok() && stream.write_all(&buffer).await.is_ok()
                {
                }
            });
        }
    });
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        clients.push(stream);
    }
    let start = Instant::now();
    let one = move |mut stream: TcpStream| async move {
        let mut buffer = [7; 64];
        for _ in 0..n / CONNECTIONS {
            stream.write_all(&buffer).await.unwrap();
            stream.read_exact(&mut buffer).await.unwrap();
        }
    };
    let all: Vec<_> = clients.into_iter().map(|stream| tokio::spawn(one(stream))).collect();
    for h in all {
        h.await.unwrap();
    }
    nanos(start)
}

async fn parked(n: u64) -> u64 {
    let (_hold, held) = async_channel::bounded::<()>(1);
    let before = resident_bytes();
    for _ in 0..n {
        let held = held.clone();
        tokio::spawn(async move {
            let _ = held.recv().await;
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await; // all are on their way to the channel
    resident_bytes() - before
}
