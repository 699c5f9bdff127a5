//! Nothing can ever run again: when that is certain.
//!
//! With all Ps idle: no goroutine queued, no timer, nobody waiting for I/O, every M asleep for want
//! of work (so none is inside `blocking`, none computes), and no thread in the process but ours and
//! those that wait in `run`. A foreign thread could still send, so it puts the verdict off; it is
//! asked again later, ever more rarely.
//!
//! # Why the verdict is certain
//! The kernel counts the threads, and that takes too long for the scheduler's lock. So sysmon looks
//! under the lock, counts without it, and looks again under it:
//! ```text
//!   look: all asleep, nothing comes; take the Scene
//!     ──▶ count the threads ──▶ look: is it the same Scene?
//! ```
//! The same [`Scene`] means that no goroutine has run in between (`schedules`), and no thread of
//! ours has come or gone. So from the first look on, only a foreign thread could have changed
//! anything, or made another one; and the count in between says that there was none.

use crate::sched::core::p;
use crate::sched::core::timers::NEVER;
use crate::sched::io::{netpoll, poll};
use crate::sched::shared::Shared;
use crate::sched::spawn::task::num_goroutine;
use crate::sched::swap;
use crate::sys::sync::{AtomicUsize, Ordering::*};
use std::time::Duration;

/// OS threads that wait in `run`, for a main goroutine that has not ended. That counts down itself: its caller may come to see the
/// end much later, and meanwhile nothing is wrong.
static RUNNERS: AtomicUsize = AtomicUsize::new(0);

/// See [`RUNNERS`].
fn runners() -> usize {
    RUNNERS.load(Acquire)
}

/// An OS thread begins to wait in `run`.
pub(crate) fn runner_begins() {
    RUNNERS.fetch_add(1, AcqRel);
}

/// Its main goroutine has ended.
pub(crate) fn runner_ends() {
    RUNNERS.fetch_sub(1, AcqRel);
}

/// What a look found.
pub(crate) enum Verdict {
    /// Something can still happen, and sysmon will be woken for it.
    Alive,
    /// Only a foreign thread can still do something. When it ends nobody tells us.
    AskAgain(Duration),
    /// The words of the fatal error.
    Dead(&'static str),
}

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is the same as long as nothing happens.
#[derive(PartialEq, Eq)]
pub(crate) struct Scene {
    /// Threads of ours, and those that wait in `run`.
    ours: usize,
    goroutines: usize,
    schedules: u64,
}

/// How long to wait for the next look.
pub(crate) struct Check {
    wait: Duration,
}

impl Default for Check {
    fn default() -> Check {
        Check { wait: FIRST_WAIT }
    }
}

impl Check {
    /// Looks, under the scheduler's lock and with all Ps idle. `None`: something can still happen,
    /// and sysmon will be woken for it.
    pub(crate) fn look(&mut self, s: &Shared) -> Option<Scene> {
        let asleep = s.m_pool.idle() + s.waiting_bound;
        let somebody_acts = asleep < s.m_pool.threads() || poll::SLEEPER.is_there();
        let something_comes =
            !s.global_is_empty() || poll::earliest_timer() != NEVER || netpoll::waiters() != 0;
        let goroutines = num_goroutine();
        let runners = runners();
        if somebody_acts || something_comes || (goroutines == 0 && runners == 0) {
            self.wait = FIRST_WAIT;
            return None;
        }
        let ours = s.m_pool.threads() + runners + 2 + swap::threads(); // sysmon and the template thread
        let schedules = p::all_ever().map(|p| p.stats.schedules.get()).sum();
        Some(Scene { ours, goroutines, schedules })
    }

    /// As [`look`](Check::look), after the threads were counted since that gave `before`.
    pub(crate) fn judge(&mut self, s: &Shared, before: Scene, threads: Option<usize>) -> Verdict {
        let Some(now) = self.look(s) else { return Verdict::Alive };
        // Without /proc nothing is certain. A thread of ours that is just ending counts as foreign for a moment.
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
