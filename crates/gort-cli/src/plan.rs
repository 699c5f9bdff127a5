//! What the command line means. Resolves addresses, checks limits and sets defaults.

use crate::args::{AppArgs, DemoArgs, HubArgs, LoadArgs};
use crate::rt;
use gort_hub::fd::{FdLimit, RESERVE};
use gort_hub::{App, Config, ParseAppError};
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::time::Duration;
use thiserror::Error;
use tracing::level_filters::LevelFilter;

/// The command line is wrong. The exit code is 2.
#[derive(Debug, Error)]
pub(crate) enum UsageError {
    #[error("--app: {0}")]
    App(#[from] ParseAppError),
    #[error(
        "no app is given: use --app ID:KEY:SECRET, or --app-id, --app-key and --app-secret, or set \
         GORT_HUB_APP, or GORT_HUB_APP_ID, GORT_HUB_APP_KEY and GORT_HUB_APP_SECRET"
    )]
    NoApp,
    #[error("--app-id, --app-key and --app-secret must be given together")]
    PartOfApp,
    #[error("{0:?} is not an address such as 127.0.0.1:6001: {1}")]
    Address(String, String),
    #[error("{0:?} is not the address of a hub: {1}")]
    Url(String, &'static str),
    #[error("--payload may be at most 10000 bytes (a hub accepts 10 KiB), but it is {0}")]
    Payload(usize),
    #[error("--channels {channels} is too many for {connections} connections: each channel needs one")]
    Channels { channels: usize, connections: usize },
    #[error("{name:?} is not a claim; the claims are: {claims}")]
    Claim { name: String, claims: String },
    #[error("--connections {connections} is too many: {complaint}")]
    Descriptors { connections: usize, complaint: String },
}

/// Three pieces take precedence over one piece, which may come from the environment.
fn app(args: &AppArgs) -> Result<App, UsageError> {
    match (&args.app_id, &args.app_key, &args.app_secret, &args.app) {
        (Some(id), Some(key), Some(secret), _) => Ok(App::new(id, key, secret)?),
        (None, None, None, Some(app)) => Ok(app.parse()?),
        (None, None, None, None) => Err(UsageError::NoApp),
        _ => Err(UsageError::PartOfApp),
    }
}

pub(crate) struct HubPlan {
    pub(crate) addr: SocketAddr,
    pub(crate) config: Config,
    pub(crate) drain_timeout: Duration,
    pub(crate) log: LevelFilter,
    /// A warning for the operator before the hub starts.
    pub(crate) warning: Option<String>,
}

impl HubPlan {
    pub(crate) fn of(args: &HubArgs) -> Result<HubPlan, UsageError> {
        let mut config = Config::new(app(&args.app)?);
        let addr = resolve(&args.listen)?;
        let wanted = args.max_connections.map_or(1_000_000, usize::from);
        let http = args.max_http.map_or(config.max_http_connections, usize::from);
        let needed = wanted as u64 + http as u64 + RESERVE;
        let limit = FdLimit::raise(needed);
        let fit = limit.connections(1) as usize;
        // Clients must not be able to use up all descriptors, because publishers need some.
        let http = if args.max_http.is_some() { http } else { http.min(fit / 4).max(1) };
        let fit = fit.saturating_sub(http).max(1);
        config.max_http_connections = http;
        config.max_http_per_address = args.max_http_per_address.map_or(http.div_ceil(2), usize::from);
        let mut warning = None;
        config.max_connections = wanted;
        match args.max_connections {
            None => config.max_connections = wanted.min(fit),
            Some(_) => {
                warning = limit
                    .complaint(needed)
                    .map(|complaint| format!("--max-connections {wanted}: {complaint}"))
            }
        }
        config.max_channels_per_client = args.max_channels.into();
        config.max_event_data_bytes = args.max_event.into();
        // Data is longer when it is escaped as JSON, and the message has other parts.
        let event = config.max_event_data_bytes.saturating_mul(2);
        let or_event =
            |given: Option<NonZeroUsize>, usual: usize| given.map_or(usual.max(event), usize::from);
        config.max_message_bytes = or_event(args.max_message, config.max_message_bytes);
        config.max_body_bytes = or_event(args.max_body, config.max_body_bytes);
        config.max_queued_bytes = args.max_queue_bytes.into();
        config.slow_timeout = args.slow_timeout;
        config.socket_buffer_bytes = args.socket_buffer.into();
        config.client_events_per_second = args.client_events;
        config.activity_timeout = args.activity_timeout;
        config.pong_timeout = args.pong_timeout;
        config.keep_alive_timeout = args.keep_alive;
        config.drain_delay = args.drain_delay;
        config.drain_spread = args.drain_spread;
        config.page = args.page;
        Ok(HubPlan { addr, config, drain_timeout: args.drain_timeout, log: args.log, warning })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct LoadPlan {
    pub(crate) addr: SocketAddr,
    pub(crate) app: App,
    pub(crate) connections: usize,
    pub(crate) rate: u32,
    pub(crate) duration: Duration,
    pub(crate) payload: usize,
    pub(crate) channels: usize,
}

impl LoadPlan {
    pub(crate) fn of(args: &LoadArgs) -> Result<LoadPlan, UsageError> {
        let app = app(&args.app)?;
        let addr = hub_address(&args.url)?;
        let (connections, channels) = (usize::from(args.connections), usize::from(args.channels));
        if args.payload > 10_000 {
            return Err(UsageError::Payload(args.payload));
        }
        if channels > connections {
            return Err(UsageError::Channels { channels, connections });
        }
        check_descriptors(connections, 1)?;
        let LoadArgs { duration, payload, .. } = *args;
        Ok(LoadPlan { addr, app, connections, rate: args.rate.into(), duration, payload, channels })
    }
}

pub(crate) struct DemoPlan {
    pub(crate) connections: usize,
    pub(crate) rate: u32,
    pub(crate) duration: Duration,
    /// Why the number of connections is not the default.
    pub(crate) note: Option<String>,
}

/// How many connections share a channel in the demo, like in a busy chat room.
pub(crate) const DEMO_ROOM: usize = 100;
const DEMO_CONNECTIONS: usize = 5000;

impl DemoPlan {
    pub(crate) fn of(args: &DemoArgs) -> Result<DemoPlan, UsageError> {
        let mut note = None;
        let connections = match args.connections {
            Some(n) => {
                check_descriptors(n.into(), 2)?;
                n.into()
            }
            None => {
                let needed = 2 * DEMO_CONNECTIONS as u64 + RESERVE;
                let limit = FdLimit::raise(needed);
                let fit = (limit.connections(2) as usize).clamp(1, DEMO_CONNECTIONS);
                note = limit.complaint(needed).map(|complaint| {
                    format!(
                        "{fit} connections instead of {DEMO_CONNECTIONS}, because both ends are in this \
                         process: {complaint}"
                    )
                });
                fit
            }
        };
        Ok(DemoPlan { connections, rate: args.rate.into(), duration: args.duration, note })
    }
}

fn check_descriptors(connections: usize, each: u64) -> Result<(), UsageError> {
    let needed = (connections as u64).saturating_mul(each).saturating_add(RESERVE);
    match FdLimit::raise(needed).complaint(needed) {
        Some(complaint) => Err(UsageError::Descriptors { connections, complaint }),
        None => Ok(()),
    }
}

fn hub_address(url: &str) -> Result<SocketAddr, UsageError> {
    let wrong = |why| UsageError::Url(url.into(), why);
    let rest = match url.split_once("://") {
        Some(("ws" | "http", rest)) => rest,
        Some(("wss" | "https", _)) => return Err(wrong("TLS is not supported; use ws://")),
        Some(_) => return Err(wrong("it must begin with ws:// or http://")),
        None => return Err(wrong("it must have the form ws://HOST:PORT")),
    };
    let authority = rest.trim_end_matches('/');
    if authority.contains(['/', '?', '#', '@']) {
        return Err(wrong("it must have the form ws://HOST:PORT, without a path; use --app for the app"));
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { resolve(authority) } else { resolve(&format!("{authority}:80")) }
}

fn resolve(text: &str) -> Result<SocketAddr, UsageError> {
    let wrong = |why: String| UsageError::Address(text.into(), why);
    // The lookup of a name may take long.
    let found = rt::blocking(|| text.to_socket_addrs().map(|mut all| all.next()));
    found.map_err(|e| wrong(e.to_string()))?.ok_or_else(|| wrong("the name has no address".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let check = |url: &str, addr: &str| assert_eq!(hub_address(url).unwrap(), addr.parse().unwrap());
        check("ws://127.0.0.1:6001", "127.0.0.1:6001");
        check("http://127.0.0.1:6001/", "127.0.0.1:6001");
        check("ws://127.0.0.1", "127.0.0.1:80");
        check("ws://[::1]:6001", "[::1]:6001");
        check("ws://[::1]", "[::1]:80");
        for bad in ["127.0.0.1:1", "wss://x:1", "ftp://x:1", "ws://127.0.0.1:1/app/x", "ws://", "ws://a b:1"]
        {
            assert!(hub_address(bad).is_err(), "{bad}");
        }
    }
}
