//! The command line. `plan.rs` works out what it means.

use clap::{Args, Parser, Subcommand};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Goroutines for Rust: a WebSocket hub, a load generator for it, a demonstration of both, and
/// measured claims about goroutines.
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
    /// Open many connections to a hub, publish at a rate, and measure when the events arrive.
    Load(LoadArgs),
    /// Run a hub and a load in one process, to see what goroutines cost.
    Demo(DemoArgs),
    /// Measure claims about goroutines and threads on this machine: one by name, or all with a
    /// page.
    Lab(LabArgs),
}

#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6001")]
    pub(crate) listen: String,
    #[command(flatten)]
    pub(crate) app: AppArgs,
    /// The most connections at once; one more is closed with 4100 [default: what the limit on open
    /// files allows].
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<NonZeroUsize>,
    /// The most HTTP connections at once, with those in a handshake; for one more, the one that has
    /// been idle longest is closed [default: 1024, or a quarter of the limit on open files if that
    /// is less].
    #[arg(long, value_name = "N")]
    pub(crate) max_http: Option<NonZeroUsize>,
    /// The most HTTP connections from one address; behind a proxy, set it to the value of
    /// --max-http [default: half of that].
    #[arg(long, value_name = "N")]
    pub(crate) max_http_per_address: Option<NonZeroUsize>,
    /// The most channels of one connection.
    #[arg(long, value_name = "N", default_value = "100")]
    pub(crate) max_channels: NonZeroUsize,
    /// The most bytes of an event's data; more gets 413, or 4302 if a client sends it.
    #[arg(long, value_name = "BYTES", default_value = "10240")]
    pub(crate) max_event: NonZeroUsize,
    /// The most bytes of one message from a client [default: 32768, or twice --max-event if that is
    /// more].
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_message: Option<NonZeroUsize>,
    /// The most bytes of a request's body [default: 131072, or twice --max-event if that is more].
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_body: Option<NonZeroUsize>,
    /// The most bytes in a client's queue, where each message counts 64 bytes more; publishers wait
    /// for a client whose queue is full.
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    pub(crate) max_queue_bytes: NonZeroUsize,
    /// How long publishers wait for a client that takes nothing, before it is closed with 4100;
    /// five times as long if it takes something, but not enough.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) slow_timeout: Duration,
    /// Bytes of each of a connection's two buffers in the kernel; Linux doubles this.
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    pub(crate) socket_buffer: NonZeroUsize,
    /// The most client events a second of one connection.
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) client_events: u32,
    /// Ping a client that is silent for this time.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(crate) activity_timeout: Duration,
    /// Close a client with 4201 that does not answer a ping for this time.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) pong_timeout: Duration,
    /// How long an HTTP connection may be idle between requests.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) keep_alive: Duration,
    /// After SIGTERM, SIGINT or SIGHUP, how long to wait for clients to hang up before they are
    /// reset.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,
    /// Part of --drain-timeout in which /healthz says 503 and connections are still accepted; at
    /// most a third of it.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration_or_none)]
    pub(crate) drain_delay: Duration,
    /// Part of --drain-timeout over which the closing of the clients is spread; at most half of
    /// what the delay leaves.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration_or_none)]
    pub(crate) drain_spread: Duration,
    /// Serve a page at / with live numbers and a chat; its private channel is signed for everyone
    /// who can reach the page.
    #[arg(long)]
    pub(crate) page: bool,
    /// The level of the log on standard error: off, error, warn, info or debug.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log: LevelFilter,
}

/// The app. If it comes from the environment, the list of processes does not show the secret.
#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    /// The app in one piece, if its id and key have no colon.
    #[arg(long, value_name = "ID:KEY:SECRET", env = "GORT_HUB_APP", hide_env_values = true)]
    pub(crate) app: Option<String>,
    /// The app in three pieces, which may have any characters: its id.
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
    /// Events to publish a second, on all channels together.
    #[arg(short, long, value_name = "R", default_value = "10")]
    pub(crate) rate: NonZeroU32,
    /// How long to publish.
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Bytes of an event's data; at least what the measurement needs, which is up to about 40.
    #[arg(long, value_name = "BYTES", default_value = "64")]
    pub(crate) payload: usize,
    /// Channels to spread the connections over; each connection is on one.
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
    /// Events to publish a second; each goes to the connections of one channel, about 100.
    #[arg(short, long, value_name = "R", default_value = "100")]
    pub(crate) rate: NonZeroU32,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// The claim: spawn, procs, handoff, storm, preempt, lock-os-thread, sleepers, million,
    /// idle-conns, syscall, procresize, affine or cgroup [default: all].
    pub(crate) claim: Option<String>,
    /// Print one JSON object for each claim, one a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// The file for the page about all claims.
    #[arg(long, value_name = "FILE", default_value = "gort-lab.html")]
    pub(crate) report: PathBuf,
}

/// Reads `500ms`, `15s`, `2m` or `1h`. Fractions are allowed; an empty text and zero are not.
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

/// Like `duration`, but allows `0s`.
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
