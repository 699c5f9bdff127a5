//! What must hold before a release.

use crate::run::{Failure, cargo, need, root};

/// The crates that are published, each after those that it depends on.
const PUBLISHED: [&str; 5] = ["gort-macros", "gort", "gort-hub", "gort-cli-rt", "gort-cli"];

/// A thing to check.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    run: fn() -> Result<(), Failure>,
}

/// All that can be checked by a program.
pub(crate) const STEPS: [Step; 8] = [
    Step { name: "fmt", run: || cargo(["fmt", "--all", "--check"]).run() },
    Step { name: "clippy", run: clippy },
    Step { name: "docs", run: docs },
    Step { name: "tests", run: || crate::test(&[]) },
    Step { name: "versions", run: versions },
    Step { name: "metadata", run: metadata },
    Step { name: "package", run: package },
    Step { name: "deny", run: deny },
];

const BY_HAND: &str = "\
Left to do by hand:
  1. cargo xtask bench-check, on a machine that does nothing else.
  2. cargo xtask glibc, as root.
  3. cargo xtask asan, miri and fuzz, where their tools are.
  4. CHANGELOG.md: the version and its date instead of \"(unreleased)\".
  5. The names of the crates on crates.io are this project's: cargo owner --list NAME.
  6. Commit, tag vVERSION, push the tag, and wait for .ci/run to pass on it.
  7. Publish, in this order:";

/// Runs all steps, or those that are named, and tells what became of each.
pub(crate) fn check(names: &[String]) -> Result<(), Failure> {
    if let Some(name) = names.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        return Err(Failure::usage(format!("there is no step {name:?}; cargo xtask help")));
    }
    let mut results = Vec::new();
    for step in STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|n| n == step.name)) {
        println!("\n== {}", step.name);
        let result = (step.run)();
        if let Err(failure) = &result {
            println!("{failure}");
        }
        results.push((step.name, result.is_ok()));
    }
    println!();
    for (name, is_well) in &results {
        println!("{name:<10} {}", if *is_well { "holds" } else { "FAILED" });
    }
    println!(
        "\n{BY_HAND}\n     {}",
        PUBLISHED.map(|name| format!("cargo publish -p {name}")).join("\n     ")
    );
    let failed = results.iter().filter(|(_, is_well)| !is_well).count();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("{failed} of {} steps failed", results.len())))
    }
}

fn clippy() -> Result<(), Failure> {
    cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).run()
}

fn docs() -> Result<(), Failure> {
    cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(root().join(path)).map_err(|e| Failure::new(format!("{path}: {e}")))
}

/// The value of `key = "value"` in a line.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("{key} = \""))?;
    rest.split('"').next()
}

/// The lines of a manifest that name the version of the workspace, and those of them that differ.
fn other_versions(manifest: &str) -> Result<Vec<&str>, Failure> {
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    let version = version.ok_or_else(|| Failure::new("Cargo.toml has no version".into()))?;
    let of_crates = manifest.lines().filter(|line| line.contains("path = \"crates/"));
    Ok(of_crates.filter(|line| value(line, "version") != Some(version)).collect())
}

/// The crates depend on each other's present version.
fn versions() -> Result<(), Failure> {
    let manifest = read("Cargo.toml")?;
    let wrong = other_versions(&manifest)?;
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("not the version of the workspace:\n  {}", wrong.join("\n  "))))
}

/// What crates.io shows of a crate, as it stands in cargo's JSON where it is missing.
const NEEDED: [&str; 7] = [
    "\"description\":null",
    "\"license\":null",
    "\"readme\":null",
    "\"repository\":null",
    "\"rust_version\":null",
    "\"keywords\":[]",
    "\"categories\":[]",
];

/// Files that each package holds.
const FILES: [&str; 3] = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// What is wrong with what crates.io would show of a crate, and with the files in its package.
fn wrong_with(name: &str, manifest: &str, files: &str) -> Vec<String> {
    let fields = NEEDED.iter().filter(|field| manifest.contains(**field));
    let mut wrong: Vec<String> = fields.map(|field| format!("{name}: {field}")).collect();
    let holds = |file: &str| files.lines().any(|line| line == file);
    wrong.extend(FILES.iter().filter(|file| !holds(file)).map(|file| format!("{name}: no {file}")));
    if name == "gort" {
        if !holds("examples/hello.rs") {
            wrong.push("gort: no examples".into());
        }
        if files.contains("crossbeam") {
            wrong.push("gort: the package holds tests under other licences".into());
        }
    }
    wrong
}

fn metadata() -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for name in PUBLISHED {
        let path = format!("crates/{name}/Cargo.toml");
        let manifest = cargo(["read-manifest", "--manifest-path", &path]).output()?;
        let files = cargo(["package", "--list", "--allow-dirty", "--package", name]).output()?;
        wrong.extend(wrong_with(name, &manifest, &files));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("before crates are published they need these:\n  {}", wrong.join("\n  "))))
}

/// Packs all crates and builds what was packed. The sources must be committed.
fn package() -> Result<(), Failure> {
    cargo(["package"]).args(PUBLISHED.iter().flat_map(|name| ["--package", name])).run()
}

fn deny() -> Result<(), Failure> {
    need(cargo(["deny", "--version"]), "cargo-deny", "cargo install --locked cargo-deny")?;
    cargo(["deny", "check"]).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_was_forgotten_is_found() {
        let manifest = "version = \"0.2.0\"\na = { path = \"crates/a\", version = \"0.2.0\" }\n\
                        b = { path = \"crates/b\", version = \"0.1.0\" }\nc = { path = \"crates/c\" }\n";
        let wrong = other_versions(manifest).unwrap();
        assert_eq!(wrong.len(), 2);
        assert!(wrong[0].starts_with('b') && wrong[1].starts_with('c'));
        assert!(other_versions("").is_err());
        versions().unwrap();
    }

    #[test]
    fn what_a_crate_lacks_is_found() {
        let files = "LICENSE-APACHE\nLICENSE-MIT\nREADME.md\nexamples/hello.rs\n";
        assert!(wrong_with("gort", "{\"license\":\"MIT\"}", files).is_empty());
        assert_eq!(wrong_with("gort", "{\"keywords\":[]}", files), ["gort: \"keywords\":[]"]);
        assert_eq!(wrong_with("gort-hub", "", "README.md\nLICENSE-MIT\n"), ["gort-hub: no LICENSE-APACHE"]);
        assert_eq!(wrong_with("gort", "", &format!("{files}tests/crossbeam/zero.rs\n")).len(), 1);
    }

    /// Every crate says whether it is published, in the way that [`PUBLISHED`] has it.
    #[test]
    fn all_other_crates_are_private() {
        let crates = std::fs::read_dir(root().join("crates")).unwrap();
        let crates = crates.map(|entry| format!("crates/{}", entry.unwrap().file_name().display()));
        for folder in crates.chain(["bench".into(), "xtask".into()]) {
            let is_private = read(&format!("{folder}/Cargo.toml")).unwrap().contains("publish = false");
            let is_published = PUBLISHED.iter().any(|name| folder == format!("crates/{name}"));
            assert_ne!(is_private, is_published, "{folder}");
        }
    }
}
