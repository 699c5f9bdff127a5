//! Benchmarks of gort beside Go and tokio, in one run: see `bench/README.md`.
#![forbid(unsafe_code)]

mod on_gort;
mod on_tokio;
mod report;

use clap::{Parser, Subcommand};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measures gort beside Go and tokio: every workload in processes of its own, one peer after the other, the median of
/// several runs.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    child: Option<Child>,
    /// Only workloads whose name contains this.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Runs of each workload and peer.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// GOMAXPROCS, and tokio's worker threads [default: the processors].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    procs: Option<u32>,
    /// Multiplies the sizes: 0.01 for a quick try.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Where to write the numbers of each run.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Child {
    /// One measurement in this process: prints the nanoseconds (or bytes) of one operation.
    #[command(hide = true)]
    Child { peer: String, workload: String, n: u64, procs: u32 },
    /// The client of `hogs-*`, for all peers: prints the median and the 99th percentile of round trips, in nanoseconds.
    #[command(hide = true)]
    Client { addr: std::net::SocketAddr },
}

/// What is measured: its name, how often at scale 1, and the unit of the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) n: u64,
    pub(crate) unit: &'static str,
    pub(crate) what: &'static str,
    /// Who takes part.
    pub(crate) peers: &'static [&'static str],
}

/// Of all peers.
const fn workload(name: &'static str, n: u64, unit: &'static str, what: &'static str) -> Workload {
    Workload { name, n, unit, what, peers: &["gort", "go", "tokio"] }
}

/// Tasks that are polled know neither threads of their own nor preemption.
const fn of_goroutines(name: &'static str, n: u64, what: &'static str) -> Workload {
    Workload { name, n, unit: "ns", what, peers: &["gort", "go"] }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    workload("spawn-join", 1_000_000, "ns", "start one, wait for it, and so on"),
    workload("spawn-all", 1_000_000, "ns", "start all, then wait for all"),
    workload("yield", 5_000_000, "ns", "two that yield"),
    workload("yield-1000", 5_000_000, "ns", "a thousand that yield"),
    workload("ping-pong", 1_000_000, "ns", "a round trip over two unbuffered channels"),
    workload("chan-1-1", 2_000_000, "ns", "a message, one sender and one receiver, unbuffered"),
    workload("chan-1-1-buf", 10_000_000, "ns", "the same with a buffer of 1 024"),
    workload("chan-4-4", 2_000_000, "ns", "a message, four senders and four receivers, unbuffered"),
    workload("chan-4-4-buf", 5_000_000, "ns", "the same with a buffer of 1 024"),
    workload("mutex", 20_000_000, "ns", "lock and unlock, alone"),
    workload("mutex-8", 4_000_000, "ns", "lock and unlock, by eight"),
    workload("skynet", 1_000_000, "ns", "a leaf of a tree of ten children each, over channels"),
    workload("sleep", 1_000_000, "ns", "10 000 that sleep 1 ms in turn; time over sleeps"),
    workload("late-p50", 10_000, "ns", "how late one sleep of 100 µs ends, alone: the median of 2 000"),
    workload("late-p99", 10_000, "ns", "the same, the 99th percentile"),
    workload("timeout", 1_000_000, "ns", "a receive with a time-out that is not reached"),
    workload("echo", 400_000, "ns", "64 bytes there and back over TCP, 50 connections"),
    of_goroutines(
        "handoff",
        10_000,
        "until another runs when one is in a call that blocks, one P: the median of 300",
    ),
    of_goroutines("locked", 50_000, "a round trip over channels to one that is locked to its thread"),
    Workload {
        name: "threads",
        n: 50_000,
        unit: "ns",
        what: "a round trip between two OS threads (`park` and `unpark`), to compare with",
        peers: &["gort"],
    },
    of_goroutines(
        "hogs-p50",
        10_000,
        "64 bytes there and back over TCP every 5 ms, beside 8 that compute, two Ps: the median",
    ),
    of_goroutines("hogs-p99", 10_000, "the same, the 99th percentile"),
    workload("parked", 100_000, "B", "resident memory of one that waits at a channel"),
];

/// How many sleeps `late-*` looks at.
const LATE_ROUNDS: u64 = 2_000;

/// The `percent`th percentile of `late`, times `n`: results are divided by that.
fn percentile(mut late: Vec<u64>, percent: usize, n: u64) -> u64 {
    late.sort_unstable();
    late[late.len() * percent / 100] * n
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Child::Client { addr }) = cli.child {
        return client(addr);
    }
    if let Some(Child::Child { peer, workload, n, procs }) = cli.child {
        let result = match peer.as_str() {
            "gort" => on_gort::measure(&workload, n, procs as usize),
            "tokio" => on_tokio::measure(&workload, n, procs as usize),
            _ => None,
        };
        return match result {
            Some(value) => {
                println!("{value}");
                ExitCode::SUCCESS
            }
            None => {
                eprintln!("no workload {workload} on {peer}");
                ExitCode::FAILURE
            }
        };
    }
    match report::run(cli.only.as_deref(), cli.runs, cli.procs, cli.scale, cli.json.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gort-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

/// How often the client of `hogs-*` asks, and how many times. The time of each counts from when it was to be asked: a server that stands
/// still for a while is late for all that were due meanwhile.
const CLIENT_PERIOD: Duration = Duration::from_millis(5);
const CLIENT_ROUNDS: u32 = 600;

fn client(addr: std::net::SocketAddr) -> ExitCode {
    let ask = || -> std::io::Result<Vec<u64>> {
        let mut conn = std::net::TcpStream::connect(addr)?;
        conn.set_nodelay(true)?;
        let begun = Instant::now();
        let mut took = Vec::new();
        for round in 0..CLIENT_ROUNDS {
            let due = begun + round * CLIENT_PERIOD;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            conn.write_all(&[7; 64])?;
            conn.read_exact(&mut [0; 64])?;
            took.push(due.elapsed().as_nanos() as u64);
        }
        Ok(took)
    };
    match ask() {
        Ok(took) => {
            println!("{} {}", percentile(took.clone(), 50, 1), percentile(took, 99, 1));
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("client: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Resident bytes of this process.
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is there");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages") * 4096
}
