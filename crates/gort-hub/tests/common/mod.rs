//! A hub for a test, and plain std clients for it: a WebSocket client by tungstenite, and an HTTP
//! client that sends text over a socket.
#![allow(dead_code, reason = "each test file uses a part of it")]

use gort_hub::{Config, Hub, Stats, auth};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tungstenite::protocol::frame::Frame;
use tungstenite::{Message, WebSocket};

pub(crate) const KEY: &str = "278d425bdf160c739803";
pub(crate) const SECRET: &str = "7ad3773142a6692b25b8";

/// Catches hangs. Nothing is expected to take nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) addr: SocketAddr,
}

/// A hub with the default settings, changed by `tune`.
pub(crate) fn hub(tune: impl FnOnce(&mut Config)) -> TestHub {
    gort::start().expect("the runtime starts");
    let mut config = Config::new(format!("3:{KEY}:{SECRET}").parse().unwrap());
    tune(&mut config);
    let hub = Hub::bind("127.0.0.1:0".parse().unwrap(), config).unwrap();
    let serving = hub.clone();
    gort::go(move || serving.serve().unwrap());
    TestHub { addr: hub.local_addr(), hub }
}

impl TestHub {
    /// Waits until the hub's numbers are as expected.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
        until(what, || Some(self.hub.stats()).filter(&is_so))
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr)
    }

    pub(crate) fn publish(&self, channel: &str, name: &str, data: &str) {
        self.trigger(&json!({"name": name, "channels": [channel], "data": data}), 200);
    }

    pub(crate) fn trigger(&self, event: &Value, status: u16) -> String {
        let mut http = Http::connect(self.addr);
        let (got, body) = http.post_event(event);
        assert_eq!(got, status, "{body}");
        body
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let drained = self.hub.drain(PATIENCE);
            assert_eq!(drained.forced, 0, "connections were left");
            assert_eq!(self.hub.stats().connections, 0);
            assert_eq!(self.hub.stats().channels, 0, "channels were left without members");
        }
    }
}

/// Passes every line of the hub's log in this process to `to`, as `LEVEL message name=value…`.
pub(crate) fn log_to(to: impl Fn(String) + Send + Sync + 'static) {
    tracing::subscriber::set_global_default(LogTo(Box::new(to))).expect("one subscriber for each process");
}

struct LogTo(Box<dyn Fn(String) + Send + Sync>);

impl tracing::Subscriber for LogTo {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                match field.name() {
                    "message" => self.0.insert_str(0, &format!(" {value:?}")),
                    name => self.0.push_str(&format!(" {name}={value:?}")),
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        (self.0)(format!("{}{}", event.metadata().level(), text.0));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

/// Calls `look` until it returns something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A WebSocket client by tungstenite.
pub(crate) struct Client {
    pub(crate) ws: WebSocket<TcpStream>,
    pub(crate) socket_id: String,
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        let mut client = Client::open(addr, &format!("/app/{KEY}?protocol=7&client=test&version=1"));
        let hello = client.event();
        assert_eq!(hello["event"], "pusher:connection_established");
        assert!(hello["data"]["activity_timeout"].as_u64().is_some());
        client.socket_id = hello["data"]["socket_id"].as_str().unwrap().to_string();
        client
    }

    /// Does only the handshake.
    pub(crate) fn open(addr: SocketAddr, path: &str) -> Client {
        Client::over(tcp(addr), addr, path)
    }

    pub(crate) fn over(stream: TcpStream, addr: SocketAddr, path: &str) -> Client {
        let (ws, _) = tungstenite::client(format!("ws://{addr}{path}"), stream).unwrap();
        Client { ws, socket_id: String::new() }
    }

    /// The next event. If its data is a string that holds JSON, that is parsed.
    pub(crate) fn event(&mut self) -> Value {
        loop {
            match self.ws.read().expect("an event") {
                Message::Text(text) => {
                    let mut event: Value = serde_json::from_str(&text).unwrap();
                    let data = event["data"].as_str().expect("data is a string").to_string();
                    event["data"] = serde_json::from_str(&data).unwrap_or(Value::String(data));
                    return event;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no event: {other:?}"),
            }
        }
    }

    pub(crate) fn expect(&mut self, name: &str) -> Value {
        let event = self.event();
        assert_eq!(event["event"], name, "{event}");
        event
    }

    pub(crate) fn expect_error(&mut self, code: impl Into<Value>) -> String {
        let event = self.expect("pusher:error");
        assert_eq!(event["data"]["code"], code.into(), "{event}");
        event["data"]["message"].as_str().unwrap().to_string()
    }

    pub(crate) fn send(&mut self, event: Value) {
        self.ws.send(Message::text(event.to_string())).unwrap();
    }

    pub(crate) fn send_frame(&mut self, frame: Frame) {
        self.ws.send(Message::Frame(frame)).unwrap();
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.ws.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn subscribe(&mut self, channel: &str) {
        let auth = auth::channel_auth(KEY, SECRET, &self.socket_id, channel);
        self.send(json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": auth}}));
        let done = self.expect("pusher_internal:subscription_succeeded");
        assert_eq!(done["channel"], channel);
        assert_eq!(done["data"], json!({}));
    }

    pub(crate) fn unsubscribe(&mut self, channel: &str) {
        self.send(json!({"event": "pusher:unsubscribe", "data": {"channel": channel}}));
        self.ping();
    }

    /// A round trip. All that was sent before has been handled then.
    pub(crate) fn ping(&mut self) {
        self.send(json!({"event": "pusher:ping", "data": {}}));
        self.expect("pusher:pong");
    }

    /// Reads until the server closes, and returns its code.
    pub(crate) fn closed(&mut self) -> u16 {
        loop {
            match self.ws.read().expect("a close frame") {
                Message::Close(Some(frame)) => {
                    // Answers the close and waits for the end, like a real client.
                    while self.ws.read().is_ok() {}
                    return frame.code.into();
                }
                Message::Close(None) => panic!("closed without a code"),
                _ => {}
            }
        }
    }
}

/// An HTTP connection that stays open.
pub(crate) struct Http {
    pub(crate) stream: TcpStream,
    rest: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(addr: SocketAddr) -> Http {
        Http { stream: tcp(addr), rest: Vec::new() }
    }

    pub(crate) fn send(&mut self, text: &str) -> (u16, String) {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.answer()
    }

    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> (u16, String) {
        self.send(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    pub(crate) fn post_event(&mut self, event: &Value) -> (u16, String) {
        let body = event.to_string();
        let path = "/apps/3/events";
        let query = auth::signed_query(KEY, SECRET, "POST", path, body.as_bytes(), now_s());
        self.post(&format!("{path}?{query}"), &body)
    }

    /// The status and the body of the next answer.
    pub(crate) fn answer(&mut self) -> (u16, String) {
        let head_end = loop {
            if let Some(at) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill() > 0, "no answer: {:?}", String::from_utf8_lossy(&self.rest));
        };
        let head = String::from_utf8(self.rest.drain(..head_end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let len = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap())
            })
            .unwrap_or(0);
        while self.rest.len() < len {
            assert!(self.fill() > 0, "half a body");
        }
        (status, String::from_utf8(self.rest.drain(..len).collect()).unwrap())
    }

    fn fill(&mut self) -> usize {
        let mut buf = [0; 4096];
        let n = self.stream.read(&mut buf).unwrap();
        self.rest.extend_from_slice(&buf[..n]);
        n
    }

    /// Whether the server has ended the connection. Does not wait.
    pub(crate) fn has_ended(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !matches!(seen, Err(ref e) if e.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Waits until the server has ended the connection.
    pub(crate) fn is_ended(&mut self) -> bool {
        !matches!(self.stream.read(&mut [0; 64]), Ok(n) if n > 0)
    }
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
