//! The goroutine of a connection. It serves requests first and then, after the handshake, the
//! messages of a WebSocket.
//!
//! This is plain blocking code. Its stack is what an idle connection costs. So nothing large stays
//! on the stack while it waits, and buffers exist only while a request or a message is in flight.

use crate::api;
use crate::auth;
use crate::channel::Subscription;
use crate::client::{Client, Patience};
use crate::config::{ClientEvent, Verdict};
use crate::http::{self, Refused, Request, Response};
use crate::log::line;
use crate::protocol::{self, ChannelKind, Incoming, Subscribe, code};
use crate::shared::Shared;
use crate::slots::Place;
use crate::stats::add;
use crate::ws::{Decoder, Message, Role, pong_frame};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Serves one connection to its end.
pub(crate) fn serve(hub: &Arc<Shared>, client: &Arc<Client>, place: Place) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if let Some(mut session) = open(hub, client, place) {
            // An idle connection waits here, in small stack frames. The rest is on the heap, or in
            // functions that have returned.
            while session.take_messages() && session.read(client.stream().wait_readable()) {}
        }
    }));
    if outcome.is_err() {
        close_after_panic(hub, client);
    }
    client.end();
}

#[cold]
#[inline(never)]
fn close_after_panic(hub: &Shared, client: &Arc<Client>) {
    add(&hub.common.counters.panics, 1);
    line!(hub.common.log.panics, error, peer = %client.peer(), "a panic ended this connection");
    client.close(1011, "internal error");
    linger(hub, client);
}

/// Serves a connection up to its upgrade. `None` if it has ended.
#[inline(never)]
fn open<'a>(hub: &'a Arc<Shared>, client: &'a Arc<Client>, place: Place) -> Option<Box<Session<'a>>> {
    let upgraded = serve_http(hub, client, &place)?;
    open_websocket(hub, client, upgraded, place)
}

/// The result of a client's handshake.
struct Upgraded {
    /// The bytes that the client sent without waiting for the answer.
    rest: Vec<u8>,
    /// Why the client is refused. It is told when the WebSocket is open, because clients do not
    /// understand a refusal by HTTP.
    refusal: Option<(u16, String)>,
}

fn serve_http(hub: &Arc<Shared>, client: &Arc<Client>, place: &Place) -> Option<Upgraded> {
    let config = &hub.common.config;
    let limits = http::Limits {
        head_bytes: config.max_head_bytes,
        body_bytes: config.max_body_bytes,
        request_timeout: config.request_timeout,
    };
    let mut reader = http::Reader::new(client.stream(), limits);
    let mut patience = Patience::new(config.slow_timeout);
    // A new connection has to send a request soon; one that has been served may be idle.
    let mut idle = config.request_timeout;
    loop {
        let request = match reader.next(Instant::now() + idle, |until| client.arm_read(until)) {
            Ok(request) => request,
            Err(Refused(None)) => return None,
            Err(Refused(Some(response))) => {
                log_refusal(hub, client, "a request", &response);
                let _ = respond(hub, client, &response, false, false);
                linger(hub, client);
                return None;
            }
        };
        if !place.work() {
            return None;
        }
        let draining = hub.is_closing();
        let response = match request.path.strip_prefix("/app/") {
            Some(key) => match handshake(hub, client, &request, key) {
                Ok(refusal) => return Some(Upgraded { rest: reader.into_rest(), refusal }),
                Err(response) => {
                    log_refusal(hub, client, "a handshake", &response);
                    response
                }
            },
            None => api::handle(hub, &request, client.peer(), &mut patience),
        };
        if response.status() == 200 && api::is_signed(&request) {
            place.is_api();
        }
        let go_on =
            respond(hub, client, &response, request.keep_alive && !draining, request.method == "HEAD");
        place.wait();
        match go_on {
            Ok(true) => {}
            Ok(false) => {
                linger(hub, client);
                return None;
            }
            Err(_) => return None,
        }
        idle = config.keep_alive_timeout;
    }
}

/// Logs an answer that the operator should know about.
fn log_refusal(hub: &Shared, client: &Client, what: &str, response: &Response) {
    let (status, why, peer) = (response.status(), response.first_line(), client.peer());
    line!(hub.common.log.limits, info, %peer, status, ?why, "refused {what}");
}

fn respond(
    hub: &Shared,
    client: &Client,
    response: &Response,
    keep_alive: bool,
    head_only: bool,
) -> io::Result<bool> {
    let mut stream = client.stream();
    let (bytes, go_on) = response.encode(keep_alive, head_only);
    stream.set_write_deadline(Some(Instant::now() + hub.common.config.request_timeout))?;
    stream.write_all(&bytes)?;
    if !go_on {
        stream.shutdown(std::net::Shutdown::Write)?;
    }
    Ok(go_on)
}

/// Answers the handshake. `Ok` if the client has a WebSocket now, with the code and the reason to
/// close it at once if there is one.
#[inline(never)]
fn handshake(
    hub: &Arc<Shared>,
    client: &Arc<Client>,
    request: &Request,
    key: &str,
) -> Result<Option<(u16, String)>, Response> {
    let refuse = |status, why: &str| Err(Response::text(status, why).close());
    if request.method != "GET" {
        return Err(Response::text(405, "GET only").header("allow: GET").close());
    }
    let Some(upgrade) = &request.upgrade else {
        return Err(Response::text(426, "this path is for WebSocket clients")
            .header("connection: upgrade\r\nupgrade: websocket")
            .close());
    };
    if upgrade.version.as_deref() != Some("13") {
        return Err(Response::text(426, "sec-websocket-version must be 13")
            .header("sec-websocket-version: 13")
            .close());
    }
    let Some(ws_key) = upgrade.key.as_deref().filter(|key| is_websocket_key(key)) else {
        return refuse(400, "sec-websocket-key must be 16 bytes in base64");
    };
    if hub.is_closing() {
        return refuse(503, "the server is going down");
    }
    let accept = tungstenite::handshake::derive_accept_key(ws_key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    let mut stream = client.stream();
    let sent = stream
        .set_write_deadline(Some(Instant::now() + hub.common.config.request_timeout))
        .and_then(|()| stream.write_all(answer.as_bytes()))
        .and_then(|()| stream.set_write_deadline(None));
    if sent.is_err() {
        return refuse(408, "the answer could not be sent");
    }
    Ok(refusal(hub, request, key))
}

fn refusal(hub: &Shared, request: &Request, key: &str) -> Option<(u16, String)> {
    if key != hub.common.config.app.key {
        return Some((code::NO_SUCH_APP, format!("no app has the key {key:?}")));
    }
    let Some(version) = request.query("protocol") else {
        return Some((code::NO_VERSION, "no protocol version was supplied".into()));
    };
    let Ok(version) = version.parse::<u64>() else {
        return Some((code::BAD_VERSION, format!("protocol version {version:?} is not a number")));
    };
    if !protocol::VERSIONS.contains(&version) {
        return Some((
            code::UNSUPPORTED_VERSION,
            format!("protocol version {version} is not supported; 5 to 7 are"),
        ));
    }
    None
}

/// Whether this is the base64 of 16 bytes: 22 digits and two padding characters.
fn is_websocket_key(key: &str) -> bool {
    key.len() == 24
        && key.ends_with("==")
        && key.bytes().take(22).all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

fn open_websocket<'a>(
    hub: &'a Arc<Shared>,
    client: &'a Arc<Client>,
    upgraded: Upgraded,
    place: Place,
) -> Option<Box<Session<'a>>> {
    if !client.open() {
        linger(hub, client);
        return None;
    }
    // A refused client counts as an idle HTTP connection until it has hung up, so it does not take
    // the place of another one.
    let turn_away = |code, reason: &str| {
        place.wait();
        client.send(protocol::error(Some(code), reason));
        client.close(code, reason);
        linger(hub, client);
    };
    if let Some((code, reason)) = upgraded.refusal {
        line!(hub.common.log.refused, warn, peer = %client.peer(), code, ?reason,
            "turned a client away");
        turn_away(code, &reason);
        return None;
    }
    let limit = hub.common.config.max_connections;
    let one_more = |n: usize| (n < limit).then_some(n + 1);
    if hub.common.counters.connections.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_err() {
        add(&hub.common.counters.refused, 1);
        line!(hub.common.log.refused, warn, peer = %client.peer(), limit,
            "refused with 4100: too many connections");
        turn_away(code::OVER_CAPACITY, &format!("over capacity: {limit} connections are open"));
        return None;
    }
    let is_open = Decrement(&hub.common.counters.connections);
    drop(place);
    add(&hub.common.counters.connections_total, 1);
    client.send(protocol::connection_established(client.id(), hub.common.config.activity_timeout.as_secs()));
    let mut decoder = Decoder::new(Role::Server, hub.common.config.max_message_bytes);
    decoder.push(&upgraded.rest);
    let now = Instant::now();
    client.arm_read(now + hub.common.config.activity_timeout);
    Some(Box::new(Session {
        hub,
        client,
        decoder,
        subscriptions: Vec::new(),
        events: RateLimit::new(hub.common.config.client_events_per_second),
        patience: Patience::new(hub.common.config.slow_timeout),
        last_message: now,
        silence: Silence::Fine,
        _is_open: is_open,
    }))
}

/// The state of an open WebSocket. When it is dropped, the client leaves all of its channels.
struct Session<'a> {
    hub: &'a Arc<Shared>,
    client: &'a Arc<Client>,
    decoder: Decoder,
    subscriptions: Vec<Subscription>,
    events: RateLimit,
    patience: Patience,
    last_message: Instant,
    silence: Silence,
    _is_open: Decrement<'a>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for subscription in self.subscriptions.drain(..) {
            self.hub.channels.leave(subscription, self.client);
        }
    }
}

/// How long a client has been silent.
#[derive(Clone, Copy)]
enum Silence {
    /// Not long enough for a ping.
    Fine,
    /// It was pinged at this time.
    Pinged(Instant),
}

impl Session<'_> {
    /// Handles the messages that have arrived. False if the connection has ended.
    #[inline(never)]
    fn take_messages(&mut self) -> bool {
        loop {
            match self.decoder.next_message() {
                Ok(None) => return true,
                Ok(Some(message)) => self.on_message(message),
                Err(e) => {
                    let (code, peer) = (e.close_code(), self.client.peer());
                    line!(self.hub.common.log.limits, info, %peer, code, "closed a client: {e}");
                    self.client.close(code, &e.to_string());
                }
            }
            if !self.client.wait_to_read() {
                self.leave_and_linger();
                return false;
            }
            // Not earlier: nothing is read while this waits for the client's queue or for
            // another's.
            self.last_message = Instant::now();
        }
    }

    /// Reads once if the wait for bytes was successful. False if the connection has ended.
    #[inline(never)]
    fn read(&mut self, ready: io::Result<()>) -> bool {
        match ready.and_then(|()| self.decoder.read_from(self.client.stream())) {
            Ok(0) => false,
            Ok(_) => true,
            // The deadline is not moved for each message: reading the clock is cheaper than setting
            // a timer.
            Err(e) if e.kind() == io::ErrorKind::TimedOut && self.client.is_open() => self.on_silence(),
            // The connection is closed and the peer has not hung up in time, or the peer is gone.
            Err(_) => {
                self.client.abort();
                false
            }
        }
    }

    /// Called when nothing has come by the deadline. False if the connection has ended.
    fn on_silence(&mut self) -> bool {
        let (config, now) = (&self.hub.common.config, Instant::now());
        if let Silence::Pinged(at) = self.silence {
            if self.last_message > at {
                self.silence = Silence::Fine;
            } else if now >= at + config.pong_timeout {
                add(&self.hub.common.counters.timed_out, 1);
                tracing::debug!(peer = %self.client.peer(), "closed with 4201: no pong came back");
                self.client.close(code::NO_PONG, "no pong came back");
                self.leave_and_linger();
                return false;
            }
        }
        if matches!(self.silence, Silence::Fine) && now >= self.last_message + config.activity_timeout {
            self.client.send(self.hub.ping.clone());
            self.silence = Silence::Pinged(now);
        }
        self.client.arm_read(match self.silence {
            Silence::Fine => self.last_message + config.activity_timeout,
            Silence::Pinged(at) => at + config.pong_timeout,
        });
        true
    }

    /// Leaves the channels before the peer has hung up: a closing connection gets no more events.
    fn leave_and_linger(&mut self) {
        for subscription in self.subscriptions.drain(..) {
            self.hub.channels.leave(subscription, self.client);
        }
        linger(self.hub, self.client);
    }

    #[inline(never)]
    fn on_message(&mut self, message: Message) {
        match message {
            Message::Text(text) => {
                add(&self.hub.common.counters.messages_in, 1);
                self.on_event(&text);
            }
            Message::Binary(_) => self.client.close(1003, "binary messages are not part of the protocol"),
            Message::Ping(payload) => {
                self.client.send(pong_frame(&payload));
            }
            Message::Pong(_) => {}
            Message::Close(code) => self.client.close(code.unwrap_or(1000), ""),
        }
    }

    fn on_event(&mut self, text: &str) {
        let event: Incoming<'_> = match serde_json::from_str(text) {
            Ok(event) => event,
            Err(e) => return self.error(Some(code::RECONNECT), &format!("not an event in JSON: {e}")),
        };
        match &*event.event {
            "pusher:ping" => {
                self.client.send(self.hub.pong.clone());
            }
            "pusher:pong" => {}
            "pusher:subscribe" => match Subscribe::parse(event.data) {
                Some(subscribe) => self.subscribe(&subscribe),
                None => self.error(Some(code::RECONNECT), "pusher:subscribe needs data with a channel"),
            },
            "pusher:unsubscribe" => match Subscribe::parse(event.data) {
                Some(Subscribe { channel, .. }) => self.unsubscribe(&channel),
                None => self.error(Some(code::RECONNECT), "pusher:unsubscribe needs data with a channel"),
            },
            name if name.starts_with("client-") => self.client_event(&event),
            name => {
                let name: String = name.chars().take(protocol::MAX_EVENT_NAME).collect();
                self.error(None, &format!("clients may not send {name:?}"));
            }
        }
    }

    fn subscribe(&mut self, request: &Subscribe) {
        let config = &self.hub.common.config;
        let channel = request.channel.as_str();
        if !protocol::is_channel_name(channel) {
            // The name is not echoed as the channel: it could be anything.
            let error = "a channel name has 1 to 164 characters: letters, digits and _-=@,.;";
            self.client.send(protocol::subscription_error("", "InvalidChannel", error, 400));
            return;
        }
        if self.subscriptions.iter().any(|s| s.channel() == channel) {
            return self.error(None, &format!("existing subscription to channel {channel}"));
        }
        let refuse = |kind, error: &str, status| {
            self.client.send(protocol::subscription_error(channel, kind, error, status));
        };
        if self.subscriptions.len() >= config.max_channels_per_client {
            let limit = config.max_channels_per_client;
            line!(self.hub.common.log.limits, info, peer = %self.client.peer(), limit,
                "refused a subscription: too many channels");
            return refuse(
                "LimitReached",
                &format!("a connection may be on at most {limit} channels"),
                code::OVER_CAPACITY,
            );
        }
        match protocol::channel_kind(channel) {
            ChannelKind::Public => {}
            ChannelKind::Private | ChannelKind::Encrypted => {
                let app = &config.app;
                let socket_id = self.client.id().to_string();
                let auth = request.auth.as_deref().unwrap_or("");
                let signed = request.signed_channel();
                if !auth::channel_auth_is_valid(&app.key, &app.secret, &socket_id, &signed, auth) {
                    line!(self.hub.common.log.auth, info, peer = %self.client.peer(), channel,
                        "refused a subscription: its signature is not valid");
                    let what = if auth.is_empty() { "needs auth" } else { "got an auth that is not valid" };
                    return refuse(
                        "AuthError",
                        &format!("{channel} {what}; sign \"{socket_id}:{signed}\""),
                        401,
                    );
                }
            }
            ChannelKind::NotServed => {
                return refuse("NotServed", "presence and cache channels are not served", 501);
            }
        }
        let subscription = self.hub.channels.join(channel, self.client);
        self.subscriptions.push(subscription);
    }

    fn unsubscribe(&mut self, channel: &str) {
        if let Some(at) = self.subscriptions.iter().position(|s| s.channel() == channel) {
            let subscription = self.subscriptions.swap_remove(at);
            self.hub.channels.leave(subscription, self.client);
        }
    }

    fn client_event(&mut self, event: &Incoming<'_>) {
        let config = &self.hub.common.config;
        let refuse = |why: &str| self.error(Some(code::REFUSED_EVENT), why);
        let channel = event.channel.as_deref().unwrap_or("");
        if event.event.len() > protocol::MAX_EVENT_NAME {
            return refuse(&format!("an event name has at most {} bytes", protocol::MAX_EVENT_NAME));
        }
        if !self.subscriptions.iter().any(|s| s.channel() == channel) {
            return refuse("client events may only go to a channel that the client is subscribed to");
        }
        if protocol::channel_kind(channel) != ChannelKind::Private {
            return refuse("client events may only go to private channels");
        }
        let data = &*protocol::client_data(event.data);
        if data.len() > config.max_event_data_bytes {
            return refuse(&format!(
                "the data of an event has at most {} bytes",
                config.max_event_data_bytes
            ));
        }
        if !self.events.take(Instant::now()) {
            add(&self.hub.common.counters.rate_limited, 1);
            let limit = config.client_events_per_second;
            line!(self.hub.common.log.limits, info, peer = %self.client.peer(), limit,
                "refused a client event: too many per second");
            return self.error(Some(code::RATE_LIMIT), &format!("at most {limit} client events a second"));
        }
        if let Some(handler) = &config.on_client_event {
            let seen = ClientEvent { socket_id: self.client.id(), channel, event: &event.event, data };
            if handler(&seen) == Verdict::Drop {
                return;
            }
        }
        add(&self.hub.common.counters.published, 1);
        let frame = protocol::event_frame(&event.event, Some(channel), data);
        self.hub.channels.publish(channel, &frame, Some(self.client.id()), &mut self.patience);
    }

    fn error(&self, code: Option<u16>, message: &str) {
        self.client.send(protocol::error(code, message));
    }
}

/// Waits for the peer to hang up, for `close_timeout` at most. Otherwise a reset could make the
/// peer lose what was written last.
fn linger(hub: &Shared, client: &Client) {
    let mut stream = client.stream();
    let until = Instant::now() + hub.common.config.close_timeout;
    if stream.set_read_deadline(Some(until)).is_err() {
        return;
    }
    let mut unread = [0; 256];
    while Instant::now() < until {
        match io::Read::read(&mut stream, &mut unread) {
            Ok(0) => return,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    client.abort();
}

/// A token bucket: it gains `per_second` tokens a second and holds at most that many.
struct RateLimit {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl RateLimit {
    fn new(per_second: u32) -> RateLimit {
        RateLimit { per_second: per_second.into(), tokens: per_second.into(), at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.per_second);
        self.at = now;
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }
}

struct Decrement<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Decrement<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_rate_limit_gives_a_burst_and_then_the_rate() {
        let mut limit = RateLimit::new(10);
        let start = limit.at;
        let taken = |limit: &mut RateLimit, ms| {
            (0..100).filter(|_| limit.take(start + Duration::from_millis(ms))).count()
        };
        assert_eq!(taken(&mut limit, 0), 10);
        assert_eq!(taken(&mut limit, 0), 0);
        assert_eq!(taken(&mut limit, 250), 2);
        assert_eq!(taken(&mut limit, 100_000), 10);
        assert_eq!((0..5).filter(|_| RateLimit::new(0).take(Instant::now())).count(), 0);
    }

    #[test]
    fn websocket_keys() {
        assert!(is_websocket_key("dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ==\n", "dGhlIHNhbXBsZSBub25j ZQ=="] {
            assert!(!is_websocket_key(bad), "{bad:?}");
        }
    }
}
