//! The floors of ARCHITECTURE.md: a folder uses those below it, never one above; and what else only some may do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folders and files of `src`, from the ground up. Those of one floor may use each other.
const FLOORS: &[&[&str]] = &[
    &["sys"],
    &["stack", "poll"],
    &["sched"],
    &["chan", "sync", "net", "time"],
    &["affine", "context", "group", "scope", "future"],
    &["debug", "metrics", "trace", "lib", "alloc"],
];

/// Files in which `asm!` is at home.
const ASSEMBLY: &[&str] = &["stack/switch.rs", "sys/fs.rs", "sys/pin.rs"];

fn floor(folder: &str) -> Option<usize> {
    FLOORS.iter().position(|folders| folders.contains(&folder))
}

/// The folders that `text`, a file of `folder`, names by `crate::…`, outside comments.
fn uses(text: &str) -> Vec<String> {
    let code =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with('$') {
            continue; // a macro names its own crate for its users
        }
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            // `use crate::{a, b::c}`: what begins each part.
            Some(group) => {
                let end = group.find(';').unwrap_or(group.len());
                top_level_parts(&group[..end])
            }
            None => vec![rest],
        };
        for name in names {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            found.push(name[..end].to_string());
        }
    }
    found
}

/// The parts of a brace group, split at the commas that are not in inner braces.
fn top_level_parts(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(group[start..i].trim());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(group[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// What `text`, a file of `folder`, uses of floors above its own.
fn upward(folder: &str, text: &str) -> Vec<String> {
    let own = floor(folder).unwrap_or_else(|| panic!("`{folder}` is on no floor: add it"));
    uses(text).into_iter().filter(|name| floor(name).is_some_and(|other| other > own)).collect()
}

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Each file below `src` with its name there and its text.
fn texts() -> BTreeMap<String, String> {
    let root = src();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
    sources(&root).iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn no_floor_uses_one_above() {
    let texts = texts();
    assert!(texts.len() > 60, "the sources were not found");
    for (name, text) in &texts {
        let folder = name.split(['/', '.']).next().unwrap();
        let upward = upward(folder, text);
        assert!(upward.is_empty(), "src/{name} uses {upward:?}, which is above it");
    }
}

/// The check itself sees what it must.
#[test]
fn the_check_can_fail() {
    assert_eq!(upward("sys", "use crate::sched::go;"), ["sched"]);
    assert_eq!(upward("chan", "fn f() { crate::context::background() }"), ["context"]);
    assert_eq!(upward("stack", "use crate::{sys::map, chan::{a, b}, poll};"), ["chan"]);
    assert!(
        upward("chan", "use crate::sys::lock::Lock; // not crate::context\nuse crate::sync::x;").is_empty()
    );
    assert!(upward("chan", "$crate::context").is_empty());
}

#[test]
fn assembly_is_in_three_files() {
    for (name, text) in texts() {
        let has = text
            .lines()
            .any(|l| !l.trim_start().starts_with("//") && (l.contains("asm!(") || l.contains("asm! (")));
        assert!(!has || ASSEMBLY.contains(&name.as_str()), "assembly in src/{name}");
    }
}

/// A panic on one of the scheduler's threads must not go unnoticed: all come from `service.rs`, but
/// for the one that reports a fatal error.
#[test]
fn the_schedulers_threads_come_from_one_place() {
    for (name, text) in texts().iter().filter(|(name, _)| name.starts_with("sched/")) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let makes = lines.any(|line| line.contains("thread::Builder") || line.contains("thread::spawn"));
        assert!(
            !makes || ["sched/fatal.rs", "sched/service.rs"].contains(&name.as_str()),
            "a thread in src/{name}"
        );
    }
}

/// Where no `unsafe` is needed it is forbidden.
#[test]
fn safe_floors_say_so() {
    let texts = texts();
    for module in ["affine/mod.rs", "context/mod.rs", "group/mod.rs", "future/mod.rs"] {
        assert!(
            texts[module].contains("#![forbid(unsafe_code)]"),
            "src/{module} does not forbid unsafe code"
        );
    }
    for root in ["../gort-hub/src/lib.rs", "../gort-cli/src/main.rs", "../gort-macros/src/lib.rs"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{root} does not forbid unsafe code");
    }
}
