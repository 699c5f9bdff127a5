//! The runner: starts the peers in turn, each measurement in its own process, and keeps medians.

use crate::load;
use crate::process;
use crate::programs::Programs;
use crate::workloads::{Kind, Peer, Target, Workload};
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long wake-ups are counted for `parked`.
const WATCHED: Duration = Duration::from_secs(10);
/// How long goroutines get to settle after the last one was started.
const SETTLED: Duration = Duration::from_secs(10);
/// More bytes than a parked goroutine takes on any peer.
const BYTES_OF_ONE: usize = 6_500;

/// What the user asked for.
pub(crate) struct Settings {
    pub(crate) runs: u32,
    /// A factor for the table's sizes and for how long the load lasts.
    pub(crate) scale: f64,
    pub(crate) with_java: bool,
}

/// One figure at one number of processors: the medians, and how far the runs are apart.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The figure's name.
    pub(crate) workload: String,
    pub(crate) procs: u32,
    pub(crate) unit: String,
    pub(crate) gort: Option<f64>,
    pub(crate) go: Option<f64>,
    pub(crate) tokio: Option<f64>,
    pub(crate) may: Option<f64>,
    /// gort's figure divided by the best of `against`.
    pub(crate) ratio: Option<f64>,
    /// The ratio to reach (for a limit: 1).
    pub(crate) target: Option<f64>,
    /// Null if there is no target or no measurement.
    pub(crate) met: Option<bool>,
    /// What gort is compared with: peers, or a limit with its unit.
    pub(crate) against: String,
    /// gort's figure in shared mode.
    pub(crate) gort_shared: Option<f64>,
    /// The peers that only some rows show.
    pub(crate) others: BTreeMap<String, f64>,
    /// All runs, by peer.
    pub(crate) runs: BTreeMap<String, Vec<f64>>,
    /// Why a figure is missing, by peer.
    pub(crate) missing: BTreeMap<String, String>,
    pub(crate) what: String,
}

/// Measures `workload` on all peers; calls `done` with each row.
pub(crate) fn measure(
    programs: &Programs,
    settings: &Settings,
    workload: &Workload,
    mut done: impl FnMut(Row),
) {
    for &procs in workload.procs {
        let mut results: BTreeMap<Peer, Vec<Vec<f64>>> = BTreeMap::new();
        let mut missing: BTreeMap<Peer, String> = BTreeMap::new();
        for _ in 0..settings.runs.min(workload.max_runs) {
            for peer in workload.peers() {
                if peer == Peer::Java && !settings.with_java || missing.contains_key(&peer) {
                    continue;
                }
                match once(programs, workload, settings.size(workload), peer, procs, WATCHED) {
                    Ok(Some(figures)) => results.entry(peer).or_default().push(figures),
                    Ok(None) => drop(missing.insert(peer, "not here".into())),
                    Err(e) => {
                        eprintln!("{} {} on {procs}: {e}", peer.name(), workload.name);
                        results.remove(&peer);
                        missing.insert(peer, e.to_string());
                    }
                }
            }
        }
        for (i, figure) in workload.figures.iter().enumerate() {
            let runs = results.iter().map(|(&peer, runs)| (peer, runs.iter().map(|run| run[i]).collect()));
            done(Row::new(figure, procs, runs.collect(), &missing));
        }
    }
}

impl Row {
    fn new(
        figure: &crate::workloads::Figure,
        procs: u32,
        runs: BTreeMap<Peer, Vec<f64>>,
        missing: &BTreeMap<Peer, String>,
    ) -> Row {
        let of = |peer: Peer| runs.get(&peer).map(|runs| median(runs));
        let gort = of(Peer::Gort);
        let (reference, target, against) = match figure.target {
            Target::Ratio(ratio, peers) => {
                let best = peers.iter().filter_map(|&p| of(p)).min_by(f64::total_cmp);
                (best, Some(ratio), peers.iter().map(|p| p.name()).collect::<Vec<_>>().join(", "))
            }
            Target::Limit(limit) => {
                (Some(limit), Some(1.0), format!("{limit} {}", figure.unit).trim().to_string())
            }
            Target::None => {
                let best = [Peer::Go, Peer::Tokio].into_iter().filter_map(of).min_by(f64::total_cmp);
                (best, None, "go, tokio".to_string())
            }
        };
        let ratio = gort.zip(reference).filter(|&(_, r)| r != 0.0).map(|(gort, reference)| gort / reference);
        let met =
            gort.zip(reference).zip(target).map(|((gort, reference), target)| gort <= reference * target);
        let shown = [Peer::Java, Peer::Golib, Peer::Std, Peer::ParkingLot, Peer::Rayon, Peer::Bare];
        Row {
            workload: figure.name.into(),
            procs,
            unit: figure.unit.into(),
            gort,
            go: of(Peer::Go),
            tokio: of(Peer::Tokio),
            may: of(Peer::May),
            ratio,
            target,
            met,
            against,
            gort_shared: of(Peer::GortShared),
            others: shown.into_iter().filter_map(|p| Some((p.name().to_string(), of(p)?))).collect(),
            missing: missing.iter().map(|(peer, why)| (peer.name().to_string(), why.clone())).collect(),
            runs: runs.into_iter().map(|(peer, runs)| (peer.name().to_string(), runs)).collect(),
            what: figure.what.into(),
        }
    }
}

pub(crate) fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl Settings {
    /// How many operations a workload does, or how many seconds the load lasts.
    fn size(&self, workload: &Workload) -> u64 {
        let least = match workload.kind {
            Kind::Served(..) => 1,
            // At least this, so that the fixed parts (eight goroutines, a tree of ten children)
            // have something to do.
            Kind::Alone | Kind::Parked => 1_000,
        };
        ((workload.n as f64 * self.scale) as u64).max(least)
    }
}

/// Runs one peer once. Wake-ups are counted for `watched`. `None`: the peer is missing.
pub(crate) fn once(
    programs: &Programs,
    workload: &Workload,
    n: u64,
    peer: Peer,
    procs: u32,
    watched: Duration,
) -> Result<Option<Vec<f64>>> {
    let Some(command) = programs.command(peer, workload, n, procs) else { return Ok(None) };
    if workload.warms {
        process::warm_memory((n as usize).saturating_mul(BYTES_OF_ONE));
    }
    let figures = match workload.kind {
        Kind::Alone => figures_of(&finish(command)?)?,
        Kind::Parked => {
            let mut running = Running::start(command)?;
            let mut figures = figures_of(&running.line()?)?;
            std::thread::sleep(SETTLED);
            figures.push(process::memory_bytes(running.pid())? / n as f64);
            figures.push(process::wakes(running.pid(), watched)?);
            figures
        }
        Kind::Served(_, load) => {
            let mut server = Running::start(command)?;
            let addr = server.line()?.trim().parse()?;
            load::run(load, addr, server.pid(), Duration::from_secs(n))?
        }
    };
    if figures.len() != workload.figures.len() {
        return Err(format!("{} figures, not {}", figures.len(), workload.figures.len()).into());
    }
    Ok(Some(figures))
}

fn figures_of(text: &str) -> Result<Vec<f64>> {
    text.split_whitespace().map(|f| f.parse().map_err(|_| format!("not a figure: {f}").into())).collect()
}

/// Waits for a child that ends by itself, and returns what it prints.
fn finish(mut command: Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, last_line(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim().lines().last().unwrap_or("said nothing").to_string()
}

/// A child that runs until its standard input is closed. It is killed if it does not end then.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Result<Running> {
        let mut child = command.spawn()?;
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Running { child, stdout })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The line that the child prints when it is ready.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? > 0 {
            return Ok(line);
        }
        let mut said = Vec::new();
        self.child.stderr.take().expect("piped").read_to_end(&mut said)?;
        Err(format!("{}: {}", self.child.wait()?, last_line(&said)).into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
