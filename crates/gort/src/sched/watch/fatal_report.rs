//! Errors that end the process: a report on stderr and exit status 2, as in Go.

use super::dump;
use crate::sched::core::g::G;
use crate::sched::core::{frozen, m};
use crate::sched::swap;
use crate::sched::threads::pool;
use crate::stack::slab::Slot;
use crate::sys::fatal::{exit, write_stderr};
use crate::sys::sync::AtomicU32;
use crate::sys::{clock, futex};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// As `sys::fatal::throw`, with a dump of all goroutines and where they wait, unless
/// `GORT_TRACEBACK=none`. On a thread of the runtime's own.
#[cold]
pub(crate) fn throw_with_dump(message: &str) -> ! {
    write_stderr(message.as_bytes());
    write_stderr(b"\n\n");
    dump_and_exit()
}

/// Writes what all goroutines do, unless `GORT_TRACEBACK=none`, and ends the process with status 2.
/// On a thread of the runtime's own.
pub(crate) fn dump_and_exit() -> ! {
    if std::env::var_os("GORT_TRACEBACK").is_none_or(|v| v != "none") {
        // Symbols need a deep stack, so a thread writes the dump. If none can be made, the dump has
        // no stacks. All is made before goroutines freeze, since they may hold malloc's locks.
        let (go, frozen) = mpsc::channel::<()>();
        let (tx, rx) = mpsc::channel();
        let dumper = std::thread::Builder::new().stack_size(DUMPER_STACK_BYTES).spawn(move || {
            // SAFETY: `go` is dropped when they are frozen.
            let dump = || unsafe { dump::dump_with_stacks() };
            let _ = frozen.recv();
            tx.send(dump())
        });
        frozen::freeze();
        drop(go);
        match rx.recv_timeout(PATIENCE) {
            Ok(text) => write_stderr(text.as_bytes()),
            Err(RecvTimeoutError::Disconnected) => write_stderr(dump::dump().as_bytes()),
            Err(RecvTimeoutError::Timeout) => {
                write_stderr(b"(no dump: it needs a lock that a stopped goroutine holds)\n");
            }
        }
        drop(dumper);
    }
    exit(2)
}

const DUMPER_STACK_BYTES: usize = 8 << 20;
/// How long a dump may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at a fault on this thread. In the guard of the running goroutine's stack it is an
/// overflow. In a stack that was swapped out, the program has broken its promise. Both are
/// reported.
///
/// Runs in a signal handler, on the M's alternate stack. Allocates nothing.
pub(crate) fn judge_fault(addr: usize) {
    // SAFETY: the goroutine runs on this thread, which is in the handler, so no code changes the
    // slot.
    let own = m::current().and_then(|m| m.g()).and_then(|g| Some((g, unsafe { (*g.slot.get()).as_ref() }?)));
    if let Some((g, slot)) = own.filter(|(_, slot)| slot.guard().contains(&addr)) {
        report_overflow(g, slot);
    } else if let Some(id) = swap::whose(addr) {
        let mut digits = [0; 20];
        write_stderr(b"fatal error: a stack that was swapped out was touched\n\nIt is that of goroutine ");
        write_stderr(decimal(id, &mut digits));
        write_stderr(
            b", which is parked and has lent memory of it to other code.\nHold a gort::lend_stack() \
              around what lends it, or set GORT_SWAP=off.\n\n",
        );
        report_and_exit();
    }
}

fn report_overflow(g: &G, slot: &Slot) -> ! {
    let mut digits = [0; 20];
    write_stderr(b"fatal error: stack overflow\n\ngoroutine ");
    write_stderr(decimal(g.id(), &mut digits));
    g.with_name_in_handler(|name| {
        write_stderr(b" (\"");
        write_stderr(name.as_bytes());
        write_stderr(b"\")");
    });
    write_stderr(b" exceeds its stack of ");
    write_stderr(decimal(slot.stack().len() as u64, &mut digits));
    write_stderr(b" bytes (in a slot of ");
    write_stderr(decimal(slot.bytes() as u64, &mut digits));
    write_stderr(
        b")\nLarger stacks: gort::Builder::stack_size for one goroutine, \
          gort::Runtime::builder().stack_size or the environment's GORT_STACK for all.\n\n",
    );
    report_and_exit()
}

/// Reports what all goroutines do, and ends the process. In a signal handler.
fn report_and_exit() -> ! {
    // A thread that may allocate shows the others. If it cannot, this one ends the process.
    pool::call_template(pool::DUMP);
    static NEVER_WOKEN: AtomicU32 = AtomicU32::new(0);
    let deadline_ns = clock::now_ns() + 2 * PATIENCE.as_nanos() as u64;
    while clock::now_ns() < deadline_ns {
        futex::wait(&NEVER_WOKEN, 0, Some(deadline_ns));
    }
    exit(2)
}

/// `n` in decimal, without the allocation or the locks that `format!` may need.
fn decimal(mut n: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            return &digits[at..];
        }
    }
}
