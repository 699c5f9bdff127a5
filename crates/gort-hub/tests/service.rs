//! The hub with clients that do not read or that vanish, with panicking handlers, without file
//! descriptors, and in a drain.
mod common;

use common::{Client, Http, KEY, PATIENCE, hub, tcp, until};
use gort_hub::fd::FdLimit;
use gort_hub::{Config, Hub};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A client with small kernel buffers, so that the hub soon notices if it does not read.
fn sluggish(hub: &common::TestHub) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&hub.addr.into()).unwrap();
    let stream: std::net::TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(stream, hub.addr, &format!("/app/{KEY}?protocol=7"));
    client.expect("pusher:connection_established");
    client
}

#[test]
fn a_slow_consumer_is_closed_with_4100_and_the_others_get_everything() {
    let hub = hub(|config| {
        config.max_queued_bytes = 640_000;
        config.close_timeout = Duration::from_secs(10);
    });
    let mut slow = sluggish(&hub);
    let mut fast = hub.connect();
    slow.subscribe("a");
    fast.subscribe("a");
    let mut http = Http::connect(hub.addr);
    let data = "x".repeat(10_000);
    let mut sent = 0;
    while hub.hub.stats().slow_consumers == 0 {
        sent += 1;
        assert!(sent < 10_000, "the queue never filled");
        let event = json!({"name": sent.to_string(), "channel": "a", "data": data});
        assert_eq!(http.post_event(&event).0, 200);
        assert_eq!(fast.event()["event"], sent.to_string().as_str());
    }
    assert_eq!(slow.closed(), 4100);
    fast.ping();
    assert_eq!(hub.hub.stats().slow_consumers, 1);
}

#[test]
fn a_consumer_that_never_reads_again_is_closed() {
    let hub = hub(|config| {
        config.max_queued_bytes = 100_000;
        config.close_timeout = Duration::from_millis(200);
    });
    let mut stuck = sluggish(&hub);
    stuck.subscribe("a");
    let mut http = Http::connect(hub.addr);
    let event = json!({"name": "e", "channel": "a", "data": "x".repeat(10_000)});
    until("it is closed", || {
        assert_eq!(http.post_event(&event).0, 200);
        (hub.hub.stats().slow_consumers == 1).then_some(())
    });
    hub.until("it is gone", |stats| stats.connections == 0 && stats.channels == 0);
    drop(stuck);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let hub = hub(|_| {});
    for round in 0..20 {
        let mut client = hub.connect();
        client.subscribe("a");
        client.subscribe("b");
        if round % 2 == 0 {
            // Closing resets the connection, like the kernel of a crashed machine after its
            // restart.
            let stream = client.ws.get_ref().try_clone().unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        if round % 3 == 0 {
            client.send_raw(b"\x81\xfe\x03");
        }
        hub.publish("a", "e", "1");
    }
    hub.until("all are gone", |stats| stats.connections == 0 && stats.channels == 0);
    assert_eq!(hub.hub.stats().connections_total, 20);
}

#[test]
fn a_panic_ends_its_own_connection_only() {
    let hub = hub(|config| {
        config.on_client_event = Some(Arc::new(|event| panic!("a handler's bug, at {}", event.event)));
    });
    let (mut one, mut two) = (hub.connect(), hub.connect());
    for client in [&mut one, &mut two] {
        client.subscribe("private-a");
    }
    one.send(json!({"event": "client-boom", "channel": "private-a", "data": {}}));
    assert_eq!(one.closed(), 1011);
    hub.until("one is left", |stats| stats.connections == 1 && stats.panics == 1);
    hub.publish("private-a", "e", "1");
    two.expect("e");
}

#[test]
fn a_drain_closes_all_clients_with_4200_and_ends() {
    let hub = hub(|_| {});
    let mut clients: Vec<Client> = (0..10).map(|_| hub.connect()).collect();
    clients.iter_mut().for_each(|client| client.subscribe("a"));
    let mut idle = Http::connect(hub.addr);
    assert_eq!(idle.get("/healthz"), (200, "ok\n".into()));
    let draining = hub.hub.clone();
    let drain = std::thread::spawn(move || draining.drain(PATIENCE));
    hub.until("it drains", |stats| stats.draining);
    assert_eq!(idle.get("/healthz").0, 503);
    assert!(idle.is_ended());
    for client in &mut clients {
        assert_eq!(client.closed(), 4200);
    }
    let drained = drain.join().unwrap();
    assert_eq!((drained.closed, drained.forced), (11, 0));
    assert!(std::net::TcpStream::connect(hub.addr).is_err(), "still accepts");
    assert_eq!(hub.hub.stats().connections, 0);
}

#[test]
fn a_drain_resets_clients_that_do_not_hang_up() {
    let hub = hub(|config| config.close_timeout = PATIENCE);
    let stubborn = hub.connect();
    let start = Instant::now();
    let drained = hub.hub.drain(Duration::from_millis(300));
    assert_eq!((drained.closed, drained.forced), (0, 1));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(start.elapsed() < PATIENCE);
    hub.until("it is gone", |stats| stats.connections == 0);
    drop(stubborn);
}

/// A drain is announced for a while before the hub stops accepting, and the clients are not all
/// closed at the same moment.
#[test]
fn a_drain_is_announced_and_spread() {
    let hub = hub(|config| {
        config.drain_delay = Duration::from_secs(1);
        config.drain_spread = Duration::from_secs(1);
    });
    let mut clients: Vec<Client> = (0..20).map(|_| hub.connect()).collect();
    let draining = hub.hub.clone();
    let drain = std::thread::spawn(move || draining.drain(PATIENCE));
    hub.until("it drains", |stats| stats.draining);
    // All else goes on.
    assert_eq!(Http::connect(hub.addr).get("/healthz"), (503, "draining\n".into()));
    let mut late = hub.connect();
    late.subscribe("a");
    hub.publish("a", "e", "1");
    late.expect("e");
    clients.push(late);
    let ended: Vec<Instant> = std::thread::scope(|scope| {
        let wait = |mut client: Client| {
            scope.spawn(move || {
                assert_eq!(client.closed(), 4200);
                Instant::now()
            })
        };
        let all: Vec<_> = clients.drain(..).map(wait).collect();
        all.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let apart = *ended.iter().max().unwrap() - *ended.iter().min().unwrap();
    assert!(apart >= Duration::from_millis(500), "all within {apart:?}");
    assert_eq!(drain.join().unwrap().forced, 0);
}

/// Whether this process is the child that a test has started, which has the variable set.
fn is_child(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

const CHILD: &str = "GORT_HUB_TEST_EMFILE";

// The child has few file descriptors. The parent uses them up and then frees them.
#[test]
fn out_of_file_descriptors_it_waits_reports_and_serves_on() {
    if is_child(CHILD) {
        return hub_with_few_descriptors();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "out_of_file_descriptors_it_waits_reports_and_serves_on",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let mut after = |prefix: &str| {
        lines
            .find_map(|line| line.split_once(prefix).map(|(_, rest)| rest.to_string()))
            .expect("the line of the child")
    };
    let addr = after("listening on ").parse().unwrap();
    let mut first = Client::connect(addr);
    first.subscribe("a");
    // These are more than there are descriptors, so the last ones wait in the backlog.
    let crowd: Vec<_> = (0..60).map(|_| tcp(addr)).collect();
    let report = after("REPORT ");
    assert!(report.contains("file descriptors") && report.contains("ulimit -n"), "{report}");
    first.ping();
    let late = std::thread::spawn(move || {
        let mut client = Client::connect(addr);
        client.ping();
        client
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(crowd);
    let mut late = late.join().unwrap();
    late.subscribe("a");
    first.ping();
    drop((first, late));
    child.stdin.take().unwrap().write_all(b"end\n").unwrap();
    assert!(child.wait().unwrap().success());
}

fn hub_with_few_descriptors() {
    gort::start().unwrap();
    common::log_to(|line| println!("REPORT {line}"));
    let config = Config::new(format!("3:{KEY}:s").parse().unwrap());
    let hub = Hub::bind("127.0.0.1:0".parse().unwrap(), config).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 20), maximum: Some(FdLimit::now().hard) })
        .unwrap();
    let serving = hub.clone();
    gort::go(move || serving.serve().unwrap());
    println!("listening on {}", hub.local_addr());
    std::io::stdin().lines().next();
    assert!(hub.stats().accept_errors > 0);
    hub.drain(PATIENCE);
}
