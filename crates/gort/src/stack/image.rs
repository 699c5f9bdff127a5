//! What a suspended stack holds, packed: its live words, and those of its thread-locals that are not as in a fresh block.
//!
//! ```text
//!   sp                                  tp + tls_start                    end
//!   ├── frames: expected to be zero ──────┼── thread-locals: expected to be as in a fresh block ──┤
//! ```
//! Words that are as expected cost nothing; each other one costs a byte and those of its bytes that matter:
//!
//! | first byte, bits 7-6 | 5-3 | 2-0 | then |
//! | --- | --- | --- | --- |
//! | what the word is counted from: nothing, the slot's end (downwards), the program's start | its bytes less one | 0-6: words as expected before it | the word's low bytes |
//! | count - 7, upper bits | | 7: only words as expected | count - 7, lower 8 bits |
//!
//! Return addresses and pointers into the stack itself are most of a stack; so they take three or four bytes instead of nine.

use super::slab::Slot;
use super::tls::{Bounds, Layout};
use crate::sys::map::{self, PAGE};

/// A word of a fresh block, in words that hold for any slot.
#[derive(Clone, Copy)]
enum Expected {
    Value(u64),
    /// The slot's end plus this.
    FromEnd(u64),
    /// The slot's low end.
    Low,
    /// The slot's size.
    Size,
    /// Whatever: it is written before anybody reads it.
    Any,
}

impl Expected {
    /// The word in a slot from `low` to `end`; `now` is what is there.
    #[inline]
    fn in_slot(self, low: usize, end: usize, now: u64) -> u64 {
        match self {
            Expected::Value(v) => v,
            Expected::FromEnd(v) => v.wrapping_add(end as u64),
            Expected::Low => low as u64,
            Expected::Size => (end - low) as u64,
            Expected::Any => now,
        }
    }
}

/// Packs and unpacks; knows what a fresh block looks like.
pub(crate) struct Packer {
    /// The thread-locals of a fresh block, up to the slot's end. Empty in shared mode.
    block: Vec<Expected>,
    /// Where the program was loaded.
    program: usize,
}

const DOWN_FROM_END: u8 = 1;
const FROM_PROGRAM: u8 = 2;
/// In the lowest three bits: no word follows.
const ONLY_SKIP: u8 = 7;
/// The most words that one entry can skip.
const MOST_SKIPPED: usize = 7 + 0x1FFF;

impl Packer {
    /// Looks at a fresh block of `layout` (none: there are no blocks). `rewritten`: words of a block, counted from the thread pointer, that
    /// each switch writes. `None`: no memory.
    pub(crate) fn new(layout: Option<&Layout>, rewritten: &[isize]) -> Option<Packer> {
        // SAFETY: asks for a number.
        let program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize & !(PAGE - 1);
        let block = match layout {
            Some(layout) => Packer::fresh_block(layout, rewritten)?,
            None => Vec::new(),
        };
        Some(Packer { block, program })
    }

    fn fresh_block(layout: &Layout, rewritten: &[isize]) -> Option<Vec<Expected>> {
        // A size that occurs nowhere else, so that the word that holds it is recognised.
        let size = 61 * PAGE;
        let low = map::reserve(size).ok()?;
        let end = low + size;
        // SAFETY: fresh memory of ours, which stays mapped.
        let tp = unsafe { layout.build(Bounds { low, end, guard: super::slab::GUARD_BYTES }) }?.tp;
        let begin = tp.wrapping_add_signed(layout.tls_start());
        let expected = |at: usize| {
            // SAFETY: between the block's begin and the end of its mapping.
            let word = unsafe { *(at as *const u64) };
            match word as usize {
                _ if rewritten.contains(&(at as isize - tp as isize)) => Expected::Any,
                w if w == low => Expected::Low,
                w if w == size => Expected::Size,
                w if (low..=end).contains(&w) => Expected::FromEnd(word.wrapping_sub(end as u64)),
                _ => Expected::Value(word),
            }
        };
        let block = (begin..end).step_by(8).map(expected).collect();
        // SAFETY: built above; nobody has run on it, and nobody will.
        unsafe {
            layout.destroy(tp);
            map::release(low, size);
        }
        Some(block)
    }

    /// Where the thread-locals of `slot` begin: at its end, if there are none.
    fn block_begin(&self, slot: &Slot) -> usize {
        slot.range().end - 8 * self.block.len()
    }

    /// Packs the stack that is suspended at `sp` in `slot`, with its thread-locals. `None`: it does not fit into `to`.
    ///
    /// # Safety
    /// Nobody runs on the stack or changes it meanwhile.
    pub(crate) unsafe fn pack(&self, slot: &Slot, sp: usize, to: &mut [u8]) -> Option<usize> {
        let (low, end) = (slot.range().start, slot.range().end);
        let begin = self.block_begin(slot);
        let mut out = Writer { to, len: 0, skipped: 0, low, end, program: self.program };
        // SAFETY: from the suspended stack's end to that of the slot all is mapped, and stands still.
        let word = |at: usize| unsafe { (at as *const u64).read() };
        for at in (sp..begin).step_by(8) {
            out.word(word(at), 0)?;
        }
        for (at, expected) in (begin..end).step_by(8).zip(&self.block) {
            let now = word(at);
            out.word(now, expected.in_slot(low, end, now))?;
        }
        Some(out.len)
    }

    /// Writes back what [`pack`](Packer::pack) has packed.
    ///
    /// # Safety
    /// The memory from `sp` to the slot's end is writable, zero, and the caller's; `from` was packed from the same place.
    pub(crate) unsafe fn unpack(&self, from: &[u8], slot: &Slot, sp: usize) {
        let (low, end) = (slot.range().start, slot.range().end);
        for (at, expected) in (self.block_begin(slot)..end).step_by(8).zip(&self.block) {
            // SAFETY: the caller's promise.
            unsafe { (at as *mut u64).write(expected.in_slot(low, end, 0)) };
        }
        let mut bytes = from.iter().copied();
        let mut at = sp;
        while let Some(first) = bytes.next() {
            let skipped = first & 7;
            if skipped == ONLY_SKIP {
                let lower = bytes.next().expect("an entry that skips has two bytes");
                at += 8 * (7 + (usize::from(first >> 3) << 8 | usize::from(lower)));
                continue;
            }
            at += 8 * usize::from(skipped);
            let mut word = [0; 8];
            word[..=usize::from(first >> 3 & 7)].iter_mut().zip(&mut bytes).for_each(|(w, b)| *w = b);
            let counted = u64::from_le_bytes(word);
            let word = match first >> 6 {
                DOWN_FROM_END => end as u64 - counted,
                FROM_PROGRAM => self.program as u64 + counted,
                _ => counted,
            };
            // SAFETY: the caller's promise.
            unsafe { (at as *mut u64).write(word) };
            at += 8;
        }
    }
}

/// Where packed words go.
struct Writer<'a> {
    to: &'a mut [u8],
    len: usize,
    /// Words as expected since the last that was not.
    skipped: usize,
    low: usize,
    end: usize,
    program: usize,
}

impl Writer<'_> {
    #[inline]
    fn word(&mut self, word: u64, expected: u64) -> Option<()> {
        if word == expected {
            self.skipped += 1;
            return Some(());
        }
        self.unexpected(word)
    }

    fn unexpected(&mut self, word: u64) -> Option<()> {
        while self.skipped >= 7 {
            let now = self.skipped.min(MOST_SKIPPED);
            let n = now - 7;
            self.put(&[((n >> 8) as u8) << 3 | ONLY_SKIP, n as u8])?;
            self.skipped -= now;
        }
        let (base, counted) = if (self.low..=self.end).contains(&(word as usize)) {
            (DOWN_FROM_END, self.end as u64 - word)
        } else {
            let far = word.wrapping_sub(self.program as u64);
            if far < 1 << 32 && word >> 32 != 0 { (FROM_PROGRAM, far) } else { (0, word) }
        };
        let bytes = (64 - counted.leading_zeros()).div_ceil(8).max(1) as u8;
        self.put(&[base << 6 | (bytes - 1) << 3 | self.skipped as u8])?;
        self.put(&counted.to_le_bytes()[..bytes as usize])?;
        self.skipped = 0;
        Some(())
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.to.get_mut(self.len..self.len + bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::slab;
    use super::*;
    use crate::sys::rng::Rng;

    fn words(sp: usize, slot: &Slot) -> Vec<u64> {
        // SAFETY: the test's own slot.
        (sp..slot.range().end).step_by(8).map(|at| unsafe { *(at as *const u64) }).collect()
    }

    /// Whatever the words are, they come back: zeroes in long and short runs, small numbers, pointers of all kinds, with thread-locals
    /// and without.
    #[test]
    fn what_was_packed_comes_back() {
        let layout = Layout::discover().expect("this libc is supported");
        let mut rng = Rng::new(5);
        for layout in [Some(&layout), None] {
            let packer = Packer::new(layout, &[]).expect("memory");
            for round in 0..200 {
                let mut slot = slab::allocate(slab::class_for(64 << 10).expect("small")).expect("memory");
                if let Some(layout) = layout {
                    assert!(slot.ensure_block(layout));
                }
                let range = slot.range();
                let sp = slot.stack_top() - 8 * rng.below(4000) as usize;
                let changes = rng.below(300);
                for _ in 0..changes {
                    let at = sp + 8 * rng.below(((range.end - sp) / 8) as u32) as usize;
                    let random = u64::from(rng.below(u32::MAX)) << 32 | u64::from(rng.below(u32::MAX));
                    let word = match rng.below(7) {
                        0 => u64::from(rng.below(300)),
                        1 => (range.start + rng.below(range.len() as u32 + 1) as usize) as u64,
                        2 => words as *const () as u64,
                        3 => random >> rng.below(64),
                        4 => u64::MAX,
                        5 => 0,
                        _ => packer.program as u64 + u64::from(rng.below(u32::MAX)),
                    };
                    // SAFETY: the test's own slot, on which nobody runs.
                    unsafe { (at as *mut u64).write(word) };
                }
                let before = words(sp, &slot);
                let mut packed = vec![0; 16 << 10];
                // SAFETY: as above.
                let len = unsafe { packer.pack(&slot, sp, &mut packed) }.expect("it fits");
                assert!(len <= 10 * changes as usize + 64, "{changes} changes took {len} bytes");
                // SAFETY: as above; what it holds is packed.
                unsafe {
                    map::decommit(range.start + slab::GUARD_BYTES, range.len() - slab::GUARD_BYTES);
                    packer.unpack(&packed[..len], &slot, sp);
                }
                assert_eq!(words(sp, &slot), before, "round {round}");
                // What is too large for the place is refused, at any length.
                for short in [0, 1, len / 2, len.saturating_sub(1)].into_iter().filter(|&short| short < len) {
                    // SAFETY: as above.
                    assert!(unsafe { packer.pack(&slot, sp, &mut packed[..short]) }.is_none());
                }
            }
        }
    }

    /// A fresh block is next to nothing: its id and its dtv.
    #[test]
    fn a_fresh_block_packs_to_a_few_bytes() {
        let layout = Layout::discover().expect("this libc is supported");
        let packer = Packer::new(Some(&layout), &[]).expect("memory");
        for bytes in [16 << 10, 256 << 10, 1 << 20] {
            let mut slot = slab::allocate(slab::class_for(bytes).expect("small")).expect("memory");
            assert!(slot.ensure_block(&layout));
            // SAFETY: the test's own slot.
            let len = unsafe { packer.pack(&slot, slot.stack_top(), &mut [0; 256]) }.expect("it fits");
            assert!(len < 48, "{len} bytes for a slot of {bytes}");
        }
    }
}
