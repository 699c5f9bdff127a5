//! Where `pthread_exit`, or a cancellation that takes effect, leads in a goroutine.
//!
//! libc unwinds such a thread up to a `setjmp` buffer. `start_thread` leaves that buffer in its own
//! frame and its address in the descriptor. A goroutine has no such frame below it, so each block
//! points to one shared buffer. The buffer lies beyond every stack that could be unwound, so libc
//! jumps to it at once. The jump leads to a stack of its own, where the process ends with a
//! message.

use super::switch;
use super::tls::{LayoutError, require};
use crate::sys::map::{self, PAGE};
use crate::sys::{fs, program};
use std::sync::OnceLock;

/// libc's `struct pthread_unwind_buf`: the place to jump to, and the buffer that was set before.
#[repr(C)]
struct Buffer {
    registers: [u64; 8],
    mask_was_saved: libc::c_int,
    rest: [u64; 4],
}

const RSP: usize = 6;
const PC: usize = 7;
const STACK_BYTES: usize = 4 * PAGE;

/// Same as libc's `PTR_MANGLE`.
fn mangle(word: u64) -> u64 {
    (word ^ fs::pointer_guard()).rotate_left(17)
}

fn demangle(word: u64) -> u64 {
    word.rotate_right(17) ^ fs::pointer_guard()
}

unsafe extern "C" {
    fn _setjmp(buffer: *mut [u64; 32]) -> libc::c_int;
}

/// The buffer that leads to `ended`.
pub(super) fn buffer(ended: extern "C" fn() -> !) -> Result<usize, LayoutError> {
    static BUFFER: OnceLock<Result<usize, LayoutError>> = OnceLock::new();
    BUFFER.get_or_init(|| make(ended)).clone()
}

fn make(ended: extern "C" fn() -> !) -> Result<usize, LayoutError> {
    let mut here = [0u64; 32];
    // SAFETY: `_setjmp` only writes registers into the buffer, which is large enough; nothing jumps
    // back to it.
    unsafe { _setjmp(&mut here) };
    let (sp, pc) = (demangle(here[RSP]), demangle(here[PC]));
    let is_known = sp.abs_diff(switch::stack_pointer() as u64) < PAGE as u64
        && program::find().code.contains(&(pc as usize));
    require(is_known, "setjmp saves the registers in an unknown format")?;
    let low = map::reserve(STACK_BYTES).map_err(|e| LayoutError::new(format!("no memory: {e}")))?;
    let mut buffer = Buffer { registers: [0; 8], mask_was_saved: 0, rest: [0; 4] };
    // As if `ended` had been called: the return address would be there.
    buffer.registers[RSP] = mangle((low + STACK_BYTES - 8) as u64);
    buffer.registers[PC] = mangle(ended as *const () as u64);
    Ok(Box::into_raw(Box::new(buffer)) as usize)
}
