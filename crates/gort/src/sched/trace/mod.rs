//! Trace points: what happens to goroutines, Ms and Ps, in the order in which it does.
//!
//! A point costs one read of a word that no thread writes while tracing is off. While tracing is
//! on, events are recorded under a raw lock, in memory that was allocated before. For points lie in
//! signal handlers, and where a stopped goroutine may hold malloc's locks.

use crate::sched::core::g::G;
use crate::sched::core::m::M;
use crate::sched::core::p::P;
use crate::sys::clock;
use crate::sys::line::Line;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicBool, Ordering::*};
use std::time::Duration;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// The goroutine has entered [`blocking`](crate::blocking), with its P.
    SyscallBegin,
    /// It has left with the P that it had.
    SyscallEnd,
    /// It has left and found its P taken; it waits for one on its thread.
    SyscallEndBlocked,
    /// Its P was taken while it was inside. The M is the one that lost it.
    ProcSteal,
    /// A P that was taken, or given up, goes to an M with work, or to one that looks for some.
    ProcHandOff,
    /// A P that was taken, or given up, idles: no M has a use for it.
    ProcIdle,
    /// The goroutine was stopped in the middle of computing, with its M, and has given its P up.
    Preempt,
    /// A goroutine that waited with its M, after [`Preempt`](EventKind::Preempt) or
    /// [`SyscallEndBlocked`](EventKind::SyscallEndBlocked), goes on, with the P that it was given.
    Resume,
    /// GOMAXPROCS was changed.
    ProcsChange,
    /// The world is to stop.
    StopBegin,
    /// The world goes on.
    StopEnd,
}

/// Something that happened, and the goroutine, M and P that it happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When it happened, counted from the beginning of the trace.
    pub time: Duration,
    /// What happened.
    pub kind: EventKind,
    /// The goroutine's number, if it happened to one.
    pub goroutine: Option<u64>,
    /// The number of the M, if it happened to one.
    pub m: Option<u32>,
    /// The number of the P, if one has part in it. For `ProcsChange`: how many Ps there are now.
    pub p: Option<u32>,
}

/// What was recorded.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Trace {
    /// In the order in which it happened.
    pub events: Vec<Event>,
    /// How many events came when the memory was full.
    pub lost: u64,
}

/// A trace is on already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace is on already: gort::trace::stop ends it")]
pub struct TraceIsOn;

static ON: Line<AtomicBool> = Line::new(AtomicBool::new(false));

struct Record {
    begun_ns: u64,
    trace: Trace,
}

static RECORD: Lock<Option<Record>> = Lock::new(None);

/// Begins to record what happens: at most `capacity` events; later ones are only counted.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Errors
///
/// [`TraceIsOn`].
///
/// # Examples
///
/// ```
/// use gort::trace::{self, EventKind};
/// gort::run(|| {
///     trace::start(1000).unwrap();
///     gort::blocking(|| ());
///     let seen = trace::stop();
///     assert!(seen.events.iter().any(|e| e.kind == EventKind::SyscallBegin));
/// })
/// ```
pub fn start(capacity: usize) -> Result<(), TraceIsOn> {
    let trace = Trace { events: Vec::with_capacity(capacity), lost: 0 };
    let mut record = RECORD.lock();
    if record.is_some() {
        drop(record);
        return Err(TraceIsOn);
    }
    *record = Some(Record { begun_ns: clock::now_ns(), trace });
    ON.store(true, Release);
    Ok(())
}

/// Ends the trace and returns what was recorded; nothing if no trace was on.
///
/// # Blocking
///
/// G: no. M: no. P: no.
pub fn stop() -> Trace {
    let record = {
        let mut record = RECORD.lock();
        ON.store(false, Release);
        record.take()
    };
    record.map(|record| record.trace).unwrap_or_default()
}

/// Records that `kind` happens now, if a trace is on.
#[inline]
pub(crate) fn point(kind: EventKind, g: Option<&G>, m: Option<&M>, p: Option<&P>) {
    if ON.load(Relaxed) {
        take_down(kind, g.map(G::id), m.map(|m| m.id), p.map(|p| p.id));
    }
}

/// As [`point`], for what happens to all goroutines, Ms and Ps.
#[inline]
pub(crate) fn procs_point(kind: EventKind, procs: Option<usize>) {
    if ON.load(Relaxed) {
        take_down(kind, None, None, procs.map(|n| n as u32));
    }
}

#[cold]
fn take_down(kind: EventKind, goroutine: Option<u64>, m: Option<u32>, p: Option<u32>) {
    if let Some(Record { begun_ns, trace }) = &mut *RECORD.lock() {
        if trace.events.len() == trace.events.capacity() {
            trace.lost += 1;
            return;
        }
        let time = Duration::from_nanos(clock::now_ns().saturating_sub(*begun_ns));
        trace.events.push(Event { time, kind, goroutine, m, p });
    }
}
