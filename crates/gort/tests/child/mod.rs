//! Tests that end the process, or need one of their own: the test starts its own executable again,
//! with the name of a scene.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The scene that the child plays.
const SCENE: &str = "GORT_TEST_SCENE";

/// After how long a scene counts as a hang.
const HANG: Duration = Duration::from_secs(60);

/// [`HANG`], plus the time that the knobs of long tests ask for.
fn patience() -> Duration {
    let asked = ["GORT_CHAOS_SECONDS", "GORT_STRESS_SECONDS"].map(|knob| {
        std::env::var(knob).map_or(0, |seconds| seconds.parse().unwrap_or_else(|e| panic!("{knob}: {e}")))
    });
    HANG + Duration::from_secs(asked.iter().sum())
}

/// How a scene ended, and its output.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    /// The signal that has ended it.
    #[allow(dead_code, reason = "few tests look at it")]
    pub(crate) signal: Option<i32>,
    /// stdout, then stderr.
    pub(crate) text: String,
}

/// The scene that this process should play, if it is a child.
pub(crate) fn scene() -> Option<String> {
    std::env::var(SCENE).ok()
}

/// Runs the test `test` alone in a child that plays `scene`. If the child hangs, it is killed and
/// the test fails.
pub(crate) fn play(test: &str, scene: &str, env: &[(&str, &str)]) -> Outcome {
    let mut child = command(test, scene);
    child.envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(child.spawn().unwrap(), scene)
}

/// A child that plays `scene` in the test `test`.
pub(crate) fn command(test: &str, scene: &str) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SCENE, scene)
        .env("RUST_BACKTRACE", "0")
        .env_remove("GORT_SWAP")
        .stdin(Stdio::null());
    child
}

fn wait(mut child: Child, scene: &str) -> Outcome {
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read_out = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let read_err = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let (start, patience) = (Instant::now(), patience());
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > patience => break None,
            None => std::thread::park_timeout(Duration::from_millis(2)),
        }
    };
    let threads = if status.is_none() { threads_of(&child) } else { String::new() };
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let text = format!("{}\n{}", read_out.join().unwrap(), read_err.join().unwrap());
    let status = status.unwrap_or_else(|| panic!("{scene} hangs: {text}\n{threads}"));
    Outcome { code: status.code(), signal: status.signal(), text }
}

/// What the threads of a hanging child do: for each kind of name, how many are in the same state,
/// in the same system call.
fn threads_of(child: &Child) -> String {
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let name = read("comm").trim().trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let (stat, syscall) = (read("stat"), read("syscall"));
        let state = stat.rsplit(") ").next().and_then(|s| s.split(' ').next()).unwrap_or("?");
        let call = syscall.split_whitespace().next().unwrap_or("?");
        *kinds.entry(format!("{name}: state {state}, system call {call}")).or_default() += 1;
    }
    kinds.into_iter().map(|(kind, n)| format!("{n} of {kind}\n")).collect()
}

/// Plays the scene of `test` in both thread-local modes with `procs` Ps. Both must succeed.
#[allow(dead_code, reason = "not every test plays in both")]
pub(crate) fn ends_well_in_both_modes(test: &str, procs: &str) {
    for mode in ["own", "shared"] {
        let end = play(test, mode, &[("GOMAXPROCS", procs)]);
        assert_eq!(end.code, Some(0), "{mode}: {}", end.text);
    }
}

/// Runs `f` as the main goroutine of such a scene, if this process is the child. `f` must not keep
/// state of its thread across parks.
#[allow(dead_code, reason = "as above")]
pub(crate) fn is_played(f: fn()) -> bool {
    let Some(scene) = scene() else { return false };
    let builder = gort::Runtime::builder();
    // SAFETY: no goroutine of these scenes keeps state of its thread across a park.
    let builder = if scene == "shared" { unsafe { builder.shared_thread_locals() } } else { builder };
    builder.run(f).unwrap();
    true
}
