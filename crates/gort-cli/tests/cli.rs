//! The program as people run it: what it prints, where, and with which exit code.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const APP: &str = "1:my-key:my-secret";

fn gort(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gort"));
    command.args(args).env_remove("GORT_HUB_APP").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs it and expects this exit code; gives standard output and standard error.
fn check(args: &[&str], code: i32) -> (String, String) {
    check_output(gort(args).output().unwrap(), code)
}

fn check_output(out: Output, code: i32) -> (String, String) {
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(code), "{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

/// A failure is one sentence on standard error, and nothing on standard output.
fn check_sentence(args: &[&str], code: i32, about: &str) {
    let (stdout, stderr) = check(args, code);
    assert_eq!(stdout, "");
    let last = stderr.lines().last().unwrap();
    assert!(last.starts_with("gort: ") && last.contains(about), "{stderr}");
}

/// A hub in a process of its own, ended with the test.
struct Hub {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addr: String,
}

impl Hub {
    fn start(args: &[&str]) -> Hub {
        let mut child = gort(&["hub", "--listen", "127.0.0.1:0", "--app", APP])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let addr = line.strip_prefix("listening on ws://").and_then(|rest| rest.split('/').next());
        let addr = addr.unwrap_or_else(|| panic!("{line:?}")).to_string();
        Hub { child, stdout, addr }
    }

    fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_delivers_everything_and_says_what_it_cost() {
    let (stdout, stderr) = check(&["demo", "--connections", "200", "--duration", "2s"], 0);
    for part in
        ["20 000 of 20 000 messages", "latency", "goroutines", "OS threads", "a connection", "as threads"]
    {
        assert!(stdout.contains(part), "{part} is not in:\n{stdout}");
    }
    // Nobody watches a pipe: lines, and nothing that moves.
    assert!(stderr.contains("resident") && !stderr.contains('\x1b'), "{stderr}");
}

#[test]
fn the_demo_as_json() {
    let (stdout, _) = check(&["demo", "-c", "30", "-d", "500ms", "-r", "20", "--json"], 0);
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1);
    assert_eq!((result["connections"].as_u64(), result["published"].as_u64()), (Some(30), Some(10)));
    assert_eq!((result["delivered"].as_u64(), result["missing"].as_u64()), (Some(300), Some(0)));
    assert!(result["latency_ns"]["p99.9"].as_u64().unwrap() > 0);
    assert!(result["goroutines"].as_u64().unwrap() >= 60);
    assert!(result["thread"]["measured"].as_u64().unwrap() > 0);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = gort(&["demo", "-c", "10", "-d", "200ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    check_output(out, 0);
}

#[test]
fn a_load_on_a_hub_of_another_process() {
    let hub = Hub::start(&[]);
    let args = ["--app", APP, "-c", "40", "-r", "50", "-d", "1s", "--channels", "7", "--payload", "1000"];
    let (stdout, stderr) = check(&[&["load", &hub.url()], &args[..]].concat(), 0);
    assert!(stdout.contains("delivered    28") && stdout.contains("p99.9"), "{stdout}");
    assert!(stderr.contains("connecting"), "{stderr}");
    let (stdout, _) = check(&[&["load", &hub.url(), "--json"], &args[..]].concat(), 0);
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((result["published"].as_u64(), result["missing"].as_u64()), (Some(50), Some(0)));
}

#[test]
fn a_hub_that_dies_under_load_is_a_failure() {
    let mut hub = Hub::start(&[]);
    let mut load = gort(&["load", &hub.url(), "--app", APP, "-c", "20", "-d", "1m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(load.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("delivered") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    hub.child.kill().unwrap();
    stderr.read_to_string(&mut line).unwrap();
    assert_eq!(load.wait().unwrap().code(), Some(1), "{line}");
    assert!(line.lines().last().unwrap().starts_with("gort: "), "{line}");
}

#[test]
fn what_the_hub_refuses_is_said() {
    let hub = Hub::start(&["--max-connections", "3"]);
    let load = |app: &str, n: &str, about: &str| {
        check_sentence(&["load", &hub.url(), "--app", app, "-c", n, "-d", "1s"], 1, about);
    };
    load("1:other-key:my-secret", "2", "4001");
    // These connect first: the one's may still count when the other's come.
    load("1:my-key:wrong", "1", "401");
    load("2:my-key:my-secret", "1", "403");
    load(APP, "4", "4100");
}

#[test]
fn sigterm_and_sigint_drain() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut hub = Hub::start(&["--drain-timeout", "20s"]);
        let mut load = gort(&["load", &hub.url(), "--app", APP, "-c", "20", "-d", "1m"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(load.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("delivered") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
        }
        hub.signal(signal);
        assert_eq!(hub.child.wait().unwrap().code(), Some(0));
        let mut said = String::new();
        hub.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("closing all connections") && said.contains(" 0 cut off"), "{said}");
        let mut rest = String::new();
        hub.stdout.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("chat and numbers on http://"), "{rest}");
        stderr.read_to_string(&mut line).unwrap();
        assert_eq!(load.wait().unwrap().code(), Some(1), "{line}");
    }
}

/// A client that does not hang up keeps the drain waiting; the second signal ends the hub at once.
#[test]
fn a_second_signal_ends_at_once() {
    let mut hub = Hub::start(&["--drain-timeout", "10m"]);
    let mut client = TcpStream::connect(&hub.addr).unwrap();
    let key = APP.split(':').nth(1).unwrap();
    write!(
        client,
        "GET /app/{key}?protocol=7 HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        hub.addr
    )
    .unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    hub.signal(Signal::TERM);
    let mut stderr = BufReader::new(hub.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("SIGTERM, closing") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    assert!(hub.child.try_wait().unwrap().is_none(), "it waits for the client");
    hub.signal(Signal::TERM);
    assert_eq!(hub.child.wait().unwrap().code(), Some(128 + 15));
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    check_sentence(&["hub", "--listen", &addr, "--app", APP], 1, &format!("cannot listen on {addr}"));
}

#[test]
fn nobody_there() {
    // Not a port that was free a moment ago: another test may have it by now.
    check_sentence(&["load", "ws://127.0.0.1:1", "--app", APP], 1, "cannot connect to 127.0.0.1:1");
}

#[test]
fn somebody_else_there() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let answer = std::thread::spawn(move || {
        for stream in other.incoming().take(1) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = std::io::Write::write_all(
                &mut stream,
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            );
        }
    });
    check_sentence(&["load", &format!("ws://{addr}"), "--app", APP, "-c", "1"], 1, "is it a hub");
    answer.join().unwrap();
}

#[test]
fn the_command_line_said_wrong() {
    check_sentence(&["hub", "--app", "nonsense"], 2, "ID:KEY:SECRET");
    check_sentence(&["hub", "--app", "x:k:s"], 2, "not a number");
    check_sentence(&["hub", "--app", APP, "--listen", "nowhere"], 2, "127.0.0.1:6001");
    check_sentence(&["load", "wss://127.0.0.1:1", "--app", APP], 2, "TLS");
    check_sentence(
        &["load", "ws://127.0.0.1:1", "--app", APP, "-c", "2", "--channels", "3"],
        2,
        "--channels",
    );
    check_sentence(&["load", "ws://127.0.0.1:1", "--app", APP, "--payload", "99999"], 2, "--payload");
    // clap's own sentences.
    for args in [
        &["fly"][..],
        &["hub"],
        &["hub", "--app", APP, "--max-connections", "0"],
        &["demo", "--connections", "many"],
        &["demo", "--duration", "15"],
        &["demo", "--rate", "0"],
        &["load", "--app", APP],
        &["load", "ws://127.0.0.1:1", "--app", APP, "--wings"],
        &[],
    ] {
        let (stdout, stderr) = check(args, 2);
        assert!(stdout.is_empty() && !stderr.is_empty(), "{args:?}");
    }
    check(&["--help"], 0);
    check(&["--version"], 0);
}

/// Under a limit on open files, which children inherit.
fn with_descriptors(n: u32, args: &[&str]) -> Output {
    let script = format!("ulimit -n {n}; exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_gort")]).args(args).output().unwrap()
}

#[test]
fn few_file_descriptors() {
    let (stdout, stderr) = check_output(with_descriptors(200, &["demo", "-d", "300ms"]), 0);
    assert!(stderr.contains("68 connections instead of 5000") && stderr.contains("LimitNOFILE"), "{stderr}");
    assert!(stdout.contains("connections  68"), "{stdout}");
    let (_, stderr) = check_output(with_descriptors(200, &["demo", "-c", "5000"]), 2);
    assert!(stderr.contains("10064 file descriptors are needed"), "{stderr}");
    let (_, stderr) = check_output(with_descriptors(200, &["load", "ws://127.0.0.1:1", "--app", APP]), 2);
    assert!(stderr.contains("1064 file descriptors are needed"), "{stderr}");
}

/// A claim as JSON; what is no claim, and a page that cannot be written, are said at once.
#[test]
fn the_lab() {
    for claim in ["affine", "lock-os-thread"] {
        let output = gort(&["lab", claim, "--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["claim"], claim);
        assert_eq!(line["held"], true, "{line}");
        assert!(line["q"].as_array().unwrap().iter().all(Value::is_u64), "{line}");
        assert!(line["figures"].as_object().unwrap().values().all(Value::is_number), "{line}");
    }
    check_sentence(&["lab", "nonsense"], 2, "\"nonsense\" is no claim; there are: spawn, procs");
    check_sentence(&["lab", "--report", "/nowhere/lab.html"], 1, "cannot write /nowhere/lab.html");
}
