//! The knobs: each with its default and its reason.

use super::start_error::StartError;
use crate::stack::slab;
use crate::stack::tls::Wanted;
use crate::sys::fatal::say;
use crate::sys::{cgroup, thread};
use std::path::Path;
use std::time::Duration;

/// A time slice of a P, see `policy/`. Go's `forcePreemptNS`.
pub(crate) const SLICE: Duration = Duration::from_millis(10);
/// How many goroutines a P's ring has room for; Go's number.
pub(crate) const RING: usize = 256;
/// How many warm stacks a P keeps.
pub(crate) const WARM_SLOTS: usize = 64;
/// How many dead descriptors a P keeps.
pub(crate) const FREE_GS: usize = 64;
/// How long an M beyond GOMAXPROCS + 1 sleeps before its thread ends.
pub(crate) const IDLE_M: Duration = Duration::from_secs(4);
/// The most Ps.
pub(crate) const MAX_PROCS: usize = 1024;
/// The default of the hard cap on threads, as in Go; past it the process ends with a report.
pub(crate) const THREAD_CAP: usize = 10_000;
/// Free slots of each size that are kept when a peak is over.
pub(crate) const KEEP_FREE_SLOTS: usize = 1024;

/// What can be set before the runtime starts.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) gomaxprocs: Option<usize>,
    pub(crate) stack_bytes: Option<usize>,
    pub(crate) static_tls_bytes: Option<usize>,
    pub(crate) thread_cap: Option<usize>,
    pub(crate) blocking_limit: Option<usize>,
    /// Goroutines use the thread-locals of the threads.
    pub(crate) shares_thread_locals: bool,
    pub(crate) swap_after: Option<Duration>,
}

impl Config {
    pub(crate) const fn new() -> Config {
        Config {
            gomaxprocs: None,
            stack_bytes: None,
            static_tls_bytes: None,
            thread_cap: None,
            blocking_limit: None,
            shares_thread_locals: false,
            swap_after: None,
        }
    }

    /// Whether the caller has set nothing.
    pub(crate) fn is_default(&self) -> bool {
        self.gomaxprocs.is_none()
            && self.stack_bytes.is_none()
            && self.static_tls_bytes.is_none()
            && self.thread_cap.is_none()
            && self.blocking_limit.is_none()
            && !self.shares_thread_locals
            && self.swap_after.is_none()
    }

    /// The number of Ps: what was set; else `GOMAXPROCS`; else what the machine and its limits
    /// allow.
    pub(crate) fn procs(&self) -> Result<usize, StartError> {
        match self.gomaxprocs {
            Some(n) if (1..=MAX_PROCS).contains(&n) => Ok(n),
            Some(n) => {
                Err(StartError::Invalid(format!("gomaxprocs({n}): must be between 1 and {MAX_PROCS}")))
            }
            None => Ok(Config::default_procs()),
        }
    }

    /// As [`procs`](Config::procs) where nothing was set.
    pub(crate) fn default_procs() -> usize {
        Config::env_procs().unwrap_or_else(|| Limits::now().procs())
    }

    /// What the environment asks for. A `GOMAXPROCS` that is no positive number is ignored, as in
    /// Go.
    pub(crate) fn env_procs() -> Option<usize> {
        let asked: usize = std::env::var("GOMAXPROCS").ok()?.trim().parse().ok()?;
        (asked > 0).then(|| asked.min(MAX_PROCS))
    }

    /// The bytes of a default stack.
    pub(crate) fn stack(&self) -> usize {
        self.stack_bytes.or_else(|| env_bytes("GORT_STACK")).unwrap_or(slab::DEFAULT_STACK_BYTES)
    }

    /// What is done with the static TLS that libc keeps free. `GORT_DEBUG=tlssurplus=0` leaves it
    /// unused, for tests.
    pub(crate) fn static_tls(&self, ended: extern "C" fn() -> !) -> Wanted {
        let reserve = self.static_tls_bytes.or_else(|| env_bytes("GORT_STATIC_TLS")).unwrap_or(0);
        let take = debug_knob("tlssurplus").is_none_or(|v| v != "0");
        Wanted { reserve, take, ended }
    }

    pub(crate) fn cap(&self) -> usize {
        self.thread_cap.or_else(|| env_number("GORT_THREAD_CAP")).unwrap_or(THREAD_CAP)
    }

    /// How many goroutines may be inside `blocking` at once, if that was set; 0 is no limit.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.blocking_limit.or_else(|| env_number("GORT_BLOCKING_LIMIT"))
    }

    /// How long a goroutine is parked before its stack is swapped out. `GORT_SWAP` (a duration, or
    /// `off`) overrules a program that has promised what swapping needs.
    pub(crate) fn swap_after(&self) -> Option<Duration> {
        let read = |text: &str| if text == "off" { Some(None) } else { parse_duration(text).map(Some) };
        let not = "neither a duration nor off (examples: 500ms, 5s, off)";
        let asked = env_parsed("GORT_SWAP", read, not);
        let Some(after) = self.swap_after else {
            if asked.flatten().is_some() {
                say(format_args!(
                    "GORT_SWAP is ignored: this program has not promised what swapping needs \
                     (RuntimeBuilder::swap_idle_stacks)"
                ));
            }
            return None;
        };
        asked.unwrap_or(Some(after)).filter(|&after| after != Duration::MAX)
    }
}

/// What bounds the CPU time of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    /// How many CPUs the process may run on.
    pub(crate) cpus: usize,
    /// How much CPU time its control groups allow, in CPUs.
    pub(crate) cgroup: Option<f64>,
}

impl Limits {
    /// Asks the system. `GORT_DEBUG=containermaxprocs=0` ignores control groups.
    pub(crate) fn now() -> Limits {
        let ignored = debug_knob("containermaxprocs").is_some_and(|v| v == "0");
        let cgroup = if ignored { None } else { cgroup::cpu_limit(Path::new("/")) };
        Limits { cpus: thread::cpus(), cgroup }
    }

    /// The number of Ps: as many as CPUs, or as the quota gives, rounded up.
    pub(crate) fn procs(self) -> usize {
        let quota = self.cgroup.map_or(usize::MAX, |limit| limit.ceil().max(1.0) as usize);
        self.cpus.min(quota).clamp(1, MAX_PROCS)
    }
}

/// The value of a variable of the environment. A value that cannot be read is reported and ignored.
fn env_parsed<T>(name: &str, parse: impl Fn(&str) -> Option<T>, not: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let parsed = parse(text.trim());
    if parsed.is_none() {
        say(format_args!("{name}={text:?} is {not}; ignored"));
    }
    parsed
}

fn env_number(name: &str) -> Option<usize> {
    env_parsed(name, |text| text.parse().ok(), "no number")
}

/// A number of bytes, with `K`, `M` or `G` behind it or not.
fn env_bytes(name: &str) -> Option<usize> {
    env_parsed(name, parse_bytes, "not a number of bytes (examples: 65536, 64K, 1M)")
}

fn parse_bytes(text: &str) -> Option<usize> {
    let (digits, unit) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1 << 10),
        'm' | 'M' => (&text[..text.len() - 1], 1 << 20),
        'g' | 'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// A whole number with `us`, `ms`, `s` or `m` behind it.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let n: u64 = text[..unit_at].parse().ok()?;
    let micros = match &text[unit_at..] {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        _ => return None,
    };
    n.checked_mul(micros).map(Duration::from_micros)
}

/// The length of a time slice; `GORT_DEBUG=sliceus=N` sets it in microseconds, for tests.
pub(crate) fn slice() -> Duration {
    debug_knob("sliceus").and_then(|us| us.parse().ok()).map_or(SLICE, Duration::from_micros)
}

/// The value of `key` in `GORT_DEBUG=key=value,key=value`.
pub(crate) fn debug_knob(key: &str) -> Option<String> {
    let all = std::env::var("GORT_DEBUG").ok()?;
    all.split(',').find_map(|kv| kv.trim().strip_prefix(key)?.strip_prefix('=').map(str::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The quota is rounded up, and never gives more than there are CPUs, nor none.
    #[test]
    fn procs_of_limits() {
        let procs = |cpus, cgroup| Limits { cpus, cgroup }.procs();
        assert_eq!(procs(8, None), 8);
        for (limit, expected) in
            [(0.01, 1), (0.5, 1), (1.0, 1), (1.01, 2), (2.5, 3), (8.0, 8), (100.0, 8), (1e300, 8)]
        {
            assert_eq!(procs(8, Some(limit)), expected, "{limit}");
        }
        assert_eq!(procs(1, Some(2.0)), 1);
        assert_eq!(procs(1_000_000, None), MAX_PROCS);
    }

    #[test]
    fn durations_are_read_with_units() {
        assert_eq!(parse_duration("0us"), Some(Duration::ZERO));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "5", "s", "5 s", "-1s", "1h", "99999999999999999999s", "999999999999999m"] {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn bytes_are_read_with_units() {
        assert_eq!(parse_bytes("65536"), Some(65536));
        assert_eq!(parse_bytes("64K"), Some(65536));
        assert_eq!(parse_bytes("2m"), Some(2 << 20));
        assert_eq!(parse_bytes("1G"), Some(1 << 30));
        assert_eq!(parse_bytes(""), None);
        assert_eq!(parse_bytes("x"), None);
        assert_eq!(parse_bytes("99999999999999G"), None);
    }
}
