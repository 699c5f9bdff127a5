//! The `gort` program: `gort hub`, `gort load`, `gort demo`, `gort lab`.
//!
//! Exit codes: 0 done, 1 it failed (a message was lost, a port is taken), 2 it was asked in a wrong way.
#![forbid(unsafe_code)]

mod args;
mod demo;
mod hub;
mod lab;
mod load;
mod log;
mod out;
mod plan;
mod rt;
mod threads;

use args::{Cli, Command};
use clap::Parser;
use plan::{DemoPlan, HubPlan, LabPlan, LoadPlan, UsageError};
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // What was typed; clap answers what cannot be read, with exit code 2.
    let cli = Cli::parse();
    rt::run(|| {
        // What it means, and then doing it.
        let outcome = match &cli.command {
            Command::Hub(args) => plan(HubPlan::of(args)).map(hub::run),
            Command::Load(args) => plan(LoadPlan::of(args)).map(|plan| load::run(&plan, args.json)),
            Command::Demo(args) => plan(DemoPlan::of(args)).map(|plan| demo::run(&plan, args.json)),
            Command::Lab(args) => plan(LabPlan::of(args)).map(|plan| lab::run(&plan)),
        };
        match outcome {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(failure)) => {
                out::tell(format_args!("gort: {failure}"));
                ExitCode::FAILURE
            }
            Err(usage) => usage,
        }
    })
}

fn plan<P>(planned: Result<P, UsageError>) -> Result<P, ExitCode> {
    planned.map_err(|e| {
        out::tell(format_args!("gort: {e}"));
        ExitCode::from(2)
    })
}
