//! A panic names its goroutine.
//!
//! std's own hook prints the name of the thread. A goroutine is a thread without a name to std, and
//! stable Rust has no way to give it one. So a line before says which goroutine it is:
//!
//! ```text
//! goroutine 7 'worker-7', started at src/main.rs:12:5:
//!
//! thread '<unnamed>' (4711) panicked at src/main.rs:14:9:
//! ```

use crate::sched::core::fixed::fixed;
use crate::sched::core::m;
use std::io::Write;
use std::panic;

/// Puts the line before what the hook that is installed now prints.
pub(super) fn install() {
    if std::thread::panicking() {
        return; // hooks cannot be changed then
    }
    let next = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        name_the_goroutine();
        next(info);
    }));
}

fn name_the_goroutine() {
    let Some(g) = m::current().and_then(m::M::g) else { return };
    // One that has the thread-locals of a thread has the name as well.
    if fixed().blocks.move_with_goroutines() && std::thread::current().name().is_some() {
        return;
    }
    let name = g.name().map_or_else(String::new, |name| format!(" '{name}'"));
    let place = g.created_at().map_or_else(String::new, |place| format!(", started at {place}"));
    // A full disk behind stderr is no reason for a panic within a panic.
    let _ = writeln!(std::io::stderr(), "goroutine {}{name}{place}:", g.id());
}
