//! Time and I/O wake goroutines. This says which M sleeps in the kernel's poll, what is told of an
//! earlier timer, and where goroutines go that were woken this way.
//!
//! The protocol between the sleeper in the poll and code that starts timers is in `wake/README.md`,
//! "Timers and the netpoller".

use super::netpoll;
use crate::sched::core::g::GList;
use crate::sched::core::p::{self, P};
use crate::sched::core::timers::{Fire, NEVER, TimerNode};
use crate::sched::core::waiter::Wake;
use crate::sched::ready::{self, pinned};
use crate::sched::shared::{self, monitor};
use crate::sched::wake::sleeper::{PollSleeper, Told};
use crate::sched::wake::sysmon_word::TIMED;
use crate::sys::line::Line;
use crate::sys::sync::{AtomicU64, Ordering::*};
use crate::sys::{clock, fork};

/// The M that sleeps in the kernel's poll.
pub(crate) static SLEEPER: Line<PollSleeper> = Line::new(PollSleeper::new(AtomicU64::new(0)));

/// When the netpoller was asked last.
static LAST_POLL_NS: AtomicU64 = AtomicU64::new(0);

/// When the netpoller was asked last.
pub(crate) fn last_poll_ns() -> u64 {
    LAST_POLL_NS.load(Relaxed)
}

/// Asks the netpoller. Goroutines that may run go to `list`; threads are woken at once.
pub(crate) fn poll_into(timeout_ns: Option<u64>, list: &mut GList) {
    netpoll::poll(timeout_ns, &mut |wake| collect(wake, list));
    LAST_POLL_NS.store(clock::now_ns(), Relaxed);
}

/// Makes ready what was woken. If it is a goroutine that may run at once, it goes to `list`.
pub(crate) fn collect(wake: Wake, list: &mut GList) {
    if let Some(g) = wake.into_goroutine() {
        if !g.g().take_expires() {
            return list.push_back(g);
        }
        // The caller looks after its list. This goroutine is for all Ps, and any of them may idle.
        let submitted = shared::lock().push_expired(g, false);
        ready::tell(submitted);
    }
}

/// The earliest timer of all heaps.
pub(crate) fn earliest_timer() -> u64 {
    p::all_ever().map(|p| p.timers.next_ns()).min().unwrap_or(NEVER)
}

/// Fires what is due in any heap, except in heaps whose lock is held just now.
pub(crate) fn run_all_due(list: &mut GList) {
    let now = clock::now_ns();
    for p in p::all_ever() {
        p.timers.try_run_due(now, |wake| collect(wake, list));
    }
}

/// Queues goroutines that I/O or time has readied. For callers without a P. If all Ps are busy,
/// sysmon makes sure that these goroutines need not wait for a whole slice.
pub(crate) fn push_urgent(list: &mut GList) {
    let submitted = shared::lock().push_urgent(list);
    if !ready::tell(submitted) {
        monitor::interrupt(TIMED);
    }
}

/// Makes sure that an M wakes up at `when_ns`: tells the sleeper in the poll, or makes an M go to
/// sleep there.
pub(crate) fn announce(when_ns: u64) {
    match SLEEPER.tell(when_ns) {
        Told::InTime => {}
        Told::Late => netpoll::wake(),
        Told::NoSleeper => {
            ready::tell_of_work();
        }
    }
}

/// Where timers go: the current P's heap, or the first P's if there is no current one.
pub(crate) struct TimerHost;

impl TimerHost {
    /// Starts `node`.
    ///
    /// # Safety
    /// As [`TimerNode::start`].
    pub(crate) unsafe fn start(node: &TimerNode, when_ns: u64, fire: Fire, arg: *const (), seq: usize) {
        let here = pinned();
        let p = here.as_ref().map_or_else(any_p, |here| here.p);
        // SAFETY: the caller's promise.
        if unsafe { node.start(&p.timers, when_ns, fire, arg, seq) } {
            announce(when_ns);
        }
    }

    /// As [`start`](TimerHost::start), for a goroutine that parks at once. Its M comes through
    /// `find`, and tells the sleeper only if it does not become the sleeper itself.
    ///
    /// # Safety
    /// As [`TimerNode::start`]; the caller parks next.
    pub(crate) unsafe fn start_and_park(node: &TimerNode, when_ns: u64, fire: Fire, arg: *const ()) {
        let Some(here) = pinned() else {
            // Sysmon has taken the P; the park gets another one.
            // SAFETY: the caller's promise.
            return unsafe { TimerHost::start(node, when_ns, fire, arg, 0) };
        };
        // SAFETY: the caller's promise.
        if unsafe { node.start(&here.p.timers, when_ns, fire, arg, 0) } {
            here.p.unannounced.set(true);
        }
    }
}

/// The first P.
fn any_p() -> &'static P {
    fork::refuse("a timer");
    p::get(0)
}

/// A moment for which no sleeper in the poll is late: only asks that there is a sleeper.
pub(crate) const SOON_ENOUGH: u64 = NEVER;

/// Makes sure that an M wakes up for the earliest of all timers. For callers that leave heaps
/// behind.
pub(crate) fn announce_all() {
    let earliest = earliest_timer();
    if earliest != NEVER {
        announce(earliest);
    }
}
