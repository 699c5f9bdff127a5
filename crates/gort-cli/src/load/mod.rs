//! `gort load`: opens many connections and publishes events at a rate. Measures the time from when
//! each event *should* have been sent until it has arrived at each of its receivers.
//!
//! Each event carries its intended time. So a hub that stalls pays for every event that had to
//! wait, also for those that the publisher could not send in time (no coordinated omission). Every
//! expected message is counted, and a missing one is a failure.

mod client;
mod error;
mod event;
mod publish;
mod report;
mod tally;

pub(crate) use report::{Live, Progress, Report, summary};

use crate::out::{self, Failure, say, tell};
use crate::plan::LoadPlan;
use crate::rt::sync::Mutex;
use crate::rt::{self, chan};
use client::Client;
use error::LoadError;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use publish::{Published, publish};
use report::Latency;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tally::{Tally, histogram, lock};

const TICK: Duration = Duration::from_millis(250);
const DIALERS: usize = 32;
const PUBLISHERS: usize = 8;
/// If no event has arrived for this time, those that have not arrived count as missing.
const GRACE: Duration = Duration::from_secs(5);

/// Carries out the plan, and reports the progress about four times a second.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
pub(crate) fn drive(plan: &LoadPlan, mut progress: impl FnMut(Progress)) -> Result<Report, LoadError> {
    let tally = Arc::new(Tally::new());
    // The names are unique to this run, so that another load on the same hub is not counted.
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
    // What came last, with messages that came twice.
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

/// How many messages are expected: each accepted event at every connection of its channel.
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
                // The receiver is gone after the first error.
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

/// Runs the command.
pub(crate) fn run(plan: &LoadPlan, json: bool) -> Result<(), Failure> {
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

/// The progress: a bar on a terminal, or else one line a second.
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
