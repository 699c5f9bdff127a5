//! Finds the frames of a suspended stack.

use super::switch;
use std::ffi::c_void;
use std::fmt::Write;

/// The most frames that are found.
const MOST: usize = 100;

/// The return addresses on the stack that was suspended at `sp`, the innermost first.
///
/// # Safety
/// As [`switch::call_as_if_from`].
pub(crate) unsafe fn frames(sp: usize) -> Vec<usize> {
    let mut found = Vec::with_capacity(MOST);
    // SAFETY: the caller's promise; `collect` gets the argument that it expects.
    unsafe { switch::call_as_if_from(sp, collect, (&raw mut found).cast()) };
    found
}

extern "sysv64" fn collect(arg: *mut c_void) {
    // SAFETY: `frames` passes its list, which has no other user meanwhile.
    let found = unsafe { &mut *arg.cast::<Vec<usize>>() };
    let border = switch::call_as_if_from as *const () as usize;
    let mut beyond = false;
    backtrace::trace(|frame| {
        if beyond {
            found.push(frame.ip() as usize);
        }
        beyond |= frame.symbol_address() as usize == border;
        found.len() < MOST
    });
}

/// Writes the frames as Go does: a line for the function and a line for the place. Leaves out the
/// runtime's frames around them.
pub(crate) fn write_frames(frames: &[usize], out: &mut String) {
    let mut lines = Vec::new();
    for &ip in frames {
        backtrace::resolve(ip as *mut c_void, |symbol| {
            let name = symbol.name().map_or_else(|| "?".into(), |name| format!("{name:#}"));
            let place = symbol.filename().zip(symbol.lineno());
            let place =
                place.map_or_else(|| format!("{ip:#x}"), |(file, line)| format!("{}:{line}", file.display()));
            lines.push((name, place));
        });
    }
    let inner = lines.iter().position(|line| !is_inner(line)).unwrap_or(0);
    let outer =
        lines.iter().rposition(|line| !is_inner(line) && !is_glue(line)).map_or(lines.len(), |last| last + 1);
    for (name, place) in lines.get(inner..outer).unwrap_or(&[]) {
        let _ = writeln!(out, "{name}(...)\n\t{place}");
    }
    if frames.len() >= MOST {
        out.push_str("...additional frames elided...\n");
    }
}

/// Whether the frame belongs to the runtime: how a goroutine leaves its thread, and where it began.
/// An optimised program may have kept only short names, so the places are checked too.
fn is_inner((name, place): &(String, String)) -> bool {
    let of = |folder: &str| place.starts_with(&format!("{}/src/{folder}/", env!("CARGO_MANIFEST_DIR")));
    name.contains("gort::sched::")
        || name.contains("gort::stack::switch")
        || of("sched")
        || place.contains("/src/stack/switch.rs")
}

/// Whether the frame is std's, between a goroutine's entry and its closure.
fn is_glue((name, place): &(String, String)) -> bool {
    name.contains("__rust_try")
        || ["library/std/src/panic", "library/core/src/panic/", "library/core/src/ops/function.rs"]
            .iter()
            .any(|glue| place.contains(glue))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stacks {
        main: usize,
        other: usize,
        fs: usize,
    }

    extern "sysv64" fn entry(arg: usize) -> ! {
        park_three_deep(arg as *mut Stacks);
        unreachable!("it is not resumed");
    }

    #[inline(never)]
    fn park_three_deep(s: *mut Stacks) {
        park_two_deep(s);
        std::hint::black_box(());
    }

    #[inline(never)]
    fn park_two_deep(s: *mut Stacks) {
        // SAFETY: the test below waits for the switch, on a stack that lives.
        unsafe { switch::switch(switch::FsMode::Shared, &raw mut (*s).other, (*s).main, (*s).fs) };
        std::hint::black_box(());
    }

    /// The functions of a suspended stack are found, and nothing of the stack that walks it.
    #[test]
    fn a_suspended_stack_is_walked() {
        let mut memory = vec![0u128; 4096];
        let top = memory.as_mut_ptr_range().end as usize & !15;
        let mut s = Stacks { main: 0, other: 0, fs: 0 };
        let frames = {
            // SAFETY: the memory belongs to the test; the stack is prepared, resumed once, and
            // suspends itself again.
            unsafe {
                let p = &raw mut s;
                let fresh = switch::prepare(top, entry, p as usize);
                switch::switch(switch::FsMode::Shared, &raw mut (*p).main, fresh, 0);
                frames((*p).other)
            }
        };
        let mut text = String::new();
        write_frames(&frames, &mut text);
        let two = text.find("park_two_deep").unwrap_or_else(|| panic!("{frames:x?}\n{text}"));
        let three = text.find("park_three_deep").unwrap_or_else(|| panic!("{text}"));
        assert!(two < three && text.contains("walk.rs:"), "{text}");
        assert!(!text.contains("a_suspended_stack_is_walked"), "{text}");
    }
}
