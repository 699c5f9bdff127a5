//! What was typed. What it means is worked out in `plan.rs`.

use clap::{Args, Parser, Subcommand};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

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
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// Connections at once; more are closed with 4100 [default: what the limit on open files allows].
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// HTTP connections at once, those in a handshake included; for one more the idlest is closed
    /// [default: 1024, or a quarter of the limit on open files].
    #[arg(long, value_name = "N")]
    pub(crate) max_http: Option<NonZeroUsize>,
    /// Of them, how many one address may have [default: half; behind a proxy, all that the proxy
    /// may need].
    #[arg(long, value_name = "N")]
    pub(crate) max_http_per_address: Option<NonZeroUsize>,
    /// Channels a connection may be on.
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) max_channels: NonZeroUsize,
    /// Bytes of an event's data; more gets 413, or 4302 from a client.
    #[arg(long, value_name = "BYTES", default_value = "10240")]
    pub(crate) max_event: NonZeroUsize,
    /// Bytes of one message from a client [default: 32768, or twice --max-event].
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_message: Option<NonZeroUsize>,
    /// Bytes of a request's body [default: 131072, or twice --max-event].
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_body: Option<NonZeroUsize>,
    /// Bytes that may wait for one client, 64 a message added; publishers wait for it then.
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    pub(crate) max_queue_bytes: NonZeroUsize,
    /// Close a client with 4100 that publishers wait for and that takes nothing for so long, or too
    /// little in five times that.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) slow_timeout: Duration,
    /// Bytes of each of a connection's two buffers in the kernel, which doubles it.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    pub(crate) socket_buffer: NonZeroUsize,
    /// Client events a second and connection.
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) client_events: u32,
    /// Ping clients that are silent for so long.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(crate) activity_timeout: Duration,
    /// Close clients with 4201 that have not answered a ping for so long.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) pong_timeout: Duration,
    /// How long an HTTP connection may be idle between requests.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) keep_alive: Duration,
    /// After SIGTERM, SIGINT or SIGHUP, cut off clients that have not hung up by then.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Of that time, say 503 on /healthz for so long before nobody more is accepted; a third of it
    /// at most.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration_or_none)]
    pub(crate) drain_delay: Duration,
    /// Of that time, close the clients over so long; half of what is left at most.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration_or_none)]
    pub(crate) drain_spread: Duration,
    /// Serve a page at / with numbers and a chat that is open to everybody: it has its private
    /// channel signed for whoever asks.
    #[arg(long)]
    pub(crate) page: bool,
    /// What is said on standard error: off, error, warn, info or debug.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log: LevelFilter,
}

/// Which app it is. The environment keeps the secret out of the list of processes.
#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    /// The app in one piece; its id and key have no colon then.
    #[arg(long, value_name = "ID:KEY:SECRET", env = "GORT_HUB_APP", hide_env_values = true)]
    pub(crate) app: Option<String>,
    /// The app in three pieces, of any characters: its id.
    #[arg(long, value_name = "ID", env = "GORT_HUB_APP_ID")]
    pub(crate) app_id: Option<String>,
    /// The app's key.
    #[arg(long, value_name = "KEY", env = "GORT_HUB_APP_KEY")]
    pub(crate) app_key: Option<String>,
    /// The app's secret.
    #[arg(long, value_name = "SECRET", env = "GORT_HUB_APP_SECRET", hide_env_values = true)]
    pub(crate) app_secret: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The hub, for example ws://127.0.0.1:6001.
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) app: AppArgs,
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

/// The same, or `0s`.
fn duration_or_none(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { duration(text) }
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
