//! Nothing can ever run again: when that is certain.
//!
//! Under the scheduler's lock, with all Ps idle: no goroutine queued, no timer, nobody waiting for I/O, every M asleep for want of work
//! (so none is inside `blocking`, none computes), and no thread in the process but ours and those that wait in `run`. A foreign thread could
//! still send, so it puts the verdict off; it is asked again later, ever more rarely.

use super::find;
use super::netpoll;
use super::start::runners;
use super::state::Shared;
use super::swap;
use super::task::num_goroutine;
use super::timers::NEVER;
use crate::sys::thread;
use std::time::Duration;

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
    /// Looks, under the scheduler's lock.
    pub(crate) fn look(&mut self, s: &mut Shared) -> Verdict {
        let asleep = s.staff.idle() + s.waiting_bound;
        let somebody_acts = asleep < s.staff.threads() || find::SLEEPER.is_there();
        let something_comes =
            !s.global_is_empty() || find::earliest_timer() != NEVER || netpoll::waiters() != 0;
        let goroutines = num_goroutine();
        let runners = runners();
        if somebody_acts || something_comes || (goroutines == 0 && runners == 0) {
            self.wait = FIRST_WAIT;
            return Verdict::Alive;
        }
        let ours = s.staff.threads() + runners + 2 + swap::threads(); // sysmon and the template thread
        // Without /proc nothing is certain. A thread of ours that is just ending counts as foreign for a moment.
        if thread::count().is_none_or(|n| n > ours) {
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            return Verdict::AskAgain(self.wait);
        }
        Verdict::Dead(match goroutines {
            0 => "fatal error: no goroutines (main called goexit) - deadlock!",
            _ => "fatal error: all goroutines are asleep - deadlock!",
        })
    }
}
