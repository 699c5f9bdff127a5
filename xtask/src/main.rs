//! `cargo xtask COMMAND`: the checks of this repository, by name. `cargo xtask help` lists them.
//!
//! A command that needs a tool which is not installed says so, says how to get it, and fails.
#![forbid(unsafe_code)]

mod release;
mod run;

use run::{Failure, Run, cargo, need};
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND [ARGUMENTS]

  test [ARGS]           all tests and loom models, as .ci/run does; ARGS go to cargo test
  models [ARGS]         the loom models alone
  bench-check [ARGS]    gort-bench check: fails if a ratio is a quarter worse than the baseline.
                        It takes long, and nothing else should run meanwhile
  glibc [VERSIONS]      the tests that rest on libc's inside, under other releases of glibc.
                        By default 2.31 2.36 2.41 sid (2.43). Needs root
  miri                  the unit tests that Miri can run. Needs a nightly toolchain
  asan                  the tests that AddressSanitizer can run
  fuzz [TARGET] [SECONDS]
                        the fuzz targets, or one of them, each for a minute or so many seconds
  release-check [STEPS] what must hold before a release, all of it or the named steps:
                        fmt clippy docs tests versions metadata package deny
";

/// Where Rust's nightly toolchains come from.
const NIGHTLY: &str = "rustup toolchain install nightly --component miri --component rust-src";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_else(|| "help".into());
    let args: Vec<String> = args.collect();
    let done = match command.as_str() {
        "test" => test(&args),
        "models" => models(&args),
        "bench-check" => bench_check(&args),
        "glibc" => glibc(&args),
        "miri" => miri(),
        "asan" => asan(),
        "fuzz" => fuzz(&args),
        "release-check" => release::check(&args),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Failure::usage(format!("there is no command {other:?}; cargo xtask help"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            failure.code()
        }
    }
}

/// The step "tests" of `.ci/run`.
fn test(args: &[String]) -> Result<(), Failure> {
    let mut run = cargo(["test", "--workspace"]).args(args);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        run = run.env("RUST_TEST_THREADS", "8");
    }
    let has = |program: &str, args: &[&str]| Run::new(program).args(args).succeeds();
    if has("node", &["--version"])
        && has("npm", &["--version"])
        && has("python3", &["-c", "import ensurepip"])
    {
        run = run.env("GORT_REAL_CLIENTS", "1");
    } else {
        println!("without node, npm and python3-venv the hub is not tested with its real clients");
    }
    run.run()
}

fn models(args: &[String]) -> Result<(), Failure> {
    cargo(["test", "--package", "gort-models"]).args(args).run()
}

fn bench_check(args: &[String]) -> Result<(), Failure> {
    cargo(["run", "--release", "--package", "gort-bench", "--", "check"]).args(args).run()
}

/// `sid` is the Debian release with the newest glibc; the table of the script says which it was.
fn glibc(versions: &[String]) -> Result<(), Failure> {
    for (tool, package) in [
        ("apt-get", "apt: this needs Debian or a system that is made of it"),
        ("dpkg-deb", "apt-get install dpkg"),
        ("unshare", "apt-get install util-linux"),
        ("python3", "apt-get install python3 python3-venv"),
    ] {
        need(Run::new(tool).args(["--version"]), tool, package)?;
    }
    let all = ["2.31", "2.36", "2.41", "sid"].map(String::from);
    Run::new("ci/glibc.sh").args(if versions.is_empty() { &all } else { versions }).run()
}

/// Unit tests over raw memory that neither switch stacks nor take a lock of the runtime: Miri does
/// not execute inline assembly, and every raw lock has some (`sys/pin.rs`).
const MIRI_TESTS: [&str; 3] = ["chan::buffer::", "sys::map_vec::", "sys::wait_list::"];

fn miri() -> Result<(), Failure> {
    need(Run::new("cargo").args(["+nightly", "miri", "--version"]), "Miri", NIGHTLY)?;
    // The maps of `map_vec` are addresses without provenance, by design.
    let run = Run::new("cargo").args(["+nightly", "miri", "test", "--package", "gort", "--lib", "--"]);
    run.env("MIRIFLAGS", "-Zmiri-permissive-provenance").args(MIRI_TESTS).run()
}

/// Tests that AddressSanitizer understands. It is not told of the switches between stacks, so it
/// reports what is not there where a goroutine unwinds through many frames (a panic that libtest or
/// a `scope` catches), and it does not know the threads' own structures in a goroutine's block
/// (libc's thread functions, stack overflows).
const ASAN_TESTS: [&str; 27] = [
    "chan_go",
    "chan_residue",
    "chan_crossbeam_threads",
    "context_tree",
    "future_block_on",
    "group_errgroup",
    "guards",
    "inherited",
    "join_future",
    "lock_thread",
    "net_close",
    "net_conformance",
    "net_deadline",
    "net_fair",
    "net_std",
    "select_go",
    "select_guards",
    "sync_condvar",
    "sync_mutex",
    "sync_once",
    "sync_rwlock",
    "sync_semaphore",
    "sync_wait_group",
    "thread_locals_shared",
    "time_timers",
    "trace",
    "world",
];

fn asan() -> Result<(), Failure> {
    let target = "x86_64-unknown-linux-gnu";
    let tests = ASAN_TESTS.iter().flat_map(|test| ["--test", test]);
    let run = cargo(["test", "--package", "gort", "--no-fail-fast", "--target", target]).args(tests);
    // Sanitizers are flags of nightly compilers; the variable lets a stable one take them.
    run.env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address --cfg gort_asan")
        // Locals on stacks of the sanitizer's own would be freed at a switch. Go's tests leave
        // threads behind that wait for ever, and what those hold counts as leaked.
        .env("ASAN_OPTIONS", "detect_stack_use_after_return=0:detect_leaks=0")
        .env("RUST_TEST_THREADS", "8")
        .run()
}

/// The programs below `fuzz/fuzz_targets`.
const FUZZ_TARGETS: [&str; 4] = ["ws", "http", "protocol", "auth"];

fn fuzz(args: &[String]) -> Result<(), Failure> {
    let (targets, rest) = match args.split_first() {
        Some((first, rest)) if first.parse::<u32>().is_err() => (vec![first.as_str()], rest),
        _ => (FUZZ_TARGETS.to_vec(), args),
    };
    let seconds = match rest {
        [] => 60,
        [seconds] => seconds.parse().map_err(|_| Failure::usage(format!("{seconds:?} is no number")))?,
        _ => return Err(Failure::usage("usage: cargo xtask fuzz [TARGET] [SECONDS]".into())),
    };
    if let Some(unknown) = targets.iter().find(|target| !FUZZ_TARGETS.contains(target)) {
        return Err(Failure::usage(format!("there is no fuzz target {unknown:?}: {FUZZ_TARGETS:?}")));
    }
    need(cargo(["fuzz", "--version"]), "cargo-fuzz", "cargo install cargo-fuzz")?;
    need(Run::new("c++").args(["--version"]), "a C++ compiler", "apt-get install g++")?;
    for target in targets {
        let (corpus, seeds) = (format!("corpus/{target}"), format!("seeds/{target}"));
        let folder = run::root().join("fuzz").join(&corpus);
        std::fs::create_dir_all(&folder).map_err(|e| Failure::new(format!("{}: {e}", folder.display())))?;
        cargo(["fuzz", "run", "--fuzz-dir", ".", target, &corpus, &seeds, "--"])
            .args([format!("-max_total_time={seconds}")])
            .env("RUSTC_BOOTSTRAP", "1") // as for `asan`
            .folder("fuzz")
            .run()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        std::fs::read_to_string(run::root().join(path)).unwrap()
    }

    /// What `test` runs is what `.ci/run` runs.
    #[test]
    fn test_is_the_step_of_ci() {
        let ci = read(".ci/run");
        for part in
            ["RUST_TEST_THREADS:-8", "cargo test --workspace", "GORT_REAL_CLIENTS=1", "import ensurepip"]
        {
            assert!(ci.contains(part), ".ci/run has no {part}");
        }
    }

    #[test]
    fn all_fuzz_targets_are_known() {
        let mut found: Vec<String> = std::fs::read_dir(run::root().join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
            .collect();
        found.sort();
        let mut known = FUZZ_TARGETS;
        known.sort_unstable();
        assert_eq!(found, known);
    }

    /// The help has every command and every step.
    #[test]
    fn help_is_whole() {
        let source = include_str!("main.rs");
        for line in source.lines().filter(|line| line.starts_with("        \"") && line.contains("\" =>")) {
            let command = line.trim().trim_start_matches('"').split('"').next().unwrap();
            assert!(HELP.contains(&format!("\n  {command} ")) || command == "help", "{command}");
        }
        for step in release::STEPS {
            assert!(HELP.contains(step.name), "{}", step.name);
        }
    }
}
