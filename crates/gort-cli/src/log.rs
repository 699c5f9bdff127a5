//! The log of `gort hub`: one line on standard error for each event of `tracing`.
//!
//! This is not tracing-subscriber, whose registry keeps a slot for each thread that has ever
//! entered a span, at most 4 096. To it, a goroutine is a thread. Here there are no spans.
//!
//! A goroutine that logs does not wait. Lines go through a bounded queue to a thread that writes
//! them. If that thread is stuck (a full pipe, a stopped terminal), lines are dropped and counted.
//! A failure to write is ignored.

use crate::out::Failure;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The most lines in the queue.
const QUEUE: usize = 1024;
/// How long the end of the program waits for the lines in the queue. On a machine with much to do
/// the thread may get no time for more than a second.
const FLUSH: Duration = Duration::from_secs(5);

enum Item {
    Line(String),
    Flush(Sender<()>),
}

struct ToStderr {
    level: LevelFilter,
    lines: SyncSender<Item>,
    dropped: AtomicU64,
}

/// Writes the lines that are still queued when it is dropped.
pub(crate) struct Log(SyncSender<Item>);

impl Drop for Log {
    fn drop(&mut self) {
        let (done, wait) = channel();
        if self.0.try_send(Item::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH);
        }
    }
}

/// From now on, lines of `level` and above go to standard error.
pub(crate) fn start(level: LevelFilter) -> Result<Log, Failure> {
    let (lines, queue) = sync_channel(QUEUE);
    std::thread::Builder::new().name("log".into()).spawn(move || write_lines(&queue))?;
    let subscriber = ToStderr { level, lines: lines.clone(), dropped: AtomicU64::new(0) };
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(Log(lines))
}

fn write_lines(queue: &Receiver<Item>) {
    while let Ok(item) = queue.recv() {
        match item {
            Item::Line(line) => drop(std::io::stderr().write_all(line.as_bytes())),
            Item::Flush(done) => drop(done.send(())),
        }
    }
}

impl Subscriber for ToStderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Line::default();
        event.record(&mut text);
        let level = event.metadata().level();
        let mut line = format!("{} {level:<5} {}{}", utc(SystemTime::now()), text.message, text.fields);
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = write!(line, " dropped={dropped}");
        }
        line.push('\n');
        if self.lines.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message, and `name=value` for each of the other fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// `2026-11-29T17:57:01.123Z`.
fn utc(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", since.subsec_millis())
}

/// The date of a day that is given by its number since 1970-01-01. Years begin in March here, so
/// that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dates that calendars often get wrong.
    #[test]
    fn dates() {
        let check = |s: u64, text: &str| assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(s)), text);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399, "2000-02-28T23:59:59.000Z");
        check(951_782_400, "2000-02-29T00:00:00.000Z");
        check(951_868_800, "2000-03-01T00:00:00.000Z");
        check(1_798_761_599, "2026-12-31T23:59:59.000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000Z");
    }
}
