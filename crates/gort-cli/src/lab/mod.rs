//! `gort lab`: measures claims about goroutines and threads on this machine, one experiment for
//! each.
//!
//! An experiment returns a `Finding`: figures, and whether the claim held. `gort lab NAME` runs
//! one. `gort lab` runs each in its own process, so that no experiment sees what another has left,
//! and writes a page with all of them.

mod claims;
mod costs;
mod finding;
mod page;
mod procs;
mod threads;

use crate::args::LabArgs;
use crate::out::{Failure, say, tell};
use crate::plan::UsageError;
use crate::rt;
use claims::{CLAIMS, Claim, Line};
use finding::number;
use gort_hub::fd::FdLimit;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(crate) struct LabPlan {
    /// `None` for all claims.
    claim: Option<&'static Claim>,
    json: bool,
    report: PathBuf,
}

impl LabPlan {
    pub(crate) fn of(args: &LabArgs) -> Result<LabPlan, UsageError> {
        let find = |name: &String| {
            let claim = CLAIMS.iter().find(|claim| claim.name == name);
            claim.ok_or_else(|| {
                let claims: Vec<_> = CLAIMS.iter().map(|claim| claim.name).collect();
                UsageError::Claim { name: name.clone(), claims: claims.join(", ") }
            })
        };
        // Each connection needs two descriptors.
        FdLimit::raise(20_000);
        let claim = args.claim.as_ref().map(find).transpose()?;
        Ok(LabPlan { claim, json: args.json, report: args.report.clone() })
    }
}

/// Runs one experiment, or all.
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
    // Created first: minutes of measuring must not end with a page that cannot be written.
    let unwritable = |e: std::io::Error| format!("cannot write {}: {e}", plan.report.display());
    let mut page = std::fs::File::create(&plan.report).map_err(unwritable)?;
    let mut lines = Vec::new();
    for claim in CLAIMS {
        let line = in_its_own_process(claim)?;
        print(claim, &line, plan.json)?;
        lines.push(line);
    }
    page.write_all(page::write(&lines).as_bytes()).map_err(unwritable)?;
    let held = lines.iter().filter(|line| line.held).count();
    tell(format_args!("{held} of {} claims held; the page is {}", lines.len(), plan.report.display()));
    Ok(())
}

fn in_its_own_process(claim: &Claim) -> Result<Line, Failure> {
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
