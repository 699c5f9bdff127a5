//! Which thread-locals goroutines have: blocks of their own, or those of the thread that they run
//! on. This is the one place that knows both modes; [`tls`](super::tls) builds the blocks.
//!
//! | | own | shared |
//! | --- | --- | --- |
//! | the thread pointer of a goroutine | its block, in its slot | that of the thread |
//! | a switch | sets the thread pointer | does not touch it |
//! | a goroutine that moves to another thread | takes its thread-locals along | finds that thread's |
//!
//! In shared mode a goroutine must stay on its thread while std counts its panic there, and a call
//! that starts a goroutine does not park: the code around either may rely on thread-locals.

use super::slab::Slot;
use super::switch::FsMode;
use super::tls::Layout;
use crate::sys::fs;

/// See the module's head.
#[expect(clippy::large_enum_variant, reason = "there is one, and it lives for ever")]
pub(crate) enum Blocks {
    Own(Layout),
    Shared,
}

impl Blocks {
    /// How the goroutines' own blocks lie. `None` in shared mode.
    #[inline]
    pub(crate) fn layout(&self) -> Option<&Layout> {
        match self {
            Blocks::Own(layout) => Some(layout),
            Blocks::Shared => None,
        }
    }

    /// The layout, if `slot` has a block.
    #[inline]
    pub(crate) fn layout_of(&self, slot: &Slot) -> Option<&Layout> {
        self.layout().filter(|_| slot.tp() != 0)
    }

    /// Whether a goroutine keeps its thread-locals when it goes on on another thread.
    #[inline]
    pub(crate) fn move_with_goroutines(&self) -> bool {
        matches!(self, Blocks::Own(_))
    }

    /// How a switch sets the thread pointer.
    pub(crate) fn fs_mode(&self) -> FsMode {
        match self {
            Blocks::Shared => FsMode::Shared,
            Blocks::Own(_) if fs::has_fsgsbase() => FsMode::Wrfsbase,
            Blocks::Own(_) => FsMode::ArchPrctl,
        }
    }

    /// The words of malloc's that stay with a thread when the thread pointer changes.
    pub(crate) fn malloc_words(&self) -> Option<[isize; 2]> {
        self.layout().and_then(|layout| layout.malloc_words().try_into().ok())
    }

    /// Builds what `slot` needs besides its stack. Returns false if libc has no memory.
    #[inline]
    pub(crate) fn ensure(&self, slot: &mut Slot) -> bool {
        match self {
            Blocks::Own(layout) => slot.ensure_block(layout),
            Blocks::Shared => true,
        }
    }

    /// Whether `slot` needs nothing besides its stack.
    #[inline]
    pub(crate) fn are_ready_in(&self, slot: &Slot) -> bool {
        !self.move_with_goroutines() || slot.tp() != 0
    }

    /// Whether the calling thread uses the thread-locals of the goroutine on `slot`.
    #[inline]
    pub(crate) fn are_current(&self, slot: &Slot) -> bool {
        !self.move_with_goroutines() || fs::read() == slot.tp()
    }

    /// A goroutine begins, on its stack.
    #[inline]
    pub(crate) fn begin(&self) {
        if let Blocks::Own(layout) = self {
            layout.begin();
        }
    }

    /// Sets the id of the thread in the descriptor that the goroutine on `slot` shows to libc.
    /// Returns the one before.
    ///
    /// # Safety
    /// The caller is that goroutine.
    pub(crate) unsafe fn set_tid(&self, slot: &Slot, tid: u32) -> u32 {
        let Some(layout) = self.layout_of(slot) else { return tid };
        // SAFETY: the block is the caller's own.
        unsafe {
            let before = layout.tid(slot.tp());
            layout.set_tid(slot.tp(), tid);
            before
        }
    }

    /// Makes a thread's block describe the stack of `slot`, and no CPU. Returns the words that were
    /// there, with their offsets from the thread pointer.
    ///
    /// # Safety
    /// `tp` is a block that only the caller uses.
    pub(crate) unsafe fn describe(&self, tp: usize, slot: &Slot) -> Vec<(isize, u64)> {
        // SAFETY: the caller's promise.
        self.layout().map_or_else(Vec::new, |layout| unsafe { layout.describe(tp, slot.bounds()) })
    }

    /// Takes the block of `slot`, if it has one, off libc's list of threads. Returns false if the
    /// list is in use just now.
    ///
    /// # Safety
    /// The block is on the list, and all blocks on it may be read.
    pub(crate) unsafe fn try_unlist(&self, slot: &Slot) -> bool {
        // SAFETY: the caller's promise.
        self.layout_of(slot).is_none_or(|layout| unsafe { layout.try_unlist(slot.tp()) })
    }

    /// Puts the block of `slot`, if it has one, on libc's list of threads.
    ///
    /// # Safety
    /// It is not on the list, and all blocks on it may be read.
    pub(crate) unsafe fn list(&self, slot: &Slot) {
        if let Some(layout) = self.layout_of(slot) {
            // SAFETY: the caller's promise.
            unsafe { layout.list(slot.tp()) };
        }
    }
}
