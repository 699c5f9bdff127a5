//! The examples run and print what they promise. `cargo test` has built them beside this test.

use std::path::PathBuf;
use std::process::Command;

/// The examples, their arguments in this test, and a text that each prints.
const EXAMPLES: &[(&str, &[&str], &str)] = &[
    ("hello", &[], "42, done"),
    ("million", &["20000"], "20000 goroutines parked in"),
    ("million", &["20000", "--shared"], "all woken and joined in"),
    ("million", &["5000", "--swap"], "5000 swapped out after"),
    ("echo", &[], "20000 messages echoed to 1000 clients"),
    ("pipeline", &[], "squares from a pipeline"),
    ("select_timeout", &[], "[1, 2, 3]"),
    ("scope_borrow", &[], "500000500000"),
    ("blocking_files", &[], "bytes read by 100 goroutines"),
    ("threads_and_goroutines", &[], "328350"),
];

fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(path.exists(), "{name} is not built: `cargo test -p gort` does it, or `cargo build --examples`");
    path
}

#[test]
fn examples_run() {
    for (name, args, words) in EXAMPLES {
        let output = Command::new(path(name)).args(*args).output().unwrap_or_else(|e| panic!("{name}: {e}"));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} {args:?}: {out}\n{err}");
        assert!(out.contains(words), "{name} {args:?}: {out}");
    }
}

/// The list has every example.
#[test]
fn all_examples_are_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(EXAMPLES.iter().any(|(example, ..)| *example == name), "{name} is not run by any test");
    }
}

#[test]
fn bad_arguments_are_refused() {
    let output = Command::new(path("million")).arg("many").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("usage: million"));
}
