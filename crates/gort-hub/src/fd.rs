//! File descriptors. A hub needs one for each connection, so their limit is often the first to be
//! reached.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a hub needs in addition to its connections: listener, epoll, standard streams,
/// log files, and some to spare.
pub const RESERVE: u64 = 64;

/// The limit of this process on open files (`RLIMIT_NOFILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdLimit {
    /// The limit that applies now. `u64::MAX` means that there is none.
    pub soft: u64,
    /// The limit up to which it can be raised without privileges.
    pub hard: u64,
}

impl FdLimit {
    /// Reads the limit. If it is lower than `wanted`, raises it as far as this process may.
    pub fn raise(wanted: u64) -> FdLimit {
        let now = FdLimit::now();
        if now.soft < wanted {
            let soft = wanted.min(now.hard);
            // If this is refused (for example by a seccomp filter), the old limit stays and is
            // returned.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: finite(soft), maximum: finite(now.hard) });
        }
        FdLimit::now()
    }

    /// Reads the limit.
    pub fn now() -> FdLimit {
        let limit = getrlimit(Resource::Nofile);
        FdLimit { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }

    /// How many connections fit if each needs `each` descriptors.
    pub fn connections(self, each: u64) -> u64 {
        self.soft.saturating_sub(RESERVE) / each
    }

    /// What to do if `needed` descriptors are more than the limit allows; `None` if they are not.
    pub fn complaint(self, needed: u64) -> Option<String> {
        (self.soft < needed).then(|| {
            let how = if self.hard < needed {
                "raise the hard limit: LimitNOFILE= in a systemd unit, --ulimit nofile= for docker, \
                 or /etc/security/limits.conf"
            } else {
                "run `ulimit -n` with a higher number first"
            };
            let limit = self.soft;
            format!("{needed} file descriptors are needed, but this process may open {limit} ({how})")
        })
    }
}

fn finite(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complains_only_above_the_limit_and_says_what_to_do() {
        let limit = FdLimit { soft: 1024, hard: 4096 };
        assert_eq!(limit.complaint(1024), None);
        assert!(limit.complaint(1025).unwrap().contains("ulimit -n"));
        assert!(limit.complaint(5000).unwrap().contains("hard limit"));
        assert_eq!(limit.connections(1), 960);
        assert_eq!(limit.connections(2), 480);
        assert_eq!(FdLimit { soft: 10, hard: 10 }.connections(1), 0);
    }

    #[test]
    fn raising_never_lowers() {
        let before = FdLimit::now();
        let after = FdLimit::raise(before.soft.saturating_sub(1));
        assert_eq!(before, after);
    }
}
