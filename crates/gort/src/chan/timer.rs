//! Receivers of times: `after`, `at`, `tick`, and the channels of `gort::time::{Timer, Ticker}`.
//!
//! # Role
//! Such a channel holds no message and is in no heap of timers. It knows when it is due, and a
//! receive waits with that deadline. While no receive waits, a timer costs its memory and nothing
//! else.
//!
//! # Protocol
//! The message is made when it is received: under the lock, a receiver that finds that `due` is
//! reached takes it and sets the next one. So nothing can be stale: once `set` or `stop` has
//! returned, the old time does not exist any more.
//!
//! A receiver that comes too early enrols among the watchers (same critical section) and waits
//! until `due`. `set` and `stop` change `due` and then tell all watchers to look again. If several
//! receivers wait for the same time, the first to take it has it, and the others wait for the next
//! one.

use super::channel::Nothing;
use super::core::Patience;
use super::waiters::{RETRY, WaitNode, WaitQueue, Wakes};
use crate::sched::{WaitReason, WaiterRef};
use crate::sys::lock::Lock;
use std::ptr;
use std::time::{Duration, Instant};

/// "Never" for a timer that must still count as active: longer than any process lives.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The time after `d`, counted from now.
pub(crate) fn from_now(d: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(d).unwrap_or(now + FAR)
}

pub(crate) struct TimerChan {
    pub(super) state: Lock<TimerState>,
    /// Whether a time that is due counts as a message in the channel, as with crossbeam's `after`
    /// and `tick`. If not, the channel looks like one without a buffer, as Go's timers do.
    buffered: bool,
}

pub(super) struct TimerState {
    /// None: stopped, or already received.
    due: Option<Instant>,
    period: Option<Duration>,
    pub(super) watchers: WaitQueue,
}

impl TimerState {
    /// Takes the time, if it is reached.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.due.filter(|&due| due <= now)?;
        self.due = self.period.and_then(|period| next_tick(due, period, now));
        Some(due)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// The first tick after `now` in step with `due`. Ticks that a slow receiver missed are dropped.
fn next_tick(due: Instant, period: Duration, now: Instant) -> Option<Instant> {
    if period.is_zero() {
        return Some(now);
    }
    let since_last = (now - due).as_nanos() % period.as_nanos();
    let since_last = Duration::from_nanos(u64::try_from(since_last).unwrap_or(u64::MAX));
    now.checked_add(period.saturating_sub(since_last))
}

impl TimerChan {
    pub(crate) fn new(due: Instant, period: Option<Duration>, buffered: bool) -> TimerChan {
        let state = TimerState { due: Some(due), period, watchers: WaitQueue::new() };
        TimerChan { state: Lock::new(state), buffered }
    }

    /// Makes it due at `due` (None: never), and then every `period`. True if it was active: due
    /// later, or due and not yet received.
    pub(crate) fn set(&self, due: Option<Instant>, period: Option<Duration>) -> bool {
        let (was_active, watched) = {
            let mut state = self.state.lock();
            state.period = period;
            (std::mem::replace(&mut state.due, due).is_some(), !state.watchers.is_empty())
        };
        if watched {
            self.notify_watchers();
        }
        was_active
    }

    fn notify_watchers(&self) {
        loop {
            let mut wakes = Wakes::new();
            self.state.lock().watchers.retry_all(&mut wakes);
            let more = wakes.is_full();
            wakes.ready();
            if !more {
                return;
            }
        }
    }

    pub(super) fn recv(&self, patience: Patience) -> Result<Instant, Nothing> {
        let node = WaitNode::new();
        let mut over = patience == Patience::None;
        loop {
            let now = Instant::now();
            let mut state = self.state.lock();
            if let Some(moment) = state.take(now) {
                return Ok(moment);
            }
            if over {
                return Err(Nothing::Empty);
            }
            let deadline = state.due.into_iter().chain(patience.deadline()).min();
            let me = WaiterRef::current();
            me.arm();
            node.enrol(me, RETRY, ptr::null_mut());
            // SAFETY: the node stays in this frame and is removed right after the wait.
            unsafe { state.watchers.push(&node) };
            drop(state);
            me.wait(WaitReason::ChanReceive, deadline);
            self.state.lock().watchers.remove(&node);
            over = patience.is_over();
        }
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.buffered && self.state.lock().is_due(Instant::now()))
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == usize::from(self.buffered)
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        Some(usize::from(self.buffered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks keep step with the first one, whenever they are received.
    #[test]
    fn next_tick_keeps_step() {
        let due = Instant::now();
        let ms = Duration::from_millis;
        let check = |late, period, expected| {
            assert_eq!(next_tick(due, ms(period), due + ms(late)), Some(due + ms(expected)));
        };
        check(0, 10, 10);
        check(9, 10, 10);
        check(10, 10, 20);
        check(25, 10, 30);
        check(25, 0, 25);
    }
}
