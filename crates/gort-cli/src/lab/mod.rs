//! `gort lab`: the claims about goroutines and threads, one experiment each, measured here and now.
//!
//! An experiment returns a [`Finding`]: figures, and whether the claim held. `gort lab NAME` runs one; `gort lab` runs each in a process of
//! its own, so that none sees what another has left, and writes a page with all of them.

mod costs;
mod page;
mod procs;
mod threads;

use crate::Failure;
use crate::out::{say, tell};
use crate::plan::LabPlan;
use crate::rt;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::process::{Command, Stdio};

/// What is claimed, and how it is found out.
pub(crate) struct Claim {
    pub(crate) name: &'static str,
    /// The questions it answers.
    pub(crate) questions: &'static [u32],
    pub(crate) says: &'static str,
    run: fn() -> Result<Finding, Failure>,
}

/// All claims, in the order in which they are told.
pub(crate) const CLAIMS: &[Claim] = &[
    Claim {
        name: "spawn",
        questions: &[1],
        says: "Creating a goroutine is about 100 times cheaper than creating a thread.",
        run: costs::spawn,
    },
    Claim {
        name: "procs",
        questions: &[2, 6],
        says: "GOMAXPROCS bounds how many threads run goroutines; 1 is concurrency without parallelism.",
        run: procs::procs,
    },
    Claim {
        name: "handoff",
        questions: &[3, 8],
        says: "A blocking call holds its thread, not the others: the P is handed off. Network reads hold no thread at all.",
        run: threads::handoff,
    },
    Claim {
        name: "storm",
        questions: &[9, 17],
        says: "A storm of blocking calls makes a thread each; a limit bounds them, and they end again.",
        run: threads::storm,
    },
    Claim {
        name: "preempt",
        questions: &[16, 25],
        says: "A loop without calls does not freeze the program, not even with GOMAXPROCS=1; I/O runs before those who compute.",
        run: procs::preempt,
    },
    Claim {
        name: "lock-os-thread",
        questions: &[4, 19, 22],
        says: "A locked goroutine stays on its thread, others stay off it; it costs switches of threads, and the thread ends with it.",
        run: threads::lock_os_thread,
    },
    Claim {
        name: "sleepers",
        questions: &[10],
        says: "A sleeping goroutine holds no thread.",
        run: costs::sleepers,
    },
    Claim {
        name: "million",
        questions: &[5],
        says: "A million goroutines at once are routine.",
        run: costs::million,
    },
    Claim {
        name: "idle-conns",
        questions: &[11],
        says: "Idle connections cost a goroutine each and about one thread together.",
        run: costs::idle_conns,
    },
    Claim {
        name: "syscall",
        questions: &[24],
        says: "Entering and leaving a call that may block costs about 100 ns.",
        run: costs::syscall,
    },
    Claim {
        name: "procresize",
        questions: &[21, 29],
        says: "GOMAXPROCS changes while the program runs, up and down, and nothing that was queued is lost.",
        run: procs::procresize,
    },
    Claim {
        name: "affine",
        questions: &[30],
        says: "A pool of threads that keep their state: each job runs where it belongs, a panic takes no worker down.",
        run: threads::affine,
    },
    Claim {
        name: "cgroup",
        questions: &[7],
        says: "GOMAXPROCS follows the container's CPU quota.",
        run: procs::cgroup,
    },
];

/// One number of an experiment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// What an experiment has shown.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) held: bool,
    pub(crate) figures: Vec<Figure>,
    /// Why it could not be shown here, or what a reader should know.
    pub(crate) note: Option<String>,
}

impl Finding {
    fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.into(), value, unit: unit.into() });
    }
}

/// One line of `--json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) claim: String,
    pub(crate) q: Vec<u32>,
    pub(crate) held: bool,
    pub(crate) figures: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub(crate) units: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Line {
    fn of(claim: &Claim, finding: Finding) -> Line {
        let round = |v: f64| (v * 1000.0).round() / 1000.0;
        let mut line = Line {
            claim: claim.name.into(),
            q: claim.questions.to_vec(),
            held: finding.held,
            figures: serde_json::Map::new(),
            units: serde_json::Map::new(),
            note: finding.note,
        };
        for figure in finding.figures {
            line.units.insert(figure.name.clone(), figure.unit.into());
            line.figures.insert(figure.name, round(figure.value).into());
        }
        line
    }

    /// Name, value and unit of each figure.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, f64, &str)> {
        self.figures.iter().map(|(name, value)| {
            let unit = self.units.get(name).and_then(|unit| unit.as_str()).unwrap_or("");
            (name.as_str(), value.as_f64().unwrap_or(f64::NAN), unit)
        })
    }
}

/// Runs what was asked for.
pub(crate) fn run(plan: &LabPlan) -> Result<(), Failure> {
    match &plan.claim {
        Some(claim) => {
            let line = Line::of(claim, (claim.run)()?);
            print(claim, &line, plan.json)?;
        }
        None => all(plan)?,
    }
    Ok(())
}

fn all(plan: &LabPlan) -> Result<(), Failure> {
    // Minutes of measuring must not end at a page that cannot be written.
    let unwritable = |e: std::io::Error| format!("cannot write {}: {e}", plan.report.display());
    let mut page = std::fs::File::create(&plan.report).map_err(unwritable)?;
    let mut lines = Vec::new();
    for claim in CLAIMS {
        let line = in_a_process_of_its_own(claim)?;
        print(claim, &line, plan.json)?;
        lines.push(line);
    }
    page.write_all(page::write(&lines).as_bytes()).map_err(unwritable)?;
    let held = lines.iter().filter(|line| line.held).count();
    tell(format_args!("{held} of {} claims held; the page is {}", lines.len(), plan.report.display()));
    Ok(())
}

fn in_a_process_of_its_own(claim: &Claim) -> Result<Line, Failure> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(["lab", claim.name, "--json"]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = rt::blocking(|| command.output())?;
    if !output.status.success() {
        return Err(format!("the experiment {} failed ({})", claim.name, output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn print(claim: &Claim, line: &Line, json: bool) -> Result<(), Failure> {
    if json {
        say(serde_json::to_string(line)?)?;
        return Ok(());
    }
    let questions: Vec<String> = claim.questions.iter().map(|q| format!("Q{q}")).collect();
    let verdict = if line.held { "held" } else { "did not hold" };
    say(format_args!("{} ({}): {verdict}\n  claim: {}", claim.name, questions.join(", "), claim.says))?;
    let width = line.figures.keys().map(String::len).max().unwrap_or(0);
    for (name, value, unit) in line.rows() {
        say(format_args!("  {name:width$}  {:>12} {unit}", number(value)))?;
    }
    if let Some(note) = &line.note {
        say(format_args!("  {note}"))?;
    }
    say("")?;
    Ok(())
}

/// Three digits that count, or a whole number.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || value.fract() == 0.0 => crate::out::count(value.round().max(0.0) as u64),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Threads of this process, as the kernel counts them.
fn os_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The middle of `values`, and the one that 99 of 100 are below.
fn p50_p99(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() as f64 * share) as usize).min(values.len().max(1) - 1));
    (at(0.5).copied().unwrap_or(f64::NAN), at(0.99).copied().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_questions_are_there() {
        let mut names: Vec<_> = CLAIMS.iter().map(|claim| claim.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CLAIMS.len());
        assert!(CLAIMS.iter().all(|claim| !claim.questions.is_empty()));
    }

    #[test]
    fn numbers() {
        assert_eq!(
            (number(0.5), number(12.34), number(1234.5), number(3.0)),
            ("0.50".into(), "12.3".into(), "1 235".into(), "3".into())
        );
        assert_eq!(p50_p99(&mut [3.0, 1.0, 2.0]), (2.0, 3.0));
        assert!(p50_p99(&mut []).0.is_nan());
    }
}
