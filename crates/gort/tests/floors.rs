//! The floors of ARCHITECTURE.md: a folder uses those below it, never one above. And what else only
//! some files may do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folders and files of `src`, from the ground up. Those of one floor may use each other.
const FLOORS: &[&[&str]] = &[
    &["sys"],
    &["stack", "poll"],
    &["sched"],
    &["chan", "sync", "net", "time"],
    &["affine", "context", "group", "scope", "future", "signal"],
    &["debug", "metrics", "trace", "lib", "alloc", "guide"],
];

/// The rooms of `sched/`, from the ground up. A room uses those before it, never one after it.
/// Inside a room files may know each other.
const ROOMS: &[&str] = &[
    "policy", "queue", "wake", "core", "shared", "trace", "threads", "ready", "swap", "io", "handoff", "run",
    "wait", "syscall", "preempt", "spawn", "world", "watch", "start",
];

/// Files in which `asm!` is at home.
const ASSEMBLY: &[&str] = &["stack/switch.rs", "sys/fs.rs", "sys/futex.rs", "sys/pin.rs"];

fn floor(folder: &str) -> Option<usize> {
    FLOORS.iter().position(|folders| folders.contains(&folder))
}

/// The modules that `text` names right behind `path` (`crate::` for the folders), outside comments.
fn uses(text: &str, path: &str) -> Vec<String> {
    let code =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(path) {
        if code[..at].ends_with('$') {
            continue; // a macro names its own crate for its users
        }
        let rest = &code[at + path.len()..];
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
    uses(text, "crate::").into_iter().filter(|name| floor(name).is_some_and(|other| other > own)).collect()
}

/// What `text`, a file of `room` in `sched/`, uses of rooms above its own.
fn upstairs(room: &str, text: &str) -> Vec<String> {
    let place = |name: &str| ROOMS.iter().position(|&other| other == name);
    let own = place(room).unwrap_or_else(|| panic!("`sched/{room}` is in no place among the rooms: add it"));
    let (code, _) = text.split_once("#[cfg(test)]").unwrap_or((text, ""));
    assert!(!code.contains("super::super"), "a path out of `sched/{room}` begins with crate::sched");
    uses(code, "crate::sched::")
        .into_iter()
        .filter(|name| place(name).is_none_or(|other| other > own))
        .collect()
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

#[test]
fn no_room_of_the_scheduler_uses_one_above() {
    let texts = texts();
    let files = texts
        .iter()
        .filter_map(|(name, text)| Some((name.strip_prefix("sched/")?.split_once('/')?.0, name, text)));
    let (mut seen, mut wrong) = (BTreeMap::new(), Vec::new());
    for (room, name, text) in files.filter(|(_, name, _)| name.ends_with(".rs")) {
        seen.insert(room, ());
        wrong.extend(upstairs(room, text).into_iter().map(|used| format!("src/{name} uses {used}")));
    }
    assert!(wrong.is_empty(), "of `sched/`, what is above it or no room: {wrong:#?}");
    assert_eq!(seen.len(), ROOMS.len(), "rooms that are not there: {ROOMS:?}, seen {seen:?}");
}

/// The floors above see the scheduler by its waist alone: no path goes into a room.
#[test]
fn floors_above_use_the_waist() {
    for (name, text) in texts().iter().filter(|(name, _)| !name.starts_with("sched/")) {
        let rooms: Vec<_> =
            uses(text, "crate::sched::").into_iter().filter(|name| ROOMS.contains(&name.as_str())).collect();
        let own = [("trace.rs", "trace")];
        assert!(
            rooms.iter().all(|room| own.contains(&(name.as_str(), room.as_str()))),
            "src/{name} goes into rooms of `sched/`: {rooms:?}"
        );
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
    assert_eq!(upstairs("core", "use crate::sched::run::find;"), ["run"]);
    assert_eq!(upstairs("ready", "use crate::sched::{core::g::G, watch, io::poll};"), ["watch", "io"]);
    assert_eq!(upstairs("start", "use crate::sched::WaitReason;"), ["WaitReason"]);
    assert!(upstairs("run", "use crate::sched::core::g::G;\nuse super::find;").is_empty());
}

#[test]
fn assembly_is_in_four_files() {
    for (name, text) in texts() {
        let has = text
            .lines()
            .any(|l| !l.trim_start().starts_with("//") && (l.contains("asm!(") || l.contains("asm! (")));
        assert!(!has || ASSEMBLY.contains(&name.as_str()), "assembly in src/{name}");
    }
}

/// A panic on one of the scheduler's threads must not go unnoticed: all come from
/// `threads/service.rs`, but for the one that reports a fatal error.
#[test]
fn the_schedulers_threads_come_from_one_place() {
    for (name, text) in texts().iter().filter(|(name, _)| name.starts_with("sched/")) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let makes = lines.any(|line| line.contains("thread::Builder") || line.contains("thread::spawn"));
        assert!(
            !makes || ["sched/watch/fatal_report.rs", "sched/threads/service.rs"].contains(&name.as_str()),
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
