//! How much CPU time the control groups of this process allow.
//!
//! - `/proc/self/cgroup` names the group; `/proc/self/mountinfo` says where its hierarchy is
//!   mounted.
//! - A version 1 line with the `cpu` controller wins over version 2, because the kernel attaches
//!   the controller to one of them only.
//! - The limit is the **smallest of the group and all its ancestors** that are visible.
//! - Every call reads the files again, so it notices when the process is moved to another group.
//! - A file that cannot be read or understood sets no limit.

use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// CPUs' worth of time that the process may use; `None` for no limit. `root` is `/`, or a tree that
/// a test has made.
pub(crate) fn cpu_limit(root: &Path) -> Option<f64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let (version, group) = find_group(&groups)?;
    let (mount, below) = mounts.lines().find_map(|line| mount_of(line, version, group))?;
    let mount = root.join(mount.trim_start_matches('/'));
    let mut dir = PathBuf::from(&mount);
    let mut limit = read_limit(&dir, version);
    for name in below.split('/').filter(|name| !name.is_empty()) {
        dir.push(name);
        limit = [limit, read_limit(&dir, version)].into_iter().flatten().reduce(f64::min);
    }
    limit
}

/// Finds the group with the `cpu` controller in the text of `/proc/self/cgroup`, whose lines are
/// `hierarchy:controllers:path`.
fn find_group(text: &str) -> Option<(Version, &str)> {
    let mut v2 = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if !path.starts_with('/') {
            continue;
        }
        if id == "0" {
            v2 = Some((Version::V2, path));
        } else if controllers.split(',').any(|c| c == "cpu") {
            return Some((Version::V1, path));
        }
    }
    v2
}

/// If `line` of mountinfo mounts the hierarchy so that `group` is visible, returns the mount point
/// and the group's path below it.
fn mount_of(line: &str, version: Version, group: &str) -> Option<(String, String)> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ').skip(3);
    let (root, point) = (unescape(head.next()?), unescape(head.next()?));
    let mut tail = tail.split(' ');
    let (kind, options) = (tail.next()?, tail.nth(1).unwrap_or(""));
    let fits = match version {
        Version::V1 => kind == "cgroup" && options.split(',').any(|o| o == "cpu"),
        Version::V2 => kind == "cgroup2",
    };
    let below = group.strip_prefix(root.trim_end_matches('/'))?;
    let is_boundary = below.is_empty() || below.starts_with('/');
    // A path with `..` leads out of what this namespace can see.
    let is_inside = !below.split('/').any(|name| name == "..");
    (fits && is_boundary && is_inside).then(|| (point, below.to_string()))
}

/// Mountinfo writes space, tab, newline and backslash as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => out.push(char::from(code)),
            None => out.push('\\'),
        }
        rest = &rest[at + code.map_or(1, |_| 4)..];
    }
    out + rest
}

/// The limit of one group.
fn read_limit(dir: &Path, version: Version) -> Option<f64> {
    let read = |name| fs::read_to_string(dir.join(name)).ok();
    let (quota, period) = match version {
        Version::V1 => (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?),
        Version::V2 => {
            let text = read("cpu.max")?;
            let (quota, period) = text.trim_end().split_once(' ')?;
            (quota.to_string(), period.to_string())
        }
    };
    // `max` and -1 are not numbers above zero.
    let positive = |text: String| text.trim_end().parse::<i64>().ok().filter(|&n| n > 0);
    Some(positive(quota)? as f64 / positive(period)? as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files that is removed on drop.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Tree {
            let root = std::env::temp_dir().join(format!("gort-cgroup-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
                fs::write(path, text).expect("a file");
            }
            Tree(root)
        }

        fn limit(&self) -> Option<f64> {
            cpu_limit(&self.0)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const V1_MOUNT: &str =
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
    const V2_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn v1() {
        let tree = |quota, period| {
            Tree::new(
                "v1",
                &[
                    ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,cpuacct:/a\n0::/other\n"),
                    ("proc/self/mountinfo", V1_MOUNT),
                    ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", quota),
                    ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", period),
                ],
            )
            .limit()
        };
        assert_eq!(tree("150000\n", "100000\n"), Some(1.5));
        assert_eq!(tree("-1\n", "100000\n"), None);
        assert_eq!(tree("nonsense\n", "100000\n"), None);
        assert_eq!(tree("150000\n", "0\n"), None);
    }

    #[test]
    fn v2() {
        let tree = |max| {
            Tree::new(
                "v2",
                &[
                    ("proc/self/cgroup", "0::/system.slice/a.service\n"),
                    ("proc/self/mountinfo", V2_MOUNT),
                    ("sys/fs/cgroup/system.slice/a.service/cpu.max", max),
                ],
            )
            .limit()
        };
        assert_eq!(tree("50000 100000\n"), Some(0.5));
        assert_eq!(tree("300000 100000\n"), Some(3.0));
        assert_eq!(tree("max 100000\n"), None);
        assert_eq!(tree("50000\n"), None);
        assert_eq!(tree(""), None);
        assert_eq!(tree("50000 x\n"), None);
    }

    /// golang/go#81180: the tightest limit of the ancestors applies.
    #[test]
    fn the_smallest_of_the_hierarchy_counts() {
        let tree = Tree::new(
            "nested",
            &[
                ("proc/self/cgroup", "0::/a/b/c\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/a/cpu.max", "200000 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n"),
            ],
        );
        assert_eq!(tree.limit(), Some(2.0));
    }

    /// Inside a container the group is the root of what is mounted, or the mount shows a part of
    /// the hierarchy.
    #[test]
    fn in_a_container() {
        let own_namespace = Tree::new(
            "container-v2",
            &[
                ("proc/self/cgroup", "0::/\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/cpu.max", "250000 100000\n"),
            ],
        );
        assert_eq!(own_namespace.limit(), Some(2.5));
        let part = Tree::new(
            "container-v1",
            &[
                ("proc/self/cgroup", "3:cpu:/docker/abc\n"),
                (
                    "proc/self/mountinfo",
                    "9 8 0:5 /docker/ab /sys/fs/cgroup/no rw - cgroup cgroup rw,cpu\n\
                     9 8 0:5 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
                ),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "10000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "10000\n"),
            ],
        );
        assert_eq!(part.limit(), Some(1.0));
        let outside = Tree::new(
            "outside",
            &[
                ("proc/self/cgroup", "0::/../elsewhere\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/cpu.max", "250000 100000\n"),
            ],
        );
        assert_eq!(outside.limit(), None);
    }

    /// Hybrid: version 2 is mounted beside version 1, either without the `cpu` controller or with
    /// it.
    #[test]
    fn hybrid() {
        let v2_unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let v1 = Tree::new(
            "hybrid-v1",
            &[
                ("proc/self/cgroup", "0::/x\n2:cpu:/x\n"),
                ("proc/self/mountinfo", &format!("{v2_unified}{}", V1_MOUNT.replace("cpu,cpuacct", "cpu"))),
                ("sys/fs/cgroup/unified/x/cpu.max", "900000 100000\n"),
                ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "100000\n"),
                ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "50000\n"),
            ],
        );
        assert_eq!(v1.limit(), Some(2.0));
        let v2 = Tree::new(
            "hybrid-v2",
            &[
                ("proc/self/cgroup", "5:memory:/x\n4:cpuset:/x\n0::/x\n"),
                ("proc/self/mountinfo", v2_unified),
                ("sys/fs/cgroup/unified/x/cpu.max", "900000 100000\n"),
            ],
        );
        assert_eq!(v2.limit(), Some(9.0));
    }

    #[test]
    fn odd_names_and_malformed_lines() {
        let tree = Tree::new(
            "odd",
            &[
                ("proc/self/cgroup", "\nnonsense\n1:cpu\n7:cpu:relative\n0::/a:b c\n"),
                (
                    "proc/self/mountinfo",
                    "\nshort\n1 2 3 / - cgroup2\n30 23 0:26 / /mnt/my\\040groups rw - cgroup2 cgroup2 rw\n",
                ),
                ("mnt/my groups/a:b c/cpu.max", "100000 100000\n"),
            ],
        );
        assert_eq!(tree.limit(), Some(1.0));
        assert_eq!(unescape("a\\134b\\"), "a\\b\\");
        assert_eq!(Tree::new("empty", &[("proc/self/cgroup", "")]).limit(), None);
        assert_eq!(cpu_limit(Path::new("/nowhere")), None);
    }
}
