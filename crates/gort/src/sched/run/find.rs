//! What to run next, and how an M waits when there is nothing.
//!
//! # Order
//! 1. What the M's own P, the global queue, the netpoller and the expired have, in the order that
//!    `policy/` says.
//! 2. Other Ps' rings, their due timers and their `next`.
//! 3. The P idles, and the M looks at all queues once more (`wake/README.md`, G1 to G4).
//! 4. One M sleeps in the kernel's poll until the earliest timer of all heaps; the others sleep in
//!    the idle list.
//!
//! The protocol between the sleeper in the poll and code that starts timers is in `wake/README.md`,
//! "Timers and the netpoller".

use crate::sched::core::g::{GList, Runnable};
use crate::sched::core::m::M;
use crate::sched::core::p::{self, P};
use crate::sched::core::timers::NEVER;
use crate::sched::core::waiter::Wake;
use crate::sched::handoff;
use crate::sched::io::netpoll;
use crate::sched::io::poll::{
    SLEEPER, announce, announce_all, earliest_timer, poll_into, push_urgent, run_all_due,
};
use crate::sched::policy::{self, Class, LOOK_EVERY, SliceState, Sources, URGENT_NS};
use crate::sched::ready::{self, push_behind};
use crate::sched::run::slice;
use crate::sched::shared::{self, Submitted, WAKE};
use crate::sched::threads::pool;
use crate::sched::wake::sleeper::Told;
use crate::sys::clock;
use crate::sys::sync::Ordering::*;
use crate::sys::thread::{self, PreciseSleep};
use std::cell::Cell;
use std::time::Duration;

/// From this length on the kernel rounds a wait in the poll by a thousandth, whatever the thread's
/// slack is. A thousandth is then usually more than the slack.
const ROUGH_NS: u64 = 50_000_000;

/// How many times an M looks at all other Ps before it gives up, as in Go.
const STEAL_PASSES: u32 = 4;

/// How long a running P's `next` is left alone: its owner is about to run it, and has it in its
/// cache. Go sleeps for 3 µs here, which become 50 with the kernel's usual slack; this sleep is as
/// long as it says.
const NEXT_GRACE: Duration = Duration::from_micros(20);

/// The next goroutine for `m` to run. Sleeps until there is one. `None` means that the thread is to
/// end. Runs on g0. The M has a P on entry and on return, except at the thread's end.
pub(crate) fn find(m: &'static M) -> Option<Runnable> {
    if let Some(found) = m.found.take() {
        return Some(found); // `direct.rs` has looked
    }
    loop {
        let p = m.p.get().expect("`find` is entered with a P");
        if p.is_over() {
            m.p.set(None);
            if m.spinning.replace(false) {
                WAKE.end_spinning();
            }
            handoff::release_p(p);
            if !pool::stop_m(m) {
                return None;
            }
            continue;
        }
        if let Some(found) = policy::pick(&mut Here(p)) {
            announce_timers(p);
            return Some(found);
        }
        if let Some(g) = steal_work(m, p) {
            p.slice.set(SliceState::ACTIVE);
            announce_timers(p);
            return Some(g);
        }
        if !idle(m, p) {
            return None;
        }
    }
}

/// What a P has itself, and what all Ps share. Only the P's owner may use it.
struct Here(&'static P);

impl Sources for Here {
    type Item = Runnable;

    #[inline]
    fn is_slice_over(&self) -> bool {
        self.0.preempt.load(Relaxed)
    }

    fn end_slice(&mut self) {
        slice::end_between(self.0);
    }

    #[inline]
    fn fire_timers(&mut self) {
        let p = self.0;
        let next_timer = p.timers.next_ns();
        if next_timer == NEVER {
            return;
        }
        let now = clock::now_ns();
        p.looked_ns.set(now);
        p.looked_cycles.set(clock::cycles());
        if next_timer <= now {
            self.put_expired_back();
            p.timers.run_due(now, Wake::ready);
        }
    }

    #[inline]
    fn schedules(&self) -> u64 {
        self.0.stats.schedules.get()
    }

    #[inline]
    fn first(&self) -> Class {
        self.0.slice.get().first
    }

    #[inline]
    fn set_first(&mut self, first: Class) {
        self.0.slice.set(SliceState { first, ..self.0.slice.get() });
    }

    #[inline]
    fn set_running(&mut self, running: Class) {
        self.0.slice.set(SliceState { running, ..self.0.slice.get() });
    }

    #[inline]
    fn took_urgent(&mut self) -> &Cell<bool> {
        &self.0.took_urgent
    }

    fn has_time_for_urgent(&mut self) -> bool {
        clock::now_ns() < self.0.interrupted_ns.get() + URGENT_NS
    }

    /// Does not look if the ring has enough to last until the next look: what came in addition
    /// would only overtake the goroutines that wait there.
    fn readable(&mut self) -> Option<Runnable> {
        let few = netpoll::waiters() != 0 && self.0.runq.len() < LOOK_EVERY as usize;
        if few { look_at_netpoll(self.0) } else { None }
    }

    #[inline]
    fn readable_alone(&mut self) -> Option<Runnable> {
        if netpoll::waiters() == 0 || SLEEPER.is_there() { None } else { look_at_netpoll(self.0) }
    }

    #[inline]
    fn urgent(&mut self) -> Option<Runnable> {
        if shared::is_urgent() { shared::lock().pop_urgent() } else { None }
    }

    fn newcomer(&mut self) -> Option<Runnable> {
        shared::lock().pop_newcomer()
    }

    #[inline]
    fn global(&mut self) -> Option<Runnable> {
        if shared::active_is_empty() { None } else { shared::lock().pop_active() }
    }

    #[inline]
    fn global_share(&mut self) -> Option<Runnable> {
        if shared::active_is_empty() { None } else { shared::lock().pop_global(self.0) }
    }

    #[inline]
    fn next(&mut self) -> Option<Runnable> {
        self.0.runq.take_next()
    }

    fn put_expired_back(&mut self) {
        if self.0.slice.get().running == Class::Expired
            && let Some(g) = self.0.runq.take_next()
        {
            let submitted = shared::lock().push_expired_front(g, false);
            ready::tell(submitted);
        }
    }

    #[inline]
    fn ring(&mut self) -> Option<Runnable> {
        self.0.pop()
    }

    #[inline]
    fn expired(&mut self) -> Option<Runnable> {
        if shared::nothing_is_expired() { None } else { shared::lock().pop_expired() }
    }
}

/// Asks the kernel for events, without sleeping. Returns the first goroutine that they wake, and
/// queues the others on `p`.
fn look_at_netpoll(p: &P) -> Option<Runnable> {
    let mut list = GList::new();
    poll_into(Some(0), &mut list);
    let first = list.pop_front()?;
    if !list.is_empty() {
        queue_on(p, list);
    }
    Some(first)
}

fn queue_on(p: &P, mut list: GList) {
    let mut submitted = Submitted::NOTHING;
    while let Some(g) = list.pop_front() {
        submitted = submitted.and(push_behind(p, g));
    }
    ready::tell(submitted);
}

/// Looks for work on other Ps, as a spinning M, unless enough other Ms spin already.
fn steal_work(m: &'static M, p: &'static P) -> Option<Runnable> {
    let procs = p::procs() as u32;
    if procs == 1 {
        return None;
    }
    if !m.spinning.get() {
        let busy = procs.saturating_sub(WAKE.idle_ps());
        if 2 * WAKE.spinning() >= busy {
            return None;
        }
        m.spinning.set(true);
        WAKE.begin_spinning();
    }
    for pass in 1..=STEAL_PASSES {
        let start = p.random(procs);
        for i in 0..procs {
            let victim = p::get(((start + i) % procs) as usize);
            if std::ptr::eq(victim, p) {
                continue;
            }
            if let Some(g) = victim.runq.steal_into(&p.runq) {
                p.stats.steals.add(1);
                return Some(g);
            }
            if pass < STEAL_PASSES {
                continue;
            }
            if victim.timers.next_ns() != NEVER {
                victim.timers.run_due(clock::now_ns(), Wake::ready);
                if let Some(g) = p.runq.take_next().or_else(|| p.runq.pop()) {
                    return Some(g);
                }
            }
            if let Some(next) = victim.runq.peek_next() {
                let schedules = victim.stats.schedules.get();
                thread::sleep(NEXT_GRACE);
                // Only behind a goroutine that keeps computing: two goroutines that hand over to
                // each other stay together.
                if victim.stats.schedules.get() == schedules
                    && let Some(g) = victim.runq.steal_next(next)
                {
                    p.stats.steals.add(1);
                    return Some(g);
                }
            }
        }
    }
    None
}

/// Called when there is nothing to run: gives the P up and sleeps until there is. False means that
/// the thread is to end.
fn idle(m: &'static M, p: &'static P) -> bool {
    {
        let mut s = shared::lock();
        if !s.global_is_empty() || p.is_over() {
            return true;
        }
        m.p.set(None);
        p.unannounced.set(false); // told below
        s.put_idle_p(p);
    }
    if m.spinning.replace(false) {
        WAKE.end_spinning();
    }
    let work = !shared::global_is_empty() || p::all().any(|p| !p.runq.is_empty());
    if work && take_p_spinning(m) {
        announce_all();
        return true;
    }
    if sleep_in_poll(m) {
        return true;
    }
    pool::stop_m(m)
}

/// Takes an idle P, to look for work with it. False means that no P idles: each has an M, or will
/// get one.
fn take_p_spinning(m: &'static M) -> bool {
    let Some(p) = shared::lock().take_idle_p() else { return false };
    m.wire(p);
    m.spinning.set(true);
    WAKE.begin_spinning();
    true
}

/// Sleeps in the kernel's poll, unless another M does, or nothing waits for a timer or for I/O.
/// True means that `m` has a P again, and work or a reason to look for it.
fn sleep_in_poll(m: &'static M) -> bool {
    loop {
        if !SLEEPER.enter() {
            match SLEEPER.tell(earliest_timer()) {
                Told::InTime => return false,
                Told::Late => {
                    netpoll::wake();
                    return false;
                }
                Told::NoSleeper => continue,
            }
        }
        let until = SLEEPER.settle(earliest_timer);
        if until == NEVER && netpoll::waiters() == 0 {
            // Nothing to wait for. After `leave`, a timer's starter either sees that no M sleeps in
            // the poll, or the look below sees its timer.
            SLEEPER.leave();
            if earliest_timer() == NEVER && netpoll::waiters() == 0 {
                return false;
            }
            continue;
        }
        let mut list = GList::new();
        let timeout = (until != NEVER).then(|| until.saturating_sub(clock::now_ns()));
        // A time-out of 0 only looks. That is right: the timer is due.
        let precise = timeout.filter(|&ns| ns < ROUGH_NS).map(|_| PreciseSleep::begin());
        poll_into(timeout, &mut list);
        drop(precise);
        SLEEPER.leave();
        run_all_due(&mut list);
        if let Some(g) = list.pop_front() {
            let idle = shared::lock().take_idle_p();
            let Some(p) = idle else {
                list.push_front(g);
                push_urgent(&mut list);
                return false;
            };
            m.wire(p);
            m.spinning.set(true);
            WAKE.begin_spinning();
            push_behind(p, g).seen_to(); // this M looks next
            queue_on(p, list);
            return true;
        }
        // Woken to look again, or by a signal. For work that came meanwhile an M was started.
    }
}

/// Called by an M that leaves with work, while the sleeper in the poll may not know of a timer of
/// `p` (steps T2, T3).
#[inline]
fn announce_timers(p: &P) {
    if p.unannounced.replace(false) {
        announce(p.timers.next_ns());
    }
}
