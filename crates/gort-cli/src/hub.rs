//! `gort hub`: serve until a signal says to stop.

use crate::out::{say, tell};
use crate::plan::HubPlan;
use crate::rt::{self, chan};
use gort_hub::Hub;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

enum End {
    Signal(i32),
    Broken(io::Error),
}

pub(crate) fn run(plan: HubPlan) -> Result<(), crate::Failure> {
    let HubPlan { addr, config, drain_timeout, warning } = plan;
    if let Some(warning) = warning {
        tell(format_args!("gort hub: {warning}; past the limit new connections wait"));
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
    say(format_args!(
        "listening on ws://{addr}/app/{} (app {}, at most {max_connections} connections)",
        app.key, app.id
    ))?;
    if page {
        say(format_args!("chat and numbers on http://{addr}/"))?;
    }
    match end.recv() {
        Ok(End::Signal(signal)) => {
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            tell(format_args!(
                "gort hub: {name}, closing all connections within {drain_timeout:?} (again to end at once)"
            ));
            let drained = hub.drain(drain_timeout);
            tell(format_args!("gort hub: {} connections closed, {} cut off", drained.closed, drained.forced));
            Ok(())
        }
        Ok(End::Broken(e)) => Err(format!("the listener on {addr} failed: {e}").into()),
        Err(_) => unreachable!("the signal thread keeps its sender for as long as the process lives"),
    }
}

/// A thread of its own: it waits in a read for as long as the program runs, and needs no goroutine for that.
fn watch_signals(tell_end: chan::Sender<End>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (i, signal) in signals.forever().enumerate() {
            if i > 0 {
                std::process::exit(128 + signal);
            }
            let _ = tell_end.send(End::Signal(signal));
        }
    })?;
    Ok(())
}
