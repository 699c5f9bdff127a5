//! Clients that read are never closed as too slow. Clients that do not read cost little, and not
//! for long.
mod common;

use common::{Client, Http, KEY, PATIENCE, SECRET, TestHub, hub, now_s, until};
use gort_hub::Config;
use gort_hub::auth::signed_query;
use gort_hub::ws::masked_text_frame;
use serde_json::json;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;

fn pings(n: usize) -> Vec<u8> {
    masked_text_frame(PING, [1, 2, 3, 4]).repeat(n)
}

/// A burst in one write is answered in full. That the answers wait for the writer does not make the
/// client slow.
#[test]
fn three_hundred_pings_in_one_write() {
    let hub = hub(|_| {});
    let mut client = hub.connect();
    client.send_raw(&pings(300));
    for _ in 0..300 {
        client.expect("pusher:pong");
    }
    assert_eq!(hub.hub.stats().slow_consumers, 0);
}

/// The answers are many more than the queue holds. The hub does not close the client: it reads on
/// when the client does.
#[test]
fn a_client_that_asks_faster_than_it_reads() {
    let hub = hub(|config| {
        config.max_queued_bytes = 4096;
        config.socket_buffer_bytes = 4096;
    });
    let mut client = hub.connect();
    let mut stream = client.ws.get_ref().try_clone().unwrap();
    let writer = thread::spawn(move || stream.write_all(&pings(20_000)).unwrap());
    for _ in 0..20_000 {
        client.expect("pusher:pong");
    }
    writer.join().unwrap();
    assert_eq!(hub.hub.stats().slow_consumers, 0);
}

/// A client that asks and never reads is closed when no answer could be written for the pong
/// time-out.
#[test]
fn a_client_that_asks_and_never_reads() {
    let hub = hub(|config| {
        config.pong_timeout = Duration::from_millis(500);
        config.close_timeout = Duration::from_millis(200);
    });
    let client = hub.connect();
    let mut stream = client.ws.get_ref().try_clone().unwrap();
    // Ends when the hub resets the connection.
    let writer = thread::spawn(move || while stream.write_all(&pings(1000)).is_ok() {});
    hub.until("it is closed", |stats| stats.slow_consumers == 1 && stats.connections == 0);
    writer.join().unwrap();
    drop(client);
}

/// Requests to publish, in one piece.
fn publishes(n: usize, channel: &str, data: &str) -> Vec<u8> {
    let path = "/apps/3/events";
    let request = |i: usize| {
        let body = json!({"name": i.to_string(), "channel": channel, "data": data}).to_string();
        let query = signed_query(KEY, SECRET, "POST", path, body.as_bytes(), now_s());
        let len = body.len();
        format!("POST {path}?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{body}")
    };
    (0..n).map(request).collect::<String>().into_bytes()
}

fn check_pipelined(n: usize, data: &str, tune: impl FnOnce(&mut Config)) {
    let hub = hub(tune);
    let mut client = hub.connect();
    client.subscribe("a");
    let mut http = Http::connect(hub.addr);
    let mut stream = http.stream.try_clone().unwrap();
    let requests = publishes(n, "a", data);
    let writer = thread::spawn(move || stream.write_all(&requests).unwrap());
    let answers = thread::spawn(move || (0..n).for_each(|_| assert_eq!(http.answer().0, 200)));
    for i in 0..n {
        client.expect(&i.to_string());
    }
    writer.join().unwrap();
    answers.join().unwrap();
    assert_eq!(hub.hub.stats().slow_consumers, 0);
}

/// Publishers wait for a subscriber that reads everything, also if they have more events for it
/// than its queue holds.
#[test]
fn four_hundred_pipelined_publishes() {
    check_pipelined(400, "x", |_| {});
    let large = "x".repeat(10_000);
    check_pipelined(400, &large, |_| {});
    // The queue holds three events, and the kernel hardly one, so the publisher mostly waits.
    check_pipelined(400, &large, |config| {
        config.max_queued_bytes = 35_000;
        config.socket_buffer_bytes = 4096;
    });
}

/// A client that subscribes to a channel and then reads nothing more.
fn stopped(hub: &TestHub, channel: &str) -> Client {
    let mut client = hub.connect();
    client.subscribe(channel);
    client
}

/// How many bytes the kernel holds to be sent from this port.
fn unsent(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_line = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next()?.rsplit_once(':')?.1.to_string();
        let queues = columns.nth(2)?;
        let tx = u64::from_str_radix(queues.split_once(':')?.0, 16).ok()?;
        (u16::from_str_radix(&local, 16) == Ok(port)).then_some(tx)
    };
    table.lines().filter_map(of_line).sum()
}

/// Each client that stops reading costs a bounded queue and a bounded buffer in the kernel, and
/// both are freed when it is closed. All of them together cost the publisher one wait, and clients
/// that read get every event.
#[test]
fn clients_that_stop_reading_cost_little_and_not_for_long() {
    const STOPPED: u64 = 20;
    let hub = hub(|config| {
        config.max_queued_bytes = 200_000;
        config.close_timeout = Duration::from_millis(200);
    });
    let stopped: Vec<Client> = (0..STOPPED).map(|_| stopped(&hub, "a")).collect();
    let mut reads = hub.connect();
    reads.subscribe("a");
    let mut http = Http::connect(hub.addr);
    let data = "x".repeat(10_000);
    let mut most = 0;
    let mut sent = 0;
    while hub.hub.stats().slow_consumers < STOPPED {
        let name = sent.to_string();
        assert_eq!(http.post_event(&json!({"name": name, "channel": "a", "data": data})).0, 200);
        reads.expect(&name);
        sent += 1;
        assert!(sent < 10_000, "they were never closed");
        most = most.max(unsent(hub.addr.port()));
    }
    // Linux doubles the size of the buffer for its own needs, and lets one packet (64 KiB here)
    // exceed it.
    let limit = STOPPED * 3 * 64 * 1024;
    assert!((1..=limit).contains(&most), "{most} bytes were in the kernel, of {limit}");
    hub.until("they are gone", |stats| stats.connections == 1);
    until("their buffers are gone", || (unsent(hub.addr.port()) == 0).then_some(()));
    reads.ping();
    drop(stopped);
}

/// A client that takes a little now and then makes progress, but its time is limited as well.
#[test]
fn a_client_that_reads_too_slowly() {
    let hub = hub(|config| {
        config.max_queued_bytes = 100_000;
        config.slow_timeout = Duration::from_millis(500);
        config.socket_buffer_bytes = 8192;
    });
    let mut slow = stopped(&hub, "a");
    let mut fast = hub.connect();
    fast.subscribe("a");
    let mut stream = slow.ws.get_ref().try_clone().unwrap();
    let drip = thread::spawn(move || {
        let mut some = [0; 4000];
        while matches!(stream.read(&mut some), Ok(n) if n > 0) {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let mut http = Http::connect(hub.addr);
    let data = "x".repeat(10_000);
    let start = Instant::now();
    while hub.hub.stats().slow_consumers == 0 {
        assert!(start.elapsed() < PATIENCE, "it delays the other clients");
        assert_eq!(http.post_event(&json!({"name": "e", "channel": "a", "data": data})).0, 200);
        fast.expect("e");
    }
    drip.join().unwrap();
    fast.ping();
    let _ = slow.ws.close(None);
}

/// A peer that has shut down its sending side and still reads gets the close frame, and no reset.
#[test]
fn a_peer_that_shuts_down_its_own_side_gets_the_close_frame() {
    let hub = hub(|_| {});
    for _ in 0..20 {
        let mut client = hub.connect();
        let mut bytes = pings(50);
        bytes.extend(gort_hub::ws::masked_close_frame(1000, "bye", [1, 2, 3, 4]));
        client.send_raw(&bytes);
        client.ws.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.closed(), 1000);
    }
    hub.until("they are gone", |stats| stats.connections == 0);
}
