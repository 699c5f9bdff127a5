//! Real client libraries: pusher-js (npm) listens, and the `pusher` library (PyPI) publishes, both
//! unchanged.
//!
//! They are installed once, under `target/real-clients`. Without node, python3 or their registries
//! the test says that it is skipped, and passes. With `GORT_REAL_CLIENTS` set it fails instead.
mod common;

use common::{KEY, SECRET, hub};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Kills the process when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let what = format!("{:?}", command.get_program());
    let out = command.output().map_err(|e| format!("{what} cannot be run: {e}"))?;
    let text = || format!("{what} failed: {}", String::from_utf8_lossy(&out.stderr));
    out.status.success().then_some(()).ok_or_else(text)
}

fn install() -> Result<(PathBuf, PathBuf), String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("real-clients");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let pusher_js = dir.join("node_modules/pusher-js/dist/node/pusher.js");
    run(Command::new("node").arg("--version"))?;
    if !pusher_js.exists() {
        let npm = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        run(Command::new("npm").args(npm).arg(&dir).arg("pusher-js@8"))?;
    }
    let python = dir.join("venv/bin/python");
    let has_pusher = |python: &Path| run(Command::new(python).args(["-c", "import pusher"])).is_ok();
    if !has_pusher(&python) {
        run(Command::new("python3").args(["-m", "venv"]).arg(dir.join("venv")))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "pusher>=3.3,<4"]))?;
    }
    Ok((pusher_js, python))
}

#[test]
fn pusher_js_and_the_python_library_work_unchanged() {
    let (pusher_js, python) = match install() {
        Ok(paths) => paths,
        Err(why) if std::env::var_os("GORT_REAL_CLIENTS").is_none() => {
            return eprintln!("SKIPPED, the real clients are not available: {why}");
        }
        Err(why) => panic!("{why}"),
    };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_clients");
    let hub = hub(|_| {});
    let port = hub.addr.port().to_string();
    let mut node = Command::new("node")
        .arg(scripts.join("client.cjs"))
        .arg(&pusher_js)
        .args([&port, KEY, SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut lines = BufReader::new(node.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut seen: Vec<String> = Vec::new();
    let mut wait_for = |prefixes: &[&str]| {
        let mut missing: Vec<&str> = prefixes.to_vec();
        while !missing.is_empty() {
            let line =
                lines.next().unwrap_or_else(|| panic!("node ended; {missing:?} are missing from {seen:#?}"));
            missing.retain(|prefix| !line.starts_with(prefix));
            seen.push(line);
        }
        seen.clone()
    };
    let seen = wait_for(&[
        "STATE connected",
        "READY ",
        r#"CLIENT-EVENT {"text":"from the other"}"#,
        "STRANGER 4001",
    ]);
    let socket_id = seen.iter().find_map(|line| line.strip_prefix("READY ")).unwrap();

    let out = Command::new(&python)
        .arg(scripts.join("server.py"))
        .args([&port, "3", KEY, SECRET, socket_id])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(said, "REFUSED 401 PusherBadAuth\nDONE\n");

    let seen = wait_for(&[r#"HEADLINE {"n":2,"text":"grüße"}"#]);
    // The first event left this client out, and the refused one was not delivered.
    assert_eq!(seen.iter().filter(|line| line.starts_with("HEADLINE")).count(), 1, "{seen:#?}");
    assert!(!seen.iter().any(|line| line.starts_with("ERROR")), "{seen:#?}");
    drop(node);
    hub.until("node is gone", |stats| stats.connections == 0);
}
