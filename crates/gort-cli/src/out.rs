//! Output for people. `println!` panics if the reader of a pipe has gone (`gort demo | head -1`);
//! this does not.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Why a command did not succeed, in one sentence.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes a line to standard output. It is no error if the reader has gone, but a full disk is one.
pub(crate) fn say(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to standard error. A failure is ignored, because there is nowhere to report it.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether standard error is a terminal. If so, progress is drawn, otherwise it is written in
/// lines.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// `12.3 KiB`, `4.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    match n as f64 {
        b if b < 1024.0 => format!("{n} B"),
        b if b < 1024.0 * 1024.0 => format!("{:.1} KiB", b / 1024.0),
        b if b < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", b / 1024.0 / 1024.0),
        b => format!("{:.2} GiB", b / 1024.0 / 1024.0 / 1024.0),
    }
}

/// `85 µs`, `1.24 ms`, `2.10 s`, and `–` for 0, which means that there was no measurement.
pub(crate) fn time(ns: u64) -> String {
    match ns as f64 {
        0.0 => "–".into(),
        t if t < 1e6 => format!("{:.0} µs", t / 1e3),
        t if t < 1e9 => format!("{:.2} ms", t / 1e6),
        t => format!("{:.2} s", t / 1e9),
    }
}

/// `12 345 678`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            (count(0), count(999), count(1000), count(1_234_567)),
            ("0".into(), "999".into(), "1 000".into(), "1 234 567".into())
        );
        assert_eq!(
            (bytes(9), bytes(8192), bytes(5 << 20)),
            ("9 B".into(), "8.0 KiB".into(), "5.0 MiB".into())
        );
        assert_eq!(
            (time(85_000), time(1_240_000), time(2_100_000_000)),
            ("85 µs".into(), "1.24 ms".into(), "2.10 s".into())
        );
    }
}
