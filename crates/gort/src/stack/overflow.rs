//! Tells a stack overflow from other faults.
//!
//! The handler runs on the M's alternate stack. A fault at an address in the guard of the running
//! goroutine's slot is an overflow. It is reported with the goroutine's name and the setting to
//! change, and the process ends with status 2. A fault in a swapped-out stack is also reported, and
//! ends the process with the same status. Every other fault goes to the handler that was installed
//! before (std's own, or a crash reporter's), or kills the process as usual.

use crate::sys::signal::{self, Previous};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering::*};

/// Examines a faulting address on the faulting thread, in a signal handler. If the fault is an
/// overflow, it reports that and ends the process; else it returns.
pub(crate) type Check = fn(addr: usize);

static CHECK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
static PREVIOUS_SEGV: OnceLock<Previous> = OnceLock::new();
static PREVIOUS_BUS: OnceLock<Previous> = OnceLock::new();

/// Installs the handlers. Only the first call has an effect.
pub(crate) fn install(check: Check) {
    if !CHECK.swap(check as *mut (), AcqRel).is_null() {
        return;
    }
    for (sig, place) in [(libc::SIGSEGV, &PREVIOUS_SEGV), (libc::SIGBUS, &PREVIOUS_BUS)] {
        // SAFETY: `on_fault` only does what a signal handler may do.
        let previous = unsafe { signal::install(sig, on_fault) };
        place.set(previous).unwrap_or_else(|_| unreachable!("installed once"));
    }
}

extern "C" fn on_fault(sig: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler of a fault.
    let addr = unsafe { (*info).si_addr() } as usize;
    let check = CHECK.load(Acquire);
    // SAFETY: only `install` writes it, with a `Check`.
    unsafe { std::mem::transmute::<*mut (), Check>(check)(addr) };
    let previous = if sig == libc::SIGSEGV { PREVIOUS_SEGV.get() } else { PREVIOUS_BUS.get() };
    // SAFETY: `info` and `context` are those of this signal.
    unsafe { signal::chain(sig, previous, info, context) };
}
