//! `blocking`: the thread may block, and the P goes on without it.
//!
//! # The word of an M (`core/syscall_word.rs`)
//! It holds a count, the P's id and the state. The count makes the word of each stay unique.
//! ```text
//!          enter                 exit: compare-and-swap
//!   OUT ──────────▶ IN(count, P) ──────────────────────▶ OUT     the M has its P again
//!                        │
//!                        └─────────────────────────────▶ TAKEN   the P is the taker's;
//!                          retake: compare-and-swap              the exit waits for another
//! ```
//!
//! # Invariants
//! 1. While the state is IN, the P belongs to the word: what swaps the word away from IN owns the
//!    P. Others may steal from its run queue meanwhile, as always.
//! 2. While an M is inside, it has no P (`m.p` is none), and its goroutine counts as an OS thread:
//!    it waits on a futex, and what it wakes or spawns goes to the global queue. So nothing inside
//!    migrates it.
//! 3. A goroutine that comes out and finds its P taken goes on on its own thread: it is queued,
//!    bound to its M, and the M sleeps.
//!
//! # Why no P is lost
//! 1. Only `exit` and `retake` leave IN, both by a compare-and-swap from the same unique value. So
//!    exactly one of them gets the P.
//! 2. Sysmon looks at every M inside at each of its looks. If it leaves a P there, because nothing
//!    else needs it, the exit finds the P, or sysmon takes it later.
//! 3. `enter` publishes the stay before it asks whether sysmon sleeps (`wake/sysmon_word.rs`).
//!
//! Model: `crates/gort-models/tests/syscall.rs`.

pub(crate) mod limit;
pub(crate) mod outside;

use crate::sched::core::g::G;
use crate::sched::core::m::{self, M};
use crate::sched::core::p::{self, P};
use crate::sched::core::reason::WaitReason;
use crate::sched::core::syscall_word::Stay;
use crate::sched::shared::{WAKE, monitor};
use crate::sched::trace::{self, EventKind::*};
use crate::sched::wake::sysmon_word::TIMED;
use crate::sched::{handoff, ready};
use crate::sys::signal;
use crate::sys::sync::Ordering::*;

/// Runs `f`, which may block the thread: files, `getaddrinfo`, foreign code. Other goroutines go on
/// meanwhile.
///
/// Inside, the goroutine keeps its thread and its thread-locals, and gort's own waits work as on a
/// plain thread. On a plain thread, and inside another `blocking`, this only calls `f`.
///
/// # Blocking
///
/// G: yes. M: yes, as long as `f` takes, and then until a P is free. P: no, it is handed off after
/// some 20 µs if there is other work. At the limit of
/// [`RuntimeBuilder::blocking_limit`](crate::RuntimeBuilder::blocking_limit) and
/// [`set_blocking_limit`](crate::set_blocking_limit) the goroutine parks first.
///
/// # Panics
///
/// If `f` does.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let text = gort::blocking(|| std::fs::read_to_string("/proc/self/comm")).unwrap();
///     assert!(!text.is_empty());
/// })
/// ```
pub fn blocking<R>(f: impl FnOnce() -> R) -> R {
    let Some(m) = m::current() else { return f() };
    let Some(g) = m.g() else { return f() };
    if m.in_blocking.load(Relaxed) {
        return f();
    }
    let place = limit::enter();
    // The limit may have parked the goroutine, which may have come back on another M.
    let m = m::current().expect("a goroutine runs on an M");
    enter(m, g);
    let _exit = Exit { _place: place };
    f()
}

/// Leaves at the end of `blocking`, also when that ends by a panic.
struct Exit {
    _place: Option<limit::Place>,
}

impl Drop for Exit {
    fn drop(&mut self) {
        // The goroutine stays on its thread. In a forked child there is no M.
        let Some(m) = m::current() else { return };
        exit(m, m.g().expect("a goroutine is inside"));
    }
}

fn enter(m: &'static M, g: &'static G) {
    g.set_reason(WaitReason::None, monitor::coarse_ns());
    // From here on until the exit is over the signal leaves this M alone: it has no P to give away.
    m.in_blocking.store(true, Relaxed);
    signal::fence();
    g.begin_blocking();
    let here = ready::pinned();
    m.p.set(None);
    trace::point(SyscallBegin, Some(g), Some(m), here.as_ref().map(|here| here.p));
    // Where sysmon has taken the P before, the word stays OUT, and the exit finds none in it.
    let Some(here) = here else { return };
    m.syscall.enter(here.p.id);
    if is_wanted(here.p) {
        monitor::interrupt(TIMED);
    }
}

fn exit(m: &'static M, g: &'static G) {
    match m.syscall.exit() {
        Some(p) => {
            let p = p::get(p as usize);
            m.p.set(Some(p));
            trace::point(SyscallEnd, Some(g), Some(m), Some(p));
        }
        None => handoff::acquire_p(m, g, false),
    }
    signal::fence();
    m.in_blocking.store(false, Relaxed);
    g.go_on();
}

/// The present stay of `p`'s M inside `blocking` with `p`, if there is one.
pub(crate) fn stay(p: &P) -> Option<Stay> {
    p.m()?.syscall.stay().filter(|stay| stay.p() == p.id)
}

/// Takes `p` from the M that is inside with it, if that is still the same stay. True means that the
/// P is the caller's.
pub(crate) fn retake(p: &'static P, stay: Stay) -> bool {
    let Some(m) = p.m().filter(|m| m.syscall.retake(stay)) else { return false };
    trace::point(ProcSteal, None, Some(m), Some(p));
    true
}

/// Whether others have a use for `p`, whose M is inside: goroutines are queued on it, or nothing
/// else looks for work, or it is over.
pub(crate) fn is_wanted(p: &P) -> bool {
    !p.runq.is_empty() || WAKE.spinning() + WAKE.idle_ps() == 0 || p.is_over()
}
