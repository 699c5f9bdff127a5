//! `gort load`: many connections, events at a rate, and the time from when each *should* have been sent to when it
//! arrived at each of its receivers.
//!
//! The intended time travels in the event. A hub that stalls therefore pays for every event that had to wait, also
//! for those that the publisher could not even send (no coordinated omission). Every expected message is counted;
//! one that never came is a failure.

mod client;
mod publish;

use crate::out::{self, say, tell};
use crate::plan::LoadPlan;
use crate::rt::sync::{Mutex, MutexGuard, PoisonError};
use crate::rt::{self, chan};
use client::Client;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use publish::{Published, publish};
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The name of the events.
const EVENT: &str = "load";
const TICK: Duration = Duration::from_millis(250);
const DIALERS: usize = 32;
const PUBLISHERS: usize = 8;
const SHARDS: usize = 16;
/// Events that are on their way get so long without any arriving before they count as missing.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error("cannot connect to {addr}: {source}")]
    Connect { addr: SocketAddr, source: io::Error },
    #[error("{0}; is it a hub of the Pusher Channels protocol?")]
    NoHub(String),
    #[error("the hub refused a connection: {0}")]
    Refused(String),
    #[error("the hub refused an event: {0}")]
    Publish(String),
    #[error("after {connected} of {wanted} connections: {source}")]
    Partway { connected: usize, wanted: usize, source: Box<LoadError> },
    #[error("a goroutine of the load panicked")]
    Panicked,
}

/// The result.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) connections: usize,
    pub(crate) channels: usize,
    pub(crate) connect_ms: u64,
    pub(crate) published: u64,
    /// Events that were not even sent, because the hub was far behind.
    pub(crate) unsent: u64,
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) missing: u64,
    pub(crate) out_of_order: u64,
    pub(crate) lost_connections: u64,
    /// Why the first of them was lost.
    pub(crate) lost_reason: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) delivered_per_s: f64,
    pub(crate) latency_ns: Latency,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Latency {
        Latency {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

impl Report {
    /// What went wrong, if something did.
    pub(crate) fn failure(&self) -> Option<String> {
        let mut wrong = Vec::new();
        if self.missing > 0 {
            wrong.push(format!("{} of {} messages never came", self.missing, self.expected));
        }
        if self.delivered > self.expected {
            wrong.push(format!("{} messages came twice", self.delivered - self.expected));
        }
        if self.out_of_order > 0 {
            wrong.push(format!("{} messages were out of order", self.out_of_order));
        }
        if self.lost_connections > 0 {
            let why = self.lost_reason.as_deref().unwrap_or("for no known reason");
            wrong.push(format!("{} connections were lost ({why})", self.lost_connections));
        }
        if self.unsent > 0 {
            wrong.push(format!("{} events could not be sent in time", self.unsent));
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Progress {
    Connecting {
        connected: usize,
    },
    /// All connections stand; nothing was published yet.
    Connected,
    Running(Live),
}

/// The last quarter of a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Live {
    pub(crate) elapsed: Duration,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) delivered_per_s: f64,
    pub(crate) latency: Latency,
}

/// What all goroutines of the load count into.
struct Tally {
    base: Instant,
    shards: Vec<Mutex<Histogram<u64>>>,
    delivered: AtomicU64,
    published: AtomicU64,
    out_of_order: AtomicU64,
    lost: AtomicU64,
    lost_reason: Mutex<Option<String>>,
    /// The load is over: connections end because we end them.
    over: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From a microsecond to ten minutes, to three digits.
fn histogram() -> Histogram<u64> {
    let mut histogram =
        Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("these bounds are in order");
    histogram.auto(true);
    histogram
}

impl Tally {
    fn new() -> Tally {
        Tally {
            base: Instant::now(),
            shards: (0..SHARDS).map(|_| Mutex::new(histogram())).collect(),
            delivered: AtomicU64::new(0),
            published: AtomicU64::new(0),
            out_of_order: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lost_reason: Mutex::new(None),
            over: AtomicBool::new(false),
        }
    }

    fn ns_of(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_nanos() as u64
    }

    fn now_ns(&self) -> u64 {
        self.ns_of(Instant::now())
    }

    fn published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    fn delivered(&self, shard: usize, latency_ns: u64) {
        lock(&self.shards[shard % SHARDS]).saturating_record(latency_ns);
        self.delivered.fetch_add(1, Ordering::Release);
    }

    fn out_of_order(&self, n: u64) {
        self.out_of_order.fetch_add(n, Ordering::Relaxed);
    }

    fn lost(&self, why: &str) {
        if !self.over.load(Ordering::Acquire) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            lock(&self.lost_reason).get_or_insert_with(|| why.to_string());
        }
    }

    /// Moves what came since the last call into `total`, and gives it.
    fn collect(&self, total: &mut Histogram<u64>) -> Histogram<u64> {
        let mut interval = histogram();
        for shard in &self.shards {
            let mut shard = lock(shard);
            interval.add(&*shard).expect("the same bounds");
            shard.reset();
        }
        total.add(&interval).expect("the same bounds");
        interval
    }
}

/// The number of the event on its channel, when it should have been sent, and as much as the payload asks for.
fn make_data(number: u64, intended_ns: u64, payload: usize) -> String {
    let mut data = format!("{number} {intended_ns} ");
    let missing = payload.saturating_sub(data.len());
    data.extend(std::iter::repeat_n('x', missing));
    data
}

fn parse_data(data: &str) -> Option<(u64, u64)> {
    let mut parts = data.split(' ');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Does what the plan says, and says how far it is about four times a second.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
pub(crate) fn drive(plan: &LoadPlan, mut progress: impl FnMut(Progress)) -> Result<Report, LoadError> {
    let tally = Arc::new(Tally::new());
    // Of this run only: another load on the same hub must not be counted.
    let run =
        format!("{:x}-{:x}", std::process::id(), Instant::now().elapsed().as_nanos() as u64 ^ rand_seed());
    let names: Arc<Vec<String>> = Arc::new((0..plan.channels).map(|k| format!("load-{run}-{k}")).collect());
    let plan = Arc::new(plan.clone());

    let connecting = Instant::now();
    let (streams, receivers) = connect_all(&plan, &names, &tally, &mut progress)?;
    let connect_ms = connecting.elapsed().as_millis() as u64;
    progress(Progress::Connected);

    let start = Instant::now();
    let of = plan.channels.min(PUBLISHERS);
    let publishers: Vec<_> = (0..of)
        .map(|me| {
            let (plan, tally, names) = (plan.clone(), tally.clone(), names.clone());
            rt::go(move || publish(&plan, &tally, &names, me, of, start))
        })
        .collect();
    let mut watch = Watch::new(&tally, start);
    while publishers.iter().any(|publisher| !publisher.is_finished()) {
        watch.tick(&mut progress);
    }
    let mut published = Vec::new();
    for publisher in publishers {
        published.push(publisher.join().map_err(|_| LoadError::Panicked)??);
    }
    let expected = expected(&plan, &published);
    let mut quiet = Instant::now();
    let mut seen = 0;
    while seen < expected && quiet.elapsed() < GRACE {
        watch.tick(&mut progress);
        let now = tally.delivered.load(Ordering::Acquire);
        if now != seen {
            (seen, quiet) = (now, Instant::now());
        }
    }
    let seconds = watch.last_arrival.duration_since(start).as_secs_f64();
    tally.over.store(true, Ordering::Release);
    for stream in &streams {
        stream.close();
    }
    for receiver in receivers {
        receiver.join().map_err(|_| LoadError::Panicked)?;
    }
    // What came in the last moments, twice ones among it.
    tally.collect(&mut watch.total);
    let delivered = tally.delivered.load(Ordering::Acquire);
    Ok(Report {
        connections: plan.connections,
        channels: plan.channels,
        connect_ms,
        published: published.iter().flat_map(|p| &p.accepted).map(|(_, n)| n).sum(),
        unsent: published.iter().map(|p| p.unsent).sum(),
        expected,
        delivered,
        missing: expected.saturating_sub(delivered),
        out_of_order: tally.out_of_order.load(Ordering::Relaxed),
        lost_connections: tally.lost.load(Ordering::Relaxed),
        lost_reason: lock(&tally.lost_reason).clone(),
        seconds,
        delivered_per_s: delivered as f64 / seconds.max(0.001),
        latency_ns: Latency::of(&watch.total),
    })
}

/// A number that differs from run to run.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Each accepted event was due at every connection of its channel.
fn expected(plan: &LoadPlan, published: &[Published]) -> u64 {
    let members = |channel: usize| {
        (plan.connections / plan.channels + usize::from(channel < plan.connections % plan.channels)) as u64
    };
    published.iter().flat_map(|p| &p.accepted).map(|(channel, n)| members(*channel) * n).sum()
}

type Streams = Vec<Arc<rt::net::TcpStream>>;

fn connect_all(
    plan: &Arc<LoadPlan>,
    names: &Arc<Vec<String>>,
    tally: &Arc<Tally>,
    progress: &mut impl FnMut(Progress),
) -> Result<(Streams, Vec<gort::JoinHandle<()>>), LoadError> {
    let wanted = plan.connections;
    let next = Arc::new(AtomicUsize::new(0));
    let (done, results) = chan::bounded(DIALERS);
    for _ in 0..DIALERS.min(wanted) {
        let (plan, names, tally, next, done) =
            (plan.clone(), names.clone(), tally.clone(), next.clone(), done.clone());
        rt::go(move || {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= plan.connections {
                    return;
                }
                let from = client::source(i, plan.connections, plan.addr);
                let connected = Client::connect(from, plan.addr, &plan.app.key, &names[i % plan.channels]);
                let connected = connected.map(|client| {
                    let tally = tally.clone();
                    (client.stream(), rt::go(move || client.receive(&tally, i)))
                });
                // Nobody listens after the first error.
                if done.send(connected).is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let (mut streams, mut receivers) = (Vec::with_capacity(wanted), Vec::with_capacity(wanted));
    let mut shown = Instant::now();
    progress(Progress::Connecting { connected: 0 });
    while streams.len() < wanted {
        match results.recv_timeout(TICK) {
            Ok(Ok((stream, receiver))) => {
                streams.push(stream);
                receivers.push(receiver);
            }
            Ok(Err(source)) if streams.is_empty() => return Err(source),
            Ok(Err(source)) => {
                return Err(LoadError::Partway {
                    connected: streams.len(),
                    wanted,
                    source: Box::new(source),
                });
            }
            Err(chan::RecvTimeoutError::Timeout) => {}
            Err(chan::RecvTimeoutError::Disconnected) => return Err(LoadError::Panicked),
        }
        if shown.elapsed() >= TICK || streams.len() == wanted {
            shown = Instant::now();
            progress(Progress::Connecting { connected: streams.len() });
        }
    }
    Ok((streams, receivers))
}

struct Watch<'a> {
    tally: &'a Tally,
    start: Instant,
    total: Histogram<u64>,
    last: (Instant, u64),
    last_arrival: Instant,
}

impl<'a> Watch<'a> {
    fn new(tally: &'a Tally, start: Instant) -> Watch<'a> {
        Watch { tally, start, total: histogram(), last: (start, 0), last_arrival: start }
    }

    fn tick(&mut self, progress: &mut impl FnMut(Progress)) {
        rt::sleep_until(Instant::now() + TICK);
        let now = Instant::now();
        let delivered = self.tally.delivered.load(Ordering::Acquire);
        let interval = self.tally.collect(&mut self.total);
        let (before, seen) = self.last;
        if delivered > seen {
            self.last_arrival = now;
        }
        self.last = (now, delivered);
        progress(Progress::Running(Live {
            elapsed: now - self.start,
            published: self.tally.published.load(Ordering::Relaxed),
            delivered,
            delivered_per_s: (delivered - seen) as f64 / (now - before).as_secs_f64(),
            latency: Latency::of(&interval),
        }));
    }
}

/// The command.
pub(crate) fn run(plan: &LoadPlan, json: bool) -> Result<(), crate::Failure> {
    let shown = Display::new(plan);
    let report = drive(plan, |progress| shown.show(progress));
    shown.bar.finish_and_clear();
    let report = report?;
    if json {
        say(serde_json::to_string(&report)?)?;
    } else {
        say(summary(&report))?;
    }
    match report.failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

pub(crate) fn summary(report: &Report) -> String {
    let latency = &report.latency_ns;
    format!(
        "connections  {} on {} channels, opened in {:.1} s\n\
         published    {} events\n\
         delivered    {} of {} messages, {} a second\n\
         latency      p50 {}   p99 {}   p99.9 {}   max {}   (from the intended time of sending)",
        out::count(report.connections as u64),
        out::count(report.channels as u64),
        report.connect_ms as f64 / 1000.0,
        out::count(report.published),
        out::count(report.delivered),
        out::count(report.expected),
        out::count(report.delivered_per_s as u64),
        out::time(latency.p50),
        out::time(latency.p99),
        out::time(latency.p999),
        out::time(latency.max),
    )
}

/// A bar where somebody watches, a line a second where nobody does.
struct Display {
    bar: ProgressBar,
    plain: bool,
    connections: usize,
    duration: Duration,
    last_line: Mutex<Option<Instant>>,
}

impl Display {
    fn new(plan: &LoadPlan) -> Display {
        let plain = !out::is_watched();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new(1000) };
        bar.set_style(ProgressStyle::with_template("{bar:30} {msg}").expect("the template is well formed"));
        Display {
            bar,
            plain,
            connections: plan.connections,
            duration: plan.duration,
            last_line: Mutex::new(None),
        }
    }

    fn show(&self, progress: Progress) {
        let (part, line) = match progress {
            Progress::Connecting { connected } => (
                connected as f64 / self.connections as f64,
                format!("connecting {connected} of {}", self.connections),
            ),
            Progress::Connected => (0.0, "connected".into()),
            Progress::Running(live) => (
                live.elapsed.as_secs_f64() / self.duration.as_secs_f64(),
                format!(
                    "{:.0} s  {} delivered  {} a second  p50 {}  p99 {}",
                    live.elapsed.as_secs_f64(),
                    out::count(live.delivered),
                    out::count(live.delivered_per_s as u64),
                    out::time(live.latency.p50),
                    out::time(live.latency.p99),
                ),
            ),
        };
        self.bar.set_position((part.min(1.0) * 1000.0) as u64);
        self.bar.set_message(line.clone());
        if self.plain {
            let mut last = lock(&self.last_line);
            if last.is_none_or(|at| at.elapsed() >= Duration::from_millis(950)) {
                *last = Some(Instant::now());
                tell(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_carries_number_and_time_at_any_size() {
        for payload in [0, 10, 64, 10_000] {
            let data = make_data(u64::MAX, 12, payload);
            assert_eq!(parse_data(&data), Some((u64::MAX, 12)));
            assert!(data.len() >= payload);
        }
        assert_eq!(make_data(1, 2, 64).len(), 64);
        assert_eq!(parse_data("1"), None);
        assert_eq!(parse_data("x 1"), None);
    }

    #[test]
    fn every_connection_of_a_channel_is_expected_to_hear_each_event() {
        let plan = LoadPlan {
            addr: "127.0.0.1:1".parse().unwrap(),
            app: "1:k:s".parse().unwrap(),
            connections: 10,
            rate: 1,
            duration: Duration::from_secs(1),
            payload: 0,
            channels: 3,
        };
        let published = [
            Published { accepted: vec![(0, 5), (2, 1)], unsent: 0 },
            Published { accepted: vec![(1, 7)], unsent: 0 },
        ];
        assert_eq!(expected(&plan, &published), 5 * 4 + 7 * 3 + 3);
    }
}
