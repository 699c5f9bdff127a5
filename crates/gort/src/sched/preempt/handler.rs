//! SIGURG: asking a thread to stop its goroutine, and the signal handler that does so.
//!
//! The signal is Go's, for Go's reasons: it is harmless by default, hardly any program uses it, and
//! debuggers pass it through. A `SIGURG` that is not the runtime's goes to the handler that was
//! there before.
//!
//! # What the handler checks
//! | question                                         | if not                                   |
//! | ------------------------------------------------ | ---------------------------------------- |
//! | did this process send it to this thread?         | it is the previous handler's             |
//! | is it for this P and its present run?            | it is late: nothing                      |
//! | does the M run a goroutine, with a P? (1)        | it is in the scheduler, or in `blocking` |
//! | do stack pointer and FS base belong to that one? | it is in a switch, or on another stack   |
//! | neither a pinned thread nor `no_preempt`?        | noted for the rescue; sysmon asks again  |
//!
//! 1. Or one whose P sysmon has taken while it slept in the kernel (`syscall/outside.rs`). Then it
//!    waits for a P, whatever the signal was sent for.
//!
//! Where the kernel had no room to say which process has sent the signal, it counts as the
//! runtime's if a stop was asked for with this P and run.
//!
//! The handler runs on the M's signal stack, and stays there as long as the goroutine is stopped.
//! Other signals may come meanwhile.

use super::{STOPS, Why, stop};
use crate::sched::core::g::G;
use crate::sched::core::m::{self, M};
use crate::sched::core::p::P;
use crate::sched::handoff;
use crate::sys::signal::{self, Handler, Previous};
use crate::sys::sync::{AtomicBool, Ordering::*};
use crate::sys::{pin, thread};
use std::sync::OnceLock;

static ENABLED: AtomicBool = AtomicBool::new(false);

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// Makes goroutines stoppable by signal. Called once, at the runtime's start.
pub(crate) fn install() {
    thread::process_id(); // looks it up now, so that the handler need not
    // SAFETY: the handler allocates nothing and takes no lock but the runtime's, which an
    // interrupted thread does not hold (it would be pinned).
    let previous = unsafe { signal::install(libc::SIGURG, on_signal) };
    PREVIOUS.set(previous).unwrap_or_else(|_| unreachable!("installed once"));
    ENABLED.store(true, Release);
}

/// Called in a forked child, where no goroutine is stopped. `SIGURG` goes where it did before, also
/// in a program that the child executes.
pub(crate) fn uninstall() {
    if let Some(previous) = PREVIOUS.get() {
        signal::uninstall(libc::SIGURG, on_signal, previous);
    }
}

/// Asks the goroutine that runs on `p` to stop, if one does. Waits for nothing.
///
/// If `p` is over, this also sets the mark that gort calls look at, in case the signal comes at a
/// bad moment. Called by sysmon and by code that collects Ps.
pub(crate) fn request(p: &P) {
    if p.is_over() {
        p.preempt.store(true, Relaxed);
    }
    if !ENABLED.load(Acquire) {
        return;
    }
    let Some(m) = p.m().filter(|m| m.g().is_some()) else { return };
    m.preempt.store(run_of(p), Release);
    send(m);
}

/// Asks the goroutine on `m`, whose P was taken while it blocked its thread and which computes now,
/// to wait for a P. Waits for nothing.
pub(crate) fn request_without_p(m: &M) {
    if ENABLED.load(Acquire) {
        send(m);
    }
}

fn send(m: &M) {
    if !signal::is_installed(libc::SIGURG, on_signal) {
        ENABLED.store(false, Release);
        crate::sys::fatal::write_stderr(
            b"gort: the program has replaced the handler of SIGURG, so goroutines that compute cannot be preempted any more; \
              install such handlers before the runtime starts: gort calls them for signals that are not its own\n",
        );
        return;
    }
    thread::signal(m.tid.load(Acquire), libc::SIGURG);
}

/// Notes that the goroutine on `m` cannot be stopped in this run on `p`, as if it had been asked:
/// its thread sleeps, and needs its P.
pub(crate) fn note_declined(m: &M, p: &P) {
    m.declined.store(run_of(p), Release);
}

/// Whether the goroutine that runs on `p` was asked in this run and could not be stopped.
pub(crate) fn has_declined(p: &P) -> bool {
    p.m().is_some_and(|m| m.declined.load(Acquire) == run_of(p))
}

/// Names the present run of a goroutine on `p`.
pub(crate) fn run_of(p: &P) -> u64 {
    u64::from(p.id) << 32 | u64::from(p.stats.schedules.get() as u32)
}

extern "C" fn on_signal(sig: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let errno = errno();
    // SAFETY: the kernel gives a valid siginfo, and errno's place is this thread's.
    unsafe {
        let (code, pid) = ((*info).si_code, (*info).si_pid());
        let ours = code == libc::SI_TKILL && pid == thread::process_id();
        // At the limit of pending signals (RLIMIT_SIGPENDING) the kernel forgets the sender.
        let perhaps_ours = code == libc::SI_USER && pid == 0;
        let stopped = (ours || perhaps_ours) && stop_here(stack_pointer(context));
        if ours || stopped {
            // nothing more to do
        } else if let Some(previous) = PREVIOUS.get().filter(|previous| previous.is_handler()) {
            signal::chain(sig, Some(previous), info, context);
        }
        *errno.0 = errno.1;
    }
}

/// Where errno is, and what it was. The handler returns on the same thread and the same block, so
/// the place stays right.
fn errno() -> (*mut i32, i32) {
    // SAFETY: errno is always there.
    unsafe {
        let place = libc::__errno_location();
        (place, *place)
    }
}

fn stack_pointer(context: *mut libc::c_void) -> usize {
    // SAFETY: this is the third argument of a handler with SA_SIGINFO.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RSP as usize] as usize }
}

/// Stops the goroutine on this thread, if that was asked for and is possible. False means that it
/// was not asked for.
fn stop_here(sp: usize) -> bool {
    let Some(m) = m::current() else { return false };
    let asked = m.preempt.load(Acquire);
    let Some(g) = m.g().filter(|g| is_user_code(m, g, sp)) else {
        m.declined.store(asked, Release);
        return m.p.get().is_some_and(|p| run_of(p) == asked);
    };
    pin::enter(); // sysmon may be about to take the P
    let was_asked = stop_user_code(m, g, asked);
    pin::leave();
    was_asked
}

/// As [`stop_here`], pinned, in the code of `g`.
fn stop_user_code(m: &'static M, g: &'static G, asked: u64) -> bool {
    let may_stop = g.no_preempt.load(Relaxed) == 0;
    let Some(p) = m.p.hold() else {
        let is_taken = m.p.is_taken();
        if is_taken && may_stop {
            STOPS.fetch_add(1, Relaxed);
            handoff::acquire_p(m, g, true);
        }
        return is_taken;
    };
    if run_of(p) != asked {
        return false;
    }
    let why = if p.preempt.load(Relaxed) { Why::SliceIsOver } else { Why::Urgent };
    if !may_stop {
        m.declined.store(asked, Release);
    } else if why == Why::SliceIsOver || p.may_interrupt() {
        stop(m, g, p, why);
    }
    true
}

/// Whether the thread was interrupted in the goroutine's own code: on its stack and thread-locals,
/// and not pinned.
fn is_user_code(m: &M, g: &G, sp: usize) -> bool {
    if m.in_blocking.load(Relaxed) || pin::depth() != 0 {
        return false;
    }
    // SAFETY: a goroutine that `m.g` names has a slot. Only this thread could change that, and it
    // is here.
    let Some(slot) = (unsafe { (*g.slot.get()).as_ref() }) else { return false };
    slot.stack().contains(&sp) && m.fixed.blocks.are_current(slot)
}

const _: Handler = on_signal;
