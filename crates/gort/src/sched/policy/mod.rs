//! Which goroutine a P runs next, and for how long: the rule, in one place, without threads.
//!
//! # Words
//! - A *slice* is 10 ms of a P's time, whatever runs in it. It is up to a quarter longer or
//!   shorter, by chance, so that nothing keeps step with it. Sysmon marks its end. Hand-overs,
//!   yields and parks do not begin a new one.
//! - A goroutine is *expired* when it was running as a slice ended: it goes to the back of one
//!   queue that all Ps share. All other runnable goroutines are *active*.
//! - A *party* is what shares are counted by: a goroutine, or several that only hand over to each
//!   other. (Of those only one can run at a time, and it inherits the slice through `next`.)
//! - A *newcomer* is a goroutine that has never run.
//! - There is *overload* while [`OVERLOAD`] goroutines or more are stopped with their threads.
//!
//! # The rule
//! | when                      | what happens                                                     |
//! | ------------------------- | ---------------------------------------------------------------- |
//! | a slice ends              | The goroutine that runs is expired, and the one in `next` goes   |
//! |                           | behind the ring. If the goroutine has just parked, its successor |
//! |                           | in `next` is expired; if there is none, see (1). The [`Account`] |
//! |                           | says which come first in the next slice, the active or the       |
//! |                           | expired.                                                         |
//! | a goroutine parks, ends,  | The P [picks](pick) another one. One that yields goes behind     |
//! | or yields                 | the ring; an expired one that has its own slice                  |
//! |                           | [goes on](after_yield).                                          |
//! | I/O or time has readied a | It is picked next (*urgent*). A goroutine that has computed for  |
//! | goroutine                 | 1 ms is stopped for it, and goes to the front of the expired,    |
//! |                           | since the slice is not over.                                     |
//! | a goroutine calls gort in | It gives way: it goes behind the ring, or, where it must stay on |
//! | a loop, and others want   | its thread, to the back of the expired.                          |
//! | to run                    |                                                                  |
//! | there is overload         | Newcomers get slices of their own, ever more rarely: [`one_in`]. |
//!
//! (1) The goroutine that parked is charged. If less than [80 ms](CHARGED_TWICE_NS) before it was
//! charged, too, it is expired when its wait ends.
//!
//! # Why no goroutine starves, and each party gets half of its fair share or more
//! A slice is charged to the party that runs as it ends. So each party is charged by chance, in
//! proportion to what it has used; no clock is read in between. Let `a` parties be active on a P,
//! and let `e` be its part of the expired.
//!
//! 1. *Active and expired.* The account gives the expired `3 e / (4 a + 3 e)` of the slices, but at
//!    least 1/16 and at most 3/4. So each active party gets its fair share of `1 / (a + e)` or more
//!    (at the lower bound 15/16 of it), and each expired one gets 3/4 of it or more. The active
//!    have the better part, as they are charged by chance and the expired are not.
//! 2. *Among the expired.* They take turns of one slice each, in order.
//! 3. *Among the active.* A party that takes more than the others is more often the one that runs
//!    as a slice ends. Then it is expired, until the others have been, or have had their slices. In
//!    each slice for the active the ring moves on by one or more, as `next` does not survive the
//!    slice's end.
//! 4. *Over any second.* A round of all parties must fit in. Where there are so many that it would
//!    take more than 0.2 s, [slices are shorter](slice_ns), down to 1 ms.
//! 5. *Several Ps.* All Ps share the queue of the expired. An active goroutine that a long ring
//!    delays is expired at some time, and goes on where there is room.
//!
//! The urgent take from the account of the active. Beside an expired goroutine that has its slice,
//! each of the urgent runs once, and the expired one goes on. So they are served at once, but
//! cannot take all.
//!
//! `crates/gort-models/tests/shares.rs` runs this very file over thousands of mixtures and checks
//! the shares.
//!
//! # Rejected
//! - Virtual run times, as Linux has: the time-stamp counter takes 9.5 ns here, a yield 26 ns.
//! - A slice for each goroutine that is not handed over to, as Go has. Then a chain has 10 ms, a
//!   goroutine that yields has some 100 ns, and a goroutine of the global queue has 10 ms each 61
//!   schedules.

use std::cell::Cell;
use std::time::Duration;

/// From this many goroutines on that were stopped with their threads there is overload: newcomers
/// are let in slowly.
pub(crate) const OVERLOAD: usize = 256;
/// A goroutine that has computed for this long gives way to urgent ones.
pub(crate) const IO_SLICE: Duration = Duration::from_millis(1);
/// How long an expired goroutine waits for urgent ones at a time, before it goes on with its slice.
pub(crate) const URGENT_NS: u64 = 200_000;
/// How long it goes on at least before it waits for them again.
const INTERRUPT_EVERY_NS: u64 = 2_000_000;

/// Whether a goroutine is to be stopped for urgent ones, `since_ns` after this last happened on its
/// P.
pub(crate) fn may_interrupt(slice: SliceState, since_ns: u64) -> bool {
    !slice.is_of_expired() || since_ns >= INTERRUPT_EVERY_NS
}

/// After this many schedules a P looks at the netpoller and the global queue. Go's number: a prime.
pub(crate) const LOOK_EVERY: u32 = 61;

/// How many calls there are between two looks whether others want to run. So many that a hand-off
/// (some 10 µs) is a small part.
pub(crate) const BUDGET: u32 = 1024;

/// How long a round of all parties of a P may take.
const ROUND_NS: u64 = 200_000_000;

/// What a slice is for, and what a goroutine was when it was picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Active,
    Expired,
    /// Goroutines that have never run, under overload.
    Newcomers,
    /// Goroutines for which the kernel has something.
    Readable,
}

/// What a slice is for now, and what the goroutine that runs in it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SliceState {
    pub(crate) first: Class,
    pub(crate) running: Class,
}

impl SliceState {
    /// The usual state: an active goroutine runs, and others of that kind come next.
    pub(crate) const ACTIVE: SliceState = SliceState { first: Class::Active, running: Class::Active };

    /// Whether an expired goroutine has the slice that is its own. If it yields, it goes on.
    pub(crate) fn is_of_expired(self) -> bool {
        self == SliceState { first: Class::Expired, running: Class::Expired }
    }
}

/// Where a goroutine that yields goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AfterYield {
    /// It goes on.
    Runs,
    /// To the back of the expired: it is charged with the slice.
    Expires,
    /// Behind the ring.
    Queues,
}

/// What a yield leads to. `over`: the slice is over, and others wait. `runs`: how many runs there
/// were in the slice.
pub(crate) fn after_yield(slice: SliceState, over: bool, runs: u64) -> AfterYield {
    match (slice.is_of_expired(), over) {
        (true, false) => AfterYield::Runs,
        (false, true) => AfterYield::Expires,
        // A goroutine that hardly ever yields shares by slices, as one that never does.
        (true, true) if runs < FEW_RUNS => AfterYield::Expires,
        _ => AfterYield::Queues,
    }
}

/// With fewer runs than this in a slice, goroutines run for long at a time.
const FEW_RUNS: u64 = 100;

/// What a slice is charged to: `purpose` is what it was for, `running` is what ran as it ended.
pub(crate) fn charged(purpose: Class, running: Class) -> Class {
    match purpose {
        Class::Newcomers => Class::Newcomers,
        Class::Expired => Class::Expired,
        Class::Active | Class::Readable if running == Class::Expired => Class::Expired,
        Class::Active | Class::Readable => Class::Active,
    }
}

/// How many slices end with a goroutine that yields, before one is for the readable.
pub(crate) const YIELDERS: u8 = 2;
/// A goroutine that begins to wait as a slice ends is charged. If it was charged no longer than
/// this before, too, it is expired when its wait ends.
pub(crate) const CHARGED_TWICE_NS: u64 = 80_000_000;

/// How many parties share a P.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parties {
    pub(crate) active: usize,
    pub(crate) expired: usize,
}

/// How many slices the active of a P are ahead of their share, in parts of 1/[`UNIT`].
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Account(i32);

const UNIT: i32 = 1 << 10;

impl Account {
    /// A slice has ended, in which a goroutine of class `ran` was running. Says which class comes
    /// first in the next one.
    pub(crate) fn charge(&mut self, ran: Class, parties: Parties) -> Class {
        let of_expired = share_of_expired(parties);
        self.0 += match ran {
            Class::Active | Class::Readable => of_expired,
            Class::Expired => of_expired - UNIT,
            Class::Newcomers => 0,
        };
        self.0 = self.0.clamp(-UNIT, UNIT);
        if self.0 > 0 { Class::Expired } else { Class::Active }
    }
}

/// Which part of the slices the expired get, in parts of [`UNIT`].
fn share_of_expired(Parties { active, expired }: Parties) -> i32 {
    if expired == 0 {
        return 0;
    }
    let part = UNIT as usize * 3 * expired / (4 * active + 3 * expired);
    (part as i32).clamp(UNIT / 16, UNIT / 4 * 3)
}

/// How long this slice of a P is, in sixteenths of the usual length. Drawn by chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part(u8);

impl Part {
    /// `random` gives a number below its argument.
    pub(crate) fn draw(random: impl FnOnce(u32) -> u32) -> Part {
        Part(12 + random(9) as u8)
    }

    pub(crate) fn of(self, slice_ns: u64) -> u64 {
        slice_ns * u64::from(self.0) / 16
    }

    pub(crate) fn to_u8(self) -> u8 {
        self.0
    }

    pub(crate) fn from_u8(sixteenths: u8) -> Part {
        Part(sixteenths)
    }
}

impl Default for Part {
    fn default() -> Part {
        Part(16)
    }
}

/// How long a slice usually is where `parties` share a P. `full` is the longest.
pub(crate) fn slice_ns(full: u64, parties: u64) -> u64 {
    (ROUND_NS / parties.max(1)).clamp(full.min(IO_SLICE.as_nanos() as u64), full)
}

/// While `stopped` goroutines are stopped with their threads, one in this many slices is for
/// newcomers, by chance. Each newcomer may need a thread. So the number of threads grows ever more
/// slowly where all goroutines compute for ever, and those that soon park get in.
pub(crate) fn one_in(stopped: usize) -> Option<u32> {
    let over = stopped.checked_sub(OVERLOAD)?;
    Some(2 << (over / (OVERLOAD / 2)).min(30))
}

/// Where a P finds goroutines, and what it remembers of its slice.
pub(crate) trait Sources {
    type Item;

    /// Whether the slice was marked as over.
    fn is_slice_over(&self) -> bool;
    /// Charges the slice and begins the next one.
    fn end_slice(&mut self);
    /// Readies the goroutines whose timers are due.
    fn fire_timers(&mut self);
    /// A number that grows with each goroutine that the P runs.
    fn schedules(&self) -> u64;
    /// What the slice is for.
    fn first(&self) -> Class;
    fn set_first(&mut self, first: Class);
    /// Sets what the goroutine that is picked now is.
    fn set_running(&mut self, class: Class);
    /// Whether the last goroutine was an urgent one.
    fn took_urgent(&mut self) -> &Cell<bool>;
    /// Whether the slice of an expired goroutine was interrupted less than [`URGENT_NS`] ago.
    fn has_time_for_urgent(&mut self) -> bool;

    fn readable(&mut self) -> Option<Self::Item>;
    /// As [`readable`](Self::readable), unless another M waits in the poll.
    fn readable_alone(&mut self) -> Option<Self::Item>;
    fn urgent(&mut self) -> Option<Self::Item>;
    /// One of the queue for newcomers, under overload.
    fn newcomer(&mut self) -> Option<Self::Item>;
    /// One of the global queue.
    fn global(&mut self) -> Option<Self::Item>;
    /// One of the global queue. This P's share of the rest goes to its ring.
    fn global_share(&mut self) -> Option<Self::Item>;
    fn next(&mut self) -> Option<Self::Item>;
    /// Another goroutine goes first. If `next` has the slice of an expired goroutine, the one in
    /// `next` waits in front of the expired.
    fn put_expired_back(&mut self);
    fn ring(&mut self) -> Option<Self::Item>;
    fn expired(&mut self) -> Option<Self::Item>;
}

/// What a P runs next, from its own queues and those that all Ps share.
#[inline]
pub(crate) fn pick<S: Sources>(s: &mut S) -> Option<S::Item> {
    if s.is_slice_over() {
        s.end_slice();
    }
    s.fire_timers();
    let first = s.first();
    let looks = s.schedules().is_multiple_of(u64::from(LOOK_EVERY));
    // Each of the two comes before the other every second time, so that neither hides the other.
    let (netpoll, global) = match s.schedules() / u64::from(LOOK_EVERY) % 2 {
        _ if !looks => (false, false),
        0 => (true, false),
        _ => (false, true),
    };
    let goes_first = |s: &mut S, g: S::Item| {
        s.put_expired_back();
        s.set_running(Class::Active);
        Some(g)
    };
    if netpoll && let Some(g) = s.readable() {
        return goes_first(s, g);
    }
    // Not twice in a row where others are active.
    let took_urgent = s.took_urgent().replace(false);
    let urgent_may = !took_urgent || first == Class::Expired && s.has_time_for_urgent();
    if urgent_may && let Some(g) = s.urgent() {
        s.took_urgent().set(true);
        return goes_first(s, g);
    }
    if looks && let Some(g) = s.global() {
        return goes_first(s, g);
    }
    if global && let Some(g) = s.readable() {
        return goes_first(s, g);
    }
    // It inherits the slice, and counts as what its predecessor was.
    if let Some(g) = s.next() {
        return Some(g);
    }
    let of_the_slice = match first {
        Class::Active => None,
        Class::Expired => s.expired(),
        Class::Newcomers => s.newcomer(),
        Class::Readable => s.readable_alone(),
    };
    if let Some(g) = of_the_slice {
        s.set_running(first);
        return Some(g);
    }
    if first != Class::Readable {
        s.set_first(Class::Active);
    }
    let g = s.ring().or_else(|| s.global_share()).or_else(|| s.readable_alone());
    // An urgent one that had to let others go first, where there are none.
    let g = g.or_else(|| s.global()).or_else(|| s.urgent());
    if g.is_some() {
        s.set_running(Class::Active);
        return g;
    }
    let g = s.expired()?;
    s.set_running(Class::Expired);
    Some(g)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each side gets its part of the slices, within the bounds.
    #[test]
    fn the_account_gives_each_its_part() {
        for (active, expired, lowest, highest) in
            [(1, 1, 424, 433), (3, 1, 197, 203), (1, 3, 688, 695), (100, 1, 60, 65), (1, 100, 745, 755)]
        {
            let (mut account, mut first, mut n) = (Account::default(), Class::Active, 0);
            for _ in 0..1000 {
                n += usize::from(first == Class::Expired);
                first = account.charge(first, Parties { active, expired });
            }
            assert!((lowest..=highest).contains(&n), "{active} and {expired}: {n} of 1000");
        }
    }

    /// Where one side has no goroutines, the other has all slices, and need not pay for that later.
    #[test]
    fn no_debt_grows_without_bound() {
        let mut account = Account::default();
        for _ in 0..1000 {
            account.charge(Class::Active, Parties { active: 5, expired: 0 });
        }
        let both = Parties { active: 1, expired: 1 };
        assert_eq!(account.charge(Class::Active, both), Class::Expired);
        for _ in 0..1000 {
            account.charge(Class::Expired, Parties { active: 0, expired: 5 });
        }
        let slices = (0..100).find(|_| account.charge(Class::Active, both) == Class::Expired);
        assert!(slices.is_some_and(|n| n <= 3), "{slices:?}");
    }

    /// Slices are shorter where a round would be too long.
    #[test]
    fn a_round_fits_into_less_than_a_second() {
        let full = 10_000_000;
        assert_eq!(slice_ns(full, 0), full);
        assert_eq!(slice_ns(full, 20), full);
        assert_eq!(slice_ns(full, 40), full / 2);
        assert_eq!(slice_ns(full, 100_000), 1_000_000);
        assert_eq!(slice_ns(200_000, 100_000), 200_000);
    }

    /// Below the limit there is no overload. Above it, newcomers are let in ever more rarely.
    #[test]
    fn newcomers() {
        assert_eq!(one_in(OVERLOAD - 1), None);
        assert_eq!(one_in(OVERLOAD), Some(2));
        assert_eq!(one_in(2 * OVERLOAD), Some(8));
        assert_eq!(one_in(4 * OVERLOAD), Some(128));
        assert_eq!(one_in(usize::MAX), Some(1 << 31));
    }
}
