//! The docs of each public function say what it blocks, in a section `# Blocking`.
//!
//! The test reads the sources. Every `pub fn` of the folders below needs the section, except these
//! kinds:
//!
//! - `new`, if it only makes a value: most do. One that waits has the section all the same.
//! - Functions of types whose name ends in `Error` or `Result`. They only look at a value.
//! - Functions that are `#[doc(hidden)]`, or whose type is.
//! - Those in [`EXCEPTIONS`], each with its reason.
//!
//! Functions that macros define are checked in the macro. Trait impls have no `pub fn`, and the
//! compiler warns of a `pub` that is not reachable.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Functions without the section, as the test names them, and why they need none.
const EXCEPTIONS: &[(&str, &str)] =
    &[("chan/core.rs: Patience::lasting", "only the hidden `chan::internal` makes it reachable")];

/// A public function in a source file.
#[derive(Debug)]
struct Function {
    /// The type of the `impl` block, if the function is in one.
    of: Option<String>,
    name: String,
    /// The lines of its doc comment.
    docs: Vec<String>,
    is_hidden: bool,
}

impl Function {
    fn label(&self) -> String {
        match &self.of {
            Some(of) => format!("{of}::{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether there is a section `# Blocking` with text in it.
    fn says_what_blocks(&self) -> bool {
        let mut lines = self.docs.iter().map(|line| line.trim());
        lines.any(|line| line == "# Blocking")
            && lines.find(|line| !line.is_empty()).is_some_and(|line| !line.starts_with('#'))
    }

    /// Whether it is of a kind that needs no section.
    fn is_exempt(&self, hidden_types: &BTreeSet<String>) -> bool {
        let of = self.of.as_deref().unwrap_or("");
        self.name == "new"
            || of.ends_with("Error")
            || of.ends_with("Result")
            || self.is_hidden
            || hidden_types.contains(of)
    }
}

/// The name of the function that `line` begins to define, if it is public.
fn public_function(line: &str) -> Option<String> {
    let mut rest = line.strip_prefix("pub ")?;
    for qualifier in ["const ", "async ", "unsafe "] {
        rest = rest.strip_prefix(qualifier).unwrap_or(rest);
    }
    Some(rest.strip_prefix("fn ")?.split(['(', '<']).next()?.to_string())
}

/// The type of an inherent `impl` block that begins in `line`.
fn type_of_impl(line: &str) -> Option<String> {
    let mut rest = line.strip_prefix("impl")?;
    if rest.starts_with('<') {
        let mut depth = 0;
        let mut before = ' ';
        let end = rest.find(|c: char| {
            match c {
                '<' => depth += 1,
                '>' if before != '-' => depth -= 1, // not the arrow of `Fn() -> T`
                _ => {}
            }
            before = c;
            depth == 0
        })?;
        rest = &rest[end + 1..];
    }
    let path = rest.trim_start().split(['<', ' ', '{']).next()?;
    Some(path.rsplit("::").next()?.to_string())
}

/// Whether `line` belongs to what stands before an item: docs, comments, attributes.
fn is_before_item(line: &str) -> bool {
    ["//", "#[", "$(#["].iter().any(|start| line.starts_with(start))
}

/// The lines of a source file without its tests.
fn lines_without_tests(source: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = source.lines().collect();
    let tests = lines.windows(2).position(|pair| pair == ["#[cfg(test)]", "mod tests {"]);
    lines.truncate(tests.unwrap_or(lines.len()));
    lines
}

/// The public functions of a source file.
fn functions(source: &str) -> Vec<Function> {
    let lines = lines_without_tests(source);
    let mut found = Vec::new();
    let mut of = None;
    for (i, line) in lines.iter().enumerate() {
        if line.starts_with('}') {
            of = None;
        }
        let line = line.trim();
        if line.starts_with("impl ") || line.starts_with("impl<") {
            of = type_of_impl(line);
        }
        let Some(name) = public_function(line) else { continue };
        let mut before: Vec<&str> =
            lines[..i].iter().rev().map(|line| line.trim()).take_while(|line| is_before_item(line)).collect();
        before.reverse();
        found.push(Function {
            of: of.clone(),
            name,
            docs: before.iter().filter_map(|line| line.strip_prefix("///")).map(str::to_string).collect(),
            is_hidden: before.contains(&"#[doc(hidden)]"),
        });
    }
    found
}

/// The types of a source file that are `#[doc(hidden)]`.
fn hidden_types(source: &str) -> BTreeSet<String> {
    let lines = lines_without_tests(source);
    let hidden = lines.iter().enumerate().filter(|(_, line)| line.trim() == "#[doc(hidden)]");
    let items = hidden.filter_map(|(i, _)| lines[i..].iter().find(|line| !is_before_item(line.trim())));
    items
        .filter_map(|item| {
            let item = item.trim().strip_prefix("pub ")?;
            let name = item.strip_prefix("struct ").or_else(|| item.strip_prefix("enum "))?;
            Some(name.split(['<', '(', ' ', ';']).next()?.to_string())
        })
        .collect()
}

/// The functions without the section: `file: Type::function`. Each source has its file's name.
fn complaints(sources: &[(String, String)]) -> Vec<String> {
    let hidden: BTreeSet<String> = sources.iter().flat_map(|(_, source)| hidden_types(source)).collect();
    let mut found = Vec::new();
    for (file, source) in sources {
        for function in functions(source) {
            if !function.says_what_blocks() && !function.is_exempt(&hidden) {
                found.push(format!("{file}: {}", function.label()));
            }
        }
    }
    found
}

/// All sources of these folders of `src`, except test modules in files of their own.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    folders.iter().for_each(|folder| collect(&src.join(folder), &mut files));
    files.sort();
    let name = |path: &Path| path.strip_prefix(&src).unwrap().display().to_string();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Checks these folders; `known` is a function that must be among those that were looked at.
fn check(folders: &[&str], known: &str) {
    let sources = sources(folders);
    let looked_at: Vec<String> =
        sources.iter().flat_map(|(_, source)| functions(source)).map(|function| function.label()).collect();
    assert!(looked_at.iter().any(|label| label == known), "{known} was not found in {folders:?}");
    let mut found = complaints(&sources);
    found.retain(|label| !EXCEPTIONS.iter().any(|(exception, _)| exception == label));
    assert!(
        found.is_empty(),
        "{} of {} public functions have no section `# Blocking`:\n{}",
        found.len(),
        looked_at.len(),
        found.join("\n")
    );
}

#[test]
fn net_says_what_blocks() {
    check(&["net"], "TcpStream::connect_timeout");
}

#[test]
fn time_and_contexts_say_what_blocks() {
    check(&["time", "context"], "Semaphore::acquire_context");
}

#[test]
fn groups_scopes_futures_and_pools_say_what_blocks() {
    check(&["group", "scope", "future", "affine"], "block_on");
}

#[test]
fn signals_say_what_blocks() {
    check(&["signal"], "shutdown");
}

#[test]
fn channels_say_what_blocks() {
    check(&["chan"], "Receiver::recv_timeout");
}

#[test]
fn sync_says_what_blocks() {
    check(&["sync"], "Mutex::lock");
}

/// An exception that is not needed any more is to be taken out of the list.
#[test]
fn exceptions_are_needed() {
    let found = complaints(&sources(&[
        "chan", "sync", "net", "time", "context", "group", "scope", "future", "affine", "signal",
    ]));
    for (exception, reason) in EXCEPTIONS {
        assert!(found.iter().any(|label| label == exception), "{exception} needs no exception ({reason})");
    }
}

/// What the check says of a source that is made up.
fn complaints_of(source: &str) -> Vec<String> {
    complaints(&[("made_up.rs".to_string(), source.to_string())])
}

#[test]
fn a_missing_section_is_found() {
    let source = r#"
/// Waits.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
pub fn has_it() {}

/// Waits too, and says nothing of it.
#[inline]
pub fn has_none() {}

pub struct Pool<T>(T);

impl<T: Fn() -> u32> Pool<T> {
    /// The section is empty.
    ///
    /// # Blocking
    ///
    /// # Errors
    ///
    /// None.
    pub const unsafe fn says_nothing(&self) {}

    pub fn has_no_docs<F>(&self, f: F) {}
}

macro_rules! methods {
    () => {
        /// Without the section.
        pub fn $name(&self) {}
    };
}
"#;
    assert_eq!(
        complaints_of(source),
        [
            "made_up.rs: has_none",
            "made_up.rs: Pool::says_nothing",
            "made_up.rs: Pool::has_no_docs",
            "made_up.rs: $name"
        ]
    );
}

#[test]
fn what_needs_no_section_is_passed_over() {
    let source = r#"
pub struct Pool;

impl Pool {
    /// A constructor.
    pub const fn new() -> Pool {
        Pool
    }

    /// Private.
    fn start(&self) {}

    /// Of the crate.
    pub(crate) fn stop(&self) {}

    /// For macros.
    #[doc(hidden)]
    pub fn internal(&self) {}
}

impl Clone for Pool {
    fn clone(&self) -> Pool {
        Pool
    }
}

impl<T> std::fmt::Display for PoolError<T> {}

/// An error.
pub struct PoolError<T>(T);

impl<T> PoolError<T> {
    /// What was not sent.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// For macros.
#[doc(hidden)]
#[derive(Debug)]
pub struct Arm<'a>(&'a ());

impl<'a> Arm<'a> {
    /// For macros.
    pub fn run(&self) {}
}

#[cfg(test)]
mod tests {
    pub fn of_tests() {}
}
"#;
    assert_eq!(complaints_of(source), [""; 0]);
}

#[test]
fn the_section_of_a_neighbour_does_not_count() {
    let source = r#"
impl Pool {
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    pub fn first(&self) {}
    /// Without the section.
    pub fn second(&self) {}
}
"#;
    assert_eq!(complaints_of(source), ["made_up.rs: Pool::second"]);
}
