//! The HTTP API: signatures, limits, garbage, and bad handshakes.
mod common;

use common::{Http, KEY, SECRET, hub, now_s};
use gort_hub::auth::signed_query;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::Duration;

fn check(http: &mut Http, path: &str, secret: &str, now: u64, body: &str, status: u16) -> String {
    let query = signed_query(KEY, secret, "POST", path, body.as_bytes(), now);
    let (got, answer) = http.post(&format!("{path}?{query}"), body);
    assert_eq!(got, status, "{answer}");
    answer
}

#[test]
fn publishing_is_signed_and_each_refusal_has_its_status() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    client.subscribe("a");
    let mut http = Http::connect(hub.addr);
    let body = json!({"name": "e", "channels": ["a"], "data": "1"}).to_string();
    let path = "/apps/3/events";
    let now = now_s();
    assert!(check(&mut http, path, "wrong", now, &body, 401).contains("auth_signature"));
    assert!(check(&mut http, path, SECRET, now - 700, &body, 401).contains("auth_timestamp"));
    assert!(check(&mut http, path, SECRET, now + 700, &body, 401).contains("auth_timestamp"));
    assert!(check(&mut http, "/apps/4/events", SECRET, now, &body, 403).contains("app 3"));
    assert!(check(&mut http, path, SECRET, now, "not json", 400).contains("not an event"));
    assert!(check(&mut http, path, SECRET, now, "{}", 400).contains("name"));
    let number = json!({"name": "e", "channel": "a", "data": 1}).to_string();
    check(&mut http, path, SECRET, now, &number, 400);
    let long = json!({"name": "e", "channel": "a", "data": "x".repeat(10 * 1024 + 1)}).to_string();
    assert!(check(&mut http, path, SECRET, now, &long, 413).contains("10240"));
    // Signed for one body, sent with another.
    let query = signed_query(KEY, SECRET, "POST", path, b"{}", now);
    let (status, why) = http.post(&format!("{path}?{query}"), &body);
    assert_eq!((status, why.trim()), (401, "body_md5 does not match the body"));
    assert_eq!(http.post(path, &body).0, 401);
    // All of that was on one connection, which still works, and none of it was delivered.
    let exactly = json!({"name": "ok", "channel": "a", "data": "x".repeat(10 * 1024)}).to_string();
    assert_eq!(check(&mut http, path, SECRET, now, &exactly, 200), "{}");
    client.expect("ok");
}

#[test]
fn other_paths_and_methods() {
    let hub = hub(|config| config.page = true);
    let mut http = Http::connect(hub.addr);
    assert_eq!(http.get("/healthz"), (200, "ok\n".into()));
    assert_eq!(http.get("/nothing").0, 404);
    assert_eq!(http.get("/apps/3/channels").0, 404);
    assert_eq!(http.get("/apps/3/events").0, 405);
    assert_eq!(http.post("/healthz", "").0, 405);
    let (status, page) = http.get("/");
    assert_eq!(status, 200);
    assert!(page.contains(KEY) && !page.contains("{{") && !page.contains(SECRET));
    let (status, stats) = http.get("/stats.json");
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!(
        (status, stats["http_connections"].as_u64(), stats["connections"].as_u64()),
        (200, Some(1), Some(0))
    );
    assert!(stats["resident_bytes"].as_u64().unwrap() > 0 && stats["os_threads"].as_u64().unwrap() > 0);
    // HEAD gets the head alone, with the length that the body would have.
    http.stream.write_all(b"HEAD /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    http.stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("content-length: 3\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn the_page_gets_its_channel_signed_and_no_other() {
    let hub = hub(|config| config.page = true);
    let mut client = hub.connect();
    let mut http = Http::connect(hub.addr);
    let (status, body) = http.post("/page/auth", &json!({"socket_id": client.socket_id}).to_string());
    assert_eq!(status, 200);
    let auth = serde_json::from_str::<Value>(&body).unwrap()["auth"].clone();
    client.send(json!({"event": "pusher:subscribe", "data": {"channel": "private-other", "auth": auth}}));
    client.expect("pusher:subscription_error");
    client.send(json!({"event": "pusher:subscribe", "data": {"channel": "private-page-chat", "auth": auth}}));
    client.expect("pusher_internal:subscription_succeeded");
    assert_eq!(http.post("/page/auth", "{\"socket_id\":\"1.1:private-x\"}").0, 400);
    assert_eq!(http.get("/page/auth").0, 405);
}

/// The page is open to all who can reach it, so it is served only if the operator asked for it.
#[test]
fn without_a_page_there_is_nothing_to_sign() {
    let hub = hub(|_| {});
    let mut http = Http::connect(hub.addr);
    assert_eq!(http.get("/").0, 404);
    assert_eq!(http.post("/page/auth", "{\"socket_id\":\"1.1\"}").0, 404);
}

#[test]
fn two_requests_in_one_piece_and_one_request_in_many() {
    let hub = hub(|_| {});
    let mut http = Http::connect(hub.addr);
    let one = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(http.send(&format!("{one}{one}")).0, 200);
    assert_eq!(http.answer().0, 200);
    for byte in one.as_bytes() {
        http.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(http.answer().0, 200);
}

fn check_garbage(text: &str, status: u16) {
    check_ended(Duration::from_secs(10), text, status);
}

fn check_ended(request_timeout: Duration, text: &str, status: u16) {
    let hub = hub(|config| config.request_timeout = request_timeout);
    let mut http = Http::connect(hub.addr);
    let (got, why) = http.send(text);
    assert_eq!(got, status, "{text:?}: {why}");
    assert!(http.is_ended());
    drop(http);
    hub.until("it is gone", |stats| stats.http_connections == 0);
    hub.connect().ping();
}

#[test]
fn garbage_is_answered_and_ended() {
    check_garbage("\x16\x03\x01 hello\r\n\r\n", 400);
    check_garbage("GET / HTTP/9\r\n\r\n", 400);
    check_garbage(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000)), 431);
    check_garbage(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)), 431);
    check_garbage("POST /apps/3/events HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413);
    let chunked = "POST /apps/3/events HTTP/1.1\r\nTransfer-Encoding: chunked\r\n";
    check_garbage(&format!("{chunked}Content-Length: 1\r\n\r\n"), 400);
    check_garbage(&format!("{chunked}\r\nx\r\n"), 400);
    check_garbage(&format!("{chunked}\r\n1\r\nab\r\n"), 400);
    check_garbage(&format!("{chunked}\r\nfffffff\r\n"), 413);
    check_garbage(&format!("{chunked}\r\n1;{}\r\n", "x".repeat(2000)), 400);
    check_garbage("POST /apps/3/events HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501);
    check_garbage("POST /apps/3/events HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400);
}

#[test]
fn bad_handshakes_are_refused() {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let get = |headers: &str| format!("GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    check_garbage(&get(""), 426);
    check_garbage(&get(upgrade), 426);
    check_garbage(&get(&format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n")), 426);
    check_garbage(&get(&format!("{upgrade}{version}")), 400);
    check_garbage(&get(&format!("{upgrade}{version}Sec-WebSocket-Key: short\r\n")), 400);
    let post = get(&format!("{upgrade}{version}{key}")).replacen("GET", "POST", 1);
    check_garbage(&post, 405);
}

#[test]
fn slow_requests_are_ended() {
    let timeout = Duration::from_secs(2);
    check_ended(timeout, "GET /app/x HTTP/1.1\r\nHos", 408);
    check_ended(timeout, "POST /apps/3/events HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf", 408);
}

#[test]
fn silent_connections_are_ended() {
    let impatient = hub(|config| config.request_timeout = Duration::from_millis(200));
    let mut silent = Http::connect(impatient.addr);
    assert!(silent.is_ended());
    // Another hub, with time for the request.
    let hub = hub(|config| config.keep_alive_timeout = Duration::from_millis(200));
    let mut idle = Http::connect(hub.addr);
    assert_eq!(idle.get("/healthz").0, 200);
    assert!(idle.is_ended());
}

/// Waits until the server has ended `n` of them. (Which of two recently answered connections has
/// been idle longer is known only to the server. `src/slots.rs` tests the order.)
fn until_ended(all: &[Http], n: usize) {
    common::until("they are ended", || {
        (all.iter().filter(|http| http.has_ended()).count() == n).then_some(())
    });
}

/// Idle publishers keep out neither clients nor other publishers: the one that has been idle
/// longest is closed.
#[test]
fn idle_publishers_keep_nobody_out() {
    let hub = hub(|config| config.max_http_connections = 4);
    let event = json!({"name": "e", "channel": "a", "data": "1"});
    let publisher = || {
        let mut http = Http::connect(hub.addr);
        assert_eq!(http.post_event(&event).0, 200);
        http
    };
    let kept: Vec<Http> = (0..4).map(|_| publisher()).collect();
    let mut fifth = publisher();
    until_ended(&kept, 1);
    hub.connect().ping();
    until_ended(&kept, 2);
    assert_eq!(fifth.post_event(&event).0, 200);
    assert_eq!((hub.hub.stats().evicted, hub.hub.stats().refused), (2, 0));
}

/// Silent connections keep out no other connection, and do not evict publishers.
#[test]
fn silent_connections_keep_nobody_out() {
    let hub = hub(|config| config.max_http_connections = 8);
    let event = json!({"name": "e", "channel": "a", "data": "1"});
    let mut publisher = Http::connect(hub.addr);
    assert_eq!(publisher.post_event(&event).0, 200);
    let silent: Vec<Http> = (0..30).map(|_| Http::connect(hub.addr)).collect();
    hub.until("all were accepted", |stats| stats.evicted >= 23);
    hub.connect().ping();
    assert_eq!(publisher.post_event(&event).0, 200);
    assert_eq!(hub.hub.stats().refused, 0);
    drop(silent);
}

/// Each address has its own limit: a flood from one evicts only its own connections.
#[test]
fn an_address_has_its_limit() {
    let hub = hub(|config| config.max_http_per_address = 2);
    let mut kept: Vec<Http> = (0..3)
        .map(|_| {
            let mut http = Http::connect(hub.addr);
            assert_eq!(http.get("/healthz").0, 200);
            http
        })
        .collect();
    until_ended(&kept, 1);
    assert_eq!(hub.hub.stats().http_connections, 2);
    let good = kept.iter_mut().filter(|http| !http.has_ended());
    assert_eq!(good.map(|http| assert_eq!(http.get("/healthz").0, 200)).count(), 2);
}

/// If there is no place at all, the answer is 503.
#[test]
fn no_place_at_all() {
    let hub = hub(|config| config.max_http_connections = 0);
    let mut http = Http::connect(hub.addr);
    assert_eq!(http.answer().0, 503);
    assert!(http.is_ended());
    assert_eq!((hub.hub.stats().refused, hub.hub.stats().http_connections), (1, 0));
}

/// Chunked bodies are accepted: some HTTP libraries send no others.
#[test]
fn a_body_in_chunks() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    client.subscribe("a");
    let body = json!({"name": "e", "channel": "a", "data": "x".repeat(3000)}).to_string();
    let path = "/apps/3/events";
    let query = signed_query(KEY, SECRET, "POST", path, body.as_bytes(), now_s());
    let mut http = Http::connect(hub.addr);
    let head = format!("POST {path}?{query} HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n");
    for (size, trailer) in [(1, ""), (7, "X-Sum: 1\r\n"), (1000, ""), (5000, "A: b\r\nC: d\r\n")] {
        let chunks = body.as_bytes().chunks(size);
        let chunks: String = chunks
            .map(|chunk| format!("{:X};ext=1\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
            .collect();
        let (status, why) = http.send(&format!("{head}{chunks}0\r\n{trailer}\r\n"));
        assert_eq!(status, 200, "{why}");
        client.expect("e");
    }
    // The connection still works.
    assert_eq!(http.get("/healthz").0, 200);
}

/// Clients would take events with reserved names for events of the hub.
#[test]
fn reserved_names_are_refused() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    client.subscribe("a");
    for name in ["pusher:error", "pusher:ping", "pusher_internal:subscription_succeeded"] {
        let why = hub.trigger(&json!({"name": name, "channel": "a", "data": "{}"}), 400);
        assert!(why.contains("pusher"), "{why}");
    }
    hub.publish("a", "pusher-like", "1");
    client.expect("pusher-like");
}

/// Ids, keys and secrets may have other characters than letters and digits.
#[test]
fn an_app_of_odd_characters() {
    let (id, key, secret) = ("my app/1", "k+é:y", "s:e/c r%et");
    let hub = hub(|config| config.app = gort_hub::App::new(id, key, secret).unwrap());
    let path = format!("/apps/{}/events", gort_hub::auth::percent_encode(id));
    let body = json!({"name": "e", "channel": "private-a", "data": "1"}).to_string();
    let open = format!("/app/{}?protocol=7", gort_hub::auth::percent_encode(key));
    let mut client = common::Client::open(hub.addr, &open);
    let hello = client.expect("pusher:connection_established");
    let socket_id = hello["data"]["socket_id"].as_str().unwrap();
    let auth = gort_hub::auth::channel_auth(key, secret, socket_id, "private-a");
    client.send(json!({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": auth}}));
    client.expect("pusher_internal:subscription_succeeded");
    let mut http = Http::connect(hub.addr);
    // The path is signed as it is sent, and as it is before percent-encoding.
    for signed in [path.clone(), format!("/apps/{id}/events")] {
        let query = signed_query(key, secret, "POST", &signed, body.as_bytes(), now_s());
        let (status, why) = http.post(&format!("{path}?{query}"), &body);
        assert_eq!(status, 200, "{why}");
        client.expect("e");
    }
    let query = signed_query(key, "wrong", "POST", &path, body.as_bytes(), now_s());
    assert_eq!(http.post(&format!("{path}?{query}"), &body).0, 401);
}
