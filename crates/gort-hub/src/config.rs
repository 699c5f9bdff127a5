//! What a hub is told at start: the app it serves and its limits.

use crate::protocol::SocketId;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// An app: who may connect (key) and who may publish and sign (secret).
#[derive(Clone, PartialEq, Eq)]
pub struct App {
    /// Names the app in the paths of the HTTP API. Digits, as the server libraries want it.
    pub id: String,
    /// Public: clients connect to `/app/{key}`.
    pub key: String,
    /// Shared by the hub and the servers that publish. Never sent.
    pub secret: String,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why a text is not an app.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseAppError {
    /// Not three parts.
    #[error("an app is written ID:KEY:SECRET, for example 1:my-key:my-secret; this has {0} parts")]
    Parts(usize),
    /// The Python library, among others, accepts nothing else.
    #[error("the app id {0:?} is not a number")]
    Id(String),
    /// Keys stand in URLs.
    #[error("the app key {0:?} may hold letters, digits, '-' and '_' only, and at least one")]
    Key(String),
    /// Anybody could sign.
    #[error("the app secret is empty")]
    Secret,
}

impl FromStr for App {
    type Err = ParseAppError;

    /// Reads `ID:KEY:SECRET`.
    ///
    /// ```
    /// let app: gort_hub::App = "1:my-key:my-secret".parse()?;
    /// assert_eq!(app.key, "my-key");
    /// assert!("my-key:my-secret".parse::<gort_hub::App>().is_err());
    /// # Ok::<(), gort_hub::ParseAppError>(())
    /// ```
    fn from_str(text: &str) -> Result<App, ParseAppError> {
        let parts: Vec<&str> = text.split(':').collect();
        let [id, key, secret] = parts[..] else { return Err(ParseAppError::Parts(parts.len())) };
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseAppError::Id(id.into()));
        }
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(ParseAppError::Key(key.into()));
        }
        if secret.is_empty() {
            return Err(ParseAppError::Secret);
        }
        Ok(App { id: id.into(), key: key.into(), secret: secret.into() })
    }
}

/// A client event that passed all checks, as the handler of [`Config::on_client_event`] sees it.
#[derive(Debug)]
pub struct ClientEvent<'a> {
    /// Who sent it.
    pub socket_id: SocketId,
    /// The private channel it goes to.
    pub channel: &'a str,
    /// Its name, which begins with `client-`.
    pub event: &'a str,
    /// The JSON that was sent as data.
    pub data: &'a str,
}

/// What to do with a client event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it to the others on the channel.
    Forward,
    /// Send it to nobody; its sender is not told.
    Drop,
}

/// Called for each client event, in the goroutine of the connection it came from.
pub type ClientEventHandler = Arc<dyn Fn(&ClientEvent<'_>) -> Verdict + Send + Sync>;

/// Takes one line of what an operator should know, such as "out of file descriptors".
pub type Reporter = Arc<dyn Fn(&str) + Send + Sync>;

/// All knobs of a hub. `Config::new(app)` has the defaults that the fields name.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The app that is served.
    pub app: App,
    /// WebSocket connections at once; the next one is closed with 4100. Default 100 000.
    pub max_connections: usize,
    /// Connections at once that are not (yet) WebSockets: the HTTP API and handshakes; the next one gets 503.
    /// Default 1 024.
    pub max_http_connections: usize,
    /// Subscriptions of one connection; the next one gets a `pusher:subscription_error`. Default 100.
    pub max_channels_per_client: usize,
    /// Bytes of one message from a client; more closes with 1009. Default 32 KiB.
    pub max_message_bytes: usize,
    /// Bytes of an event's data, in the HTTP API (413) and in client events (4302). Default 10 KiB.
    pub max_event_data_bytes: usize,
    /// Bytes of the body of a request to the HTTP API; more gets 413. Default 128 KiB.
    pub max_body_bytes: usize,
    /// Bytes of the head of a request; more gets 431. Default 8 KiB.
    pub max_head_bytes: usize,
    /// Messages that may wait for one client; past it the client is closed with 4100. Default 256.
    pub max_queued_messages: usize,
    /// Bytes that may wait for one client; past it the client is closed with 4100. Default 1 MiB.
    pub max_queued_bytes: usize,
    /// Client events a second and connection, and as many in one burst; the next one gets 4301. Default 10.
    pub client_events_per_second: u32,
    /// A client that was silent for so long is pinged. Clients are told. Default 120 s.
    pub activity_timeout: Duration,
    /// A client that did not answer a ping for so long is closed with 4201. Default 30 s.
    pub pong_timeout: Duration,
    /// From the first byte of a request to its last, and for the answer to it. Default 10 s.
    pub request_timeout: Duration,
    /// How long an HTTP connection may be idle between requests. Default 60 s.
    pub keep_alive_timeout: Duration,
    /// How long a closed connection may take to read what is left for it and to hang up. Default 2 s.
    pub close_timeout: Duration,
    /// Serve `/`, the page to chat on, and sign its one channel for anybody. Default true.
    pub page: bool,
    /// A look at each client event. Default none.
    pub on_client_event: Option<ClientEventHandler>,
    /// Where lines for the operator go. Default standard error.
    pub reporter: Reporter,
}

impl Config {
    /// The defaults, for `app`.
    pub fn new(app: App) -> Config {
        Config {
            app,
            max_connections: 100_000,
            max_http_connections: 1024,
            max_channels_per_client: 100,
            max_message_bytes: 32 * 1024,
            max_event_data_bytes: 10 * 1024,
            max_body_bytes: 128 * 1024,
            max_head_bytes: 8 * 1024,
            max_queued_messages: 256,
            max_queued_bytes: 1024 * 1024,
            client_events_per_second: 10,
            activity_timeout: Duration::from_secs(120),
            pong_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(2),
            page: true,
            on_client_event: None,
            reporter: Arc::new(|line| {
                use std::io::Write;
                // Nobody may be there to read it any more; that must not end the hub.
                let _ = writeln!(std::io::stderr(), "gort hub: {line}");
            }),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("app", &self.app).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: ParseAppError) {
        assert_eq!(text.parse::<App>(), Err(expected));
    }

    #[test]
    fn bad_apps_are_refused_with_a_reason() {
        check("", ParseAppError::Parts(1));
        check("1:k", ParseAppError::Parts(2));
        check("1:k:s:t", ParseAppError::Parts(4));
        check("one:k:s", ParseAppError::Id("one".into()));
        check(":k:s", ParseAppError::Id("".into()));
        check("1:a/b:s", ParseAppError::Key("a/b".into()));
        check("1::s", ParseAppError::Key("".into()));
        check("1:k:", ParseAppError::Secret);
    }

    #[test]
    fn the_secret_is_not_in_debug_output() {
        let app: App = "1:k:hush".parse().unwrap();
        assert!(!format!("{app:?} {:?}", Config::new(app.clone())).contains("hush"));
    }
}
