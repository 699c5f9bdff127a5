//! One WebSocket connection of the load. It connects, subscribes, and measures the latency of every
//! event.

use crate::load::error::LoadError;
use crate::load::event::{EVENT, parse_data};
use crate::load::tally::Tally;
use crate::rt::net::{self, TcpStream};
use gort_hub::auth;
use gort_hub::ws::{Decoder, Message, Role, masked_pong_frame, masked_text_frame};
use serde::Deserialize;
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Masks protect proxies from scripts in browsers. This client is not a browser, so its mask is
/// fixed.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x88];

/// The key in the RFC's example, and the answer to it.
const WS_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WS_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const MAX_MESSAGE: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How many ports of one source address are used for connections to one port. Some are left for
/// other programs.
const PORTS_PER_SOURCE: usize = 20_000;
const SOURCES_MIN: usize = 4;

/// The source address of connection `i` of `n`. One address has not enough ports for a hundred
/// thousand connections, but the loopback device has many addresses.
pub(super) fn source(i: usize, n: usize, to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            let sources = n.div_ceil(PORTS_PER_SOURCE).clamp(SOURCES_MIN, 250);
            SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2 + (i % sources) as u8).into(), 0)
        }
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

/// The part of an event that the load reads. In what a hub sends, `data` is a string.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Cow<'a, str>,
}

pub(super) struct Client {
    stream: Arc<TcpStream>,
    decoder: Decoder,
}

impl Client {
    /// Connects, does the handshake, and subscribes. Events that come after that count.
    pub(super) fn connect(
        from: SocketAddr,
        to: SocketAddr,
        key: &str,
        channel: &str,
    ) -> Result<Client, LoadError> {
        let io = |source| LoadError::Connect { addr: to, source };
        let stream = net::TcpStream::connect_from(from, to).map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        stream.set_read_deadline(Some(Instant::now() + CONNECT_TIMEOUT)).map_err(io)?;
        let mut client =
            Client { stream: Arc::new(stream), decoder: Decoder::new(Role::Client, MAX_MESSAGE) };
        client.handshake(to, key)?;
        client.expect("pusher:connection_established")?;
        let subscribe = serde_json::json!({"event": "pusher:subscribe", "data": {"channel": channel}});
        client.send(&masked_text_frame(&subscribe.to_string(), MASK)).map_err(io)?;
        client.expect("pusher_internal:subscription_succeeded")?;
        client.stream.set_read_deadline(None).map_err(io)?;
        Ok(client)
    }

    pub(super) fn stream(&self) -> Arc<TcpStream> {
        self.stream.clone()
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }

    #[inline(never)]
    fn handshake(&mut self, to: SocketAddr, key: &str) -> Result<(), LoadError> {
        let io = |source| LoadError::Connect { addr: to, source };
        let request = format!(
            "GET /app/{}?protocol=7&client=gort-load&version={} HTTP/1.1\r\nhost: {to}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {WS_KEY}\r\n\r\n",
            auth::percent_encode(key),
            env!("CARGO_PKG_VERSION")
        );
        self.send(request.as_bytes()).map_err(io)?;
        let mut bytes = Vec::new();
        loop {
            let mut small = [0; 512];
            let n = (&*self.stream).read(&mut small).map_err(io)?;
            if n == 0 {
                return Err(io(io::ErrorKind::UnexpectedEof.into()));
            }
            bytes.extend_from_slice(&small[..n]);
            let mut headers = vec![httparse::EMPTY_HEADER; 32];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&bytes) {
                Ok(httparse::Status::Partial) if bytes.len() < 8192 => {}
                Ok(httparse::Status::Complete(head_len)) => {
                    let status = response.code.unwrap_or(0);
                    let accepts = |h: &httparse::Header<'_>| -> bool {
                        h.name.eq_ignore_ascii_case("sec-websocket-accept") && h.value == WS_ACCEPT.as_bytes()
                    };
                    if status != 101 || !response.headers.iter().any(accepts) {
                        return Err(LoadError::NoHub(format!(
                            "{to} answered the WebSocket handshake with HTTP {status}"
                        )));
                    }
                    self.decoder.push(&bytes[head_len..]);
                    return Ok(());
                }
                _ => return Err(LoadError::NoHub(format!("{to} does not speak HTTP"))),
            }
        }
    }

    fn expect(&mut self, name: &str) -> Result<(), LoadError> {
        let no = |why: String| Err(LoadError::Refused(why));
        match self.next_message() {
            Ok(Message::Text(text)) => match serde_json::from_str::<Event<'_>>(&text) {
                Ok(event) if event.event == name => Ok(()),
                Ok(event) => no(format!("{} {}", event.event, event.data)),
                Err(e) => no(format!("it sent something that is not an event: {e}")),
            },
            Ok(Message::Close(code)) => no(format!("closed with {code:?}")),
            Ok(other) => no(format!("{other:?} instead of {name}")),
            Err(why) => no(why),
        }
    }

    fn next_message(&mut self) -> Result<Message, String> {
        loop {
            match self.decoder.next_message() {
                Ok(Some(Message::Ping(payload))) => {
                    self.send(&masked_pong_frame(&payload, MASK)).map_err(|e| e.to_string())?;
                }
                Ok(Some(message)) => return Ok(message),
                Ok(None) => match self.decoder.read_from(&*self.stream) {
                    Ok(0) => return Err("the hub hung up".into()),
                    Ok(_) => {}
                    Err(e) => return Err(e.to_string()),
                },
                Err(e) => return Err(e.to_string()),
            }
        }
    }

    /// Receives events until the connection ends. Counts an unexpected end, with its reason.
    pub(super) fn receive(mut self, tally: &Tally, shard: usize) {
        let mut expected = 0;
        loop {
            match self.next_message() {
                Ok(Message::Text(text)) => {
                    let now_ns = tally.now_ns();
                    match serde_json::from_str::<Event<'_>>(&text) {
                        Ok(Event { event, data }) if event == EVENT => match parse_data(&data) {
                            Some((number, intended_ns)) => {
                                tally.delivered(shard, now_ns.saturating_sub(intended_ns));
                                if number != expected {
                                    tally.out_of_order(1);
                                }
                                expected = number + 1;
                            }
                            None => tally.lost("an event arrived with wrong data"),
                        },
                        Ok(Event { event, .. }) if event == "pusher:ping" => {
                            let pong = masked_text_frame(r#"{"event":"pusher:pong","data":{}}"#, MASK);
                            if let Err(e) = self.send(&pong) {
                                return tally.lost(&e.to_string());
                            }
                        }
                        _ => {}
                    }
                }
                Ok(Message::Close(code)) => return tally.lost(&format!("the hub closed it with {code:?}")),
                Ok(_) => {}
                Err(why) => return tally.lost(&why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_spread_on_the_loopback_device_only() {
        let to = "127.0.0.1:6001".parse().unwrap();
        let all: std::collections::BTreeSet<_> = (0..100).map(|i| source(i, 100, to)).collect();
        assert_eq!(all.len(), 4);
        let all: std::collections::BTreeSet<_> = (0..200_000).map(|i| source(i, 200_000, to)).collect();
        assert_eq!(all.len(), 10);
        assert!(source(7, 100, "192.0.2.1:80".parse().unwrap()).ip().is_unspecified());
        assert!(source(7, 100, "[::1]:80".parse().unwrap()).ip().is_unspecified());
    }
}
