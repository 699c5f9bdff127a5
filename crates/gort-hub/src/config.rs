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
    /// Names the app in the paths of the HTTP API. Digits, if publishers use Pusher's Python
    /// library, which takes nothing else.
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
    /// It stands in paths.
    #[error("the app id {0:?} is empty or has control characters")]
    Id(String),
    /// It stands in URLs.
    #[error("the app key {0:?} is empty or has control characters")]
    Key(String),
    /// Anybody could sign.
    #[error("the app secret is empty")]
    Secret,
}

impl App {
    /// An app of any characters that can stand in a URL, where they are percent-encoded if need be.
    ///
    /// # Errors
    ///
    /// A part is empty, or id or key has control characters.
    pub fn new(id: &str, key: &str, secret: &str) -> Result<App, ParseAppError> {
        let is_name = |text: &str| !text.is_empty() && !text.contains(char::is_control);
        if !is_name(id) {
            return Err(ParseAppError::Id(id.into()));
        }
        if !is_name(key) {
            return Err(ParseAppError::Key(key.into()));
        }
        if secret.is_empty() {
            return Err(ParseAppError::Secret);
        }
        Ok(App { id: id.into(), key: key.into(), secret: secret.into() })
    }
}

impl FromStr for App {
    type Err = ParseAppError;

    /// Reads `ID:KEY:SECRET`. What comes after the second colon is the secret, whatever it is.
    ///
    /// ```
    /// let app: gort_hub::App = "1:my-key:my-secret".parse()?;
    /// assert_eq!(app.key, "my-key");
    /// assert!("my-key:my-secret".parse::<gort_hub::App>().is_err());
    /// # Ok::<(), gort_hub::ParseAppError>(())
    /// ```
    fn from_str(text: &str) -> Result<App, ParseAppError> {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let [id, key, secret] = parts[..] else { return Err(ParseAppError::Parts(parts.len())) };
        App::new(id, key, secret)
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

/// All knobs of a hub. `Config::new(app)` has the defaults that the fields name.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The app that is served.
    pub app: App,
    /// WebSocket connections at once; the next one is closed with 4100. Default 100 000.
    pub max_connections: usize,
    /// Connections at once that are not (yet) WebSockets: the HTTP API and handshakes. For one
    /// more, the one that has been idle longest is closed; a quarter of them is kept for those that
    /// have sent signed requests. When all are being worked on, the next one gets 503. Default
    /// 1 024.
    pub max_http_connections: usize,
    /// How many of them one address may have (one network of 64 bits, in IPv6). Behind a proxy all
    /// have the proxy's. Default 512.
    pub max_http_per_address: usize,
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
    /// Bytes that may wait for one client, 64 a message added. Publishers wait for a client whose
    /// queue is full, and close it with 4100 if it stays so; see
    /// [`slow_timeout`](Config::slow_timeout). Default 1 MiB.
    pub max_queued_bytes: usize,
    /// How long publishers wait for a client whose queue is full and that takes nothing; one that
    /// takes something, but not enough, has five times as long altogether. Then it is closed
    /// with 4100. Default 1 s.
    pub slow_timeout: Duration,
    /// The size of each connection's two buffers in the kernel (`SO_SNDBUF`, `SO_RCVBUF`; Linux
    /// doubles it). With `max_queued_bytes` it is what a client that does not read can cost.
    /// Default 64 KiB.
    pub socket_buffer_bytes: usize,
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
    /// In a drain, how long `/healthz` says 503 while everything else goes on, so that a load
    /// balancer that routes connections here can stop before the listener is closed. Default 0.
    pub drain_delay: Duration,
    /// In a drain, over how long a time the clients are closed, so that they do not all come back
    /// elsewhere in one moment. Default 0.
    pub drain_spread: Duration,
    /// Serve `/`, the page to chat on, and sign its one channel for anybody. Default false.
    pub page: bool,
    /// A look at each client event. Default none.
    pub on_client_event: Option<ClientEventHandler>,
}

impl Config {
    /// The defaults, for `app`.
    pub fn new(app: App) -> Config {
        Config {
            app,
            max_connections: 100_000,
            max_http_connections: 1024,
            max_http_per_address: 512,
            max_channels_per_client: 100,
            max_message_bytes: 32 * 1024,
            max_event_data_bytes: 10 * 1024,
            max_body_bytes: 128 * 1024,
            max_head_bytes: 8 * 1024,
            max_queued_bytes: 1024 * 1024,
            slow_timeout: Duration::from_secs(1),
            socket_buffer_bytes: 64 * 1024,
            client_events_per_second: 10,
            activity_timeout: Duration::from_secs(120),
            pong_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(2),
            drain_delay: Duration::ZERO,
            drain_spread: Duration::ZERO,
            page: false,
            on_client_event: None,
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
        check(":k:s", ParseAppError::Id("".into()));
        check("1:k\n:s", ParseAppError::Key("k\n".into()));
        check("1::s", ParseAppError::Key("".into()));
        check("1:k:", ParseAppError::Secret);
    }

    /// Secrets of Laravel and others are made of whatever a generator gives.
    #[test]
    fn apps_of_any_characters() {
        let app: App = "my-app:kéy/1:s:e cret/%".parse().unwrap();
        assert_eq!(
            (app.id.as_str(), app.key.as_str(), app.secret.as_str()),
            ("my-app", "kéy/1", "s:e cret/%")
        );
        assert_eq!(App::new("a:b", "c:d", "e").unwrap().id, "a:b");
    }

    #[test]
    fn the_secret_is_not_in_debug_output() {
        let app: App = "1:k:hush".parse().unwrap();
        assert!(!format!("{app:?} {:?}", Config::new(app.clone())).contains("hush"));
    }
}
