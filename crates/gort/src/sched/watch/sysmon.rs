//! The monitor: a thread without a P that sees to what nobody else would.
//!
//! # Duties
//! | when                                                        | what                                              |
//! | ----------------------------------------------------------- | ------------------------------------------------- |
//! | a P is inside `blocking` since the last look and is wanted, or for 10 ms | takes it and hands it off (`syscall/`)            |
//! | a P's slice is over (`policy/`)                             | marks it; if others want to run, and the goroutine there has computed for 1 ms: stops it (`preempt/`) |
//! | a P that is over runs a goroutine: above GOMAXPROCS, or the world stops | preempts it                                       |
//! | goroutines wait for I/O, and nobody asked the netpoller for 1 ms | asks it                                      |
//! | a timer is due whose P runs the same goroutine for 1 ms     | fires it                                          |
//! | I/O or a timer has readied a goroutine, all Ps are busy, one for 1 ms with the same goroutine | stops that one    |
//! | somebody is queued while a P idles and nobody looks         | starts an M with that P                           |
//! | all Ps wait for what a stopped goroutine holds              | lets that one run (`preempt/rescue.rs`)           |
//! | a second has gone by                                        | has affinity and control groups looked at (`world/procs.rs`) |
//! | many free stacks are left from a peak                       | gives some back                                   |
//! | goroutines may have parked since the swapper has looked     | wakes it (`swap/`)                                |
//! | nothing can ever run again                                  | says so and ends the process (`deadlock.rs`)      |
//!
//! It looks every 20 µs while there is something to take; after a millisecond in vain it sleeps longer and longer, up to
//! 10 ms, or 1 ms where all Ps are busy while somebody waits for I/O or time. When all Ps idle for some looks it sleeps until one is taken: an idle process makes no wake-ups.
//!
//! Who wakes it: `wake/sysmon_word.rs`. It waits for no lock under which anybody allocates: who holds malloc's may be stopped, and only sysmon
//! would see to that.

use super::deadlock;
use crate::sched::core::config::{self, KEEP_FREE_SLOTS};
use crate::sched::core::g::GList;
use crate::sched::core::p::{self, P};
use crate::sched::core::syscall_word::Stay;
use crate::sched::core::timers::NEVER;
use crate::sched::io::{netpoll, poll};
use crate::sched::policy::{self, IO_SLICE};
use crate::sched::shared::monitor;
use crate::sched::shared::{self, WAKE};
use crate::sched::threads::pool;
use crate::sched::threads::service::PendingThreads;
use crate::sched::wake::sysmon_word::{TIMED, UNTIMED};
use crate::sched::{handoff, preempt, ready, swap, syscall};
use crate::stack::slab;
use crate::sys::sync::Ordering::*;
use crate::sys::{clock, futex, thread};
use std::time::Duration;

/// Sleeps as long as the sleep that the caller has begun may last. True if somebody woke us.
fn sleep_in(state: u32, deadline_ns: Option<u64>) -> bool {
    while monitor::SYSMON.lasts(state) {
        if deadline_ns.is_some_and(|d| clock::now_ns() >= d) {
            return !monitor::SYSMON.end(state);
        }
        futex::wait(monitor::SYSMON.futex(), state, deadline_ns);
    }
    true
}

const MIN_SLEEP_NS: u64 = 20_000;
const MAX_SLEEP_NS: u64 = 10_000_000;
/// Looks in vain at the shortest sleep before it grows: about a millisecond, as in Go.
const EAGER_LOOKS: u32 = 50;
const IO_SLICE_NS: u64 = IO_SLICE.as_nanos() as u64;
/// How long a thread that was asked to stop may go on before it is asked again.
const ASK_AGAIN_NS: u64 = 1_000_000;
/// Looks that find all Ps idle and nothing done in between, before the deep sleep.
const IDLE_LOOKS: u32 = 5;
/// How often affinity and control groups are looked at; Go's number.
const LIMITS_EVERY_NS: u64 = 1_000_000_000;
const TRIM_EVERY_NS: u64 = 100_000_000;

/// Makes the thread.
pub(crate) fn make(pending: &mut PendingThreads) -> std::io::Result<()> {
    monitor::set_coarse_ns(clock::now_ns());
    pending.add("gort-sysmon", 256 << 10, || {
        std::mem::forget(thread::PreciseSleep::begin()); // for good: no thread is made here
        thread::short_slices();
        let slice_ns = config::slice().as_nanos() as u64;
        let follows_limits = config::debug_knob("updatemaxprocs").is_none_or(|v| v != "0");
        let seen = vec![Seen::default(); p::ALL_PS];
        // The start has just looked at them; a goroutine that does would come before the main one.
        let last_limits_ns = clock::now_ns();
        Sysmon { seen, slice_ns, follows_limits, last_limits_ns, ..Sysmon::default() }.watch()
    })
}

/// What it saw of a P at the last looks.
#[derive(Default, Clone, Copy)]
struct Seen {
    /// The slice, and the run of a goroutine in it.
    tick: u32,
    tick_since_ns: u64,
    run: u64,
    run_since_ns: u64,
    asked_ns: u64,
    stay: Option<Stay>,
    stay_since_ns: u64,
}

impl Seen {
    /// Whether the same goroutine has run for a while, so that its P looks after nothing.
    fn computes(&self, now: u64) -> bool {
        self.run_since_ns != 0 && now >= self.run_since_ns + IO_SLICE_NS
    }
}

#[derive(Default)]
struct Sysmon {
    /// By the P's number.
    seen: Vec<Seen>,
    looks_in_vain: u32,
    sleep_ns: u64,
    schedules: u64,
    idle_looks: u32,
    last_trim_ns: u64,
    deadlock: deadlock::Check,
    rescue: preempt::Rescue,
    slice_ns: u64,
    last_limits_ns: u64,
    follows_limits: bool,
}

impl Sysmon {
    fn watch(&mut self) -> ! {
        loop {
            self.sleep_ns = match self.looks_in_vain {
                0..EAGER_LOOKS => MIN_SLEEP_NS,
                _ => (self.sleep_ns * 2).min(self.longest_nap()).min(self.next_slice_end()),
            };
            if self.sleep() {
                self.looks_in_vain = 0;
            }
            let mut now = clock::now_ns();
            monitor::set_coarse_ns(now);
            if self.is_idle() {
                self.sleep_deeply();
                now = clock::now_ns();
                monitor::set_coarse_ns(now);
                self.looks_in_vain = 0;
            }
            let helps = self.rescue.look(now);
            let retaken = self.look_at_ps(now);
            self.do_others_work(now);
            let urgent = self.must_make_room(now);
            if urgent {
                self.make_room(now);
            }
            ask_for_yielders();
            let looks_again = retaken || urgent || helps;
            self.looks_in_vain = if looks_again { 0 } else { self.looks_in_vain.saturating_add(1) };
            self.trim(now);
            swap::look_again();
            if now >= self.last_limits_ns + LIMITS_EVERY_NS && self.follows_limits {
                self.last_limits_ns = now;
                pool::call_template(pool::LIMITS);
            }
        }
    }

    /// True if somebody wants us.
    fn sleep(&self) -> bool {
        if self.sleep_ns > MIN_SLEEP_NS {
            monitor::SYSMON.begin(TIMED);
            let wanted = p::all_ever().any(|p| syscall::stay(p).is_some() && syscall::is_wanted(p));
            if !wanted && !self.must_make_room(monitor::coarse_ns()) {
                return sleep_in(TIMED, Some(clock::now_ns() + self.sleep_ns));
            }
            monitor::SYSMON.end(TIMED);
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
        let cold_slots = slab::has_cold(KEEP_FREE_SLOTS);
        self.idle_looks >= IDLE_LOOKS && self.sleep_ns == MAX_SLEEP_NS && !cold_slots
    }

    /// Sleeps until a P leaves the idle list; looks for a deadlock before.
    fn sleep_deeply(&mut self) {
        let verdict = {
            let mut s = shared::lock();
            if !s.all_ps_idle() {
                return;
            }
            let verdict = match self.deadlock.look(&s) {
                None => deadlock::Verdict::Alive,
                Some(scene) => {
                    drop(s);
                    let threads = thread::count();
                    s = shared::lock();
                    if !s.all_ps_idle() {
                        return;
                    }
                    self.deadlock.judge(&s, scene, threads)
                }
            };
            monitor::SYSMON.begin(UNTIMED);
            verdict
        };
        let deadline = match verdict {
            deadlock::Verdict::Alive => None,
            deadlock::Verdict::AskAgain(after) => Some(clock::now_ns() + after.as_nanos() as u64),
            deadlock::Verdict::Dead(message) => super::fatal_report::throw_with_dump(message),
        };
        sleep_in(UNTIMED, deadline);
        self.idle_looks = 0;
    }

    /// True if a P was taken from `blocking`.
    fn look_at_ps(&mut self, now: u64) -> bool {
        let mut retaken = false;
        let slice_ns = self.slice_now();
        for p in p::all_ever() {
            let seen = &mut self.seen[p.id as usize];
            look_at_slice(p, seen, now, slice_ns);
            let stay = syscall::stay(p);
            if stay != seen.stay {
                (seen.stay, seen.stay_since_ns) = (stay, now);
                continue;
            }
            if let Some(stay) = stay
                && (syscall::is_wanted(p) || now >= seen.stay_since_ns + self.slice_ns)
                && syscall::retake(p, stay)
            {
                retaken = true;
                handoff::hand_off(p);
            }
        }
        retaken
    }

    /// How long the next sleep may be: while all Ps are busy, until the first of them has been at it for so long that somebody else must
    /// look for those whom I/O or time readies.
    fn longest_nap(&self) -> u64 {
        if WAKE.idle_ps() != 0 {
            return MAX_SLEEP_NS;
        }
        let now = monitor::coarse_ns();
        let io = if nobody_polls() { now } else { NEVER };
        let looks = p::all().zip(&self.seen).map(|(p, seen)| {
            let computes_from = match seen.run_since_ns {
                0 => now + IO_SLICE_NS,
                since => since + IO_SLICE_NS,
            };
            // Those who compute already are looked at every so often.
            let look_again = if computes_from > now { computes_from } else { now + IO_SLICE_NS };
            io.max(look_again).min(p.timers.next_ns().max(computes_from))
        });
        let of_spares = p::spares().map(|p| p.timers.next_ns().max(now + IO_SLICE_NS));
        looks
            .chain(of_spares)
            .min()
            .map_or(MAX_SLEEP_NS, |look| look.saturating_sub(now).clamp(MIN_SLEEP_NS, MAX_SLEEP_NS))
    }

    /// Asks for I/O and fires timers that nobody else does.
    fn do_others_work(&self, now: u64) {
        let mut list = GList::new();
        if nobody_polls() && now >= poll::last_poll_ns() + IO_SLICE_NS {
            poll::poll_into(Some(0), &mut list);
        }
        for p in p::all_ever().filter(|p| self.seen[p.id as usize].computes(now)) {
            p.timers.try_run_due(now, |wake| poll::collect(wake, &mut list));
        }
        if !list.is_empty() {
            poll::push_urgent(&mut list);
        }
    }

    /// Whether goroutines that I/O or time has readied wait while all Ps are busy, and one of those
    /// with the same goroutine for long.
    fn must_make_room(&self, now: u64) -> bool {
        let computes = |p: &P| self.seen[p.id as usize].computes(now);
        shared::is_urgent() && WAKE.idle_ps() == 0 && p::all().any(computes)
    }

    /// Stops the goroutine that has computed longest, if that is long, for one whom I/O or time has readied.
    fn make_room(&mut self, now: u64) {
        let ps = p::all().zip(&mut self.seen);
        // One that could not be stopped comes last: it may be `no_preempt`.
        let ps = ps.filter(|(_, seen)| seen.computes(now));
        if let Some((p, seen)) = ps.min_by_key(|(p, seen)| (preempt::has_declined(p), seen.run_since_ns)) {
            ask_to_stop(p, seen, now);
        }
    }

    /// How long slices are just now.
    fn slice_now(&self) -> u64 {
        let rings: usize = p::all().map(|p| p.runq.ring_len()).sum();
        policy::slice_ns(self.slice_ns, ((rings + shared::global_len()) / p::procs().max(1) + 1) as u64)
    }

    /// Nanoseconds until the first P has used its slice up, from the last look on; not less than a tenth of a slice.
    fn next_slice_end(&self) -> u64 {
        let slice_ns = self.slice_now();
        // At that time it is marked, and then the goroutine that runs has computed for long enough
        // to be stopped.
        let ends = p::all().flat_map(|p| {
            let seen = &self.seen[p.id as usize];
            [seen.tick_since_ns + p.slice_ns(slice_ns), seen.run_since_ns + least_turn(slice_ns)]
        });
        let first = ends.filter(|&end| end > monitor::coarse_ns()).min();
        first.map_or(MAX_SLEEP_NS, |end| (end - monitor::coarse_ns()).max(slice_ns / 10))
    }

    /// Has stacks that a peak left behind given back.
    fn trim(&mut self, now: u64) {
        if now >= self.last_trim_ns + TRIM_EVERY_NS && slab::has_cold(KEEP_FREE_SLOTS) {
            self.last_trim_ns = now;
            pool::call_template(pool::TRIM);
        }
    }
}

/// Whoever yields asks for an M without a fence, or not at all: should a P idle that has missed it, this finds one.
fn ask_for_yielders() {
    let some_wait = !shared::global_is_empty() || p::all().any(|p| p.runq.ring_len() != 0);
    if some_wait {
        ready::tell_of_work();
    }
}

/// Marks a P whose slice is over, and stops the goroutine on it if it must not go on.
fn look_at_slice(p: &P, seen: &mut Seen, now: u64, slice_ns: u64) {
    let tick = p.tick.load(Relaxed);
    if tick != seen.tick {
        (seen.tick, seen.tick_since_ns) = (tick, now);
    }
    let run = p.stats.schedules.get();
    if run != seen.run {
        (seen.run, seen.run_since_ns) = (run, now);
    }
    let over = now >= seen.tick_since_ns + p.slice_ns(slice_ns);
    if over {
        p.preempt.store(true, Relaxed);
    }
    let others_wait = !p.runq.is_empty() || !shared::global_is_empty();
    // Whom the rescue has given a spare has a moment to let go of what all wait for.
    let must_go = p.is_over() && (!p.is_spare() || seen.computes(now));
    // Before, it may end its run by itself, and it has run at all, however late its thread came.
    let computes = now >= seen.run_since_ns + least_turn(slice_ns);
    if must_go || over && computes && others_wait {
        ask_to_stop(p, seen, now);
    }
}

/// A run that is shorter is not ended by a signal.
fn least_turn(slice_ns: u64) -> u64 {
    IO_SLICE_NS.min(slice_ns)
}

fn ask_to_stop(p: &P, seen: &mut Seen, now: u64) {
    if now >= seen.asked_ns + ASK_AGAIN_NS {
        seen.asked_ns = now;
        preempt::request(p);
    }
}

/// Whether the kernel may have somebody for us that nobody looks for.
fn nobody_polls() -> bool {
    netpoll::waiters() != 0 && !poll::SLEEPER.is_there()
}
