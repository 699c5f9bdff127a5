//! `gort hub`: serves until a signal ends it.

use crate::log;
use crate::out::{Failure, say};
use crate::plan::HubPlan;
use crate::rt::{self, chan};
use gort_hub::Hub;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use tracing::{info, warn};

enum End {
    Signal(i32),
    Broken(io::Error),
}

pub(crate) fn run(plan: HubPlan) -> Result<(), Failure> {
    let HubPlan { addr, config, drain_timeout, log, warning } = plan;
    let _log = log::start(log)?;
    if let Some(warning) = warning {
        warn!("{warning}; at the limit new connections have to wait");
    }
    let (tell_end, end) = chan::bounded(2);
    watch_signals(tell_end.clone())?;
    let (app, max_connections, page) = (config.app.clone(), config.max_connections, config.page);
    let hub = Hub::bind(addr, config)?;
    let serving = hub.clone();
    rt::go(move || {
        if let Err(e) = serving.serve() {
            let _ = tell_end.send(End::Broken(e));
        }
    });
    let addr = hub.local_addr();
    announce(format_args!(
        "listening on ws://{addr}/app/{} (app {}, at most {max_connections} connections)",
        app.key, app.id
    ));
    if page {
        announce(format_args!("chat and numbers on http://{addr}/"));
    }
    match end.recv() {
        Ok(End::Signal(signal)) => {
            let name = match signal {
                SIGTERM => "SIGTERM",
                SIGINT => "SIGINT",
                _ => "SIGHUP",
            };
            info!(
                "{name}, closing all connections within {drain_timeout:?} \
                 (a second SIGTERM or SIGINT ends the hub at once)"
            );
            let drained = hub.drain(drain_timeout);
            info!("{} connections closed, {} reset", drained.closed, drained.forced);
            Ok(())
        }
        Ok(End::Broken(e)) => Err(format!("the listener on {addr} failed: {e}").into()),
        Err(_) => unreachable!("the signal thread keeps its sender for as long as the process lives"),
    }
}

/// Writes a line to standard output, or to the log if that fails (a full disk). The hub goes on in
/// both cases.
fn announce(line: std::fmt::Arguments<'_>) {
    if let Err(e) = say(line) {
        warn!("cannot write to standard output: {e}");
        info!("{line}");
    }
}

/// Whether this process was started with SIGHUP ignored, for example by `nohup`. Then the hub goes
/// on when its terminal is closed.
fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (SIGHUP - 1) != 0
}

/// Starts a thread for the signals. It waits in a read for as long as the program runs, which needs
/// no goroutine.
fn watch_signals(tell_end: chan::Sender<End>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    if !hangups_are_ignored() {
        signals.add_signal(SIGHUP)?;
    }
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut drains = false;
        for signal in signals.forever() {
            // A terminal that is closed may send SIGHUP more than once.
            if drains && signal != SIGHUP {
                std::process::exit(128 + signal);
            }
            if !drains {
                let _ = tell_end.send(End::Signal(signal));
            }
            drains = true;
        }
    })?;
    Ok(())
}
