//! The policy alone, without threads: Ps, queues and goroutines as plain data, time as a number.
//!
//! Each mixture is made from a seed, which a failure prints. `GORT_SIMULATE=seed` runs that one
//! alone, and prints the shares.
//!
//! Two kinds of parties are not judged as strictly as the others:
//!
//! - Parties that wait for the kernel in between, which cannot always run: a quarter of the fair
//!   share is enough.
//! - Goroutines that yield or wait share the slices for the active by turns as well as by time. So
//!   in one mixture the lengths of their turns are within a factor of 16.
//!
//! Simpler than in the runtime: timers and sockets of all Ps are in one list, and the kernel takes
//! no time. And under overload a P keeps those of its ring that have run, where the runtime queues
//! them globally.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

#[path = "../../gort/src/sched/policy/mod.rs"]
mod policy;
#[path = "../../gort/src/sys/rng.rs"]
mod rng;

use policy::{
    Account, AfterYield, CHARGED_TWICE_NS, Class, IO_SLICE, OVERLOAD, Part, Parties, SliceState, Sources,
    URGENT_NS, YIELDERS, after_yield, charged, may_interrupt, one_in, pick, slice_ns,
};
use rng::Rng;
use std::cell::Cell;
use std::collections::VecDeque;

type Id = usize;

const FULL_SLICE: u64 = 10_000_000;
const IO: u64 = IO_SLICE.as_nanos() as u64;
/// How far the clock goes on at most before sysmon is asked again.
const CHUNK: u64 = 250_000;
/// Shares are summed up in buckets of this length. Ten are the second of the claim.
const BUCKET: u64 = 100_000_000;
/// What happens before this is not judged: by then the first goroutines have begun, and an overload
/// has been let in.
const WARM_UP: u64 = 1_000_000_000;
const END: u64 = 3_000_000_000;

/// What a goroutine does.
#[derive(Clone, Copy, Debug)]
enum Does {
    Computes,
    /// Yields after this many nanoseconds.
    Yields(u64),
    /// Hands a token on to the next of its ring of goroutines, after it has had it for `turn`.
    HandsOn {
        to: Id,
        turn: u64,
    },
    /// Starts a goroutine that computes for this long, and joins it.
    Spawns(u64),
    ChildOf {
        parent: Id,
        turn: u64,
    },
    /// Sends to the other end of a socket after `turn`, and reads.
    Answers {
        to: Id,
        turn: u64,
    },
    /// Sleeps, and then computes.
    Sleeps {
        sleep: u64,
        work: u64,
    },
}

impl Does {
    fn turn(self) -> u64 {
        match self {
            Does::Computes => u64::MAX,
            Does::Yields(turn) | Does::Spawns(turn) => turn,
            Does::HandsOn { turn, .. } | Does::ChildOf { turn, .. } | Does::Answers { turn, .. } => turn,
            Does::Sleeps { work, .. } => work,
        }
    }
}

struct Goroutine {
    does: Does,
    party: usize,
    left: u64,
    has_run: bool,
    /// It was stopped, and waits on a thread of its own.
    is_stopped: bool,
    /// It joins the expired when it is readied.
    expires: bool,
    charged_at: Option<u64>,
    /// Since when it should have been served, where that is to be at once.
    due: Option<u64>,
}

#[derive(Default)]
struct Proc {
    now: u64,
    next: Option<Id>,
    ring: VecDeque<Id>,
    account: Account,
    first: Option<Class>,
    running: Option<Class>,
    purpose: Option<Class>,
    /// How many goroutines that yielded were charged since the last slice for the readable.
    yielded: u8,
    took_urgent: Cell<bool>,
    interrupted_at: u64,
    slice_began_at_turn: u64,
    schedules: u64,
    slice_began: u64,
    slice_part: Part,
    turn_began: u64,
    current: Option<Id>,
}

struct World {
    procs: Vec<Proc>,
    all: Vec<Goroutine>,
    urgent: VecDeque<Id>,
    global: VecDeque<Id>,
    expired: VecDeque<Id>,
    timers: Vec<(u64, Id)>,
    readable: Vec<(u64, Id)>,
    rng: Rng,
    /// How much was used, by party and bucket.
    used: Vec<Vec<u64>>,
    parties: Vec<&'static str>,
    /// How late the sleepers and the readers were at most.
    latest: u64,
}

/// One P in the world, as the policy sees it.
struct Here<'a> {
    w: &'a mut World,
    p: usize,
}

impl Here<'_> {
    fn proc(&mut self) -> &mut Proc {
        &mut self.w.procs[self.p]
    }
    fn due(list: &mut Vec<(u64, Id)>, now: u64) -> VecDeque<Id> {
        let due = list.iter().filter(|(at, _)| *at <= now).map(|&(_, g)| g).collect();
        list.retain(|(at, _)| *at > now);
        due
    }
}

impl Sources for Here<'_> {
    type Item = Id;

    fn is_slice_over(&self) -> bool {
        self.w.is_over(self.p)
    }
    fn end_slice(&mut self) {
        self.w.end_slice(self.p, None);
    }
    fn fire_timers(&mut self) {
        let now = self.proc().now;
        let due = Self::due(&mut self.w.timers, now);
        if !due.is_empty() {
            self.put_expired_back();
        }
        for g in due {
            self.w.ready(self.p, g);
        }
    }
    fn put_expired_back(&mut self) {
        if self.proc().running == Some(Class::Expired)
            && let Some(g) = self.proc().next.take()
        {
            self.w.expired.push_front(g);
        }
    }
    fn schedules(&self) -> u64 {
        self.w.procs[self.p].schedules
    }
    fn first(&self) -> Class {
        self.w.procs[self.p].first.unwrap_or(Class::Active)
    }
    fn set_first(&mut self, first: Class) {
        self.proc().first = Some(first);
    }
    fn set_running(&mut self, class: Class) {
        self.proc().running = Some(class);
    }
    fn took_urgent(&mut self) -> &Cell<bool> {
        &self.proc().took_urgent
    }
    fn has_time_for_urgent(&mut self) -> bool {
        self.proc().now < self.proc().interrupted_at + URGENT_NS
    }
    fn readable(&mut self) -> Option<Id> {
        let now = self.proc().now;
        let mut due = Self::due(&mut self.w.readable, now);
        self.w.keep_charged_out(&mut due);
        let first = due.pop_front();
        self.proc().ring.extend(due);
        first
    }
    fn readable_alone(&mut self) -> Option<Id> {
        self.readable()
    }
    fn urgent(&mut self) -> Option<Id> {
        self.w.urgent.pop_front()
    }
    fn newcomer(&mut self) -> Option<Id> {
        let at = self.w.global.iter().position(|&g| !self.w.all[g].has_run)?;
        self.w.global.remove(at)
    }
    fn global(&mut self) -> Option<Id> {
        let overloaded = self.w.is_overloaded();
        let at = self.w.global.iter().position(|&g| !overloaded || self.w.all[g].has_run)?;
        self.w.global.remove(at)
    }
    fn global_share(&mut self) -> Option<Id> {
        let first = self.global()?;
        let share = self.w.global.len() / self.w.procs.len();
        for _ in 0..share.min(128) {
            if let Some(g) = self.global() {
                self.proc().ring.push_back(g);
            }
        }
        Some(first)
    }
    fn next(&mut self) -> Option<Id> {
        self.proc().next.take()
    }
    fn ring(&mut self) -> Option<Id> {
        self.proc().ring.pop_front()
    }
    fn expired(&mut self) -> Option<Id> {
        let g = self.w.expired.pop_front()?;
        self.w.all[g].is_stopped = false;
        Some(g)
    }
}

impl World {
    fn new(procs: usize, seed: u64) -> World {
        World {
            procs: (0..procs).map(|_| Proc::default()).collect(),
            all: Vec::new(),
            urgent: VecDeque::new(),
            global: VecDeque::new(),
            expired: VecDeque::new(),
            timers: Vec::new(),
            readable: Vec::new(),
            rng: Rng::new(seed),
            used: Vec::new(),
            parties: Vec::new(),
            latest: 0,
        }
    }

    fn party(&mut self, name: &'static str) -> usize {
        self.parties.push(name);
        self.used.push(vec![0; (END / BUCKET) as usize + 2]);
        self.parties.len() - 1
    }

    fn add(&mut self, party: usize, does: Does) -> Id {
        let left = does.turn();
        self.all.push(Goroutine {
            does,
            party,
            left,
            has_run: false,
            is_stopped: false,
            expires: false,
            charged_at: None,
            due: None,
        });
        self.all.len() - 1
    }

    fn stopped(&self) -> usize {
        self.expired.iter().filter(|&&g| self.all[g].is_stopped).count()
    }

    fn is_overloaded(&self) -> bool {
        self.expired.len() >= OVERLOAD && self.stopped() >= OVERLOAD
    }

    /// Moves those of `list` that were charged to the expired.
    fn keep_charged_out(&mut self, list: &mut VecDeque<Id>) {
        let (charged, rest) = list.drain(..).partition(|&g| std::mem::take(&mut self.all[g].expires));
        *list = rest;
        let charged: VecDeque<Id> = charged;
        self.expired.extend(charged);
    }

    /// As `ready::ready`, called by what runs on `p`.
    fn ready(&mut self, p: usize, g: Id) {
        if std::mem::take(&mut self.all[g].expires) {
            return self.expired.push_back(g);
        }
        if let Some(old) = self.procs[p].next.replace(g) {
            self.push_behind(p, old);
        }
    }

    fn push_behind(&mut self, p: usize, g: Id) {
        let to_global = self.is_overloaded() && !self.all[g].has_run || self.procs[p].ring.len() >= 256;
        if to_global { self.global.push_back(g) } else { self.procs[p].ring.push_back(g) }
    }

    fn parties_on(&self, p: usize) -> Parties {
        let n = self.procs.len();
        let here = &self.procs[p];
        let global = if self.is_overloaded() { 0 } else { self.global.len() };
        let running = here.running.unwrap_or(Class::Active);
        Parties {
            active: here.ring.len()
                + (global + self.urgent.len()) / n
                + usize::from(running != Class::Expired),
            expired: self.expired.len().div_ceil(n) + usize::from(running == Class::Expired),
        }
    }

    fn slice(&self) -> u64 {
        let rings: usize = self.procs.iter().map(|p| p.ring.len()).sum();
        let all = rings + self.global.len() + self.expired.len();
        slice_ns(FULL_SLICE, (all / self.procs.len()) as u64 + 1)
    }

    fn is_over(&self, p: usize) -> bool {
        self.procs[p].now >= self.procs[p].slice_began + self.procs[p].slice_part.of(self.slice())
    }

    fn others_wait(&self, p: usize) -> bool {
        let here = &self.procs[p];
        !here.ring.is_empty()
            || here.next.is_some()
            || !self.global.is_empty()
            || !self.urgent.is_empty()
            || !self.expired.is_empty()
            || !self.readable.is_empty()
    }

    /// As `slice::end`: `stopped` ran as the slice ended.
    fn end_slice(&mut self, p: usize, stopped: Option<Id>) {
        let parties = self.parties_on(p);
        let alone = self.procs[p].ring.is_empty()
            && self.global.is_empty()
            && self.urgent.is_empty()
            && self.expired.is_empty()
            && self.readable.is_empty()
            && stopped.is_none();
        let here = &mut self.procs[p];
        here.slice_began = here.now;
        here.slice_part = Part::draw(|n| self.rng.below(n));
        here.slice_began_at_turn = here.schedules;
        if alone {
            return;
        }
        let ran = charged(here.purpose.unwrap_or(Class::Active), here.running.unwrap_or(Class::Active));
        let mut first = here.account.charge(ran, parties);
        let next = here.next.take();
        match (stopped, next) {
            (Some(g), next) => {
                if let Some(next) = next {
                    self.push_behind(p, next);
                }
                self.all[g].is_stopped = true;
                self.expired.push_back(g);
            }
            (None, Some(next)) => self.expired.push_back(next),
            (None, None) => {}
        }
        if self.is_overloaded() {
            let ring: Vec<Id> = self.procs[p].ring.drain(..).collect();
            for g in ring {
                if self.all[g].has_run { self.procs[p].ring.push_back(g) } else { self.global.push_back(g) }
            }
            if one_in(self.stopped()).is_some_and(|n| self.rng.below(n) == 0) {
                first = Class::Newcomers;
            }
        }
        if first == Class::Active && self.procs[p].yielded >= YIELDERS {
            self.procs[p].yielded = 0;
            first = Class::Readable;
        }
        self.procs[p].first = Some(first);
        self.procs[p].purpose = Some(first);
    }

    /// What sysmon sees while a goroutine computes on `p`. True: it stops the goroutine.
    fn sysmon(&mut self, p: usize) -> bool {
        let (now, turn) = (self.procs[p].now, self.procs[p].now - self.procs[p].turn_began);
        if turn < IO {
            return false;
        }
        let mut urgent = VecDeque::new();
        for list in [&mut self.timers, &mut self.readable] {
            let due = Here::due(list, now);
            urgent.extend(due);
        }
        self.keep_charged_out(&mut urgent);
        self.urgent.extend(urgent);
        let g = self.procs[p].current.expect("computes");
        if self.is_over(p) && self.others_wait(p) {
            self.end_slice(p, Some(g));
            return true;
        }
        if self.urgent.is_empty() {
            return false;
        }
        let here = &mut self.procs[p];
        let slice = SliceState {
            first: here.first.unwrap_or(Class::Active),
            running: here.running.unwrap_or(Class::Active),
        };
        if !may_interrupt(slice, now - here.interrupted_at) {
            return false;
        }
        here.interrupted_at = now;
        self.all[g].is_stopped = true;
        self.expired.push_front(g);
        true
    }

    /// The goroutine that runs on `p` has finished its turn.
    fn turn_is_over(&mut self, p: usize) {
        let g = self.procs[p].current.take().expect("ran");
        let now = self.procs[p].now;
        let waits = matches!(self.all[g].does, Does::Answers { .. } | Does::Sleeps { .. });
        if waits && self.is_over(p) && self.procs[p].next.is_none() {
            let before = self.all[g].charged_at.replace(now);
            self.all[g].expires = before.is_some_and(|before| now < before + CHARGED_TWICE_NS);
        }
        self.all[g].left = self.all[g].does.turn();
        match self.all[g].does {
            Does::Computes => unreachable!("for ever"),
            Does::Yields(_) => {
                let over = self.is_over(p) && self.others_wait(p);
                let here = &mut self.procs[p];
                let slice = SliceState {
                    first: here.first.unwrap_or(Class::Active),
                    running: here.running.unwrap_or(Class::Active),
                };
                match after_yield(slice, over, here.schedules - here.slice_began_at_turn) {
                    AfterYield::Runs => {
                        here.current = Some(g);
                        here.turn_began = now;
                        here.schedules += 1;
                    }
                    AfterYield::Expires => {
                        here.yielded += 1;
                        self.expired.push_back(g);
                    }
                    AfterYield::Queues => self.push_behind(p, g),
                }
            }
            Does::HandsOn { to, .. } => self.ready(p, to),
            Does::Spawns(turn) => {
                let party = self.all[g].party;
                let child = self.add(party, Does::ChildOf { parent: g, turn });
                // As `ready::prefer`: it joins the one that was queued last.
                if self.procs[p].next.is_none() && !self.is_overloaded() {
                    self.procs[p].next = Some(child);
                } else {
                    self.push_behind(p, child);
                }
            }
            Does::ChildOf { parent, .. } => self.ready(p, parent),
            Does::Answers { to, .. } => {
                self.all[to].due = Some(now);
                self.readable.push((now, to));
            }
            Does::Sleeps { sleep, .. } => {
                self.all[g].due = Some(now + sleep);
                self.timers.push((now + sleep, g));
            }
        }
    }

    /// Sysmon asks the netpoller when no P has for 1 ms.
    fn sysmon_polls(&mut self, p: usize) {
        let now = self.procs[p].now;
        let mut long_ago: VecDeque<Id> =
            self.readable.iter().filter(|(at, _)| at + IO <= now).map(|&(_, g)| g).collect();
        self.readable.retain(|(at, _)| at + IO > now);
        self.keep_charged_out(&mut long_ago);
        self.urgent.extend(long_ago);
    }

    /// As `find`: gets something for `p` to run, or lets it idle for a while.
    fn find(&mut self, p: usize) {
        self.sysmon_polls(p);
        let found = pick(&mut Here { w: self, p }).or_else(|| self.steal(p));
        let Some(g) = found else {
            self.procs[p].now += 20_000;
            self.procs[p].slice_began = self.procs[p].now;
            return;
        };
        let here = &mut self.procs[p];
        here.schedules += 1;
        here.turn_began = here.now;
        here.current = Some(g);
        self.all[g].has_run = true;
        if let Some(due) = self.all[g].due.take()
            && matches!(self.all[g].does, Does::Sleeps { .. })
        {
            self.latest = self.latest.max(self.procs[p].now.saturating_sub(due));
        }
    }

    fn steal(&mut self, p: usize) -> Option<Id> {
        let victim = (0..self.procs.len()).find(|&v| v != p && !self.procs[v].ring.is_empty())?;
        let half = self.procs[victim].ring.len().div_ceil(2);
        let stolen: Vec<Id> = self.procs[victim].ring.drain(..half).collect();
        self.procs[p].ring.extend(stolen);
        let g = self.procs[p].ring.pop_back();
        self.procs[p].running = Some(Class::Active);
        g
    }

    fn run(&mut self) {
        loop {
            let p = (0..self.procs.len()).min_by_key(|&p| self.procs[p].now).expect("some");
            if self.procs[p].now >= END {
                return;
            }
            let Some(g) = self.procs[p].current else {
                self.find(p);
                continue;
            };
            let here = &mut self.procs[p];
            let step = self.all[g].left.min(CHUNK);
            self.used[self.all[g].party][(here.now / BUCKET) as usize] += step;
            here.now += step;
            if self.all[g].left != u64::MAX {
                self.all[g].left -= step;
            }
            if self.all[g].left == 0 {
                self.turn_is_over(p);
            } else if self.sysmon(p) {
                self.procs[p].current = None;
            }
        }
    }
}

/// Makes the mixture of `seed`, runs it, and says what is wrong.
fn simulate(seed: u64, show: bool) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let procs = [1, 1, 2, 4][rng.below(4) as usize];
    let mut w = World::new(procs, seed);
    let overload = rng.below(20) == 0;
    let n = 2 + rng.below(10) as usize;
    let mut first = Vec::new();
    // Parties that wait in between share by turns, so their turns are of similar length.
    let shortest = 16_000 << rng.below(4);
    let socket_turn = shortest << rng.below(5);
    for _ in 0..n {
        // From some microseconds to some milliseconds, each magnitude as likely as the others.
        let turn = shortest << rng.below(5);
        match rng.below(if overload { 4 } else { 7 }) {
            0 | 1 => {
                let party = w.party("hog");
                first.push(w.add(party, Does::Computes));
            }
            2 => {
                let party = w.party("yielder");
                first.push(w.add(party, Does::Yields(turn)));
            }
            3 => {
                let party = w.party("chain");
                let (len, at) = (2 + rng.below(7) as usize, w.all.len());
                for i in 0..len {
                    let g = w.add(party, Does::HandsOn { to: at + (i + 1) % len, turn });
                    w.all[g].has_run = i != 0; // the others wait for the token
                }
                first.push(at);
            }
            4 => {
                let party = w.party("spawner");
                first.push(w.add(party, Does::Spawns(turn)));
            }
            5 => {
                let party = w.party("socket");
                let at = w.all.len();
                first.push(w.add(party, Does::Answers { to: at + 1, turn: socket_turn }));
                let other = w.add(party, Does::Answers { to: at, turn: socket_turn });
                w.all[other].has_run = true;
            }
            _ => {
                let party = w.party("sleeper");
                let sleep = 50_000 + 1000 * u64::from(rng.below(5_000));
                first.push(w.add(party, Does::Sleeps { sleep, work: sleep / 50 }));
            }
        }
    }
    if overload {
        for _ in 0..OVERLOAD * procs / 2 + rng.below(200) as usize {
            let party = w.party("one of many");
            first.push(w.add(party, Does::Computes));
        }
    }
    w.procs[0].ring.extend(first.iter().take(256));
    w.global.extend(first.iter().skip(256));
    w.run();
    judge(&w, procs, show)
}

fn judge(w: &World, procs: usize, show: bool) -> Result<(), String> {
    let is_light = |party: usize| w.parties[party] == "sleeper";
    let heavy = (0..w.parties.len()).filter(|&p| !is_light(p)).count();
    let first = (WARM_UP / BUCKET) as usize;
    // A slice may lie across the edge of the second.
    let slice = slice_ns(FULL_SLICE, (heavy / procs) as u64) as f64 / 1e9;
    let mut worst: Vec<f64> = vec![f64::MAX; w.parties.len()];
    for begin in first..(END / BUCKET) as usize - 10 {
        let used = |party: usize| w.used[party][begin..begin + 10].iter().sum::<u64>() as f64 / 1e9;
        let light: f64 = (0..w.parties.len()).filter(|&p| is_light(p)).map(used).sum();
        let fair = ((procs as f64 - light) / heavy as f64).min(1.0);
        for (party, worst) in worst.iter_mut().enumerate().filter(|(p, _)| !is_light(*p)) {
            *worst = worst.min((used(party) + slice) / fair);
        }
    }
    if show {
        println!("{procs} Ps");
        for (party, (name, worst)) in w.parties.iter().zip(&worst).enumerate().filter(|(p, _)| !is_light(*p))
        {
            let does = w.all.iter().find(|g| g.party == party).map(|g| g.does);
            println!("{name:<12} {worst:.2} of its fair share in its worst second; {does:?}");
        }
        println!("the latest sleeper: {} µs", w.latest / 1000);
    }
    let least = |party: usize| if w.parties[party] == "socket" { 0.25 } else { 0.5 };
    let starved = (0..w.parties.len()).filter(|&p| !is_light(p) && worst[p] < least(p));
    let starved: Vec<_> = starved.map(|p| format!("{} {:.3}", w.parties[p], worst[p])).collect();
    if !starved.is_empty() {
        return Err(format!("{starved:?} of {heavy} parties on {procs} Ps"));
    }
    Ok(())
}

/// How many mixtures each of the tests below runs.
const MIXTURES: u64 = 1_000;

/// Hogs, chains of hand-overs, yielders, spawners, sockets, sleepers and overloads, on one, two and
/// four Ps. Over any second, each party that can always run gets half of its fair share or more,
/// give or take one slice.
fn each_gets_half_of_its_fair_share(part: u64) {
    if let Ok(seed) = std::env::var("GORT_SIMULATE") {
        let seed: u64 = seed.parse().expect("GORT_SIMULATE is a seed");
        if seed / MIXTURES == part {
            simulate(seed, true).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        return;
    }
    let seeds = part * MIXTURES..(part + 1) * MIXTURES;
    let failed: Vec<String> =
        seeds.filter_map(|seed| Some(format!("seed {seed}: {}", simulate(seed, false).err()?))).collect();
    assert!(failed.is_empty(), "{} of {MIXTURES}: {failed:#?}", failed.len());
}

#[test]
fn shares_of_mixtures_0() {
    each_gets_half_of_its_fair_share(0);
}

#[test]
fn shares_of_mixtures_1() {
    each_gets_half_of_its_fair_share(1);
}

#[test]
fn shares_of_mixtures_2() {
    each_gets_half_of_its_fair_share(2);
}

#[test]
fn shares_of_mixtures_3() {
    each_gets_half_of_its_fair_share(3);
}
