//! What is settled at the runtime's start and does not change any more.

use super::p;
use crate::stack::blocks::Blocks;
use crate::stack::switch::FsMode;
use crate::stack::tls::Layout;
use crate::sys::line::Line;
use std::sync::OnceLock;

/// What does not change once the runtime runs.
pub(crate) struct Fixed {
    pub(crate) mode: FsMode,
    /// The thread-locals of goroutines.
    pub(crate) blocks: Blocks,
    /// Where the pointer to the M is in a block, see `m.rs`.
    pub(crate) current_offset: isize,
    /// malloc's words in a block, which stay with the M.
    pub(crate) malloc_words: Option<[isize; 2]>,
    /// The class of default slots.
    pub(crate) class: u8,
    pub(crate) thread_cap: usize,
    /// The first frame of every goroutine; its argument is the descriptor.
    pub(crate) entry: extern "sysv64" fn(usize) -> !,
}

static FIXED: Line<OnceLock<Fixed>> = Line::new(OnceLock::new());

/// See [`Fixed`]. Only after the start.
#[inline]
pub(crate) fn fixed() -> &'static Fixed {
    FIXED.get().expect("the runtime was started")
}

/// Sets what [`fixed`] returns: once, by the start.
pub(crate) fn settle(fixed: Fixed) {
    FIXED.set(fixed).unwrap_or_else(|_| unreachable!("settled once, by the start"));
}

/// How goroutines' thread-locals are laid out; `None` in shared mode, and before the start.
pub(crate) fn layout() -> Option<&'static Layout> {
    FIXED.get()?.blocks.layout()
}

/// Panics if there is no runtime yet.
#[inline]
#[track_caller]
pub(crate) fn require_started(what: &str) {
    if p::procs() == 0 {
        panic!("{}", not_started(what));
    }
}

/// The message for a call before the start.
#[cold]
pub(crate) fn not_started(what: &str) -> String {
    format!(
        "gort::{what} was called before the runtime was started: call it inside gort::run(|| ...) \
         (or a #[gort::main] function), or call gort::start() first"
    )
}
