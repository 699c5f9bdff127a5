//! The `gort` program: `gort hub`, `gort load`, `gort demo`, `gort lab`.
//!
//! Exit codes: 0 for success, 1 for a failure (a message was lost, a port is in use), 2 for a wrong
//! command line.
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
use lab::LabPlan;
use plan::{DemoPlan, HubPlan, LoadPlan, UsageError};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Parses the command line. If that fails, clap says why and exits with code 2.
    let cli = Cli::parse();
    rt::run(|| {
        // Works out what the arguments mean, and runs the command.
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
