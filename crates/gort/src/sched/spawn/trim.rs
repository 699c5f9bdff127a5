//! Gives stacks that a peak left behind back to the system.

use super::task;
use crate::sched::core::config::KEEP_FREE_SLOTS;
use crate::sched::core::fixed::fixed;
use crate::stack::slab;

/// How many slots are given back at once.
const TRIM_BATCH: usize = 512;

/// Gives some of the stacks that a peak left behind back to the system. Goroutines run the
/// destructors of the thread-locals on those stacks first.
pub(crate) fn trim() {
    for mut slot in slab::take_cold(KEEP_FREE_SLOTS, TRIM_BATCH) {
        let Some(layout) = fixed().blocks.layout_of(&slot) else {
            // SAFETY: nothing runs on a free slot, and without a block there are no destructors.
            unsafe { slot.give_up(None) };
            slab::free(std::iter::once(slot));
            continue;
        };
        task::spawn_on_cold_slot(slot, move || {
            // SAFETY: this goroutine is the last user of the block, and this its last user code.
            unsafe { layout.run_destructors() };
        });
    }
}
