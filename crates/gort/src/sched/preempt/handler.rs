//! SIGURG: asking a thread to stop its goroutine, and the handler that does.
//!
//! Go's signal, for Go's reasons: harmless by default, used by almost nobody, passed through by debuggers. A `SIGURG` that is not ours goes
//! to the handler that was there before.
//!
//! # What the handler checks
//! | question                                                    | else                                                   |
//! | ----------------------------------------------------------- | ------------------------------------------------------ |
//! | did this process send it, to this thread, for this P and run?  | not ours: the previous handler's; or late: nothing |
//! | does the M run a goroutine, with a P?                        | it is in the scheduler, or inside `blocking`          |
//! | do the stack pointer and the FS base belong to the goroutine? | in the middle of a switch, or on another stack        |
//! | is the thread not pinned, the goroutine not `no_preempt`?   | noted for the rescue; sysmon asks again               |
//!
//! Where the kernel had no room to say which process has sent it, what was asked for this P and
//! slice decides.
//!
//! It runs on the M's signal stack, and stays there as long as the goroutine is stopped; other signals may come meanwhile.

use super::{Why, stop};
use crate::sched::core::g::G;
use crate::sched::core::m::{self, M};
use crate::sched::core::p::P;
use crate::sys::signal::{self, Handler, Previous};
use crate::sys::sync::{AtomicBool, Ordering::*};
use crate::sys::{pin, thread};
use std::sync::OnceLock;

static ENABLED: AtomicBool = AtomicBool::new(false);

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// Makes goroutines stoppable by signal. Once, at the runtime's start.
pub(crate) fn install() {
    thread::process_id(); // known before a handler asks
    // SAFETY: the handler allocates nothing and takes no lock but the runtime's, which an interrupted thread does not hold
    // (it would be pinned).
    let previous = unsafe { signal::install(libc::SIGURG, on_signal) };
    PREVIOUS.set(previous).unwrap_or_else(|_| unreachable!("installed once"));
    ENABLED.store(true, Release);
}

/// In a forked child, where nobody is stopped: `SIGURG` leads where it did before, also for what
/// the child comes to execute.
pub(crate) fn uninstall() {
    if let Some(previous) = PREVIOUS.get() {
        signal::uninstall(libc::SIGURG, on_signal, previous);
    }
}

/// Asks the goroutine that runs on `p` to stop, if one does. If `p` is over, whoever runs there notices at the next call of gort's too,
/// should the signal come at a bad moment. Called by sysmon and by who collects Ps; waits for nothing.
pub(crate) fn request(p: &P) {
    if p.is_over() {
        p.preempt.store(true, Relaxed);
    }
    if !ENABLED.load(Acquire) {
        return;
    }
    let Some(m) = p.m().filter(|m| m.g().is_some()) else { return };
    if !signal::is_installed(libc::SIGURG, on_signal) {
        ENABLED.store(false, Release);
        crate::sys::fatal::write_stderr(
            b"gort: somebody has replaced the handler of SIGURG, so goroutines that compute cannot be preempted any more; \
              install such handlers before the runtime starts, and they are called for what is not gort's\n",
        );
        return;
    }
    m.preempt.store(run_of(p), Release);
    thread::signal(m.tid.load(Acquire), libc::SIGURG);
}

/// Whether the goroutine that runs on `p` could not be stopped when it was asked, in this run.
pub(crate) fn has_declined(p: &P) -> bool {
    p.m().is_some_and(|m| m.declined.load(Acquire) == run_of(p))
}

/// Names the run of the goroutine that runs on `p` now.
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
            // done
        } else if let Some(previous) = PREVIOUS.get().filter(|previous| previous.is_handler()) {
            signal::chain(sig, Some(previous), info, context);
        }
        *errno.0 = errno.1;
    }
}

/// Where errno is, and what it was. The handler comes back on the same thread, block and all.
fn errno() -> (*mut i32, i32) {
    // SAFETY: always there.
    unsafe {
        let place = libc::__errno_location();
        (place, *place)
    }
}

fn stack_pointer(context: *mut libc::c_void) -> usize {
    // SAFETY: the third argument of a handler with SA_SIGINFO.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RSP as usize] as usize }
}

/// Stops the goroutine on this thread, if it was asked for and can be. False: it was not asked for.
fn stop_here(sp: usize) -> bool {
    let Some(m) = m::current() else { return false };
    let asked = m.preempt.load(Acquire);
    let p = m.p.get().filter(|p| run_of(p) == asked);
    let Some(g) = m.g().filter(|g| is_user_code(m, g, sp)) else {
        m.declined.store(asked, Release);
        return p.is_some();
    };
    let Some(p) = p else { return false };
    if g.no_preempt.load(Relaxed) == 0 {
        let why = if p.preempt.load(Relaxed) { Why::SliceIsOver } else { Why::Urgent };
        if why == Why::SliceIsOver || p.may_interrupt() {
            stop(m, g, p, why);
        }
    } else {
        m.declined.store(asked, Release);
    }
    true
}

/// Whether the thread was interrupted in the goroutine's own code: on its stack and thread-locals, and not pinned.
fn is_user_code(m: &M, g: &G, sp: usize) -> bool {
    if m.in_blocking.load(Relaxed) || pin::depth() != 0 {
        return false;
    }
    // SAFETY: a goroutine that `m.g` names has a slot, and only this thread, which is here, could change that.
    let Some(slot) = (unsafe { (*g.slot.get()).as_ref() }) else { return false };
    slot.stack().contains(&sp) && m.fixed.blocks.are_current(slot)
}

const _: Handler = on_signal;
