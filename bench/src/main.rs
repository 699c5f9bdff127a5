//! Compares gort with Go, tokio and may in one run: see `bench/README.md`.

mod check;
mod load;
mod peers;
mod process;
mod programs;
mod report;
mod scaling;
mod shares;
mod versus;
mod workloads;

use clap::{Args, Parser, Subcommand};
use peers::{on_golib, on_gort, on_may, on_threads, on_tokio};
use peers::{serve_bare, serve_golib, serve_gort, serve_may, serve_tokio};
use programs::Programs;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use versus::{Row, Settings};
use workloads::Peer;

/// Compares gort with other runtimes.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every workload on gort, Go, tokio and may: medians, ratios, targets. Each measurement
    /// is a process of its own; the peers take turns.
    Versus(Versus),
    /// Fails if a ratio is more than a quarter worse than in the baseline.
    Check {
        /// The ratios to compare with, such as a result of `versus --json`.
        #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json"))]
        baseline: PathBuf,
        /// Compare this result of `versus --json` instead of measuring.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "runs", "quick"])]
        from: Option<PathBuf>,
        #[command(flatten)]
        what: What,
    },
    /// Measures what one operation costs as the work grows: a thousand to ten million goroutines,
    /// one to 18 000 connections, one to eight Ps.
    Scaling {
        /// Only charts whose name contains this.
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
        /// Where to write the figures.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// The folder to write the charts to, as NAME.svg.
        #[arg(long, value_name = "FOLDER")]
        svg: Option<PathBuf>,
    },
    /// Measures how parties that are always runnable share the CPU, on gort and on Go. The figure
    /// is the smallest share that a party gets, relative to its fair share.
    Shares {
        /// The numbers of Ps.
        #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4], value_parser = clap::value_parser!(u32).range(1..=64))]
        procs: Vec<u32>,
    },
    /// Runs one workload in this process and prints its figures.
    #[command(hide = true)]
    Child { peer: String, workload: String, n: u64, procs: usize },
    /// Serves until standard input ends; prints the address first.
    #[command(hide = true)]
    Serve { peer: String, kind: String, n: u64, procs: usize },
}

#[derive(Debug, Args)]
struct What {
    /// Only workloads whose name contains this, or the one that has this figure.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Runs of each workload and peer (long workloads run three times at most).
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// One run at a tenth of the sizes: a quick look, too short for reliable figures.
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct Versus {
    #[command(flatten)]
    what: What,
    /// Include Java's virtual threads.
    #[arg(long)]
    java: bool,
    /// Where to write the results.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to write the table.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Where to write the chart.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Versus(versus) => compare(&versus).map(|()| ExitCode::SUCCESS),
        Command::Check { baseline, from, what } => guard(&baseline, from.as_deref(), &what),
        Command::Scaling { only, json, svg } => {
            scale(only.as_deref(), json.as_deref(), svg.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Command::Shares { procs } => shares::table(&procs).map(|table| {
            print!("{table}");
            ExitCode::SUCCESS
        }),
        Command::Child { peer, workload, n, procs } => child(&peer, &workload, n, procs),
        Command::Serve { peer, kind, procs, .. } => serve(&peer, &kind, procs),
    };
    done.unwrap_or_else(|e| {
        eprintln!("gort-bench: {e}");
        ExitCode::FAILURE
    })
}

fn compare(versus: &Versus) -> Result<()> {
    let programs = Programs::build(versus.java)?;
    let rows = measure(&programs, &versus.what, versus.java)?;
    let write = |path: &Option<PathBuf>, text: String| match path {
        Some(path) => std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display())),
        None => Ok(()),
    };
    let machine = programs.machine();
    write(&versus.json, serde_json::to_string_pretty(&rows)?)?;
    write(&versus.markdown, report::markdown(&machine, versus.what.runs(), &rows))?;
    write(&versus.svg, report::svg(&machine, &rows))?;
    let met = rows.iter().filter(|row| row.met == Some(true)).count();
    let aimed = rows.iter().filter(|row| row.met.is_some()).count();
    println!("\n{met} of {aimed} targets met");
    Ok(())
}

impl What {
    fn runs(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }
}

/// Measures, and prints each row when it is complete.
fn measure(programs: &Programs, what: &What, with_java: bool) -> Result<Vec<Row>> {
    let chosen = workloads::chosen(what.only.as_deref())?;
    raise_descriptor_limit();
    let scale = if what.quick { 0.1 } else { 1.0 };
    let settings = Settings { runs: what.runs(), scale, with_java };
    println!("{}; medians of {} runs\n\n{}", programs.machine(), settings.runs, report::HEAD);
    let mut rows = Vec::new();
    for workload in chosen {
        versus::measure(programs, &settings, workload, |row| {
            println!("{}", report::line(&row));
            rows.push(row);
        });
    }
    Ok(rows)
}

fn guard(baseline: &Path, from: Option<&Path>, what: &What) -> Result<ExitCode> {
    let baseline = check::read(baseline)?;
    let rows = match from {
        Some(path) => check::read(path)?,
        None => measure(&Programs::build(false)?, what, false)?.into_iter().map(Into::into).collect(),
    };
    let worse = check::worse(&rows, &baseline);
    worse.iter().for_each(|line| println!("worse: {line}"));
    println!("{} rows compared, {} worse by more than a quarter", rows.len(), worse.len());
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn scale(only: Option<&str>, json: Option<&Path>, svg: Option<&Path>) -> Result<()> {
    raise_descriptor_limit();
    let programs = Programs::build(false)?;
    println!("{}", programs.machine());
    let charts = scaling::measure(&programs, only)?;
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&charts)?)?;
    }
    if let Some(folder) = svg {
        std::fs::create_dir_all(folder)?;
        for chart in &charts {
            std::fs::write(folder.join(format!("{}.svg", chart.name)), scaling::svg(chart))?;
        }
    }
    Ok(())
}

/// Raises the limit for thousands of connections. Children inherit it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

fn child(peer: &str, workload: &str, n: u64, procs: usize) -> Result<ExitCode> {
    let figures = match Peer::of_name(peer) {
        Some(Peer::Gort) if workload.starts_with("shares:") => {
            peers::shares::on_gort(&workload["shares:".len()..], n, procs)
        }
        Some(Peer::Gort) => on_gort::measure(workload, n, procs, false),
        Some(Peer::GortShared) => on_gort::measure(workload, n, procs, true),
        Some(Peer::Tokio) => on_tokio::measure(workload, n, procs),
        Some(Peer::May) => on_may::measure(workload, n, procs),
        Some(Peer::Golib) => on_golib::measure(workload, n, procs),
        Some(Peer::Std) => on_threads::with_std(workload, n),
        Some(Peer::ParkingLot) => on_threads::with_parking_lot(workload, n),
        Some(Peer::Rayon) => on_threads::with_rayon(workload, n, procs),
        Some(Peer::Go | Peer::Java | Peer::Bare) | None => None,
    };
    let figures = figures.ok_or_else(|| format!("no workload {workload} on {peer}"))?;
    println!("{}", figures.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
    Ok(ExitCode::SUCCESS)
}

fn serve(peer: &str, kind: &str, procs: usize) -> Result<ExitCode> {
    let served = match Peer::of_name(peer) {
        Some(Peer::Gort) => serve_gort::serve(kind, procs, false),
        Some(Peer::GortShared) => serve_gort::serve(kind, procs, true),
        Some(Peer::Tokio) => serve_tokio::serve(kind, procs),
        Some(Peer::May) => serve_may::serve(kind, procs),
        Some(Peer::Golib) => serve_golib::serve(kind, procs),
        Some(Peer::Bare) => serve_bare::serve(kind, procs),
        _ => false,
    };
    if served { Ok(ExitCode::SUCCESS) } else { Err(format!("no server {kind} on {peer}").into()) }
}
