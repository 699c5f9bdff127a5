//! `gort demo`: runs a hub and a load in one process, and compares their cost with that of threads.

use crate::load::{self, Live, Progress, Report};
use crate::out::{self, Failure, say, tell};
use crate::plan::{DEMO_ROOM, DemoPlan, LoadPlan};
use crate::rt;
use crate::threads::{self, ThreadCost};
use gort_hub::{App, Config, Hub, resident_bytes};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Threads started for the comparison.
const THREADS: usize = 1000;
/// Connections for people who open the page while the demo runs.
const ONLOOKERS: usize = 32;
const DRAIN: Duration = Duration::from_secs(10);

/// The result.
#[derive(Debug, Serialize)]
struct Summary {
    #[serde(flatten)]
    load: Report,
    /// The most while the demo ran, like the two after it.
    goroutines: usize,
    os_threads: usize,
    resident_bytes: u64,
    /// Both ends of a connection, with all that belongs to them.
    resident_bytes_per_connection: u64,
    /// The cost of a parked thread of std.
    thread: Option<ThreadCost>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Peak {
    goroutines: usize,
    os_threads: usize,
    resident_bytes: u64,
}

impl Peak {
    fn look(&mut self) {
        self.goroutines = self.goroutines.max(rt::num_goroutine());
        self.os_threads = self.os_threads.max(rt::threads());
        self.resident_bytes = self.resident_bytes.max(resident_bytes());
    }
}

pub(crate) fn run(plan: &DemoPlan, json: bool) -> Result<(), Failure> {
    if let Some(note) = &plan.note {
        tell(note);
    }
    let threads = rt::blocking(|| threads::measure(THREADS));
    let app =
        App { id: "1".into(), key: "demo".into(), secret: format!("{:x}", RandomState::new().hash_one(0)) };
    let mut config = Config::new(app.clone());
    config.max_connections = plan.connections + ONLOOKERS;
    config.page = true;
    // All connections come at once.
    config.max_http_connections = plan.connections.max(config.max_http_connections);
    config.max_http_per_address = config.max_http_connections;
    let hub = Hub::bind("127.0.0.1:0".parse()?, config)?;
    let serving = hub.clone();
    let served = rt::go(move || serving.serve());
    let load = LoadPlan {
        addr: hub.local_addr(),
        app,
        connections: plan.connections,
        rate: plan.rate,
        duration: plan.duration,
        payload: 64,
        channels: plan.connections.div_ceil(DEMO_ROOM),
    };
    if !json {
        let (addr, n) = (load.addr, out::count(plan.connections as u64));
        tell(format_args!(
            "opening {n} WebSocket connections to a hub in this process; http://{addr}/ shows it live"
        ));
    }
    let before = resident_bytes();
    let mut idle_bytes = 0;
    let mut peak = Peak::default();
    let mut table = Table::new(plan);
    let report = load::drive(&load, |progress| {
        if let Progress::Connected = progress {
            idle_bytes = resident_bytes().saturating_sub(before);
        }
        table.show(progress, &mut peak);
    });
    table.bar.finish_and_clear();
    let report = report?;
    let drained = hub.drain(DRAIN);
    served.join().map_err(|_| "the hub panicked")??;
    let summary = Summary {
        goroutines: peak.goroutines,
        os_threads: peak.os_threads,
        resident_bytes: peak.resident_bytes,
        resident_bytes_per_connection: idle_bytes / plan.connections as u64,
        thread: threads,
        load: report,
    };
    if json {
        say(serde_json::to_string(&summary)?)?;
    } else {
        say(describe(&summary))?;
    }
    match summary.load.failure() {
        Some(failure) => Err(failure.into()),
        None if drained.forced > 0 => Err(format!("{} connections did not end", drained.forced).into()),
        None => Ok(()),
    }
}

fn describe(summary: &Summary) -> String {
    let goroutines = summary.goroutines as u64;
    let mut text = load::summary(&summary.load);
    text += &format!(
        "\ngoroutines   {} on {} OS threads\n\
         memory       {} resident; {} a connection, both ends and their goroutines\n",
        out::count(goroutines),
        out::count(summary.os_threads as u64),
        out::bytes(summary.resident_bytes),
        out::bytes(summary.resident_bytes_per_connection),
    );
    text += &match summary.thread {
        Some(cost) => format!(
            "as threads   {} threads, {} resident and {} of kernel stacks, {} to start them\n             \
             (measured now on {} parked threads: {} + {} and {} each)",
            out::count(goroutines),
            out::bytes(cost.resident_bytes * goroutines),
            out::bytes(cost.kernel_stack_bytes * goroutines),
            out::time(cost.start_ns * goroutines),
            out::count(cost.measured as u64),
            out::bytes(cost.resident_bytes),
            out::bytes(cost.kernel_stack_bytes),
            out::time(cost.start_ns),
        ),
        None => "as threads   not measured: the system starts no more threads".into(),
    };
    text
}

/// The progress: a table that is redrawn on a terminal, or else one line a second.
struct Table {
    bar: ProgressBar,
    plain: bool,
    connections: usize,
    duration: Duration,
    last_line: Option<Instant>,
}

impl Table {
    fn new(plan: &DemoPlan) -> Table {
        let plain = !out::is_watched();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new(1000) };
        bar.set_style(ProgressStyle::with_template("{bar:40}\n{msg}").expect("the template is well formed"));
        Table { bar, plain, connections: plan.connections, duration: plan.duration, last_line: None }
    }

    fn show(&mut self, progress: Progress, peak: &mut Peak) {
        let live = match progress {
            Progress::Connected => return peak.look(),
            Progress::Connecting { connected } => {
                self.bar.set_position(connected as u64 * 1000 / self.connections as u64);
                Err(connected)
            }
            Progress::Running(live) => {
                let part = live.elapsed.as_secs_f64() / self.duration.as_secs_f64();
                self.bar.set_position((part.min(1.0) * 1000.0) as u64);
                Ok(live)
            }
        };
        if self.plain && self.last_line.is_some_and(|at| at.elapsed() < Duration::from_millis(950)) {
            return;
        }
        peak.look();
        let now =
            Now { goroutines: rt::num_goroutine(), os_threads: rt::threads(), resident: resident_bytes() };
        if self.plain {
            self.last_line = Some(Instant::now());
            tell(line(live, self.connections, &now));
        } else {
            self.bar.set_message(table(live, self.connections, &now));
        }
    }
}

struct Now {
    goroutines: usize,
    os_threads: usize,
    resident: u64,
}

/// `live` is how many connections are open, until all are.
fn line(live: Result<Live, usize>, connections: usize, now: &Now) -> String {
    let process = format!(
        "{} goroutines  {} OS threads  {} resident",
        out::count(now.goroutines as u64),
        out::count(now.os_threads as u64),
        out::bytes(now.resident)
    );
    match live {
        Err(connected) => format!("connecting {connected} of {connections}  {process}"),
        Ok(live) => format!(
            "{:>3.0} s  {process}  {} delivered a second  p50 {}  p99 {}",
            live.elapsed.as_secs_f64(),
            out::count(live.delivered_per_s as u64),
            out::time(live.latency.p50),
            out::time(live.latency.p99),
        ),
    }
}

fn table(live: Result<Live, usize>, connections: usize, now: &Now) -> String {
    let connected = live.err().unwrap_or(connections);
    let live = live.unwrap_or_default();
    let row = |name: &str, value: String| format!("  {name:<22}{value:>16}\n");
    [
        row("connections", out::count(connected as u64)),
        row("goroutines", out::count(now.goroutines as u64)),
        row("OS threads", out::count(now.os_threads as u64)),
        row("resident memory", out::bytes(now.resident)),
        row("events published", out::count(live.published)),
        row("messages delivered", out::count(live.delivered)),
        row("delivered a second", out::count(live.delivered_per_s as u64)),
        row("latency p50", out::time(live.latency.p50)),
        row("latency p99", out::time(live.latency.p99)),
        row("latency p99.9", out::time(live.latency.p999)),
    ]
    .concat()
    .trim_end()
    .to_string()
}
