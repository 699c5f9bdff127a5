//! What all goroutines do: as data, and as text in the grammar of Go's dumps.

use crate::sched::core::g::{self, G, State};
use crate::sched::core::m;
use crate::sched::core::reason::WaitReason;
use crate::sched::spawn::task;
use crate::sched::swap;
use crate::sched::world::stop;
use crate::stack::walk;
use crate::sys::clock;
use crate::sys::sync::Ordering::Relaxed;
use std::fmt::{self, Write};
use std::panic::Location;
use std::time::Duration;

/// What a goroutine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Queued to run.
    Runnable,
    /// On a thread.
    Running,
    /// Inside [`blocking`](crate::blocking).
    Syscall,
    /// Parked, for this reason.
    Waiting(WaitReason),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Runnable => "runnable",
            Status::Running => "running",
            Status::Syscall => "syscall",
            Status::Waiting(reason) => reason.as_str(),
        })
    }
}

/// One goroutine, as an observer saw it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Goroutine {
    /// Its number; never used twice.
    pub id: u64,
    /// The number of the goroutine that made it, 0 if a plain thread did.
    pub parent: u64,
    /// From [`Builder::name`](crate::Builder::name).
    pub name: Option<String>,
    /// What it does.
    pub status: Status,
    /// For how long it has been waiting, or inside `blocking`.
    pub since: Duration,
    /// Whether it holds an [`OsThreadLock`](crate::OsThreadLock).
    pub locked_to_thread: bool,
    /// Where it was made.
    pub created_at: Option<&'static Location<'static>>,
}

impl fmt::Display for Goroutine {
    /// The header line of a dump, without its colon: `goroutine 7 [chan receive, 2 minutes]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "goroutine {} [{}", self.id, self.status)?;
        let minutes = self.since.as_secs() / 60;
        if minutes >= 1 {
            write!(f, ", {minutes} minutes")?;
        }
        if self.locked_to_thread {
            f.write_str(", locked to thread")?;
        }
        f.write_char(']')
    }
}

/// What `g` does, without its name: so this neither allocates nor takes a lock.
fn look_at(g: &G, now_ns: u64) -> Option<Goroutine> {
    let id = g.id();
    if g.is_system() {
        return None;
    }
    let (status, waits) = match g.state() {
        State::Dead => return None,
        State::Runnable => (Status::Runnable, false),
        State::Running => (Status::Running, false),
        State::Blocked | State::Outside => (Status::Syscall, true),
        State::Waiting => (Status::Waiting(g.reason()), true),
    };
    let since_ns = if waits { now_ns.saturating_sub(g.since_ns()) } else { 0 };
    Some(Goroutine {
        id,
        parent: g.parent(),
        name: None,
        status,
        since: Duration::from_nanos(since_ns),
        locked_to_thread: g.is_locked_to_thread(),
        created_at: g.created_at(),
    })
}

/// As [`look_at`], with the name.
fn look_closely_at(g: &G, now_ns: u64) -> Option<Goroutine> {
    let seen = look_at(g, now_ns)?;
    Some(Goroutine { name: g.name(), ..seen })
}

/// All goroutines, by number. None is stopped: each is shown as it was when it was looked at.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let me = &gort::debug::goroutines()[0];
///     assert_eq!(me.status, gort::debug::Status::Running);
/// })
/// ```
pub fn goroutines() -> Vec<Goroutine> {
    let now = clock::now_ns();
    let mut all = Vec::new();
    g::for_each(|g| all.extend(look_closely_at(g, now)));
    all.sort_by_key(|g: &Goroutine| g.id);
    all
}

/// All goroutines, by number, at one and the same moment: the world is stopped while they are
/// looked at. So what one goroutine does fits what the others do, and none [runs](Status::Running).
/// Those inside [`blocking`](crate::blocking) go on.
///
/// This takes some 100 µs, and longer where a goroutine that computes cannot be preempted.
/// `metrics::Snapshot` has the times.
///
/// # Blocking
///
/// G: yes. M: yes, as inside [`blocking`](crate::blocking). P: all of them, for the moment.
///
/// # Panics
///
/// If the runtime was not started.
///
/// # Examples
///
/// ```
/// use gort::debug::{Status, goroutines_at_once};
/// gort::run(|| {
///     let all = goroutines_at_once();
///     assert!(all.iter().all(|g| g.status != Status::Running));
/// })
/// ```
pub fn goroutines_at_once() -> Vec<Goroutine> {
    crate::sched::core::fixed::require_started("debug::goroutines_at_once");
    loop {
        let mut all: Vec<(Goroutine, &'static G)> = Vec::with_capacity(2 * task::num_goroutine() + 64);
        let complete = stop::stopped(|| {
            let now = clock::now_ns();
            let mut room = true;
            g::for_each(|g| {
                if let Some(seen) = look_at(g, now) {
                    room &= all.len() < all.capacity();
                    if room {
                        all.push((seen, g));
                    }
                }
            });
            room
        });
        if complete {
            all.sort_by_key(|(seen, _)| seen.id);
            // A name is kept until its goroutine ends.
            let with_name = |(seen, g): (Goroutine, &G)| {
                let name = g.name().filter(|_| g.id() == seen.id);
                Goroutine { name, ..seen }
            };
            return all.into_iter().map(with_name).collect();
        }
    }
}

/// All goroutines as text, in Go's grammar: the caller first, then by number.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let text = gort::debug::dump();
///     assert!(text.starts_with("goroutine "));
/// })
/// ```
pub fn dump() -> String {
    write(|_, _| ())
}

/// At most so many stacks are brought back for a dump. More might take more memory than there is.
const MOST_BROUGHT_BACK: usize = 10_000;

/// As [`dump`], with the stacks of the goroutines that wait.
///
/// # Safety
/// No goroutine that is suspended is resumed any more (`core/frozen.rs`).
pub(crate) unsafe fn dump_with_stacks() -> String {
    let mut brought_back = 0;
    write(|g, text| match g.state() {
        State::Waiting if g.swap.is_out() && brought_back == MOST_BROUGHT_BACK => {
            text.push_str("\tstack swapped out\n");
        }
        // SAFETY: it is suspended, and the caller promises that it stays so.
        State::Waiting if g.sp.load(Relaxed) != 0 => unsafe {
            brought_back += usize::from(swap::keep(g));
            walk::write_frames(&walk::frames(g.sp.load(Relaxed)), text)
        },
        State::Waiting => {}
        State::Runnable if g.sp.load(Relaxed) == 0 => text.push_str("\tgoroutine has not run yet\n"),
        State::Runnable => text.push_str("\tgoroutine is about to run; stack unavailable\n"),
        _ => text.push_str("\tgoroutine running on other thread; stack unavailable\n"),
    })
}

/// All goroutines as text, with what `stack` adds to each.
fn write(mut stack: impl FnMut(&'static G, &mut String)) -> String {
    let now = clock::now_ns();
    let mut all = Vec::new();
    g::for_each(|g| all.extend(look_closely_at(g, now).map(|seen| (seen, g))));
    let own = m::current().and_then(|m| m.g()).map(G::id);
    all.sort_by_key(|(seen, _)| (Some(seen.id) != own, seen.id));
    let mut text = String::new();
    for (seen, g) in all {
        let _ = writeln!(text, "{seen}:");
        if let Some(name) = &seen.name {
            let _ = writeln!(text, "name {name:?}");
        }
        stack(g, &mut text);
        let _ = writeln!(text, "{}", Rest(&seen));
    }
    text
}

/// The part of a dump that says what made the goroutine, and where.
struct Rest<'a>(&'a Goroutine);

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let g = self.0;
        if let Some(at) = g.created_at {
            match g.parent {
                0 => writeln!(f, "created by a thread")?,
                parent => writeln!(f, "created by goroutine {parent}")?,
            }
            writeln!(f, "\t{}:{}", at.file(), at.line())?;
        }
        Ok(())
    }
}
