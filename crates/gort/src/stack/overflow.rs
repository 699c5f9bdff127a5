//! Telling a stack overflow from other faults.
//!
//! The handler runs on the M's alternate stack. A fault whose address lies in the guard of the running
//! goroutine's slot is an overflow: it is reported with the goroutine's name and the knob, and the process ends
//! with status 2. So does one in a stack that was swapped out. Every other fault goes to the handler that was there before (std's own, a crash
//! reporter's), or kills the process as usual.

use crate::sys::signal::{self, Previous};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering::*};

/// Looks at a faulting address on the faulting thread; reports and ends the process if it is an overflow, returns
/// if it is not. Runs in a signal handler.
pub(crate) type Judge = fn(addr: usize);

static JUDGE: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
static PREVIOUS_SEGV: OnceLock<Previous> = OnceLock::new();
static PREVIOUS_BUS: OnceLock<Previous> = OnceLock::new();

/// Installs the handlers, once.
pub(crate) fn install(judge: Judge) {
    if !JUDGE.swap(judge as *mut (), AcqRel).is_null() {
        return;
    }
    for (sig, place) in [(libc::SIGSEGV, &PREVIOUS_SEGV), (libc::SIGBUS, &PREVIOUS_BUS)] {
        // SAFETY: `on_fault` only does what a signal handler may.
        let previous = unsafe { signal::install(sig, on_fault) };
        place.set(previous).unwrap_or_else(|_| unreachable!("installed once"));
    }
}

extern "C" fn on_fault(sig: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler of a fault.
    let addr = unsafe { (*info).si_addr() } as usize;
    let judge = JUDGE.load(Acquire);
    // SAFETY: only `install` writes it, with a `Judge`.
    unsafe { std::mem::transmute::<*mut (), Judge>(judge)(addr) };
    let previous = if sig == libc::SIGSEGV { PREVIOUS_SEGV.get() } else { PREVIOUS_BUS.get() };
    // SAFETY: `info` and `context` are those of this signal.
    unsafe { signal::chain(sig, previous, info, context) };
}
