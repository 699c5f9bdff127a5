//! The check that the modules of a crate stand in an order and that each uses only those before it.

use std::collections::BTreeMap;
use std::path::Path;

/// Panics if a file below `src` is not in `order`, or uses a module that comes after its own.
///
/// A module of a folder is written `folder/module`, the `mod.rs` of a folder is `folder`.
pub(crate) fn check(src: &Path, order: &[&str]) {
    let texts = texts(src);
    for module in order {
        assert!(texts.contains_key(*module), "`{module}` is in the order, but has no file");
    }
    for (module, text) in &texts {
        let found = violations(order, module, text);
        assert!(found.is_empty(), "in module `{module}`: {}", found.join("; "));
    }
}

/// What `text`, the file of `module`, names and may not.
pub(crate) fn violations(order: &[&str], module: &str, text: &str) -> Vec<String> {
    let place = |name: &str| order.iter().position(|other| *other == name);
    let Some(own) = place(module) else { return vec![format!("`{module}` is not in the order")] };
    let mut found = Vec::new();
    if let Some((folder, _)) = module.split_once('/')
        && place(folder).is_none_or(|parent| parent < own)
    {
        found.push(format!("`{folder}` uses its own modules, so it comes after them"));
    }
    let code: Vec<&str> = text.lines().map(without_comment).collect();
    for line in &code {
        // Only the unit tests of a file, which are indented, name it by `super`.
        if line.contains("super::") && !line.starts_with("    use super::*;") {
            found.push(format!("`{}`: a path begins with `crate::`", line.trim()));
        }
    }
    for path in paths(&code.join("\n")) {
        let names: Vec<&str> = path.split("::").collect();
        // The longest beginning of the path that is a module.
        let used = (1..=names.len()).rev().find_map(|n| place(&names[..n].join("/")));
        match used {
            None => found.push(format!("`crate::{path}` is in no module of the order")),
            Some(used) if used > own => found.push(format!("`crate::{path}` is above it")),
            Some(_) => {}
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line.split(" // ").next().unwrap_or_default() }
}

/// The paths that `code` begins with `crate::`, without it.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let is_part_of_a_name = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if !is_part_of_a_name {
            expand("", &code[at + start.len()..], &mut found);
        }
    }
    found
}

/// Adds the paths at the beginning of `tree`, a tree as it stands in `use`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    if let Some(group) = tree.strip_prefix('{') {
        parts(group).iter().for_each(|part| expand(prefix, part, found));
        return;
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let path = if prefix.is_empty() { tree[..end].into() } else { format!("{prefix}::{}", &tree[..end]) };
    match tree[end..].strip_prefix("::") {
        Some(rest) => expand(&path, rest, found),
        None => found.push(path),
    }
}

/// The parts of a group, split at the commas outside of inner groups.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth > 0 => {}
            ',' | '}' => {
                parts.push(group[start..i].trim());
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Each module below `src` with the text of its file.
fn texts(src: &Path) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut folders = vec![src.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(src).unwrap().with_extension("");
                let name = name.to_str().unwrap();
                let module = name.strip_suffix("/mod").unwrap_or(name).to_string();
                texts.insert(module, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    texts
}
