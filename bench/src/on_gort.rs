//! The workloads on gort.

use crate::{LATE_ROUNDS, percentile, resident_bytes};
use gort::chan::{after, bounded};
use gort::net::{TcpListener, TcpStream};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// Nanoseconds (or bytes) of one of `n` operations. `None`: no such workload.
pub(crate) fn measure(workload: &str, n: u64, procs: usize) -> Option<f64> {
    let run: fn(u64) -> u64 = match workload {
        "spawn-join" => spawn_join,
        "spawn-all" => spawn_all,
        "yield" => |n| yielding(2, n),
        "yield-1000" => |n| yielding(1000, n),
        "ping-pong" => |n| ping_pong(n, false),
        "chan-1-1" => |n| channel(1, 0, n),
        "chan-1-1-buf" => |n| channel(1, 1024, n),
        "chan-4-4" => |n| channel(4, 0, n),
        "chan-4-4-buf" => |n| channel(4, 1024, n),
        "mutex" => |n| mutex(1, n),
        "mutex-8" => |n| mutex(8, n),
        "skynet" => skynet,
        "sleep" => sleep,
        "late-p50" => |n| late(50, n),
        "late-p99" => |n| late(99, n),
        "timeout" => timeout,
        "echo" => echo,
        "handoff" => handoff,
        "locked" => |n| ping_pong(n, true),
        "threads" => threads,
        "hogs-p50" => |n| hogs(0, n),
        "hogs-p99" => |n| hogs(1, n),
        "parked" => parked,
        _ => return None,
    };
    let builder = gort::Runtime::builder().gomaxprocs(procs);
    let total = builder.run(move || run(n)).expect("the runtime starts");
    Some(total as f64 / n as f64)
}

fn nanos(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

fn spawn_join(n: u64) -> u64 {
    let start = Instant::now();
    for i in 0..n {
        black_box(gort::go(move || i).join().unwrap());
    }
    nanos(start)
}

fn spawn_all(n: u64) -> u64 {
    let start = Instant::now();
    let all: Vec<_> = (0..n).map(|i| gort::go(move || i)).collect();
    for h in all {
        black_box(h.join().unwrap());
    }
    nanos(start)
}

fn yielding(goroutines: u64, n: u64) -> u64 {
    let start = Instant::now();
    let all: Vec<_> = (0..goroutines)
        .map(|_| gort::go(move || (0..n / goroutines).for_each(|_| gort::yield_now())))
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    nanos(start)
}

fn ping_pong(n: u64, locked: bool) -> u64 {
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

fn channel(pairs: u64, buffer: usize, n: u64) -> u64 {
    let (tx, rx) = bounded::<u64>(buffer);
    let start = Instant::now();
    let senders: Vec<_> = (0..pairs)
        .map(|_| {
            let tx = tx.clone();
            gort::go(move || (0..n / pairs).for_each(|i| tx.send(i).unwrap()))
        })
        .collect();
    drop(tx);
    let receivers: Vec<_> = (0..pairs)
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

fn mutex(goroutines: u64, n: u64) -> u64 {
    let count = Arc::new(gort::sync::Mutex::new(0u64));
    let start = Instant::now();
    let all: Vec<_> = (0..goroutines)
        .map(|_| {
            let count = count.clone();
            gort::go(move || (0..n / goroutines).for_each(|_| *count.lock().unwrap() += 1))
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    assert_eq!(*count.lock().unwrap(), n / goroutines * goroutines);
    nanos(start)
}

fn skynet(n: u64) -> u64 {
    fn node(tx: gort::chan::Sender<u64>, number: u64, size: u64) {
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
    nanos(start)
}

fn sleep(n: u64) -> u64 {
    let start = Instant::now();
    let all: Vec<_> = (0..10_000)
        .map(|_| gort::go(move || (0..n / 10_000).for_each(|_| gort::sleep(Duration::from_millis(1)))))
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    nanos(start)
}

fn late(percent: usize, n: u64) -> u64 {
    const NAP: Duration = Duration::from_micros(100);
    let once = |_| {
        let start = Instant::now();
        gort::sleep(NAP);
        nanos(start) - NAP.as_nanos() as u64
    };
    percentile((0..LATE_ROUNDS).map(once).collect(), percent, n)
}

fn timeout(n: u64) -> u64 {
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

fn echo(n: u64) -> u64 {
    const CONNECTIONS: u64 = 50;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    gort::go(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true).unwrap();
            gort::go(move || {
                let mut buffer = [0; 64];
                while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
            });
        }
    });
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    let all: Vec<_> = clients
        .into_iter()
        .map(|mut stream| {
            gort::go(move || {
                let mut buffer = [7; 64];
                for _ in 0..n / CONNECTIONS {
                    stream.write_all(&buffer).unwrap();
                    stream.read_exact(&mut buffer).unwrap();
                }
            })
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    nanos(start)
}

/// Rounds of `handoff`.
const HANDOFFS: usize = 300;

fn handoff(n: u64) -> u64 {
    gort::set_gomaxprocs(1);
    let once = |_| {
        let (mut rx, mut tx) = std::io::pipe().unwrap();
        let entered = Arc::new(std::sync::OnceLock::new());
        let reader = {
            let entered = entered.clone();
            gort::go(move || {
                entered.set(Instant::now()).unwrap();
                gort::blocking(|| rx.read_exact(&mut [0]).unwrap());
            })
        };
        gort::yield_now(); // until the P is ours again
        let took = nanos(*entered.get().expect("the reader went first"));
        tx.write_all(&[1]).unwrap();
        reader.join().unwrap();
        took
    };
    percentile((0..HANDOFFS).map(once).collect(), 50, n)
}

fn threads(n: u64) -> u64 {
    let turn = Arc::new(AtomicU64::new(0));
    let wait_for = |turn: &AtomicU64, mine: u64| {
        while turn.load(Acquire) != mine {
            std::thread::park();
        }
    };
    gort::blocking(|| {
        let main = std::thread::current();
        let other = std::thread::spawn({
            let turn = turn.clone();
            move || {
                for i in 0..n {
                    wait_for(&turn, 2 * i + 1);
                    turn.store(2 * i + 2, Release);
                    main.unpark();
                }
            }
        });
        let start = Instant::now();
        for i in 0..n {
            turn.store(2 * i + 1, Release);
            other.thread().unpark();
            wait_for(&turn, 2 * i + 2);
        }
        let total = nanos(start);
        other.join().unwrap();
        total
    })
}

fn hogs(which: usize, n: u64) -> u64 {
    gort::set_gomaxprocs(2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    gort::go(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; 64];
        while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
    });
    for _ in 0..8 {
        gort::go(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    let own = std::env::current_exe().unwrap();
    let mut client = std::process::Command::new(own);
    let output = gort::blocking(|| client.args(["client", &addr.to_string()]).output()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().nth(which).and_then(|ns| ns.parse::<u64>().ok()).expect("two numbers") * n
}

fn parked(n: u64) -> u64 {
    let (_hold, held) = bounded::<()>(0);
    let waiting = Arc::new(gort::sync::WaitGroup::new());
    waiting.add(n as usize);
    let before = resident_bytes();
    for _ in 0..n {
        let (held, waiting) = (held.clone(), waiting.clone());
        gort::go(move || {
            waiting.done();
            let _ = held.recv();
        });
    }
    waiting.wait();
    gort::sleep(Duration::from_millis(50)); // the last ones are on their way to the channel
    resident_bytes() - before
}
