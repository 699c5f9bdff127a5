//! Switching from one goroutine straight to the next (`sched/run/direct.rs`), with the library's
//! own g0 loop (`sched/run/schedule.rs`), `ready`, wait word, run queue and swap word.
//!
//! What must hold:
//!
//! - No goroutine runs on two Ms at a time, nor before its registers are saved.
//! - Each wake-up is honoured.
//! - Each goroutine that was taken from a queue runs.
//!
//! A goroutine is a list of steps, and its stack is a cell: the thread that resumes it finds there
//! what the thread that suspended it has left, and loom reports two threads that are on it. `sp` is
//! Relaxed, as in the library: a thread that reads an old one has resumed the goroutine without an
//! acquire. No stack is switched. Each goroutine that goes on does the same first,
//! [`direct::arrive`], so to return from the switch is to come out of it as the next goroutine.
//!
//! Fences do nothing here, as they order nothing between these parties. The test of the swapper is
//! the exception.

#![allow(dead_code, unreachable_pub, reason = "modules of the library, of which this uses a part")]

use gort_models::model;
use loom::sync::atomic::Ordering::*;
use loom::thread::{self, JoinHandle};
use sys::sync::{fence, without_fences};

#[path = "../../gort/src/sched/run/direct.rs"]
mod direct;
#[path = "../../gort/src/sched/core/handover.rs"]
mod handover;
#[path = "../../gort/src/sched/ready/mod.rs"]
mod ready;
#[path = "../../gort/src/sched/queue/ring.rs"]
mod ring;
#[path = "../../gort/src/sched/run/schedule.rs"]
mod schedule;
#[path = "../../gort/src/sched/core/swap_word.rs"]
mod swap_word;
#[path = "../../gort/src/sched/core/wait_word.rs"]
mod wait_word;
#[path = "../../gort/src/sched/wake/mod.rs"]
mod wake;

/// `crate::sched`: the library's own files, and stand-ins for the rest.
mod sched {
    pub(crate) use crate::{policy, ready, swap};

    pub(crate) mod core {
        pub(crate) use crate::{g, m, p};

        pub(crate) mod frozen {
            pub(crate) fn is_frozen() -> bool {
                false
            }
        }

        pub(crate) mod timers {
            pub(crate) const NEVER: u64 = u64::MAX;
        }

        pub(crate) mod waiter {
            /// The model wakes waiters itself ([`wake`](crate::wake)).
            pub(crate) struct Wake;

            impl Wake {
                pub(crate) fn into_goroutine(self) -> Option<crate::g::Runnable> {
                    None
                }
            }
        }
    }

    pub(crate) mod handoff {
        /// The P is not needed any more; [`finish`](crate::finish) looks at it.
        pub(crate) fn hand_off(_: &'static crate::p::P) {}

        /// No P is taken from a thread that sleeps (`models/tests/held_p.rs` has that).
        pub(crate) fn acquire_p(_: &'static crate::m::M, _: &'static crate::g::G, _: bool) {
            unreachable!("each M keeps its P");
        }
    }

    pub(crate) mod run {
        pub(crate) use crate::{find, stacks};

        pub(crate) mod slice {
            use crate::policy::AfterYield;

            pub(crate) fn after_yield(_: &crate::p::P) -> AfterYield {
                AfterYield::Queues
            }
        }
    }

    pub(crate) mod shared {
        pub(crate) use crate::shared::*;

        pub(crate) mod monitor {
            pub(crate) fn coarse_ns() -> u64 {
                0
            }
        }
    }

    pub(crate) mod threads {
        pub(crate) mod pool {
            use crate::m::M;
            use crate::p::P;

            pub(crate) fn start_m(_: &'static P, _: bool) {
                unreachable!("no P idles");
            }

            /// The M's thread ends.
            pub(crate) fn stop_m(_: &'static M) -> bool {
                false
            }
        }
    }
}

use g::Step::{self, Bind, Park, Wake, Yield};
use g::{G, State};
use m::{Action, M};
use p::P;

/// `crate::sys`.
mod sys {
    pub(crate) use gort_models::sys::futex;

    pub(crate) mod sync {
        pub(crate) use gort_models::sys::sync::*;
    }

    pub(crate) mod clock {
        pub(crate) use gort_models::sys::clock::now_ns;

        pub(crate) fn cycles() -> u64 {
            0
        }
    }

    pub(crate) mod membarrier {
        /// In the library this is the light fence of a light and a heavy one. Here each side has a
        /// full fence.
        pub(crate) fn fence_light() {
            super::sync::fence(super::sync::Ordering::SeqCst);
        }
    }

    /// No signals come.
    pub(crate) mod pin {
        pub(crate) fn enter() {}
        pub(crate) fn leave() {}
    }
}

/// No slice is ever over, so nothing is charged.
mod policy {
    pub(crate) const LOOK_EVERY: u32 = 61;

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) struct SliceState;

    impl SliceState {
        pub(crate) const ACTIVE: SliceState = SliceState;
    }

    #[derive(PartialEq)]
    pub(crate) enum AfterYield {
        Runs,
        Expires,
        Queues,
    }
}

mod shared {
    use super::WORLD;
    use super::g::GList;
    use super::g::Runnable;
    use super::p::P;
    use super::wake::WakeState;
    use loom::sync::atomic::AtomicU32;
    use loom::sync::{Mutex, MutexGuard};

    loom::lazy_static! {
        pub(crate) static ref WAKE: WakeState = WakeState::new(AtomicU32::new(0), AtomicU32::new(0));
        static ref SHARED: Mutex<Shared> = Mutex::new(Shared::default());
    }

    #[derive(Default)]
    pub(crate) struct Shared {
        pub(crate) global: GList,
        pub(crate) waiting_bound: usize,
        pub(crate) m_pool: MPool,
    }

    // SAFETY: descriptors of goroutines live as long as the model.
    unsafe impl Send for Shared {}

    pub(crate) struct Submitted;

    impl Submitted {
        pub(crate) const ON_A_RING: Submitted = Submitted;
        pub(crate) fn any(self) -> bool {
            true
        }
        pub(crate) fn seen_to(self) {}
    }

    #[derive(Default)]
    pub(crate) struct MPool;

    impl MPool {
        pub(crate) fn end_busy(&mut self) {}
    }

    pub(crate) fn lock() -> MutexGuard<'static, Shared> {
        SHARED.lock().unwrap()
    }

    pub(crate) fn is_urgent() -> bool {
        false
    }

    pub(crate) fn is_overloaded() -> bool {
        WORLD.is_overloaded.get()
    }

    pub(crate) fn active_is_empty() -> bool {
        lock().global.0.is_empty()
    }

    impl Shared {
        pub(crate) fn push_global_one(&mut self, g: Runnable) -> Submitted {
            self.global.0.push(g);
            Submitted
        }
        pub(crate) fn push_expired(&mut self, g: Runnable, _: bool) -> Submitted {
            self.global.0.push(g);
            Submitted
        }
        pub(crate) fn push_global(&mut self, gs: &mut GList) -> Submitted {
            self.global.0.append(&mut gs.0);
            Submitted
        }
        /// No P idles.
        pub(crate) fn take_idle_p(&mut self) -> Option<&'static P> {
            None
        }
    }
}

mod swap {
    use super::g::G;

    /// As the library's.
    pub(crate) fn bring_back(g: &G) {
        let mut is_packed = g.packed.lock().unwrap();
        if g.swap.out().is_none() {
            return g.swap.unmark();
        }
        assert!(std::mem::take(&mut *is_packed));
        g.on_stack(|stack| stack.is_there = true);
        g.swap.stay();
    }
}

mod stacks {
    use super::g::G;
    use super::p::P;
    use loom::sync::atomic::Ordering::*;

    /// A fresh stack counts as saved once.
    pub(crate) fn attach(_: &P, g: &G) {
        g.sp.store(1, Relaxed);
    }

    pub(crate) fn attach_warm(p: &P, g: &G) -> bool {
        attach(p, g);
        true
    }

    pub(crate) fn put_away(_: &P, g: &G) {
        g.on_stack(|stack| {
            assert!(!stack.is_running && !stack.has_ended);
            stack.has_ended = true;
        });
    }
}

mod find {
    use super::g::Runnable;
    use super::m::M;
    use super::{WORLD, shared};

    /// Looks once at each place. `None`: the M stops.
    pub(crate) fn find(m: &'static M) -> Option<Runnable> {
        if let Some(found) = m.found.take() {
            return Some(found);
        }
        let p = m.p.get().expect("`find` is entered with a P");
        if let Some(next) = p.runq.take_next() {
            return Some(next);
        }
        if let Some(g) = p.pop() {
            return Some(g);
        }
        let global = if m.looks_at_global.get() { shared::lock().global.0.pop() } else { None };
        if let Some(g) = global {
            return Some(g);
        }
        for victim in WORLD.ps.iter().filter(|victim| !std::ptr::eq(*victim, p)) {
            if let Some(g) = victim.runq.steal_into(&p.runq) {
                return Some(g);
            }
            if let Some(next) = victim.runq.peek_next()
                && let Some(next) = victim.runq.steal_next(next)
            {
                return Some(next);
            }
        }
        None
    }
}

mod g {
    use super::m::M;
    use super::ring::Handle;
    use super::swap_word::SwapWord;
    use super::wait_word::WaitWord;
    use loom::cell::UnsafeCell;
    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering::*};
    use std::ptr::null_mut;
    use std::sync::atomic::AtomicPtr;

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum State {
        Dead,
        Runnable,
        Running,
        Waiting,
    }

    /// What a goroutine does next; it ends after the last one.
    #[derive(Clone, Copy)]
    pub(crate) enum Step {
        /// Waits, once. Its wait was armed before the model began.
        Park,
        Yield,
        /// Ends the wait of the goroutine with this number.
        Wake(usize),
        /// Stays on its thread from here on.
        Bind,
    }

    /// What is saved on a stack, and whether a goroutine runs there.
    pub(crate) struct Stack {
        pub(crate) steps: &'static [Step],
        /// How often registers were saved; `sp` is that number.
        pub(crate) saves: usize,
        pub(crate) waits: bool,
        pub(crate) may_go: bool,
        pub(crate) is_running: bool,
        pub(crate) is_there: bool,
        pub(crate) has_ended: bool,
    }

    /// As the library's.
    #[must_use]
    pub(crate) struct Runnable(&'static G);

    impl Runnable {
        pub(crate) fn g(&self) -> &'static G {
            self.0
        }
        pub(crate) fn claim(self) -> &'static G {
            self.0
        }
        pub(crate) fn run_on_its_m(self) -> &'static M {
            // SAFETY: it lives as long as the model.
            unsafe { &*self.0.bound_m.load(Acquire) }
        }
    }

    impl Handle for Runnable {
        type Target = G;

        fn into_ptr(self) -> *mut G {
            std::ptr::from_ref(self.0).cast_mut()
        }
        unsafe fn from_ptr(ptr: *mut G) -> Runnable {
            // SAFETY: it lives as long as the model.
            Runnable(unsafe { &*ptr })
        }
    }

    #[derive(Default)]
    pub(crate) struct GList(pub(crate) Vec<Runnable>);

    impl GList {
        pub(crate) fn new() -> GList {
            GList::default()
        }
        pub(crate) fn push_back(&mut self, g: Runnable) {
            self.0.push(g);
        }
    }

    pub(crate) struct G {
        pub(crate) waiter: WaitWord,
        pub(crate) sp: AtomicUsize,
        pub(crate) swap: SwapWord,
        pub(crate) state: AtomicU8,
        pub(crate) bound_m: AtomicPtr<M>,
        stack: UnsafeCell<Stack>,
        /// The shard's lock. It guards whether the stack is packed.
        pub(crate) packed: Mutex<bool>,
    }

    impl G {
        pub(crate) fn is_newcomer(&self) -> bool {
            self.sp.load(Relaxed) == 0
        }

        pub(crate) fn charge(&self, _: u64) {}
        pub(crate) fn take_expires(&self) -> bool {
            false
        }

        /// False: no goroutine of the model does.
        pub(crate) fn gives_up_slot(&self) -> bool {
            false
        }

        pub(crate) fn new() -> G {
            G {
                waiter: WaitWord::new(),
                sp: AtomicUsize::new(0),
                swap: SwapWord::new(),
                state: AtomicU8::new(State::Dead as u8),
                bound_m: AtomicPtr::new(null_mut()),
                stack: UnsafeCell::new(Stack {
                    steps: &[],
                    saves: 1,
                    waits: false,
                    may_go: false,
                    is_running: false,
                    is_there: true,
                    has_ended: true,
                }),
                packed: Mutex::new(false),
            }
        }

        /// The caller is alone on the stack; loom checks that.
        pub(crate) fn on_stack<R>(&self, f: impl FnOnce(&mut Stack) -> R) -> R {
            // SAFETY: loom checks it.
            self.stack.with_mut(|stack| f(unsafe { &mut *stack }))
        }

        pub(crate) fn id(&self) -> u64 {
            0
        }

        fn set_state(&self, state: State) {
            self.state.store(state as u8, Release);
        }
        /// # Safety
        /// As the library's.
        pub(crate) unsafe fn become_runnable(&'static self) -> Runnable {
            self.set_state(State::Runnable);
            Runnable(self)
        }
        pub(crate) fn begin_running(&self) {
            self.set_state(State::Running);
        }
        pub(crate) fn begin_waiting(&self) {
            self.set_state(State::Waiting);
        }

        pub(crate) fn is_locked_to_thread(&self) -> bool {
            false
        }

        /// The goroutine leaves its stack: the last access there, then the store of `sp`.
        pub(crate) fn save(&self) {
            let sp = self.on_stack(|stack| {
                assert!(stack.is_running);
                stack.is_running = false;
                stack.saves += 1;
                stack.saves
            });
            self.sp.store(sp, Relaxed);
        }

        /// The caller, which has the goroutine, switches to it.
        pub(crate) fn restore(&self) {
            let sp = self.sp.load(Relaxed);
            self.on_stack(|stack| {
                assert!(!stack.is_running, "resumed while it runs");
                assert!(stack.is_there, "resumed without its stack");
                assert!(!stack.has_ended, "resumed after its end");
                assert_eq!(sp, stack.saves, "resumed with registers of an earlier park");
                stack.is_running = true;
            });
        }
    }
}

mod m {
    use super::g::{G, Runnable};
    use super::handover::Handover;
    use super::p::P;
    use super::{WORLD, direct, step};
    use loom::sync::atomic::Ordering::*;
    use std::cell::Cell;
    use std::ptr::null_mut;
    use std::sync::atomic::AtomicPtr;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Action {
        Park,
        Yield,
        Exit,
    }

    /// Belongs to one thread, as nothing here takes it away.
    pub(crate) struct HeldP(Cell<Option<&'static P>>);

    impl HeldP {
        pub(crate) fn get(&self) -> Option<&'static P> {
            self.0.get()
        }
        pub(crate) fn hold(&self) -> Option<&'static P> {
            self.0.get()
        }
        pub(crate) fn set(&self, p: Option<&'static P>) {
            self.0.set(p);
        }
        pub(crate) fn take(&self) -> Option<&'static P> {
            self.0.take()
        }
    }

    /// All fields but `handover` belong to one thread.
    pub(crate) struct M {
        pub(crate) g: AtomicPtr<G>,
        pub(crate) p: HeldP,
        pub(crate) spinning: Cell<bool>,
        pub(crate) left: Cell<Option<&'static G>>,
        pub(crate) action: Cell<Action>,
        pub(crate) found: Cell<Option<Runnable>>,
        pub(crate) looks_at_global: Cell<bool>,
        /// The goroutine that has switched to g0.
        to_g0: Cell<Option<&'static G>>,
        handover: Handover<P>,
    }

    loom::thread_local! {
        static CURRENT: Cell<Option<usize>> = Cell::new(None);
    }

    pub(crate) fn current() -> Option<&'static M> {
        CURRENT.with(Cell::get).map(|i| &WORLD.ms[i])
    }

    /// This thread is that M from here on.
    pub(crate) fn bind(i: usize) -> &'static M {
        CURRENT.with(|c| c.set(Some(i)));
        &WORLD.ms[i]
    }

    impl M {
        pub(crate) fn new() -> M {
            M {
                g: AtomicPtr::new(null_mut()),
                p: HeldP(Cell::new(None)),
                spinning: Cell::new(false),
                left: Cell::new(None),
                action: Cell::new(Action::Park),
                found: Cell::new(None),
                looks_at_global: Cell::new(false),
                to_g0: Cell::new(None),
                handover: Handover::new(),
            }
        }

        /// Runs goroutines until one of them is suspended and there is none to switch to.
        ///
        /// # Safety
        /// As the library's.
        pub(crate) unsafe fn resume(&'static self, g: &G) {
            g.restore();
            direct::arrive();
            let left = loop {
                if let Some(left) = self.to_g0.take() {
                    break left;
                }
                // SAFETY: it lives as long as the model.
                step(self, unsafe { &*self.g.load(Relaxed) });
            };
            self.left.set(Some(left));
        }

        /// # Safety
        /// As the library's.
        pub(crate) unsafe fn switch_between(&self, g: &G, next: &G) {
            g.save();
            next.restore();
        }

        /// In the model the code behind the call is not g0's, so [`resume`](M::resume) puts `left`
        /// back for g0.
        ///
        /// # Safety
        /// As the library's.
        pub(crate) unsafe fn switch_to_g0(&self, g: &G) {
            g.save();
            self.to_g0.set(self.left.take());
        }

        pub(crate) fn sleep(&self, deadline_ns: Option<u64>) -> bool {
            let given = self.handover.sleep(deadline_ns);
            self.p.set(given);
            given.is_some()
        }

        pub(crate) fn give(&self, p: &'static P, _: bool) {
            self.handover.give(p);
        }

        pub(crate) fn sleep_for_good(&self) -> ! {
            unreachable!("nothing is frozen");
        }

        pub(crate) fn has_found(&self) -> bool {
            // SAFETY: the field is this thread's.
            unsafe { (*self.found.as_ptr()).is_some() }
        }

        /// Checks what must hold between two goroutines.
        pub(crate) fn check(&self) {
            assert!(self.left.get().is_none() && !self.has_found() && self.to_g0.get().is_none());
        }
    }
}

mod p {
    use super::g::Runnable;
    use super::policy::SliceState;
    use super::ring::LocalQueue;
    use std::cell::Cell;
    use std::sync::atomic::AtomicBool;

    #[derive(Default)]
    pub(crate) struct Count(Cell<u64>);

    impl Count {
        pub(crate) fn add(&self, n: u64) {
            self.0.set(self.0.get() + n);
        }
        pub(crate) fn get(&self) -> u64 {
            self.0.get()
        }
    }

    #[derive(Default)]
    pub(crate) struct Stats {
        pub(crate) schedules: Count,
    }

    /// There are no timers.
    pub(crate) struct Timers;

    impl Timers {
        pub(crate) fn next_ns(&self) -> u64 {
            u64::MAX
        }
    }

    /// All fields but the queue belong to the owner, or do not change.
    pub(crate) struct P {
        pub(crate) runq: LocalQueue<Runnable, 4>,
        pub(crate) timers: Timers,
        pub(crate) preempt: AtomicBool,
        pub(crate) unannounced: Cell<bool>,
        pub(crate) slice: Cell<SliceState>,
        pub(crate) looked_ns: Cell<u64>,
        pub(crate) looked_cycles: Cell<u64>,
        pub(crate) stats: Stats,
    }

    impl P {
        pub(crate) fn new() -> P {
            P {
                runq: LocalQueue::new(),
                timers: Timers,
                preempt: AtomicBool::new(false),
                unannounced: Cell::new(false),
                slice: Cell::new(SliceState::ACTIVE),
                looked_ns: Cell::new(0),
                looked_cycles: Cell::new(0),
                stats: Stats::default(),
            }
        }

        pub(crate) fn is_over(&self) -> bool {
            false
        }
        pub(crate) fn is_spare(&self) -> bool {
            false
        }
        pub(crate) fn pop(&self) -> Option<Runnable> {
            self.runq.pop()
        }
        pub(crate) fn begin_run(&self) {
            self.stats.schedules.add(1);
        }
    }
}

const GS: usize = 4;
/// Ms 0 and 1 have the Ps of the same numbers. The last M belongs to [`finish`].
const LAST_M: usize = 2;

pub(crate) struct World {
    gs: [G; GS],
    ms: [M; LAST_M + 1],
    ps: [P; 2],
    /// Set before the threads begin.
    is_overloaded: std::cell::Cell<bool>,
}

// SAFETY: what is not atomic belongs to one party, as in the library. For the stacks loom checks
// it.
unsafe impl Sync for World {}
// SAFETY: as above.
unsafe impl Send for World {}

loom::lazy_static! {
    pub(crate) static ref WORLD: World = World {
        gs: std::array::from_fn(|_| G::new()),
        ms: std::array::from_fn(|_| M::new()),
        ps: std::array::from_fn(|_| P::new()),
        is_overloaded: std::cell::Cell::new(false),
    };
}

/// The goroutine that runs on `m` does its next step.
fn step(m: &'static M, g: &'static G) {
    let (next, waited, may_go) = g.on_stack(|stack| {
        assert!(stack.is_running);
        let next = stack.steps.split_off_first().copied();
        let waited = std::mem::replace(&mut stack.waits, matches!(next, Some(Park)));
        (next, waited, std::mem::take(&mut stack.may_go))
    });
    assert!(!waited || g.waiter.selected().is_some(), "goes on while it waits");
    if may_go {
        g.swap.stay();
    }
    let action = match next {
        Some(Wake(i)) => return wake(i),
        Some(Bind) => return g.bound_m.store(std::ptr::from_ref(m).cast_mut(), Relaxed),
        Some(Park) if g.waiter.selected().is_some() => return,
        Some(Park) => Action::Park,
        Some(Yield) => Action::Yield,
        None => Action::Exit,
    };
    // SAFETY: the caller is `g`.
    unsafe { direct::switch_away(m, g, action) };
}

/// Ends the wait of goroutine `i`. No other party ends it.
fn wake(i: usize) {
    let g = &WORLD.gs[i];
    match g.waiter.try_select(wait_word::FIRST_TOKEN).expect("no other waker") {
        wait_word::Won::Running => {}
        // SAFETY: we have won its wait.
        wait_word::Won::Parked => ready::ready(unsafe { g.become_runnable() }),
    }
}

/// Makes goroutine `i`, which is in no queue yet.
fn make(i: usize, steps: &'static [Step]) -> &'static G {
    let g = &WORLD.gs[i];
    g.on_stack(|stack| {
        stack.steps = steps;
        stack.has_ended = false;
    });
    g.waiter.arm();
    g
}

/// Makes goroutines with these steps, the first with number `i`, and queues them on P number `p`.
fn queue(p: usize, i: usize, steps: &[&'static [Step]]) {
    for (k, steps) in steps.iter().enumerate() {
        // SAFETY: nothing else has it yet.
        let g = unsafe { make(i + k, steps).become_runnable() };
        assert!(WORLD.ps[p].runq.push(g).is_none(), "the ring has room");
    }
}

/// Makes goroutine `i`, which has parked, and whose stack may be swapped out.
fn make_parked(i: usize, steps: &'static [Step]) {
    make(i, steps);
    let g = &WORLD.gs[i];
    g.on_stack(|stack| {
        stack.waits = true;
        stack.may_go = true;
    });
    g.sp.store(1, Relaxed);
    g.swap.let_go(0);
    g.begin_waiting();
    assert!(g.waiter.commit_park());
}

/// As `swap::try_swap_out`.
fn swap_out(i: usize) {
    let g = &WORLD.gs[i];
    if !g.swap.mark() {
        return;
    }
    fence(SeqCst);
    let mut is_packed = g.packed.lock().unwrap();
    if g.swap.claim(|| g.state.load(Acquire) == State::Waiting as u8).is_some() {
        g.on_stack(|stack| stack.is_there = false);
        *is_packed = true;
        g.swap.set_out(64);
    }
}

/// Runs M number `i` with its P, for `looks` looks for work.
fn run_m(i: usize, looks: usize) {
    let m = m::bind(i);
    m.p.set(Some(&WORLD.ps[i]));
    for _ in 0..looks {
        if m.p.get().is_some() {
            schedule::schedule(m);
            m.check();
        }
    }
}

fn start(i: usize, looks: usize) -> JoinHandle<()> {
    thread::spawn(move || run_m(i, looks))
}

/// Called when all Ms have stopped: one more M runs what they have left in queues, and then all
/// goroutines must have ended.
fn finish() {
    let m = m::bind(LAST_M);
    m.looks_at_global.set(true);
    m.p.set(Some(&WORLD.ps[0]));
    schedule::schedule(m);
    m.check();
    for (i, g) in WORLD.gs.iter().enumerate() {
        assert!(g.on_stack(|stack| stack.has_ended), "goroutine {i} is lost");
    }
}

/// A goroutine parks and another one runs, while a third, on another M, ends the wait. The one that
/// was woken goes on on either M.
fn park_against_waker() {
    queue(0, 0, &[&[Park], &[]]);
    queue(1, 2, &[&[Wake(0)]]);
    let other = start(1, 1);
    run_m(0, 1);
    other.join().unwrap();
    finish();
}

#[test]
fn a_park_against_its_waker() {
    without_fences(|| model(4, park_against_waker));
}

/// The waker is a thread without a P, so the goroutine that it wakes comes by the global queue.
#[test]
fn a_park_against_a_thread() {
    without_fences(|| {
        model(4, || {
            queue(0, 0, &[&[Park], &[Yield]]);
            WORLD.ms[0].looks_at_global.set(true);
            let waker = thread::spawn(|| wake(0));
            run_m(0, 2);
            waker.join().unwrap();
            finish();
        });
    });
}

/// The successor is its predecessor's waker, and a thief wants it: it ends the wait before or after
/// the commit.
#[test]
fn the_waker_is_stolen() {
    without_fences(|| {
        model(3, || {
            queue(0, 0, &[&[Park, Yield], &[Wake(0)], &[]]);
            let thief = start(1, 2);
            run_m(0, 1);
            thief.join().unwrap();
            finish();
        });
    });
}

/// A goroutine that yields is queued by the one that runs next, and a thief runs it at once.
#[test]
fn a_yield_against_a_thief() {
    without_fences(|| {
        model(2, || {
            queue(0, 0, &[&[Yield, Yield], &[Yield], &[]]);
            let thief = start(1, 2);
            run_m(0, 1);
            thief.join().unwrap();
            finish();
        });
    });
}

/// Under overload a goroutine that has not run is queued globally: another M takes it from there at
/// once.
#[test]
fn a_yield_under_overload() {
    without_fences(|| {
        model(2, || {
            WORLD.is_overloaded.set(true);
            queue(0, 0, &[&[Yield, Yield], &[Yield], &[]]);
            WORLD.ms[1].looks_at_global.set(true);
            let other = start(1, 2);
            run_m(0, 1);
            other.join().unwrap();
            finish();
        });
    });
}

/// One goroutine is in `next`, one in the ring. The thief does not get the one that the owner
/// switches to.
#[test]
fn next_against_a_thief() {
    without_fences(|| {
        model(3, || {
            queue(0, 0, &[&[Wake(2), Park], &[Wake(0)]]);
            make_parked(2, &[Yield]);
            let thief = start(1, 2);
            run_m(0, 1);
            thief.join().unwrap();
            finish();
        });
    });
}

/// The successor is swapped out: g0 gets it, and commits the park of the predecessor, whose waker
/// may have been first.
#[test]
fn a_successor_that_is_out() {
    without_fences(|| {
        model(3, || {
            queue(0, 0, &[&[Wake(1), Park]]);
            make_parked(1, &[Yield]);
            swap_out(1);
            queue(1, 2, &[&[Wake(0)]]);
            let other = start(1, 1);
            run_m(0, 1);
            other.join().unwrap();
            finish();
        });
    });
}

/// The successor, which its predecessor has woken, may be bound to the other M. That M gets it, and
/// the P with it.
#[test]
fn a_successor_that_is_bound() {
    without_fences(|| {
        model(3, || {
            queue(0, 0, &[&[Wake(1), Park]]);
            queue(1, 1, &[&[Bind, Park, Wake(0)]]);
            let other = start(1, 1);
            run_m(0, 1);
            other.join().unwrap();
            finish();
        });
    });
}

/// The swapper tries to swap the successor out.
fn swapper_against_successor() {
    queue(0, 0, &[&[Wake(1), Park]]);
    make_parked(1, &[Wake(0)]);
    let swapper = thread::spawn(|| swap_out(1));
    run_m(0, 1);
    swapper.join().unwrap();
    finish();
}

#[test]
fn a_successor_stays_or_is_brought_back() {
    model(4, swapper_against_successor);
}

/// Only the fence keeps the two apart.
#[test]
#[should_panic(expected = "Concurrent")]
fn without_fences_a_stack_goes_under_the_successor() {
    without_fences(|| model(4, swapper_against_successor));
}
