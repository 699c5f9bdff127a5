//! What one operation costs as the work grows, as charts.

use crate::programs::Programs;
use crate::report::escape;
use crate::versus::{median, once};
use crate::workloads::{Kind, Load, Peer, WORKLOADS, Workload};
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

/// One chart.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    pub(crate) name: &'static str,
    title: &'static str,
    /// The unit of the sizes.
    of: &'static str,
    unit: &'static str,
    points: Vec<Point>,
}

/// The figures at one size, by peer. A peer that failed at that size is missing.
#[derive(Debug, Serialize)]
struct Point {
    size: u64,
    figures: BTreeMap<&'static str, f64>,
}

/// What a chart shows: the workload's figure number `figure`, over `sizes`.
struct Plan {
    name: &'static str,
    title: &'static str,
    of: &'static str,
    workload: &'static str,
    figure: usize,
    sizes: &'static [u64],
    grows: Grows,
}

/// What the size sets.
#[derive(Clone, Copy)]
enum Grows {
    Number,
    Connections,
    Procs,
}

const GOROUTINES: &[u64] = &[1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const PARKED: &[u64] = &[1_000, 10_000, 100_000, 1_000_000, 2_000_000];
const CONNECTIONS: &[u64] = &[1, 10, 100, 1_000, 9_000, 18_000];
const PROCS: &[u64] = &[1, 2, 4, 8];

#[rustfmt::skip]
const PLANS: &[Plan] = &[
    Plan { name: "spawn", title: "Starting and ending one of N goroutines, two Ps", of: "goroutines", workload: "spawn-1", figure: 0, sizes: GOROUTINES, grows: Grows::Number },
    Plan { name: "parked", title: "Memory of one of N that wait", of: "goroutines", workload: "parked", figure: 1, sizes: PARKED, grows: Grows::Number },
    Plan { name: "parked-time", title: "Time to start one of N that wait", of: "goroutines", workload: "parked", figure: 0, sizes: PARKED, grows: Grows::Number },
    Plan { name: "parked-swapped", title: "Memory of one of N that wait, idle stacks swapped out", of: "goroutines", workload: "parked-swapped", figure: 1, sizes: GOROUTINES, grows: Grows::Number },
    Plan { name: "echo", title: "Server CPU of 64 bytes there and back, two Ps", of: "connections", workload: "echo-64", figure: 0, sizes: CONNECTIONS, grows: Grows::Connections },
    Plan { name: "skynet", title: "A leaf of skynet, on the processors there are", of: "Ps", workload: "skynet", figure: 0, sizes: PROCS, grows: Grows::Procs },
    Plan { name: "channel", title: "A message, four senders and four receivers, a buffer of 1 024", of: "Ps", workload: "chan-4-4-buf", figure: 0, sizes: PROCS, grows: Grows::Procs },
];

const PEERS: [Peer; 3] = [Peer::Gort, Peer::Go, Peer::Tokio];
/// How many runs each size gets. `parked` gets one: it takes long and varies little.
fn runs(workload: &Workload) -> usize {
    if matches!(workload.kind, Kind::Parked) { 1 } else { 3 }
}

/// Measures all charts whose name contains `only`, and prints the figures of each size.
pub(crate) fn measure(programs: &Programs, only: Option<&str>) -> Result<Vec<Chart>, Box<dyn Error>> {
    let chosen: Vec<_> =
        PLANS.iter().filter(|plan| only.is_none_or(|only| plan.name.contains(only))).collect();
    if chosen.is_empty() {
        return Err("no chart has that in its name".into());
    }
    let mut seen = Seen::new();
    Ok(chosen.into_iter().map(|plan| chart(programs, plan, &mut seen)).collect())
}

/// The runs of a workload at a size, by peer. Two charts may use the same runs.
type Seen = BTreeMap<(&'static str, u64, Peer), Vec<Vec<f64>>>;

fn chart(programs: &Programs, plan: &Plan, seen: &mut Seen) -> Chart {
    let base = WORKLOADS.iter().find(|w| w.name == plan.workload).expect("a workload of the table");
    let unit = base.figures[plan.figure].unit;
    let mut points = Vec::new();
    for &size in plan.sizes {
        let mut figures = BTreeMap::new();
        for peer in PEERS.into_iter().filter(|peer| base.peers().any(|p| p == *peer)) {
            let measure = || (0..runs(base)).map_while(|_| one(programs, plan, base, peer, size)).collect();
            let all = seen.entry((base.name, size, peer)).or_insert_with(measure);
            let runs: Vec<f64> = all.iter().map(|figures| figures[plan.figure]).collect();
            if !runs.is_empty() {
                println!("{} {size} {}: {:.1} {unit}", plan.name, peer.name(), median(&runs));
                figures.insert(peer.name(), median(&runs));
            }
        }
        points.push(Point { size, figures });
    }
    Chart { name: plan.name, title: plan.title, of: plan.of, unit, points }
}

fn one(programs: &Programs, plan: &Plan, base: &Workload, peer: Peer, size: u64) -> Option<Vec<f64>> {
    let connections = Load::Echo { connections: size as usize, websocket: false };
    let (workload, n, procs) = match plan.grows {
        Grows::Number => (*base, size, 2),
        Grows::Connections => (Workload { kind: Kind::Served("echo", connections), ..*base }, 2, 2),
        Grows::Procs => (*base, base.n, size as u32),
    };
    match once(programs, &workload, n, peer, procs, Duration::ZERO) {
        Ok(figures) => figures,
        Err(e) => {
            println!("{} {size} {}: {e}", plan.name, peer.name());
            None
        }
    }
}

/// Lines over a logarithmic axis of sizes. The vertical axis begins at zero, so growth is visible.
pub(crate) fn svg(chart: &Chart) -> String {
    const WIDTH: f64 = 560.0;
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 60.0;
    const TOP: f64 = 40.0;
    const RIGHT: f64 = 90.0;
    const BOTTOM: f64 = 40.0;
    let sizes: Vec<f64> = chart.points.iter().map(|p| (p.size as f64).ln()).collect();
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    let most = chart.points.iter().flat_map(|p| p.figures.values()).fold(1e-9, |a: f64, &b| a.max(b));
    let x = |ln: f64| LEFT + (ln - first) / (last - first).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - v / most * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"13\" font-weight=\"bold\">{}</text>\n\
         <text x=\"10\" y=\"32\" fill=\"#666\">{}</text>\n",
        escape(chart.title),
        chart.unit
    );
    for share in [0.0, 0.5, 1.0] {
        let (at, value) = (y(most * share), most * share);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{value:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (point, &ln) in chart.points.iter().zip(&sizes) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            x(ln),
            HEIGHT - BOTTOM + 15.0,
            short(point.size)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0,
        chart.of
    );
    for (peer, color) in PEERS.into_iter().zip(["#2a9d5c", "#3a6ea5", "#e09f3e"]) {
        let line: Vec<_> = chart
            .points
            .iter()
            .zip(&sizes)
            .filter_map(|(p, &ln)| Some((x(ln), y(*p.figures.get(peer.name())?))))
            .collect();
        let Some(&(end_x, end_y)) = line.last() else { continue };
        let path: Vec<_> = line.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{}</text>",
            path.join(" "),
            end_x + 6.0,
            end_y + 4.0,
            peer.name()
        );
    }
    svg + "</svg>\n"
}

/// Formats 1 000 000 as 1M.
fn short(n: u64) -> String {
    match n {
        1_000_000.. if n.is_multiple_of(1_000_000) => format!("{}M", n / 1_000_000),
        1_000.. if n.is_multiple_of(1_000) => format!("{}k", n / 1_000),
        _ => n.to_string(),
    }
}
