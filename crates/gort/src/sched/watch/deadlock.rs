//! When it is certain that nothing can ever run again: a deadlock.
//!
//! With all Ps idle, these must hold:
//! - No goroutine is queued, no timer is pending, and nothing waits for I/O.
//! - Every M sleeps for want of work. So none is inside `blocking`, and none computes.
//! - The process has no threads but the runtime's own and those that wait in `run`.
//!
//! A foreign thread could still send to a goroutine. So while there is one, the verdict is put off,
//! and sysmon asks again later, ever more rarely.
//!
//! # Why the verdict is certain
//! The kernel counts the threads, and that takes too long for the scheduler's lock. So sysmon looks
//! under the lock, counts without it, and looks again under it:
//! ```text
//!   look: all asleep, nothing comes; take the Scene
//!     ──▶ count the threads ──▶ look: is it the same Scene?
//! ```
//! The same [`Scene`] means that no goroutine has run in between (`schedules`), and that no thread
//! of the runtime has come or gone. So from the first look on, only a foreign thread could have
//! changed anything, or made another thread. The count in between says that there was no foreign
//! thread.

use crate::sched::core::p;
use crate::sched::core::timers::NEVER;
use crate::sched::io::{netpoll, poll};
use crate::sched::shared::Shared;
use crate::sched::spawn::task::num_goroutine;
use crate::sched::swap;
use crate::sys::sync::{AtomicUsize, Ordering::*};
use std::time::Duration;

/// OS threads that wait in `run` for a main goroutine that has not ended. The main goroutine itself
/// counts down: its caller may see the end much later, and nothing is wrong meanwhile.
static RUNNERS: AtomicUsize = AtomicUsize::new(0);

/// See [`RUNNERS`].
fn runners() -> usize {
    RUNNERS.load(Acquire)
}

/// Called when an OS thread begins to wait in `run`.
pub(crate) fn runner_begins() {
    RUNNERS.fetch_add(1, AcqRel);
}

/// Called when its main goroutine has ended.
pub(crate) fn runner_ends() {
    RUNNERS.fetch_sub(1, AcqRel);
}

/// What a look found.
pub(crate) enum Verdict {
    /// Something can still happen, and sysmon will be woken for it.
    Alive,
    /// Only a foreign thread can still do something. When it ends, nothing tells sysmon.
    AskAgain(Duration),
    /// The message of the fatal error.
    Dead(&'static str),
}

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What stays the same as long as nothing happens.
#[derive(PartialEq, Eq)]
pub(crate) struct Scene {
    /// The runtime's own threads, and those that wait in `run`.
    ours: usize,
    goroutines: usize,
    schedules: u64,
}

/// How long to wait until the next look.
pub(crate) struct Check {
    wait: Duration,
}

impl Default for Check {
    fn default() -> Check {
        Check { wait: FIRST_WAIT }
    }
}

impl Check {
    /// Looks, under the scheduler's lock and with all Ps idle. `None` means that something can
    /// still happen, and that sysmon will be woken for it.
    pub(crate) fn look(&mut self, s: &Shared) -> Option<Scene> {
        let asleep = s.m_pool.idle() + s.waiting_bound;
        let a_thread_acts = asleep < s.m_pool.threads() || poll::SLEEPER.is_there();
        let something_comes =
            !s.global_is_empty() || poll::earliest_timer() != NEVER || netpoll::waiters() != 0;
        let goroutines = num_goroutine();
        let runners = runners();
        if a_thread_acts || something_comes || (goroutines == 0 && runners == 0) {
            self.wait = FIRST_WAIT;
            return None;
        }
        // The two are sysmon and the template thread.
        let ours = s.m_pool.threads() + runners + 2 + swap::threads();
        let schedules = p::all_ever().map(|p| p.stats.schedules.get()).sum();
        Some(Scene { ours, goroutines, schedules })
    }

    /// As [`look`](Check::look), but called after the threads were counted. `before` is what the
    /// look before the count gave.
    pub(crate) fn judge(&mut self, s: &Shared, before: Scene, threads: Option<usize>) -> Verdict {
        let Some(now) = self.look(s) else { return Verdict::Alive };
        // Without /proc nothing is certain. A thread of the runtime that is just ending counts as
        // foreign for a moment.
        if now != before || threads.is_none_or(|n| n > now.ours) {
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            return Verdict::AskAgain(self.wait);
        }
        Verdict::Dead(match now.goroutines {
            0 => "fatal error: no goroutines (main called goexit) - deadlock!",
            _ => "fatal error: all goroutines are asleep - deadlock!",
        })
    }
}
