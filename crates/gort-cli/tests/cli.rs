//! The program as people run it: what it prints, where, and its exit code.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

const APP: &str = "1:my-key:my-secret";

fn gort(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gort"));
    for name in
        ["GORT_HUB_APP", "GORT_HUB_APP_ID", "GORT_HUB_APP_KEY", "GORT_HUB_APP_SECRET", "RUST_BACKTRACE"]
    {
        command.env_remove(name);
    }
    let as_usual = || {
        for signal in [libc::SIGHUP, libc::SIGINT] {
            // SAFETY: may be called between `fork` and `exec`.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // The program leaves these ignored if it is started so, as by `nohup`; the tests may be.
    // SAFETY: see above; the closure does nothing else.
    unsafe { command.pre_exec(as_usual) };
    command.args(args).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the program, expects this exit code, and returns standard output and standard error.
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

/// A hub in its own process, which ends with the test.
struct Hub {
    child: Child,
    stdout: BufReader<ChildStdout>,
    addr: String,
}

impl Hub {
    /// Starts a hub whose drain has no delay and no spread, unless `args` say otherwise.
    fn start(args: &[&str]) -> Hub {
        let quick = ["--drain-delay", "0s", "--drain-spread", "0s"];
        let quick = if args.contains(&"--drain-delay") { &[][..] } else { &quick[..] };
        Hub::of(gort(&["hub", "--listen", "127.0.0.1:0", "--app", APP]).args(quick).args(args))
    }

    fn of(command: &mut Command) -> Hub {
        Hub::with(command.stderr(Stdio::piped()))
    }

    fn with(command: &mut Command) -> Hub {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
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

    fn stderr(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.child.stderr.take().unwrap())
    }

    fn get(&self, path: &str) -> u16 {
        get(&self.addr, path)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

/// Sends a request on a new connection, and returns the status of the answer.
fn get(addr: &str, path: &str) -> u16 {
    let mut http = TcpStream::connect(addr).unwrap();
    write!(http, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    status(&mut http)
}

fn status(http: &mut TcpStream) -> u16 {
    let mut answer = [0; 12];
    http.read_exact(&mut answer).unwrap();
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

/// The first line that contains `part`.
fn line_with(lines: &mut impl BufRead, part: &str) -> String {
    let found = lines.lines().map(Result::unwrap).find(|line| line.contains(part));
    found.unwrap_or_else(|| panic!("it ended without {part:?}"))
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
    // Standard error is a pipe, so progress comes in lines and without escape sequences.
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
fn a_reader_that_goes_away_is_not_a_failure() {
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
    // These loads connect before they are refused. Connections of one may still count when the next
    // one starts.
    load("1:my-key:wrong", "1", "401");
    load("2:my-key:my-secret", "1", "403");
    load(APP, "4", "4100");
}

#[test]
fn sigterm_sigint_and_sighup_drain() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut hub = Hub::start(&["--drain-timeout", "20s", "--page"]);
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
        assert!(said.contains("closing all connections") && said.contains(" 0 reset"), "{said}");
        let mut rest = String::new();
        hub.stdout.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("chat and numbers on http://"), "{rest}");
        stderr.read_to_string(&mut line).unwrap();
        assert_eq!(load.wait().unwrap().code(), Some(1), "{line}");
    }
}

/// Under `nohup` a hub goes on when its terminal is closed.
#[test]
fn sighup_that_was_ignored_stays_ignored() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_gort")]).args([
        "hub",
        "--listen",
        "127.0.0.1:0",
        "--app",
        APP,
        "--drain-delay",
        "0s",
    ]);
    let mut hub = Hub::of(&mut command);
    hub.signal(Signal::HUP);
    for _ in 0..3 {
        assert_eq!(hub.get("/healthz"), 200);
    }
    hub.signal(Signal::TERM);
    let said = line_with(&mut hub.stderr(), "closing all connections");
    assert!(said.contains("SIGTERM"), "{said}");
    assert_eq!(hub.child.wait().unwrap().code(), Some(0));
}

/// A load balancer can see that the hub drains while the hub still serves. A closed terminal may
/// send SIGHUP more than once, which does not end the drain. A second SIGTERM does.
#[test]
fn a_drain_is_announced_on_healthz() {
    let mut hub = Hub::start(&["--drain-delay", "20s", "--drain-timeout", "1m"]);
    assert_eq!(hub.get("/healthz"), 200);
    hub.signal(Signal::HUP);
    let mut stderr = hub.stderr();
    line_with(&mut stderr, "SIGHUP, closing all connections");
    while hub.get("/healthz") != 503 {}
    hub.signal(Signal::HUP);
    for _ in 0..20 {
        assert_eq!(hub.get("/stats.json"), 200);
    }
    hub.signal(Signal::TERM);
    assert_eq!(hub.child.wait().unwrap().signal(), Some(15));
}

/// A full disk behind standard output does not end the hub.
#[test]
fn a_full_disk_behind_stdout_ends_nothing() {
    let mut child = gort(&["hub", "--listen", "127.0.0.1:0", "--app", APP, "--drain-delay", "0s"])
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    // What could not be written there is in the log.
    let line = line_with(&mut stderr, "listening on ws://");
    let addr = line.split("ws://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    assert_eq!(get(addr, "/healthz"), 200);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// If standard error is a full pipe without a reader, the hub goes on.
#[test]
fn a_full_log_stops_nothing() {
    let (_reader, mut full) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'x'; 4096]).is_ok() {}
    while full.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut command = gort(&["hub", "--listen", "127.0.0.1:0", "--app", APP, "--drain-delay", "0s"]);
    let mut hub = Hub::with(command.stderr(full));
    let mut http = TcpStream::connect(&hub.addr).unwrap();
    for _ in 0..5 {
        write!(http, "POST /apps/1/events HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(hub.get("/healthz"), 200);
    }
    hub.signal(Signal::TERM);
    assert_eq!(hub.child.wait().unwrap().code(), Some(0));
}

/// The page has its private channel signed for everyone, so it is off unless the operator asks for
/// it.
#[test]
fn the_page_is_off_unless_asked_for() {
    let plain = Hub::start(&[]);
    assert_eq!((plain.get("/"), plain.get("/page/auth")), (404, 404));
    let with_page = Hub::start(&["--page"]);
    assert_eq!((with_page.get("/"), with_page.get("/page/auth")), (200, 405));
}

fn open(addr: &str, key: &str) -> TcpStream {
    let mut client = TcpStream::connect(addr).unwrap();
    write!(
        client,
        "GET /app/{key}?protocol=7 HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    assert_eq!(status(&mut client), 101);
    client
}

fn publish(hub: &Hub, body: &str) -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let path = "/apps/1/events";
    let query = gort_hub::auth::signed_query("my-key", "my-secret", "POST", path, body.as_bytes(), now);
    let mut http = TcpStream::connect(&hub.addr).unwrap();
    write!(http, "POST {path}?{query} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    status(&mut http)
}

/// There is one line with the address for each event that the operator should know about, and not
/// many lines of one kind.
#[test]
fn the_log_names_refused_peers() {
    let mut hub = Hub::start(&["--max-connections", "1"]);
    let mut stderr = hub.stderr();
    let stranger = open(&hub.addr, "wrong-key");
    let line = line_with(&mut stderr, "turned a client away");
    let from = stranger.local_addr().unwrap();
    assert!(line.contains(" WARN ") && line.contains(&format!("peer={from}")), "{line}");
    assert!(line.contains("code=4001"), "{line}");
    // The hub counts a client after it has answered the handshake.
    let mut first = open(&hub.addr, "my-key");
    let mut greeting = String::new();
    while !greeting.contains("connection_established") {
        let mut bytes = [0; 256];
        let n = first.read(&mut bytes).unwrap();
        assert!(n != 0, "{greeting}");
        greeting.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    let second = open(&hub.addr, "my-key");
    let line = line_with(&mut stderr, "refused with 4100");
    assert!(line.contains(&format!("peer={}", second.local_addr().unwrap())), "{line}");
    let mut http = TcpStream::connect(&hub.addr).unwrap();
    for _ in 0..100 {
        write!(http, "POST /apps/1/events HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
    let line = line_with(&mut stderr, "refused an event");
    assert!(line.contains("status=401") && line.contains("auth_key"), "{line}");
    // All hundred requests are handled before the last answer.
    let mut rest = Vec::new();
    write!(http, "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    http.read_to_end(&mut rest).unwrap();
    hub.signal(Signal::TERM);
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.matches("refused an event").count() < 20, "{said}");
}

/// Limits that an operator may have to change have flags.
#[test]
fn limits_have_flags() {
    let event =
        |len: usize| serde_json::json!({"name": "e", "channel": "a", "data": "x".repeat(len)}).to_string();
    let usual = Hub::start(&[]);
    assert_eq!((publish(&usual, &event(10_240)), publish(&usual, &event(10_241))), (200, 413));
    let large = Hub::start(&["--max-event", "300000"]);
    assert_eq!((publish(&large, &event(300_000)), publish(&large, &event(300_001))), (200, 413));
    let small = Hub::start(&[
        "--max-body",
        "1000",
        "--keep-alive",
        "200ms",
        "--pong-timeout",
        "200ms",
        "--activity-timeout",
        "200ms",
    ]);
    assert_eq!((publish(&small, &event(900)), publish(&small, &event(1000))), (200, 413));
    // Without a pong, and without a next request, connections end by themselves.
    let mut client = open(&small.addr, "my-key");
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("no pong came back"));
    let mut http = TcpStream::connect(&small.addr).unwrap();
    write!(http, "GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    http.read_to_end(&mut said).unwrap();
    // With one place, a new connection takes it from an idle one.
    let one = Hub::start(&["--max-http", "1"]);
    let mut rests = TcpStream::connect(&one.addr).unwrap();
    write!(rests, "GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(status(&mut rests), 200);
    assert_eq!(one.get("/healthz"), 200);
    rests.read_to_end(&mut said).unwrap();
}

/// The id, the key and the secret of an app may have characters that `ID:KEY:SECRET` or a URL
/// cannot have.
#[test]
fn an_app_in_three_flags() {
    let app = ["--app-id", "my:app/1", "--app-key", "k:é&y", "--app-secret", "s:e/c %r\"et"];
    let hub = Hub::of(gort(&["hub", "--listen", "127.0.0.1:0", "--drain-delay", "0s"]).args(app));
    let args = ["-c", "4", "-r", "20", "-d", "500ms", "--json"];
    let (stdout, _) = check(&[&["load", &hub.url()], &app[..], &args[..]].concat(), 0);
    let result: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((result["published"].as_u64(), result["missing"].as_u64()), (Some(10), Some(0)));
    let by_env = gort(&["load", &hub.url(), "-c", "1", "-r", "10", "-d", "300ms"])
        .envs([("GORT_HUB_APP_ID", app[1]), ("GORT_HUB_APP_KEY", app[3]), ("GORT_HUB_APP_SECRET", app[5])])
        .output()
        .unwrap();
    check_output(by_env, 0);
    check_sentence(&["hub", "--app-id", "1", "--app-key", "k"], 2, "--app-secret must be given together");
}

/// The drain waits for a client that does not hang up. A second signal ends the hub at once.
#[test]
fn a_second_signal_ends_at_once() {
    let mut hub = Hub::start(&["--drain-timeout", "10m"]);
    let _client = open(&hub.addr, APP.split(':').nth(1).unwrap());
    hub.signal(Signal::TERM);
    let mut stderr = hub.stderr();
    line_with(&mut stderr, "SIGTERM, closing");
    assert!(hub.child.try_wait().unwrap().is_none(), "it waits for the client");
    hub.signal(Signal::TERM);
    assert_eq!(hub.child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    check_sentence(&["hub", "--listen", &addr, "--app", APP], 1, &format!("cannot listen on {addr}"));
}

#[test]
fn a_port_without_a_listener() {
    // Not a port that was free a moment ago: another test may have it by now.
    check_sentence(&["load", "ws://127.0.0.1:1", "--app", APP], 1, "cannot connect to 127.0.0.1:1");
}

#[test]
fn a_server_that_is_not_a_hub() {
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
fn a_wrong_command_line() {
    check_sentence(&["hub", "--app", "nonsense"], 2, "ID:KEY:SECRET");
    check_sentence(&["hub", "--app", ":k:s"], 2, "app id");
    check_sentence(&["hub"], 2, "no app is given");
    check_sentence(&["hub", "--app", APP, "--listen", "nowhere"], 2, "127.0.0.1:6001");
    check_sentence(&["load", "wss://127.0.0.1:1", "--app", APP], 2, "TLS");
    check_sentence(
        &["load", "ws://127.0.0.1:1", "--app", APP, "-c", "2", "--channels", "3"],
        2,
        "--channels",
    );
    check_sentence(&["load", "ws://127.0.0.1:1", "--app", APP, "--payload", "99999"], 2, "--payload");
    // Messages of clap.
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

/// Runs the program with a limit on open files, which children inherit.
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

/// A claim prints JSON. An unknown claim and a page that cannot be written are reported at once.
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
    check_sentence(&["lab", "nonsense"], 2, "\"nonsense\" is not a claim; the claims are: spawn, procs");
    check_sentence(&["lab", "--report", "/nowhere/lab.html"], 1, "cannot write /nowhere/lab.html");
}
