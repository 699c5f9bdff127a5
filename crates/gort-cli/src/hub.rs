//! `gort hub`: serves until a signal ends it.

use crate::log;
use crate::out::{Failure, say};
use crate::plan::HubPlan;
use crate::rt::{self, chan, signal};
use gort_hub::Hub;
use std::io;
use tracing::{info, warn};

pub(crate) fn run(plan: HubPlan) -> Result<(), Failure> {
    let HubPlan { addr, config, drain_timeout, log, warning } = plan;
    let _log = log::start(log)?;
    if let Some(warning) = warning {
        warn!("{warning}; at the limit new connections have to wait");
    }
    let (tell_broken, broken) = chan::bounded::<io::Error>(1);
    let ends = signal::channel(&[signal::SIGTERM, signal::SIGINT])?;
    // Under `nohup` the hub goes on when its terminal is closed. Otherwise the terminal may send
    // SIGHUP more than once, so that stays caught to the end.
    let catches_hangups = !signal::SIGHUP.is_ignored();
    let hangups = catches_hangups.then(|| signal::channel(&[signal::SIGHUP])).transpose()?;
    let from_hangups = hangups.as_ref().map_or_else(chan::never, |hangups| (**hangups).clone());
    let (app, max_connections, page) = (config.app.clone(), config.max_connections, config.page);
    let hub = Hub::bind(addr, config)?;
    let serving = hub.clone();
    rt::go(move || {
        if let Err(e) = serving.serve() {
            let _ = tell_broken.send(e);
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
    let name = gort::select! {
        recv(ends) -> signal => signal,
        recv(from_hangups) -> signal => signal,
        recv(broken) -> e => match e {
            Ok(e) => return Err(format!("the listener on {addr} failed: {e}").into()),
            Err(_) => unreachable!("the hub serves until it is drained"),
        },
    };
    let name = name.expect("signals come as long as these are not dropped");
    drop(ends); // from here on these two end the process
    info!(
        "{name}, closing all connections within {drain_timeout:?} \
         (a second SIGTERM or SIGINT ends the hub at once)"
    );
    let drained = hub.drain(drain_timeout);
    info!("{} connections closed, {} reset", drained.closed, drained.forced);
    Ok(())
}

/// Writes a line to standard output, or to the log if that fails (a full disk). The hub goes on in
/// both cases.
fn announce(line: std::fmt::Arguments<'_>) {
    if let Err(e) = say(line) {
        warn!("cannot write to standard output: {e}");
        info!("{line}");
    }
}
