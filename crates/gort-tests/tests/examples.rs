//! The examples run and print what they promise. `cargo test` has built them beside this test.

use std::process::Command;

/// The examples, and a text that each prints.
const EXAMPLES: &[(&str, &str)] =
    &[("block_on", "100"), ("sqlite_pool", "5000 notes of 1000 goroutines through 2 SQLite connections")];

#[test]
fn examples_run() {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    for (name, words) in EXAMPLES {
        let output = Command::new(folder.join(name)).output();
        let output = output.unwrap_or_else(|e| panic!("{name}: {e}; `cargo test -p gort-tests` builds it"));
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {out}\n{err}");
        assert!(out.contains(words), "{name}: {out}");
    }
}

/// The list has every example.
#[test]
fn all_examples_are_run() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(EXAMPLES.iter().any(|(example, _)| *example == name), "{name} is not run by any test");
    }
}
