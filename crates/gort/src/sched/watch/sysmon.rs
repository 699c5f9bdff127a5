//! The monitor: a thread without a P that sees to what no other thread would.
//!
//! # Duties
//! | when                                              | what it does                            |
//! | ------------------------------------------------- | --------------------------------------- |
//! | a P stays in `blocking`, and is wanted (1)        | takes it, hands it off (`syscall/`)     |
//! | a goroutine's thread sleeps in the kernel (1)     | takes its P, hands it off (`outside.rs`)|
//! | a goroutine computes whose P was taken            | stops it (`without_p.rs`)               |
//! | a P's slice is over (`policy/`)                   | marks it; stops its goroutine (2)       |
//! | a P that is over (3) runs a goroutine             | preempts that goroutine                 |
//! | goroutines wait for I/O; no M polled for 1 ms     | asks the netpoller                      |
//! | a timer is due; its P runs one goroutine for 1 ms | fires the timer                         |
//! | an urgent goroutine waits, and a P computes (4)   | stops the one that has computed longest |
//! | a goroutine is queued, a P idles, no M looks      | starts an M with that P                 |
//! | all Ps wait for what a stopped goroutine holds    | lets that one run (`preempt/rescue.rs`) |
//! | a second has gone by                              | has limits looked at (5)                |
//! | many free stacks are left from a peak             | has some given back                     |
//! | goroutines may have parked, unseen by the swapper | wakes the swapper (`swap/`)             |
//! | nothing can ever run again                        | reports it and exits (`deadlock.rs`)    |
//!
//! 1. It is taken if it has been there since the last look and is wanted, or if it has been there
//!    for 10 ms.
//! 2. It is stopped (`preempt/`) if others want to run and it has computed for 1 ms. A thread that
//!    sleeps is not asked to stop: its P is taken.
//! 3. Because GOMAXPROCS went down, or because the world stops.
//! 4. I/O or a timer has readied a goroutine, all Ps are busy, and at least one of them has run the
//!    same goroutine for 1 ms.
//! 5. Affinity and control groups (`world/procs.rs`).
//!
//! # How often it looks
//! - Every 20 µs while there is something to take.
//! - After a millisecond in vain it sleeps longer and longer, up to 10 ms. Where all Ps are busy
//!   while goroutines wait for I/O or time, the limit is 1 ms.
//! - When all Ps have been idle for some looks it sleeps until one is taken: an idle process makes
//!   no wake-ups. If more goroutines than there are Ps are in calls that block, and their Ps were
//!   taken, it sleeps for 100 ms, as they might all begin to compute.
//!
//! `wake/sysmon_word.rs` says what wakes it. It waits for no lock under which other code allocates:
//! the goroutine that holds malloc's lock may be stopped, and only sysmon would see to that.

use super::deadlock;
use super::without_p::WithoutP;
use crate::sched::core::config::{self, KEEP_FREE_SLOTS};
use crate::sched::core::g::GList;
use crate::sched::core::p::{self, P};
use crate::sched::core::syscall_word::Stay;
use crate::sched::core::timers::NEVER;
use crate::sched::io::{netpoll, poll};
use crate::sched::policy::{self, IO_SLICE};
use crate::sched::shared::monitor;
use crate::sched::shared::{self, WAKE};
use crate::sched::syscall::{self, outside};
use crate::sched::threads::pool;
use crate::sched::threads::service::PendingThreads;
use crate::sched::wake::sysmon_word::{TIMED, UNTIMED};
use crate::sched::{handoff, preempt, ready, swap};
use crate::stack::slab;
use crate::sys::sync::Ordering::*;
use crate::sys::{clock, futex, membarrier, thread};
use std::time::Duration;

/// Sleeps until `deadline_ns`, in a sleep that the caller has begun. True means that it was woken
/// before.
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
/// The longest sleep while all Ps idle, and some goroutines could compute without one.
const MAX_IDLE_SLEEP_NS: u64 = 100_000_000;
/// How many looks in vain it makes at the shortest sleep before the sleep grows: about a
/// millisecond's, as in Go.
const EAGER_LOOKS: u32 = 50;
const IO_SLICE_NS: u64 = IO_SLICE.as_nanos() as u64;
/// If a thread that was asked to stop goes on, it is asked again after this long.
const ASK_AGAIN_NS: u64 = 1_000_000;
/// How many looks must find all Ps idle, and nothing done in between, before the deep sleep.
const IDLE_LOOKS: u32 = 5;
/// How often affinity and control groups are looked at. Go's number.
const LIMITS_EVERY_NS: u64 = 1_000_000_000;
const TRIM_EVERY_NS: u64 = 100_000_000;

/// Makes sysmon's thread, which waits until the start has succeeded.
pub(crate) fn make(pending: &mut PendingThreads) -> std::io::Result<()> {
    monitor::set_coarse_ns(clock::now_ns());
    pending.add("gort-sysmon", 256 << 10, || {
        std::mem::forget(thread::PreciseSleep::begin()); // for good: this thread makes no others
        // Here, since it may take the kernel some milliseconds. Without it no P is taken from a
        // thread that sleeps.
        if membarrier::register().is_ok() {
            outside::enable();
        }
        thread::short_slices();
        let slice_ns = config::slice().as_nanos() as u64;
        let follows_limits = config::debug_knob("updatemaxprocs").is_none_or(|v| v != "0");
        let seen = vec![Seen::default(); p::ALL_PS];
        // The start has just looked at the limits. A goroutine that looks again at once would come
        // before the main goroutine.
        let last_limits_ns = clock::now_ns();
        Sysmon { seen, slice_ns, follows_limits, last_limits_ns, ..Sysmon::default() }.watch()
    })
}

/// What sysmon saw of a P at its last looks.
#[derive(Default, Clone, Copy)]
struct Seen {
    /// The P's slice and the run of a goroutine in it, and since when it has seen each.
    tick: u32,
    tick_since_ns: u64,
    run: u64,
    run_since_ns: u64,
    asked_ns: u64,
    /// The thread that has the P: how much CPU time it has used, and since when no more.
    cpu: (i32, u64),
    cpu_since_ns: u64,
    stay: Option<Stay>,
    stay_since_ns: u64,
}

impl Seen {
    /// Whether the P has run the same goroutine for a while, so that it looks after nothing else.
    fn computes(&self, now: u64) -> bool {
        self.run_since_ns != 0 && now >= self.run_since_ns + IO_SLICE_NS
    }

    /// Whether the goroutine may be asked to stop (again).
    fn may_ask(&self, now: u64) -> bool {
        now >= self.asked_ns + ASK_AGAIN_NS
    }

    /// Whether the thread has used no CPU time since the last look.
    fn stands_still(&mut self, tid: i32, now: u64) -> bool {
        let cpu = (tid, thread::cpu_ns(tid).unwrap_or(0));
        if cpu != self.cpu {
            (self.cpu, self.cpu_since_ns) = (cpu, now);
        }
        self.cpu_since_ns != now
    }

    /// Whether the thread, which stands still, sleeps in the kernel.
    fn sleeps(&self, tid: i32, now: u64) -> bool {
        // Without an answer, one that has stood still for long counts as asleep.
        thread::is_asleep(tid).unwrap_or(now >= self.cpu_since_ns + IO_SLICE_NS)
    }
}

#[derive(Default)]
struct Sysmon {
    /// By the number of the P.
    seen: Vec<Seen>,
    looks_in_vain: u32,
    sleep_ns: u64,
    schedules: u64,
    idle_looks: u32,
    last_trim_ns: u64,
    deadlock: deadlock::Check,
    rescue: preempt::Rescue,
    without_p: WithoutP,
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
                if self.sleep_deeply() {
                    self.looks_in_vain = 0;
                    self.idle_looks = 0;
                }
                now = clock::now_ns();
                monitor::set_coarse_ns(now);
            }
            let helps = self.rescue.look(now);
            let retaken = self.look_at_ps(now);
            self.do_others_work(now);
            self.without_p.look();
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

    /// Sleeps until the next look. True if sysmon is wanted.
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

    /// Looks for a deadlock, and then sleeps until a P leaves the idle list. False if sysmon is to
    /// look only at goroutines without a P, and then to sleep again.
    fn sleep_deeply(&mut self) -> bool {
        let verdict = {
            let mut s = shared::lock();
            if !s.all_ps_idle() {
                return true;
            }
            let verdict = match self.deadlock.look(&s) {
                None => deadlock::Verdict::Alive,
                Some(scene) => {
                    drop(s);
                    let threads = thread::count();
                    s = shared::lock();
                    if !s.all_ps_idle() {
                        return true;
                    }
                    self.deadlock.judge(&s, scene, threads)
                }
            };
            monitor::SYSMON.begin(UNTIMED);
            verdict
        };
        let now = clock::now_ns();
        match verdict {
            // While Ps idle, as many goroutines may run without one.
            deadlock::Verdict::Alive if self.without_p.count() > p::procs() => {
                sleep_in(UNTIMED, Some(now + MAX_IDLE_SLEEP_NS))
            }
            deadlock::Verdict::Alive => sleep_in(UNTIMED, None),
            deadlock::Verdict::AskAgain(after) => {
                sleep_in(UNTIMED, Some(now + after.as_nanos() as u64));
                true
            }
            deadlock::Verdict::Dead(message) => super::fatal_report::throw_with_dump(message),
        }
    }

    /// Looks at each P's slice, and at its stay in `blocking`. True if a P was taken from
    /// `blocking`.
    fn look_at_ps(&mut self, now: u64) -> bool {
        let mut retaken = false;
        let slice_ns = self.slice_now();
        for p in p::all_ever() {
            let seen = &mut self.seen[p.id as usize];
            let must_stop = look_at_slice(p, seen, now, slice_ns);
            retaken |= self.look_at_thread(p, now, must_stop);
            let seen = &mut self.seen[p.id as usize];
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

    /// If the goroutine on `p` blocks its thread, takes the P, where others could use it. If it
    /// computes, and `must_stop`, stops it. True if the P was taken.
    fn look_at_thread(&mut self, p: &'static P, now: u64, must_stop: bool) -> bool {
        let seen = &mut self.seen[p.id as usize];
        let Some(m) = p.m().filter(|m| m.g().is_some() && m.p.is(p)) else { return false };
        let wanted = must_stop || syscall::is_wanted(p) || now >= seen.run_since_ns + self.slice_ns;
        let tid = m.tid.load(Acquire);
        // To ask whether a thread sleeps takes long; its clock does not.
        let asks = must_stop && seen.may_ask(now) || wanted && seen.stands_still(tid, now);
        let takes = outside::is_possible() && self.without_p.has_room();
        if asks && takes && seen.sleeps(tid, now) {
            match outside::take(p) {
                Some(m) => {
                    self.without_p.add(m);
                    handoff::hand_off(p);
                    return true;
                }
                None => preempt::note_declined(m, p),
            }
        } else if must_stop && seen.may_ask(now) {
            seen.asked_ns = now;
            preempt::request(p);
        }
        false
    }

    /// How long the next sleep may be. While all Ps are busy, it must end when the first of them
    /// has run the same goroutine for so long that sysmon must look in its place for what I/O or
    /// time readies.
    fn longest_nap(&self) -> u64 {
        if WAKE.idle_ps() != 0 {
            return MAX_SLEEP_NS;
        }
        let now = monitor::coarse_ns();
        let io = if no_m_polls() { now } else { NEVER };
        let looks = p::all().zip(&self.seen).map(|(p, seen)| {
            let computes_from = match seen.run_since_ns {
                0 => now + IO_SLICE_NS,
                since => since + IO_SLICE_NS,
            };
            // Ps that compute already are looked at every so often.
            let look_again = if computes_from > now { computes_from } else { now + IO_SLICE_NS };
            io.max(look_again).min(p.timers.next_ns().max(computes_from))
        });
        let of_spares = p::spares().map(|p| p.timers.next_ns().max(now + IO_SLICE_NS));
        looks
            .chain(of_spares)
            .min()
            .map_or(MAX_SLEEP_NS, |look| look.saturating_sub(now).clamp(MIN_SLEEP_NS, MAX_SLEEP_NS))
    }

    /// Asks for I/O and fires timers, where no other thread does.
    fn do_others_work(&self, now: u64) {
        let mut list = GList::new();
        if no_m_polls() && now >= poll::last_poll_ns() + IO_SLICE_NS {
            poll::poll_into(Some(0), &mut list);
        }
        for p in p::all_ever().filter(|p| self.seen[p.id as usize].computes(now)) {
            p.timers.try_run_due(now, |wake| poll::collect(wake, &mut list));
        }
        if !list.is_empty() {
            poll::push_urgent(&mut list);
        }
    }

    /// Whether goroutines that I/O or time has readied wait while all Ps are busy, and one of the
    /// Ps has run the same goroutine for long.
    fn must_make_room(&self, now: u64) -> bool {
        let computes = |p: &P| self.seen[p.id as usize].computes(now);
        shared::is_urgent() && WAKE.idle_ps() == 0 && p::all().any(computes)
    }

    /// If a goroutine has computed for long, stops the one that has computed longest, to make room
    /// for one that I/O or time has readied.
    fn make_room(&mut self, now: u64) {
        let ps = p::all().zip(&self.seen);
        // A goroutine that could not be stopped comes last: it may be `no_preempt`.
        let ps = ps.filter(|(_, seen)| seen.computes(now));
        let longest = ps.min_by_key(|(p, seen)| (preempt::has_declined(p), seen.run_since_ns));
        if let Some((p, _)) = longest {
            self.look_at_thread(p, now, true);
        }
    }

    /// How long slices are at present.
    fn slice_now(&self) -> u64 {
        let rings: usize = p::all().map(|p| p.runq.ring_len()).sum();
        policy::slice_ns(self.slice_ns, ((rings + shared::global_len()) / p::procs().max(1) + 1) as u64)
    }

    /// Nanoseconds from the last look until the first P has used up its slice; at least a tenth of
    /// a slice.
    fn next_slice_end(&self) -> u64 {
        let slice_ns = self.slice_now();
        // Then that P is marked, and the goroutine that runs there has computed for long enough to
        // be stopped.
        let ends = p::all().flat_map(|p| {
            let seen = &self.seen[p.id as usize];
            [seen.tick_since_ns + p.slice_ns(slice_ns), seen.run_since_ns + least_turn(slice_ns)]
        });
        let first = ends.filter(|&end| end > monitor::coarse_ns()).min();
        first.map_or(MAX_SLEEP_NS, |end| (end - monitor::coarse_ns()).max(slice_ns / 10))
    }

    /// Has stacks given back that a peak left behind.
    fn trim(&mut self, now: u64) {
        if now >= self.last_trim_ns + TRIM_EVERY_NS && slab::has_cold(KEEP_FREE_SLOTS) {
            self.last_trim_ns = now;
            pool::call_template(pool::TRIM);
        }
    }
}

/// A goroutine that yields asks for an M without a fence, or not at all. If a P idles and has
/// missed it, this starts an M there.
fn ask_for_yielders() {
    let some_wait = !shared::global_is_empty() || p::all().any(|p| p.runq.ring_len() != 0);
    if some_wait {
        ready::tell_of_work();
    }
}

/// Marks a P whose slice is over. True if the goroutine on it is to be stopped.
fn look_at_slice(p: &P, seen: &mut Seen, now: u64, slice_ns: u64) -> bool {
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
    // A goroutine that got a spare from the rescue has a moment to release what all wait for.
    let must_go = p.is_over() && (!p.is_spare() || seen.computes(now));
    // Until it has computed for so long, it may end its run by itself. This also makes sure that it
    // has run at all, however late its thread came.
    let computes = now >= seen.run_since_ns + least_turn(slice_ns);
    must_go || over && computes && others_wait
}

/// A run that is shorter is not ended by a signal.
fn least_turn(slice_ns: u64) -> u64 {
    IO_SLICE_NS.min(slice_ns)
}

/// Whether the kernel may have something for a goroutine, and no M sleeps in the poll to see it.
fn no_m_polls() -> bool {
    netpoll::waiters() != 0 && !poll::SLEEPER.is_there()
}
