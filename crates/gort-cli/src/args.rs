//! What was typed. What it means is worked out in `plan.rs`.

use clap::{Args, Parser, Subcommand};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// Goroutines for Rust: a WebSocket hub on them, a load generator for it, both at once as a demonstration, and claims about goroutines, measured.
#[derive(Debug, Parser)]
#[command(name = "gort", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve WebSocket clients of the Pusher Channels protocol.
    Hub(HubArgs),
    /// Open many connections to a hub, publish at a rate, and measure when everything arrives.
    Load(LoadArgs),
    /// A hub and its load in one process, for a look at what goroutines cost.
    Demo(DemoArgs),
    /// The claims about goroutines and threads, measured on this machine: one by name, or all with a page.
    Lab(LabArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6001")]
    pub(crate) listen: String,
    /// The app to serve. The environment keeps the secret out of the list of processes.
    #[arg(long, value_name = "ID:KEY:SECRET", env = "GORT_HUB_APP", hide_env_values = true)]
    pub(crate) app: String,
    /// Connections at once; more are closed with 4100 [default: what the limit on open files allows].
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// Channels a connection may be on.
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) max_channels: NonZeroUsize,
    /// Bytes of one message from a client.
    #[arg(long, value_name = "BYTES", default_value = "32768")]
    pub(crate) max_message: NonZeroUsize,
    /// Messages that may wait for one client; a slower one is closed with 4100.
    #[arg(long, value_name = "N", default_value = "256")]
    pub(crate) max_queue: NonZeroUsize,
    /// Bytes that may wait for one client; a slower one is closed with 4100.
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    pub(crate) max_queue_bytes: NonZeroUsize,
    /// Client events a second and connection.
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) client_events: u32,
    /// Ping clients that are silent for so long.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(crate) activity_timeout: Duration,
    /// After SIGTERM or SIGINT, cut off who has not hung up by then.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Do not serve the page at / and its chat, which is open to everybody.
    #[arg(long)]
    pub(crate) no_page: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The hub, for example ws://127.0.0.1:6001.
    pub(crate) url: String,
    /// The app, as the hub was given it.
    #[arg(long, value_name = "ID:KEY:SECRET", env = "GORT_HUB_APP", hide_env_values = true)]
    pub(crate) app: String,
    /// WebSocket connections to open.
    #[arg(short, long, value_name = "N", default_value = "1000")]
    pub(crate) connections: NonZeroUsize,
    /// Events to publish a second, over all channels.
    #[arg(short, long, value_name = "R", default_value = "10")]
    pub(crate) rate: NonZeroU32,
    /// How long to publish.
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Bytes of an event's data (at least what the measurement needs, about 40).
    #[arg(long, value_name = "BYTES", default_value = "64")]
    pub(crate) payload: usize,
    /// Channels to spread the connections over, one for each.
    #[arg(long, value_name = "K", default_value = "1")]
    pub(crate) channels: NonZeroUsize,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// WebSocket connections to open [default: 5000, or what the limit on open files allows].
    #[arg(short, long, value_name = "N")]
    pub(crate) connections: Option<NonZeroUsize>,
    /// How long to publish.
    #[arg(short, long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Events to publish a second; each goes to the 100 or so connections of its channel.
    #[arg(short, long, value_name = "R", default_value = "100")]
    pub(crate) rate: NonZeroU32,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// The claim: spawn, procs, handoff, storm, preempt, lock-os-thread, sleepers, million, idle-conns, syscall, procresize, affine, cgroup
    /// [default: all of them].
    pub(crate) claim: Option<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the page about all of them is written.
    #[arg(long, value_name = "FILE", default_value = "gort-lab.html")]
    pub(crate) report: PathBuf,
}

/// `500ms`, `15s`, `2m`, `1h`; fractions are fine, nothing and zero are not.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 500ms, 15s, 2m or 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let time = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
    if time.is_zero() || time > Duration::from_secs(7 * 24 * 3600) {
        return Err(format!("{text:?} is not between 1ns and a week"));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_defined() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for bad in ["", "s", "15", "-1s", "0s", "1e300s", "NaNs", "infs", "15 s", "1d", "9999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
