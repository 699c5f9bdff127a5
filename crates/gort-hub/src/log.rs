//! The log: one line for each event that the operator should know about, through `tracing`.
//!
//! Lines of one kind are rate limited, so that a thousand bad clients do not write a million lines.
//! The next line that is written says how many were left out. No line is written under a lock,
//! because the subscriber may block.

use crate::rt::sync::Mutex;
use crate::sync::lock;
use std::time::{Duration, Instant};

/// The most lines of one kind within `EVERY`.
const LINES: u32 = 10;
const EVERY: Duration = Duration::from_secs(10);

/// One gate for each kind of line.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Clients that were closed because they did not read.
    pub(crate) slow: Gate,
    /// Connections that were refused, or closed to make room.
    pub(crate) refused: Gate,
    /// Requests and messages that were refused for their size, their rate or their form.
    pub(crate) limits: Gate,
    /// Signatures that are not valid.
    pub(crate) auth: Gate,
    /// Connections that were ended by a panic.
    pub(crate) panics: Gate,
    /// Failures of the listener.
    pub(crate) accept: Gate,
}

/// Lets some lines through, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Gate {
    /// How many lines were left out before this one; `None` if this one is left out as well.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        let mut window = lock(&self.0);
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= EVERY) {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines == LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

/// `line!(gate, level, fields…, "message")` writes a line if the gate lets it through.
macro_rules! line {
    ($gate:expr, $level:ident, $($line:tt)+) => {
        match $gate.pass(std::time::Instant::now()) {
            None => {}
            Some(0) => tracing::$level!($($line)+),
            Some(left_out) => tracing::$level!(left_out, $($line)+),
        }
    };
}
pub(crate) use line;

#[cfg(test)]
mod tests {
    use super::*;

    /// A burst passes. The rest is counted, and the next line says how many there were.
    #[test]
    fn lines_are_rate_limited_and_counted() {
        let gate = Gate::default();
        let start = Instant::now();
        for _ in 0..LINES {
            assert_eq!(gate.pass(start), Some(0));
        }
        assert_eq!(gate.pass(start), None);
        assert_eq!(gate.pass(start + EVERY / 2), None);
        assert_eq!(gate.pass(start + EVERY), Some(2));
        assert_eq!(gate.pass(start + EVERY), Some(0));
    }
}
