//! Which goroutine a P runs next, and for how long: the rule, in one place, without threads.
//!
//! # Words
//! - A *slice* is 10 ms of a P's time, whatever runs in it; a quarter more or less by chance, so
//!   that nothing keeps step with it. Sysmon marks its end. Hand-overs, yields and parks do not
//!   begin a new one.
//! - A goroutine is *expired* when it was running as a slice ended: it goes to the back of one
//!   queue that all Ps share. All others that can run are *active*.
//! - A *party* is what shares are counted by: a goroutine, or several that only hand over to each
//!   other (then only one of them can run at a time, and it inherits the slice through `next`).
//! - A *newcomer* is a goroutine that has never run. There is *overload* while [`OVERLOAD`] goroutines
//!   or more are stopped with their threads.
//!
//! # The rule
//! | when                                  | what happens                                       |
//! | ------------------------------------- | -------------------------------------------------- |
//! | a slice ends                          | the goroutine that runs is expired, and the one in `next` goes behind the ring; if it has just parked, its successor in `next` is expired, or (1) if there is none. The [`Account`] says which come first in the next slice: the active or the expired |
//! | a goroutine parks, ends or yields     | the P [picks](pick) another one; one that yields goes behind the ring; an expired one that has its own slice [goes on](after_yield) |
//! | I/O or time has readied a goroutine   | it is picked next (*urgent*); one that has computed for 1 ms is stopped for it, and goes to the front of the expired, since the slice is not over |
//! | a goroutine calls gort in a loop, and others want to run | it gives way: behind the ring, or, where it must stay on its thread, to the back of the expired |
//! | there is overload | newcomers get slices of their own, ever more rarely: [`one_in`] |
//!
//! 1. The one that parked is charged itself. If that was so less than [80 ms](CHARGED_TWICE_NS) ago,
//!    too, it is expired when its wait ends.
//!
//! # Why nobody starves, and each party gets half of its fair share or more
//! A slice is charged to the party that runs as it ends, so by chance in proportion to what each
//! has used: no clock is read in between. Let `a` parties be active on a P and `e` be its part of
//! the expired.
//!
//! 1. *Active and expired.* The account gives the expired `3 e / (4 a + 3 e)` of the slices, but at
//!    least 1/16 and at most 3/4. So each active party gets its fair share of `1 / (a + e)` or
//!    more (at the lower bound 15/16 of it), and each expired one 3/4 of it or more. The active
//!    have the better part, as they are charged by chance and the expired are not.
//! 2. *Among the expired.* They take turns of one slice each, in order.
//! 3. *Among the active.* One that takes more than the others is more often the one that runs as a
//!    slice ends; then it is expired, until the others have been, or have had their slices.
//!    In each slice for the active the ring moves on by one or more, as `next` does not
//!    survive the slice's end.
//! 4. *Over any second.* A round of all parties must fit in: where there are so many that it
//!    would take more than 0.2 s, [slices are shorter](slice_ns), down to 1 ms.
//! 5. *Several Ps.* The queue of the expired is one for all; an active goroutine that a long ring
//!    delays is expired at some time, and goes on where there is room.
//!
//! What is urgent takes from the account of the active: beside an expired one that has its slice,
//! urgent ones run once each and it goes on; so they are served at once but cannot take all.
//!
//! `crates/gort-models/tests/shares.rs` runs this very file over thousands of mixtures and checks
//! the shares.
//!
//! # Rejected
//! - Virtual run times, as Linux has: the time-stamp counter takes 9.5 ns here, a yield 26 ns.
//! - A slice for each goroutine that is not handed over to, as Go has: a chain has 10 ms, one that
//!   yields some 100 ns, a goroutine of the global queue 10 ms each 61 schedules.

use std::cell::Cell;
use std::time::Duration;

/// From so many goroutines on that were stopped with their threads, newcomers are let in slowly.
pub(crate) const OVERLOAD: usize = 256;
/// A goroutine that computes gives way to urgent ones after this long.
pub(crate) const IO_SLICE: Duration = Duration::from_millis(1);
/// So long an expired one waits for urgent ones at a time, before it goes on with its slice.
pub(crate) const URGENT_NS: u64 = 200_000;
/// So long it goes on at least before the next time.
const INTERRUPT_EVERY_NS: u64 = 2_000_000;

/// Whether a goroutine is to be stopped for urgent ones, `since_ns` after the last time on its P.
pub(crate) fn may_interrupt(slice: SliceState, since_ns: u64) -> bool {
    !slice.is_of_expired() || since_ns >= INTERRUPT_EVERY_NS
}

/// Every so many schedules a P looks at the netpoller and the global queue. Go's number: a prime.
pub(crate) const LOOK_EVERY: u32 = 61;

/// Calls between two looks whether others want to run: long enough that a hand-off (some 10 µs) is
/// a small part.
pub(crate) const BUDGET: u32 = 1024;

/// A round of all parties of a P is to take no longer.
const ROUND_NS: u64 = 200_000_000;

/// What a slice is for, and what a goroutine was when it was picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Active,
    Expired,
    /// Those that have never run, under overload.
    Newcomers,
    /// Those for which the kernel has something.
    Readable,
}

/// What a slice is for now, and what the goroutine is that runs in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SliceState {
    pub(crate) first: Class,
    pub(crate) running: Class,
}

impl SliceState {
    /// The usual one: an active goroutine runs, and others of that kind come next.
    pub(crate) const ACTIVE: SliceState = SliceState { first: Class::Active, running: Class::Active };

    /// Whether an expired goroutine has the slice that is its own: what yields goes on with it.
    pub(crate) fn is_of_expired(self) -> bool {
        self == SliceState { first: Class::Expired, running: Class::Expired }
    }
}

/// Where a goroutine goes that yields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AfterYield {
    /// It goes on.
    Runs,
    /// To the back of the expired: it is charged with the slice.
    Expires,
    /// Behind the ring.
    Queues,
}

/// What a yield leads to; `over`: the slice is over, and others wait; `runs`: so many there were
/// in it.
pub(crate) fn after_yield(slice: SliceState, over: bool, runs: u64) -> AfterYield {
    match (slice.is_of_expired(), over) {
        (true, false) => AfterYield::Runs,
        (false, true) => AfterYield::Expires,
        // One that hardly ever yields shares by slices, as one that never does.
        (true, true) if runs < FEW_RUNS => AfterYield::Expires,
        _ => AfterYield::Queues,
    }
}

/// With fewer runs in a slice a goroutine has long ones.
const FEW_RUNS: u64 = 100;

/// What a slice is charged to.
pub(crate) fn charged(purpose: Class, running: Class) -> Class {
    match purpose {
        Class::Newcomers => Class::Newcomers,
        Class::Expired => Class::Expired,
        Class::Active | Class::Readable if running == Class::Expired => Class::Expired,
        Class::Active | Class::Readable => Class::Active,
    }
}

/// So many slices end with a goroutine that yields, before one is for the readable.
pub(crate) const YIELDERS: u8 = 2;
/// A goroutine that begins to wait as a slice ends is charged; if that was so already not longer
/// ago, it is expired when its wait ends.
pub(crate) const CHARGED_TWICE_NS: u64 = 80_000_000;

/// How many parties share a P.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parties {
    pub(crate) active: usize,
    pub(crate) expired: usize,
}

/// The sum of slices that the active of a P are ahead of their share, in parts of 1/[`UNIT`].
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Account(i32);

const UNIT: i32 = 1 << 10;

impl Account {
    /// A slice has ended in which one of `ran` was running. Says which come first in the next one.
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

/// The part of the slices that the expired get, in parts of [`UNIT`].
fn share_of_expired(Parties { active, expired }: Parties) -> i32 {
    if expired == 0 {
        return 0;
    }
    let part = UNIT as usize * 3 * expired / (4 * active + 3 * expired);
    (part as i32).clamp(UNIT / 16, UNIT / 4 * 3)
}

/// How long this slice of a P is, of the usual length: a part by chance.
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

/// How long a slice usually is, where so many parties share a P; `full` is the longest.
pub(crate) fn slice_ns(full: u64, parties: u64) -> u64 {
    (ROUND_NS / parties.max(1)).clamp(full.min(IO_SLICE.as_nanos() as u64), full)
}

/// While `stopped` goroutines are stopped with their threads, one in so many slices is for
/// newcomers, by chance. Each may need a thread: so the number of threads grows ever more slowly
/// where all compute for ever, and those that soon park get in.
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
    /// Readies goroutines whose time has come.
    fn fire_timers(&mut self);
    /// A number that grows with each goroutine that the P runs.
    fn schedules(&self) -> u64;
    /// What the slice is for.
    fn first(&self) -> Class;
    fn set_first(&mut self, first: Class);
    /// What the goroutine that is picked now is.
    fn set_running(&mut self, class: Class);
    /// The last goroutine was an urgent one.
    fn took_urgent(&mut self) -> &Cell<bool>;
    /// The slice of an expired one was interrupted less than [`URGENT_NS`] ago.
    fn has_time_for_urgent(&mut self) -> bool;

    fn readable(&mut self) -> Option<Self::Item>;
    /// As [`readable`](Self::readable), unless another M waits there.
    fn readable_alone(&mut self) -> Option<Self::Item>;
    fn urgent(&mut self) -> Option<Self::Item>;
    /// Of the queue for newcomers under overload.
    fn newcomer(&mut self) -> Option<Self::Item>;
    /// One of the global queue.
    fn global(&mut self) -> Option<Self::Item>;
    /// One of the global queue, and this P's part of the rest goes to its ring.
    fn global_share(&mut self) -> Option<Self::Item>;
    fn next(&mut self) -> Option<Self::Item>;
    /// Another one goes first: `next`, if it has the slice of an expired one, waits in front of the
    /// expired.
    fn put_expired_back(&mut self);
    fn ring(&mut self) -> Option<Self::Item>;
    fn expired(&mut self) -> Option<Self::Item>;
}

/// What a P runs next, of its own queues and those that all share.
#[inline]
pub(crate) fn pick<S: Sources>(s: &mut S) -> Option<S::Item> {
    if s.is_slice_over() {
        s.end_slice();
    }
    s.fire_timers();
    let first = s.first();
    let looks = s.schedules().is_multiple_of(u64::from(LOOK_EVERY));
    // Each comes before the other every second time, so that neither hides it.
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
    // Not twice in a row, where others are active.
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
    // It inherits the slice, and counts as what the one before it was.
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
    // An urgent one that had to let others go first, of which there are none.
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

    /// Where one side is not there, the other has all, and is not asked to pay for it later.
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

    /// Below the limit there is no overload; above, newcomers are let in ever more rarely.
    #[test]
    fn newcomers() {
        assert_eq!(one_in(OVERLOAD - 1), None);
        assert_eq!(one_in(OVERLOAD), Some(2));
        assert_eq!(one_in(2 * OVERLOAD), Some(8));
        assert_eq!(one_in(4 * OVERLOAD), Some(128));
        assert_eq!(one_in(usize::MAX), Some(1 << 31));
    }
}
