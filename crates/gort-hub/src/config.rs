//! The settings of a hub: the app that it serves and its limits.

use crate::protocol::SocketId;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// An app. Clients connect with its key; servers publish and sign with its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct App {
    /// Names the app in the paths of the HTTP API. Pusher's Python library accepts only digits.
    pub id: String,
    /// Public: clients connect to `/app/{key}`.
    pub key: String,
    /// Known to the hub and to the servers that publish. Never sent.
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
    /// It has not three parts.
    #[error("an app is written ID:KEY:SECRET, as in 1:my-key:my-secret; this has {0} of 3 parts")]
    Parts(usize),
    /// The id is part of paths.
    #[error("the app id {0:?} is empty or has control characters")]
    Id(String),
    /// The key is part of URLs.
    #[error("the app key {0:?} is empty or has control characters")]
    Key(String),
    /// With an empty secret anybody could sign.
    #[error("the app secret is empty")]
    Secret,
}

impl App {
    /// An app whose id, key and secret may have any characters, except for control characters in
    /// the id and the key. In URLs they are percent-encoded.
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

    /// Reads `ID:KEY:SECRET`. All that follows the second colon is the secret.
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

/// A client event that has passed all checks, for the handler of [`Config::on_client_event`].
#[derive(Debug)]
pub struct ClientEvent<'a> {
    /// The connection that sent it.
    pub socket_id: SocketId,
    /// The private channel it goes to.
    pub channel: &'a str,
    /// Its name, which begins with `client-`.
    pub event: &'a str,
    /// Its data, as JSON.
    pub data: &'a str,
}

/// What to do with a client event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it to the other members of the channel.
    Forward,
    /// Drop it, and do not tell its sender.
    Drop,
}

/// Called for each client event, in the goroutine of the connection it came from.
pub type ClientEventHandler = Arc<dyn Fn(&ClientEvent<'_>) -> Verdict + Send + Sync>;

/// The settings of a hub. `Config::new(app)` has the defaults that the fields name.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The app that is served.
    pub app: App,
    /// The most WebSocket connections at once. One more is closed with 4100. Default 100 000.
    pub max_connections: usize,
    /// The most connections at once that are not (yet) WebSockets: the HTTP API and handshakes. For
    /// one more, the one that has been idle longest is closed. A quarter of the places is kept for
    /// connections that have sent signed requests. If all are working on a request, one more gets
    /// 503. Default 1 024.
    pub max_http_connections: usize,
    /// How many of them one address may have; in IPv6, one /64 network. Behind a proxy all
    /// connections have the proxy's address. Default 512.
    pub max_http_per_address: usize,
    /// The most subscriptions of one connection. One more gets a `pusher:subscription_error`.
    /// Default 100.
    pub max_channels_per_client: usize,
    /// The most bytes of one message from a client. More closes with 1009. Default 32 KiB.
    pub max_message_bytes: usize,
    /// The most bytes of an event's data. More gets 413 from the HTTP API, and 4302 as a client
    /// event. Default 10 KiB.
    pub max_event_data_bytes: usize,
    /// The most bytes of a request's body. More gets 413. Default 128 KiB.
    pub max_body_bytes: usize,
    /// The most bytes of a request's head. More gets 431. Default 8 KiB.
    pub max_head_bytes: usize,
    /// The most bytes in the queue of one client; each message counts 64 bytes more than it has.
    /// Publishers wait for a client whose queue is full. If the queue stays full, the client is
    /// closed with 4100; see [`slow_timeout`](Config::slow_timeout). Default 1 MiB.
    pub max_queued_bytes: usize,
    /// How long publishers wait for a client whose queue is full and that takes nothing. For one
    /// that takes something, but not enough, they wait five times as long altogether. Then it is
    /// closed with 4100. Default 1 s.
    pub slow_timeout: Duration,
    /// The size of each connection's two buffers in the kernel (`SO_SNDBUF`, `SO_RCVBUF`), which
    /// Linux doubles. These buffers and `max_queued_bytes` are what a client that does not read can
    /// cost. Default 64 KiB.
    pub socket_buffer_bytes: usize,
    /// The most client events a second of one connection, and the most in one burst. One more gets
    /// 4301. Default 10.
    pub client_events_per_second: u32,
    /// A client that is silent for this time is pinged. Clients are told the time. Default 120 s.
    pub activity_timeout: Duration,
    /// A client that does not answer a ping for this time is closed with 4201. Default 30 s.
    pub pong_timeout: Duration,
    /// How long a request may take from its first byte to its last, and how long its answer may
    /// take to be written. A new connection has this time for its first byte as well. Default 10 s.
    pub request_timeout: Duration,
    /// How long an HTTP connection may be idle between requests. Default 60 s.
    pub keep_alive_timeout: Duration,
    /// How long a closed connection may take to read what is left for it and to hang up.
    /// Default 2 s.
    pub close_timeout: Duration,
    /// In a drain, how long `/healthz` says 503 before the listener is closed, while all else goes
    /// on. In this time a load balancer can stop sending connections here. Default 0.
    pub drain_delay: Duration,
    /// In a drain, over which time the closing of the clients is spread, so that they do not all
    /// reconnect elsewhere at the same moment. Default 0.
    pub drain_spread: Duration,
    /// Serve the page with a chat at `/`, and sign its one channel for everyone. Default false.
    pub page: bool,
    /// A handler that is called for each client event. Default none.
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

    /// Generated secrets, such as those of Laravel, can have any characters.
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
