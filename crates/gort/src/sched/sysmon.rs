//! The monitor: a thread without a P that sees to what nobody else would.
//!
//! # Duties
//! | when                                                        | what                                              |
//! | ----------------------------------------------------------- | ------------------------------------------------- |
//! | a P is inside `blocking` since the last look, and is wanted | takes it and hands it off (`syscall/`)            |
//! | a P runs the same slice for 10 ms                           | marks it: the chain's next goroutine goes behind  |
//! | the oldest of a P's ring waits for 10 ms                    | the same (visitors from the global queue renew slices) |
//! | nobody asked the netpoller for 10 ms                        | does                                              |
//! | a timer is overdue by 10 ms (its P runs a hog)              | fires it                                          |
//! | many free stacks are left from a peak                       | gives some back                                   |
//! | nothing can ever run again                                  | says so and ends the process (`deadlock.rs`)      |
//!
//! It looks every 20 µs while there is something to take; after a millisecond in vain it naps longer and longer, up to
//! 10 ms. When all Ps idle for some looks it sleeps until one is taken: an idle process makes no wake-ups.
//!
//! Who wakes it: `wake/nap.rs`.

use super::config::{KEEP_FREE_SLOTS, SLICE};
use super::p::{self, P};
use super::runq::global::GList;
use super::start::fixed;
use super::state::{self, WAKE};
use super::syscall::word::Stay;
use super::wake::nap::{AWAKE, NAPS, Nap, SLEEPS};
use super::{deadlock, find, netpoll, ready, syscall, task};
use crate::stack::slab;
use crate::sys::line::Line;
use crate::sys::sync::{AtomicU32, AtomicU64, Ordering::*};
use crate::sys::{clock, futex, thread};
use std::time::Duration;

/// The clock as of sysmon's last look, for times that need not be exact ("2 minutes").
static COARSE_NS: Line<AtomicU64> = Line::new(AtomicU64::new(0));

/// See [`COARSE_NS`].
#[inline]
pub(crate) fn coarse_ns() -> u64 {
    COARSE_NS.load(Relaxed)
}

static NAP: Nap = Nap::new(AtomicU32::new(AWAKE));

/// Wakes sysmon if it is in `state`; what it is wanted for is published, and a fence (or the scheduler's lock) behind.
#[inline]
pub(crate) fn interrupt(state: u32) {
    if NAP.interrupt(state) {
        futex::wake(NAP.futex(), 1);
    }
}

/// Sleeps through the nap that the caller has begun. True if somebody woke us.
fn sleep_in(state: u32, deadline_ns: Option<u64>) -> bool {
    while NAP.lasts(state) {
        if deadline_ns.is_some_and(|d| clock::now_ns() >= d) {
            return !NAP.end(state);
        }
        futex::wait(NAP.futex(), state, deadline_ns);
    }
    true
}

const MIN_SLEEP_NS: u64 = 20_000;
const MAX_SLEEP_NS: u64 = 10_000_000;
/// Looks in vain at the shortest sleep before it grows: about a millisecond, as in Go.
const EAGER_LOOKS: u32 = 50;
const SLICE_NS: u64 = SLICE.as_nanos() as u64;
/// Looks that find all Ps idle and nothing done in between, before the deep sleep.
const IDLE_LOOKS: u32 = 5;
/// Slots given back at once.
const TRIM_BATCH: usize = 512;
const TRIM_EVERY_NS: u64 = 100_000_000;

/// Starts the thread.
pub(crate) fn start() -> std::io::Result<()> {
    COARSE_NS.store(clock::now_ns(), Relaxed);
    std::thread::Builder::new().name("gort-sysmon".into()).stack_size(256 << 10).spawn(|| {
        thread::precise_sleeps();
        Sysmon::default().watch()
    })?;
    Ok(())
}

/// What it saw of a P at the last looks.
#[derive(Default, Clone, Copy)]
struct Seen {
    tick: u32,
    tick_since_ns: u64,
    oldest: Option<u32>,
    oldest_since_ns: u64,
    stay: Option<Stay>,
    stay_since_ns: u64,
}

#[derive(Default)]
struct Sysmon {
    seen: Vec<Seen>,
    looks_in_vain: u32,
    sleep_ns: u64,
    schedules: u64,
    idle_looks: u32,
    last_trim_ns: u64,
    deadlock: deadlock::Check,
}

impl Sysmon {
    fn watch(&mut self) -> ! {
        loop {
            self.sleep_ns = match self.looks_in_vain {
                0..EAGER_LOOKS => MIN_SLEEP_NS,
                _ => (self.sleep_ns * 2).min(MAX_SLEEP_NS).min(self.next_slice_end()),
            };
            if self.nap() {
                self.looks_in_vain = 0;
            }
            let mut now = clock::now_ns();
            COARSE_NS.store(now, Relaxed);
            if self.is_idle() {
                self.sleep_deeply();
                now = clock::now_ns();
                COARSE_NS.store(now, Relaxed);
                self.looks_in_vain = 0;
            }
            let retaken = self.look_at_ps(now);
            self.looks_in_vain = if retaken { 0 } else { self.looks_in_vain.saturating_add(1) };
            poll_if_nobody_does(now);
            self.trim(now);
        }
    }

    /// True if somebody wants us.
    fn nap(&self) -> bool {
        if self.sleep_ns > MIN_SLEEP_NS {
            NAP.begin(NAPS);
            let wanted = p::all_ever().any(|p| syscall::stay(p).is_some() && syscall::is_wanted(p));
            if !wanted {
                return sleep_in(NAPS, Some(clock::now_ns() + self.sleep_ns));
            }
            NAP.end(NAPS);
        }
        std::thread::sleep(Duration::from_nanos(MIN_SLEEP_NS));
        false
    }

    /// Whether nothing has happened for some looks, and nothing is left to be done.
    fn is_idle(&mut self) -> bool {
        let schedules: u64 = p::all_ever().map(|p| p.stats.schedules.get()).sum();
        let quiet = p::procs() != 0 && WAKE.idle_ps() as usize == p::procs() && schedules == self.schedules;
        self.schedules = schedules;
        self.idle_looks = if quiet { self.idle_looks + 1 } else { 0 };
        let cold_slots = slab::free_count(fixed().class) > KEEP_FREE_SLOTS;
        self.idle_looks >= IDLE_LOOKS && self.sleep_ns == MAX_SLEEP_NS && !cold_slots
    }

    /// Sleeps until a P leaves the idle list; looks for a deadlock before.
    fn sleep_deeply(&mut self) {
        let deadline = {
            let mut s = state::lock();
            if !s.all_ps_idle() {
                return;
            }
            let verdict = self.deadlock.look(&mut s);
            NAP.begin(SLEEPS);
            verdict
        };
        let deadline = match deadline {
            deadlock::Verdict::Alive => None,
            deadlock::Verdict::AskAgain(after) => Some(clock::now_ns() + after.as_nanos() as u64),
            deadlock::Verdict::Dead(message) => super::fatal::throw_with_dump(message),
        };
        sleep_in(SLEEPS, deadline);
        self.idle_looks = 0;
    }

    /// True if a P was taken from `blocking`.
    fn look_at_ps(&mut self, now: u64) -> bool {
        let mut retaken = false;
        for (i, p) in p::all_ever().enumerate() {
            if i == self.seen.len() {
                self.seen.push(Seen::default());
            }
            let seen = &mut self.seen[i];
            look_at_slice(p, seen, now);
            let stay = syscall::stay(p);
            if stay != seen.stay {
                (seen.stay, seen.stay_since_ns) = (stay, now);
                continue;
            }
            if let Some(stay) = stay
                && (syscall::is_wanted(p) || now >= seen.stay_since_ns + SLICE_NS)
                && syscall::retake(p, stay)
            {
                retaken = true;
                syscall::hand_off(p);
            }
        }
        retaken
    }

    /// Nanoseconds until the first P has used its slice up, from the last look on; not less than a tenth of a slice.
    fn next_slice_end(&self) -> u64 {
        let since = self.seen.iter().flat_map(|s| [s.tick_since_ns, s.oldest_since_ns]);
        let first = since.map(|since| since + SLICE_NS).filter(|&end| end > coarse_ns()).min();
        first.map_or(MAX_SLEEP_NS, |end| (end - coarse_ns()).max(SLICE_NS / 10))
    }

    /// Gives some of the stacks that a peak left behind to the system, by goroutines that run their thread-locals'
    /// destructors on them.
    fn trim(&mut self, now: u64) {
        if now < self.last_trim_ns + TRIM_EVERY_NS || p::procs() == 0 {
            return;
        }
        self.last_trim_ns = now;
        for mut slot in slab::take_cold(KEEP_FREE_SLOTS, TRIM_BATCH) {
            let Some(layout) = fixed().layout.as_ref().filter(|_| slot.tp() != 0) else {
                // SAFETY: nobody is on a free slot, and without a block there are no destructors.
                unsafe { slot.give_up(None) };
                slab::free(std::iter::once(slot));
                continue;
            };
            task::spawn_on_cold_slot(slot, move || {
                // SAFETY: this goroutine is the last user of the block, and this its last user code.
                unsafe { layout.run_destructors() };
            });
        }
    }
}

/// Marks a P whose slice is over.
fn look_at_slice(p: &P, seen: &mut Seen, now: u64) {
    let tick = p.tick.load(Relaxed);
    if tick != seen.tick {
        (seen.tick, seen.tick_since_ns) = (tick, now);
    } else if now >= seen.tick_since_ns + SLICE_NS {
        p.preempt.store(true, Relaxed);
    }
    let oldest = p.runq.oldest();
    if oldest.is_none() || oldest != seen.oldest {
        (seen.oldest, seen.oldest_since_ns) = (oldest, now);
    } else if now >= seen.oldest_since_ns + SLICE_NS {
        p.preempt.store(true, Relaxed);
    }
}

fn poll_if_nobody_does(now: u64) {
    let mut list = GList::new();
    if netpoll::waiters() != 0 && !find::SLEEPER.is_there() && now >= find::last_poll_ns() + SLICE_NS {
        find::poll_into(Some(0), &mut list);
    }
    if find::earliest_timer().saturating_add(SLICE_NS) <= now {
        find::run_all_due(&mut list);
    }
    if list.is_empty() {
        return;
    }
    state::lock().push_global_front(&mut list);
    if WAKE.must_wake() {
        ready::wake_p();
    }
}
