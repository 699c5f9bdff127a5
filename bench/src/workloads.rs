//! The table of workloads that the runner, the peers and the report read.

/// The peers. `gort` is the default mode, in which each goroutine owns its thread-locals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    Gort,
    GortShared,
    Go,
    Tokio,
    May,
    Java,
    /// Another port of Go's scheduler.
    Golib,
    /// Threads and std's locks.
    Std,
    /// Threads and parking_lot's locks.
    ParkingLot,
    /// The upper bound for fork-join.
    Rayon,
    /// An epoll loop without a runtime: the upper bound for an echo.
    Bare,
}

impl Peer {
    pub(crate) const ALL: [Peer; 11] = [
        Peer::Gort,
        Peer::GortShared,
        Peer::Go,
        Peer::Tokio,
        Peer::May,
        Peer::Java,
        Peer::Golib,
        Peer::Std,
        Peer::ParkingLot,
        Peer::Rayon,
        Peer::Bare,
    ];

    /// The name on the command line of a child and in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Gort => "gort",
            Peer::GortShared => "gort_shared",
            Peer::Go => "go",
            Peer::Tokio => "tokio",
            Peer::May => "may",
            Peer::Java => "java",
            Peer::Golib => "golib",
            Peer::Std => "std",
            Peer::ParkingLot => "parking_lot",
            Peer::Rayon => "rayon",
            Peer::Bare => "bare",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Peer> {
        Peer::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// What gort should reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most this share of what the best of these peers needs.
    Ratio(f64, &'static [Peer]),
    /// At most this, in the figure's unit.
    Limit(f64),
    /// No target; the figure is only shown.
    None,
}

/// One number of a run. Less is better for every figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
    pub(crate) what: &'static str,
}

/// How a workload runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// The peer's process does all the work and prints its figures.
    Alone,
    /// The peer's process parks many goroutines, prints what starting one took, and stays. The
    /// runner measures the process from outside.
    Parked,
    /// The peer's process is a server; the load program (`load.rs`) is its client.
    Served(&'static str, Load),
}

/// What the load program does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// 64 bytes there and back; each connection has one request at a time. Figures: server CPU of
    /// a message, time of a message, 99th percentile.
    Echo { connections: usize, websocket: bool },
    /// One request every 5 ms over one connection, timed from when it was due. Figures: median,
    /// 99th percentile.
    Paced,
    /// One sender; 100 messages a second to all connections. Figures: server CPU of a delivery,
    /// 99th percentile.
    Broadcast { connections: usize },
    /// Idle WebSocket connections. Figure: the server's memory for each.
    Idle { connections: usize },
}

/// One program, which every peer implements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// The number of operations at scale 1 (for `Served`: seconds of load).
    pub(crate) n: u64,
    pub(crate) kind: Kind,
    /// Peers beside gort in both modes, Go and tokio.
    pub(crate) also: &'static [Peer],
    pub(crate) without: &'static [Peer],
    /// The values of GOMAXPROCS and of tokio's and may's number of workers.
    pub(crate) procs: &'static [u32],
    /// Swap idle stacks out, on peers that can.
    pub(crate) swaps: bool,
    /// There are many goroutines at once, so memory is made ready before each run.
    pub(crate) warms: bool,
    /// At most this many runs: some workloads take long and vary little.
    pub(crate) max_runs: u32,
    pub(crate) figures: &'static [Figure],
}

impl Workload {
    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> {
        Peer::ALL.into_iter().filter(|peer| match peer {
            Peer::Gort => true,
            Peer::GortShared | Peer::Go | Peer::Tokio => !self.without.contains(peer),
            _ => self.also.contains(peer),
        })
    }
}

use Peer::{Bare, Go, Golib, GortShared, Java, May, ParkingLot, Rayon, Std, Tokio};

/// The peers whose best figure is the reference, unless a row says otherwise.
const BEST: &[Peer] = &[Go, Tokio];
const BOTH: &[u32] = &[1, 2];

const fn figure(name: &'static str, unit: &'static str, target: Target, what: &'static str) -> Figure {
    Figure { name, unit, target, what }
}

const fn alone(name: &'static str, n: u64, figures: &'static [Figure]) -> Workload {
    Workload {
        name,
        n,
        kind: Kind::Alone,
        also: &[],
        without: &[],
        procs: BOTH,
        swaps: false,
        warms: false,
        max_runs: u32::MAX,
        figures,
    }
}

const fn served(name: &'static str, kind: &'static str, load: Load, figures: &'static [Figure]) -> Workload {
    Workload {
        kind: Kind::Served(kind, load),
        also: &[May, Java, Golib],
        max_runs: 3,
        ..alone(name, 3, figures)
    }
}

const fn best(ratio: f64) -> Target {
    Target::Ratio(ratio, BEST)
}

/// Polled tasks have no thread of their own and are not preempted.
const fn of_goroutines(w: Workload) -> Workload {
    Workload { without: &[Tokio], ..w }
}

/// Only gort swaps stacks out.
const fn swapped(w: Workload) -> Workload {
    Workload { swaps: true, also: &[], without: BEST, ..w }
}

/// How many goroutines park in `parked` and `parked-swapped`, at scale 1.
const MILLION: u64 = 1_000_000;

#[rustfmt::skip]
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload { also: &[May, Java, Golib], ..alone("spawn-join", 500_000, &[
        figure("spawn-join", "ns", Target::None, "start one, wait for it, and so on"),
    ]) },
    Workload { also: &[May, Java], ..alone("spawn-1", MILLION, &[
        figure("spawn-1", "ns", best(0.5), "one starts a million, then waits for all"),
    ]) },
    Workload { also: &[May, Java], ..alone("spawn-8", MILLION, &[
        figure("spawn-8", "ns", best(0.5), "eight start a million together, then wait for all"),
    ]) },
    Workload { also: &[May, Java, Golib], ..alone("yield-2", 5_000_000, &[
        figure("yield-2", "ns", best(0.4), "two that yield"),
    ]) },
    Workload { also: &[May, Java, Golib], ..alone("yield-1000", 5_000_000, &[
        figure("yield-1000", "ns", best(0.4), "a thousand that yield"),
    ]) },
    Workload { also: &[May, Java, Golib], ..alone("ping-pong", MILLION, &[
        figure("ping-pong", "ns", best(0.4), "a round trip over two unbuffered channels"),
    ]) },
    Workload { also: &[Golib], ..alone("chan-1-1", 2_000_000, &[
        figure("chan-1-1", "ns", Target::None, "a message, one sender and one receiver, unbuffered"),
    ]) },
    Workload { also: &[Golib], ..alone("chan-4-4", 2_000_000, &[
        figure("chan-4-4", "ns", Target::None, "a message, four senders and four receivers, unbuffered"),
    ]) },
    Workload { also: &[Golib], ..alone("chan-1-1-buf", 5_000_000, &[
        figure("chan-1-1-buf", "ns", best(0.6), "a message, one sender and one receiver, a buffer of 1 024"),
    ]) },
    Workload { also: &[Golib], ..alone("chan-4-4-buf", 5_000_000, &[
        figure("chan-4-4-buf", "ns", best(0.6), "the same, four senders and four receivers"),
    ]) },
    Workload { also: &[Golib], ..alone("chan-1-4-buf", 5_000_000, &[
        figure("chan-1-4-buf", "ns", best(0.6), "the same, one sender and four receivers"),
    ]) },
    Workload { also: &[Golib], ..alone("select-2-ready", 2_000_000, &[
        figure("select-2-ready", "ns", best(0.6), "a select of two channels that both have a message"),
    ]) },
    alone("select-8-ready", MILLION, &[
        figure("select-8-ready", "ns", best(0.6), "the same of eight"),
    ]),
    Workload { also: &[Golib], ..alone("select-2", MILLION, &[
        figure("select-2", "ns", best(0.6), "a select that waits at two channels, of which one gets a message"),
    ]) },
    alone("select-8", MILLION, &[
        figure("select-8", "ns", best(0.6), "the same of eight"),
    ]),
    alone("timeout", MILLION, &[
        figure("timeout", "ns", Target::None, "a receive with a time-out that is not reached"),
    ]),
    Workload { also: &[May, Golib, Std, ParkingLot], ..alone("mutex", 10_000_000, &[
        figure("mutex", "ns", Target::None, "lock and unlock, alone"),
    ]) },
    Workload { also: &[May, Std, ParkingLot], ..alone("mutex-8", 4_000_000, &[
        figure("mutex-8", "ns", Target::Ratio(1.0, &[Go, Tokio, Std, ParkingLot]), "lock and unlock, by eight"),
    ]) },
    Workload { also: &[May, Std, ParkingLot], ..alone("rwlock-8", 4_000_000, &[
        figure("rwlock-8", "ns", Target::Ratio(1.0, &[Go, Tokio, Std, ParkingLot]), "an RwLock, by eight, 95 of 100 read"),
    ]) },
    alone("skynet", MILLION, &[
        figure("skynet", "ns", best(0.4), "a leaf of a tree of ten children each, over channels"),
    ]),
    Workload { also: &[May, Rayon], ..alone("fib", 500_000, &[
        figure("fib", "ns", best(0.6), "a fork and its join, of Fibonacci numbers that fork at every step"),
    ]) },
    Workload { also: &[May, Golib, Rayon], ..alone("sort", 4_000_000, &[
        figure("sort", "ns", best(0.6), "an element, quick sort that forks down to 2 048 of them"),
    ]) },
    alone("syscall", 5_000_000, &[
        figure("syscall", "ns", Target::Limit(15.0), "a call that may block (`getppid`), beyond what the raw call takes"),
    ]),
    Workload { max_runs: 3, warms: true, ..alone("sleepers-1m", MILLION, &[
        figure("sleepers-1m", "ns", Target::Ratio(2.0, &[Go]), "CPU of one of a million that sleep 3 s once, start and end included"),
    ]) },
    Workload { also: &[May, Java, Golib], max_runs: 3, ..alone("sleepers-10k", 10_000, &[
        figure("sleepers-10k-cpu", "ns", best(0.7), "CPU of one sleep of 10 ms, where 10 000 sleep in a loop for 3 s"),
        figure("sleepers-10k-p50", "ns", best(0.7), "how late those end, median"),
        figure("sleepers-10k-p99", "ns", Target::Limit(1_700_000.0), "99th percentile"),
    ]) },
    Workload { also: &[May, Java, Golib], ..alone("late", 2_000, &[
        figure("late-p50", "ns", Target::Ratio(0.2, &[Go]), "how late a sleep of 100 µs ends, alone, median"),
        figure("late-p99", "ns", Target::None, "99th percentile"),
    ]) },
    of_goroutines(Workload { procs: &[1], ..alone("handoff", 300, &[
        figure("handoff", "ns", Target::Ratio(1.0, &[Go]), "until another runs when one is in a call that blocks, median"),
    ]) }),
    of_goroutines(Workload { also: &[Std], procs: &[2], ..alone("locked", 50_000, &[
        figure("locked", "ns", Target::None, "a round trip to one that is locked to its thread (std: between two threads)"),
    ]) }),
    Workload { also: &[May, Java, Golib, Bare], ..served("echo-64", "echo", Load::Echo { connections: 64, websocket: false }, &[
        figure("echo-64-cpu", "ns", Target::Ratio(0.85, &[Tokio]), "server CPU of 64 bytes there and back over TCP, 64 connections"),
        figure("echo-64-time", "ns", Target::Ratio(0.87, &[Tokio]), "time of one, client included"),
        figure("echo-64-p99", "ns", Target::Ratio(1.0, &[Tokio]), "99th percentile"),
    ]) },
    Workload { also: &[May, Java, Golib, Bare], ..served("echo-2000", "echo", Load::Echo { connections: 2_000, websocket: false }, &[
        figure("echo-2000-cpu", "ns", Target::Ratio(0.85, &[Tokio]), "the same, 2 000 connections"),
        figure("echo-2000-time", "ns", Target::Ratio(0.87, &[Tokio]), "time of one, client included"),
        figure("echo-2000-p99", "ns", Target::Ratio(1.0, &[Tokio]), "99th percentile"),
    ]) },
    Workload { without: &[GortShared, Tokio], also: &[Golib], procs: &[2],
        ..served("hogs-16", "hogs", Load::Echo { connections: 16, websocket: false }, &[
        figure("hogs-16-cpu", "ns", Target::None, "server CPU, hogs included, of an echo beside 8 that compute, 16 connections"),
        figure("hogs-16-time", "ns", Target::Ratio(1.0, &[Go]), "time of one"),
        figure("hogs-16-p99", "ns", Target::Ratio(0.1, &[Go]), "99th percentile"),
    ]) },
    Workload { without: &[GortShared, Tokio], also: &[Golib], procs: &[2], ..served("hogs", "hogs", Load::Paced, &[
        figure("hogs-p50", "ns", Target::Ratio(0.1, &[Go]), "an echo every 5 ms beside 8 that compute, median"),
        figure("hogs-p99", "ns", Target::Ratio(0.1, &[Go]), "99th percentile"),
    ]) },
    served("ws-echo", "ws-echo", Load::Echo { connections: 64, websocket: true }, &[
        figure("ws-echo-cpu", "ns", best(0.85), "server CPU of a WebSocket message there and back, 64 connections"),
        figure("ws-echo-time", "ns", Target::None, "time of one, client included"),
        figure("ws-echo-p99", "ns", Target::None, "99th percentile"),
    ]),
    served("ws-broadcast", "ws-broadcast", Load::Broadcast { connections: 2_000 }, &[
        figure("ws-broadcast-cpu", "ns", best(0.9), "server CPU of a delivery, where 100 messages a second go to 2 000 WebSockets"),
        figure("ws-broadcast-p99", "ns", best(1.0), "99th percentile from when it was due"),
    ]),
    Workload { max_runs: 1, procs: &[2], ..served("ws-idle", "ws-echo", Load::Idle { connections: 9_000 }, &[
        figure("ws-idle", "B", Target::Limit(6_800.0), "the server's memory for an idle WebSocket, page tables included, 9 000 connections"),
    ]) },
    swapped(Workload { max_runs: 1, procs: &[2], ..served("ws-idle-swapped", "ws-echo", Load::Idle { connections: 9_000 }, &[
        figure("ws-idle-swapped", "B", Target::Limit(3_000.0), "the same, idle stacks swapped out"),
    ]) }),
    Workload { max_runs: 1, procs: &[2], warms: true, kind: Kind::Parked, ..alone("parked", MILLION, &[
        figure("parked-time", "ns", Target::Ratio(1.3, &[Go]), "time to start one of a million that wait"),
        figure("parked", "B", Target::Limit(4_800.0), "memory of one of those, page tables included"),
        figure("parked-wakes", "", Target::Limit(0.0), "wake-ups of the process in the 10 s after that"),
    ]) },
    swapped(Workload { max_runs: 1, procs: &[2], warms: true, kind: Kind::Parked, ..alone("parked-swapped", MILLION, &[
        figure("parked-swapped-time", "ns", Target::None, "CPU of starting one of a million that wait, and of swapping it out"),
        figure("parked-swapped", "B", Target::Limit(1_500.0), "memory of one of those, page tables included"),
        figure("parked-swapped-wakes", "", Target::Limit(0.0), "wake-ups of the process in the 10 s after that"),
    ]) }),
    swapped(alone("swap-wake", 2_000, &[
        figure("swap-wake", "ns", Target::None, "until one that is swapped out has answered, median"),
        figure("swap-wake-next", "ns", Target::None, "until it has answered again"),
    ])),
];

/// The workloads that the command line selects.
pub(crate) fn chosen(only: Option<&str>) -> Result<Vec<&'static Workload>, String> {
    let is_wanted = |w: &&Workload| {
        only.is_none_or(|only| w.name.contains(only) || w.figures.iter().any(|f| f.name == only))
    };
    let chosen: Vec<_> = WORKLOADS.iter().filter(is_wanted).collect();
    if chosen.is_empty() {
        let names: Vec<_> = WORKLOADS.iter().map(|w| w.name).collect();
        return Err(format!("no workload has that in its name; there are: {}", names.join(", ")));
    }
    Ok(chosen)
}
