//! What the public interface does not show: the netpoller's counters. Each test runs alone in a
//! child process, because the counters belong to the process.

use super::{TcpListener, TcpStream};
use crate::sched::netpoll;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

/// Returns true in a child process that runs only the test `name`. Otherwise runs that child and
/// checks that it ended well.
fn in_child(name: &str) -> bool {
    const KEY: &str = "GORT_NET_TEST";
    if std::env::var_os(KEY).is_some_and(|v| v == name) {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&format!("net::tests::{name}"), "--exact", "--nocapture"])
        .env(KEY, name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// GO-CASES D26: after ten lines of echo, when everything is closed, no waiter is counted.
#[test]
fn no_waiters_at_the_end() {
    if !in_child("no_waiters_at_the_end") {
        return;
    }
    crate::run(|| {
        assert_eq!(netpoll::waiters(), 0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = crate::go(move || {
            let (stream, _) = listener.accept().unwrap();
            for line in BufReader::new(&stream).lines() {
                writeln!(&stream, "{}", line.unwrap()).unwrap();
            }
        });
        let stream = TcpStream::connect(addr).unwrap();
        let mut replies = BufReader::new(&stream).lines();
        for i in 0..10 {
            while netpoll::waiters() == 0 {
                crate::yield_now(); // the server will wait sooner or later
            }
            writeln!(&stream, "line {i}").unwrap();
            assert_eq!(replies.next().unwrap().unwrap(), format!("line {i}"));
        }
        drop(replies);
        drop(stream);
        server.join().unwrap();
        assert_eq!(netpoll::waiters(), 0);
    });
}

/// PEERS, golang/go#65064: for each event, the kernel is asked a bounded number of times. A quiet
/// socket costs nothing.
#[test]
fn polls_are_bounded_by_events() {
    if !in_child("polls_are_bounded_by_events") {
        return;
    }
    crate::run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let echo = crate::go(move || {
            let mut buf = [0; 64];
            while let Ok(n @ 1..) = (&server).read(&mut buf) {
                (&server).write_all(&buf[..n]).unwrap();
            }
        });
        for _ in 0..500 {
            (&client).write_all(b"ping").unwrap();
            (&client).read_exact(&mut [0; 4]).unwrap();
        }
        let (polls, events) = netpoll::counters();
        assert!(events >= 500, "{events} events");
        assert!(polls <= 4 * events + 100, "{polls} polls for {events} events");
        drop(client);
        echo.join().unwrap();
    });
}

/// A stale event of a socket does not reach the next socket with the same descriptor: sockets come
/// and go under traffic, and no data and no end of a stream is lost.
#[test]
fn descriptors_are_recycled() {
    if !in_child("descriptors_are_recycled") {
        return;
    }
    crate::run(|| {
        let began = Instant::now();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = crate::go(move || {
            for stream in listener.incoming().take(1000) {
                let mut stream = stream.unwrap();
                let mut buf = Vec::new();
                stream.read_to_end(&mut buf).unwrap();
                assert_eq!(buf, b"hello");
            }
        });
        for _ in 0..1000 {
            let mut stream = TcpStream::connect(addr).unwrap();
            stream.write_all(b"he").unwrap();
            stream.write_all(b"llo").unwrap();
        }
        server.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!(netpoll::waiters(), 0);
    });
}
