//! Running programs in the root of the repository.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Why a command failed: a sentence, and whether it was asked for in a wrong way.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    is_usage: bool,
}

impl Failure {
    pub(crate) fn new(what: String) -> Failure {
        Failure { what, is_usage: false }
    }

    pub(crate) fn usage(what: String) -> Failure {
        Failure { what, is_usage: true }
    }

    /// 2 for wrong usage, 1 for all else.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(if self.is_usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of it").to_path_buf()
}

/// A program, to be run in the root of the repository.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
}

impl Run {
    pub(crate) fn new(program: &str) -> Run {
        // A path is looked up from the root, not from where cargo was called.
        let is_path = program.contains('/') && Path::new(program).is_relative();
        let program = if is_path { root().join(program) } else { program.into() };
        let mut command = Command::new(program);
        command.current_dir(root());
        Run { command }
    }

    pub(crate) fn args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Run {
        self.command.args(args.into_iter().map(|arg| arg.as_ref().to_string()));
        self
    }

    /// Runs it in this folder of the repository.
    pub(crate) fn folder(mut self, folder: &str) -> Run {
        self.command.current_dir(root().join(folder));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    /// Whether it can be run and ends well, unseen.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.command.status().is_ok_and(|status| status.success())
    }

    /// Says what it runs, and runs it.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let line = self.to_string();
        println!("+ {line}");
        let status = self.command.status().map_err(|e| Failure::new(format!("{line}: {e}")))?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("{line}: {status}"))) }
    }

    /// What it prints on standard output.
    pub(crate) fn output(mut self) -> Result<String, Failure> {
        let line = self.to_string();
        let output = self.command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|e| Failure::new(format!("{line}: {e}")))?;
        if !output.status.success() {
            return Err(Failure::new(format!("{line}: {}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                write!(f, "{}={:?} ", name.display(), value.to_string_lossy())?;
            }
        }
        write!(f, "{}", Path::new(self.command.get_program()).display())?;
        self.command.get_args().try_for_each(|arg| write!(f, " {}", arg.display()))
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Run {
    Run::new(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())).args(args)
}

/// Fails with the way to get `tool`, unless `probe` succeeds.
pub(crate) fn need(probe: Run, tool: &str, how: &str) -> Result<(), Failure> {
    if probe.succeeds() {
        return Ok(());
    }
    Err(Failure::new(format!("this needs {tool}, which cannot be run here. To get it: {how}")))
}
