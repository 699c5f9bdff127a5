//! Packs what a suspended stack holds: its live words, and the words of its thread-locals that
//! differ from a fresh block.
//!
//! ```text
//!   sp                             tp + block_start                        end
//!   ├── frames: expected as in      ─┼── thread-locals: expected as in a ───┤
//!       others of the same kind           fresh block
//! ```
//! Goroutines that wait at the same place in the same function have nearly the same frames. So
//! stacks of the same depth, with the same addresses of the program's code in the same order, form
//! one [`Kind`]. The second stack of a kind that is seen is kept, in a form that does not depend on
//! the slot. Later ones are packed as the differences from it. A stack without a kind is packed as
//! the differences from zero. So is a stack that differs much from its kind, if that is shorter.
//!
//! The first byte is the number of the kind, 0 for none. A word that is as expected costs nothing
//! by itself. Each other word has an entry: one byte, and then those of its bytes that matter. An
//! entry's first byte:
//!
//! | bits 7-6 | bits 5-3 | bits 2-0 | what follows |
//! | --- | --- | --- | --- |
//! | base | number of bytes - 1 | 0-6: expected words before it | low bytes of word - base |
//! | count - 7, bits 12-11 | count - 7, bits 10-8 | 7: only expected words | count - 7, bits 7-0 |
//!
//! The bases are: 0 nothing, 1 the slot's end (counted downwards), 2 the program's start, 3 the
//! goroutine's descriptor.
//!
//! Most words of a stack are return addresses and pointers into the stack itself and into the
//! goroutine's descriptor. With a base they take two to four bytes instead of nine, and they are
//! the same in all stacks of a kind.

use super::tls::{Bounds, Layout};
use crate::sys::map::{self, PAGE};
use crate::sys::map_vec::MapVec;
use crate::sys::program::{self, Program};
use crate::sys::sync::{AtomicU64, Ordering::*};
use std::ops::Range;
use std::sync::OnceLock;

/// Where a stack lies, and which other memory its words may point to.
#[derive(Debug)]
pub(crate) struct Place {
    /// The slot, from its low end to its high end.
    pub(crate) slot: Range<usize>,
    /// The descriptor of the goroutine.
    pub(crate) descriptor: Range<usize>,
}

/// An expected word, in a form that does not depend on the slot.
#[derive(Clone, Copy)]
enum Expected {
    Value(u64),
    /// The slot's end plus this.
    FromEnd(u64),
    /// The start of the descriptor plus this.
    FromDescriptor(u64),
    /// The slot's low end.
    Low,
    /// The slot's size.
    Size,
    /// Any value: it is written before it is read.
    Any,
}

impl Expected {
    /// The form of `word` that does not depend on `place`.
    fn of_frame(word: u64, place: &Place) -> Expected {
        match word as usize {
            w if is_in(&place.slot, w) => Expected::FromEnd(word.wrapping_sub(place.slot.end as u64)),
            w if is_in(&place.descriptor, w) => {
                Expected::FromDescriptor(word - place.descriptor.start as u64)
            }
            _ => Expected::Value(word),
        }
    }

    /// The word in `place`; `now` is the word that is there.
    #[inline]
    fn at(self, place: &Place, now: u64) -> u64 {
        match self {
            Expected::Value(v) => v,
            Expected::FromEnd(v) => v.wrapping_add(place.slot.end as u64),
            Expected::FromDescriptor(v) => v + place.descriptor.start as u64,
            Expected::Low => place.slot.start as u64,
            Expected::Size => place.slot.len() as u64,
            Expected::Any => now,
        }
    }
}

/// Whether `word` points into `range` or to its end.
#[inline]
fn is_in(range: &Range<usize>, word: usize) -> bool {
    (range.start..=range.end).contains(&word)
}

/// What stacks of one kind have in common.
struct Kind {
    /// What identifies the kind, see [`Packer::signature`].
    signature: u64,
    /// The words from the suspended `sp` upwards.
    frames: MapVec<Expected>,
}

/// The number of a kind fits into one byte.
const KINDS: usize = 255;
/// A stack that takes at most this many bytes is close enough to its kind.
const CLOSE: usize = 128;
/// Places for signatures that were seen once; two that share a place replace each other.
const SEEN: usize = 1_024;
/// Stacks of more words have no kind.
const MOST_FRAMES: usize = 1_024;

/// The words of a suspended stack.
///
/// # Safety
/// All of `at` is mapped and does not change as long as the iterator lives.
unsafe fn words(at: Range<usize>) -> impl ExactSizeIterator<Item = u64> + Clone {
    // SAFETY: the caller's promise.
    at.step_by(8).map(|at| unsafe { (at as *const u64).read() })
}

/// Packs and unpacks. It knows what a fresh block looks like, and the kinds of stacks that it has
/// seen.
pub(crate) struct Packer {
    /// The thread-locals of a fresh block, up to the slot's end. Empty in shared mode.
    block: Vec<Expected>,
    program: Program,
    /// Number 1 first. A signature is at its own index or after it (wrapping), with no empty place
    /// in between.
    kinds: [OnceLock<Kind>; KINDS],
    /// Signatures that were seen once. A kind is kept only when its signature is seen again.
    seen: [AtomicU64; SEEN],
}

const DOWN_FROM_END: u8 = 1;
const FROM_PROGRAM: u8 = 2;
const FROM_DESCRIPTOR: u8 = 3;
/// In the lowest three bits: the entry skips expected words, and no word follows.
const ONLY_SKIP: u8 = 7;
/// The most words that one entry can skip.
const MOST_SKIPPED: usize = 7 + 0x1FFF;

impl Packer {
    /// Reads a fresh block of `layout` (`None`: there are no blocks). `rewritten` are offsets from
    /// the thread pointer of the words that every switch writes. Returns `None` if there is no
    /// memory.
    pub(crate) fn new(layout: Option<&Layout>, rewritten: &[isize]) -> Option<Packer> {
        let program = program::find();
        let block = match layout {
            Some(layout) => Packer::fresh_block(layout, rewritten)?,
            None => Vec::new(),
        };
        let kinds = [const { OnceLock::new() }; KINDS];
        Some(Packer { block, program, kinds, seen: [const { AtomicU64::new(0) }; SEEN] })
    }

    fn fresh_block(layout: &Layout, rewritten: &[isize]) -> Option<Vec<Expected>> {
        // A size that occurs nowhere else, so that the word that holds it is recognised.
        let size = 61 * PAGE;
        let low = map::reserve(size).ok()?;
        let end = low + size;
        // SAFETY: the memory was just mapped and stays mapped.
        let tp = unsafe { layout.build(Bounds { low, end, guard: super::slab::GUARD_BYTES }) }?.tp;
        let begin = tp.wrapping_add_signed(layout.block_start());
        let expected = |at: usize| {
            // SAFETY: `at` lies between the start of the block and the end of its mapping.
            let word = unsafe { *(at as *const u64) };
            match word as usize {
                _ if rewritten.contains(&(at as isize - tp as isize)) => Expected::Any,
                _ if layout.links().contains(&(at as isize - tp as isize)) => Expected::Any,
                w if w == low => Expected::Low,
                w if w == size => Expected::Size,
                w if (low..=end).contains(&w) => Expected::FromEnd(word.wrapping_sub(end as u64)),
                _ => Expected::Value(word),
            }
        };
        let block = (begin..end).step_by(8).map(expected).collect();
        // SAFETY: the block was built above; no thread has run on it, and none will.
        unsafe {
            layout.destroy(tp);
            map::release(low, size);
        }
        Some(block)
    }

    /// Where the thread-locals begin; the slot's end if there are none.
    fn block_begin(&self, place: &Place) -> usize {
        place.slot.end - 8 * self.block.len()
    }

    /// Packs the stack that is suspended at `sp`, with its thread-locals. `None`: it does not fit
    /// into `to`.
    ///
    /// # Safety
    /// No thread runs on the stack or changes it meanwhile.
    pub(crate) unsafe fn pack(&self, place: &Place, sp: usize, to: &mut [u8]) -> Option<usize> {
        // SAFETY: the caller's promise.
        unsafe {
            let number = self.kind_of(words(sp..self.block_begin(place)), place);
            let len = self.pack_as(number, place, sp, to);
            if number == 0 || len.is_some_and(|len| len <= CLOSE) {
                return len;
            }
            // Either the known stack of this kind or this one holds much that others do not.
            let as_none = self.pack_as(0, place, sp, to);
            if as_none.is_some_and(|none| len.is_none_or(|len| none < len)) {
                return as_none;
            }
            self.pack_as(number, place, sp, to)
        }
    }

    /// Packs it as a stack of kind `number`.
    ///
    /// # Safety
    /// As [`pack`](Packer::pack).
    unsafe fn pack_as(&self, number: u8, place: &Place, sp: usize, to: &mut [u8]) -> Option<usize> {
        let begin = self.block_begin(place);
        // SAFETY: the caller's promise.
        let (frames, block) = unsafe { (words(sp..begin), words(begin..place.slot.end)) };
        let mut out = Writer { to, len: 0, skipped: 0, place, program: self.program.start };
        out.put(&[number])?;
        for (now, expected) in frames.zip(self.frames_of(number)) {
            out.word(now, expected.at(place, now))?;
        }
        for (now, expected) in block.zip(&self.block) {
            out.word(now, expected.at(place, now))?;
        }
        Some(out.len)
    }

    /// The expected frames of a stack of kind `number`.
    fn frames_of(&self, number: u8) -> impl Iterator<Item = Expected> {
        let kind = usize::from(number).checked_sub(1).and_then(|i| self.kinds[i].get());
        let known: &[Expected] = kind.map_or(&[], |kind| &kind.frames);
        known.iter().copied().chain(std::iter::repeat(Expected::Value(0)))
    }

    /// The number of the kind of a stack at `place`, 0 for none. A kind gets its number when it is
    /// seen for the second time.
    fn kind_of(&self, frames: impl ExactSizeIterator<Item = u64> + Clone, place: &Place) -> u8 {
        if frames.len() > MOST_FRAMES {
            return 0;
        }
        let signature = self.signature(frames.clone());
        let first = signature as usize % KINDS;
        for i in (first..KINDS).chain(0..first) {
            let Some(kind) = self.kinds[i].get() else {
                let seen = &self.seen[(signature >> 32) as usize % SEEN];
                if seen.swap(signature, Relaxed) != signature {
                    return 0;
                }
                let Some(mut known) = MapVec::with_room(frames.len()) else { return 0 };
                frames.clone().for_each(|word| known.push(Expected::of_frame(word, place)));
                let kind = self.kinds[i].get_or_init(|| Kind { signature, frames: known });
                return if kind.signature == signature { i as u8 + 1 } else { 0 };
            };
            if kind.signature == signature {
                return i as u8 + 1;
            }
        }
        0
    }

    /// Identifies a kind: the depth of a stack, and the addresses of code on it, in order. (Like
    /// FNV-1a, but over words. If two kinds had the same signature, stacks of one would take more
    /// bytes.)
    fn signature(&self, frames: impl ExactSizeIterator<Item = u64>) -> u64 {
        const PRIME: u64 = 0x100_0000_01b3;
        let depth = frames.len() as u64;
        frames
            .filter(|&word| self.program.code.contains(&(word as usize)))
            .map(|word| word - self.program.start as u64)
            .fold((0xcbf2_9ce4_8422_2325 ^ depth).wrapping_mul(PRIME), |hash, word| {
                (hash ^ word).wrapping_mul(PRIME)
            })
    }

    /// Restores what [`pack`](Packer::pack) has packed.
    ///
    /// # Safety
    /// The memory from `sp` to the slot's end is writable, belongs to the caller, and is zero (or,
    /// for whole pages, as it was when packed). `from` was packed from the same place.
    pub(crate) unsafe fn unpack(&self, from: &[u8], place: &Place, sp: usize) {
        let begin = self.block_begin(place);
        let end = place.slot.end;
        let mut bytes = from.iter().copied();
        let number = bytes.next().expect("a packed stack begins with the number of its kind");
        let frames = (sp..begin).step_by(8).zip(self.frames_of(number));
        for (at, expected) in frames.chain((begin..end).step_by(8).zip(self.block.iter().copied())) {
            let word = expected.at(place, 0);
            if word != 0 {
                // SAFETY: the caller's promise.
                unsafe { (at as *mut u64).write(word) };
            }
        }
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
                FROM_PROGRAM => self.program.start as u64 + counted,
                FROM_DESCRIPTOR => place.descriptor.start as u64 + counted,
                _ => counted,
            };
            // SAFETY: the caller's promise.
            unsafe { (at as *mut u64).write(word) };
            at += 8;
        }
    }
}

/// Where packed words are written.
struct Writer<'a> {
    to: &'a mut [u8],
    len: usize,
    /// Expected words since the last unexpected one.
    skipped: usize,
    place: &'a Place,
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
        let Place { slot, descriptor } = self.place;
        let from_program = word.wrapping_sub(self.program as u64);
        let (base, counted) = match word as usize {
            w if is_in(slot, w) => (DOWN_FROM_END, slot.end as u64 - word),
            w if is_in(descriptor, w) => (FROM_DESCRIPTOR, word - descriptor.start as u64),
            _ if from_program < 1 << 32 && word >> 32 != 0 => (FROM_PROGRAM, from_program),
            _ => (0, word),
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
    use super::super::slab::{self, Slot};
    use super::*;
    use crate::sys::rng::Rng;

    /// A different place for each slot.
    fn place(slot: &Slot) -> Place {
        let descriptor = (1 << 45) + slot.range().start / 7 * 8;
        Place { slot: slot.range(), descriptor: descriptor..descriptor + 256 }
    }

    fn words(sp: usize, slot: &Slot) -> Vec<u64> {
        // SAFETY: the slot belongs to the test.
        unsafe { super::words(sp..slot.range().end) }.collect()
    }

    /// All words come back: zeroes in long and short runs, small numbers, and pointers of all
    /// kinds, with thread-locals and without.
    #[test]
    fn what_was_packed_comes_back() {
        let layout = crate::stack::tls::tests::layout();
        let mut rng = Rng::new(5);
        for layout in [Some(layout), None] {
            let packer = Packer::new(layout, &[]).expect("memory");
            for round in 0..200 {
                let mut slot = slab::allocate(slab::class_for(64 << 10).expect("small")).expect("memory");
                let mut links = [0; 2];
                if let Some(layout) = layout {
                    assert!(slot.ensure_block(layout));
                    // SAFETY: all blocks are on the list, whose links are not packed; the test
                    // overwrites this block.
                    while !unsafe { layout.try_unlist(slot.tp()) } {}
                    links = layout.links().map(|off| slot.tp().wrapping_add_signed(off));
                }
                let range = slot.range();
                let sp = slot.stack_top() - 8 * rng.below(4000) as usize;
                let changes = rng.below(300);
                for _ in 0..changes {
                    let at = sp + 8 * rng.below(((range.end - sp) / 8) as u32) as usize;
                    let random = u64::from(rng.below(u32::MAX)) << 32 | u64::from(rng.below(u32::MAX));
                    let word = match rng.below(8) {
                        0 => u64::from(rng.below(300)),
                        1 => (range.start + rng.below(range.len() as u32 + 1) as usize) as u64,
                        2 => words as *const () as u64,
                        3 => random >> rng.below(64),
                        4 => u64::MAX,
                        5 => 0,
                        6 => place(&slot).descriptor.start as u64 + u64::from(rng.below(257)),
                        _ => packer.program.start as u64 + u64::from(rng.below(u32::MAX)),
                    };
                    // SAFETY: the slot belongs to the test, and no thread runs on it.
                    unsafe { (at as *mut u64).write(word) };
                }
                for at in links.into_iter().filter(|&at| at != 0) {
                    // SAFETY: as above.
                    unsafe { (at as *mut u64).write(0) };
                }
                let before = words(sp, &slot);
                let mut packed = vec![0; 16 << 10];
                let mut len = 0;
                // The first of a kind, the second, and one that is packed as a difference.
                for _ in 0..3 {
                    // SAFETY: as above.
                    len = unsafe { packer.pack(&place(&slot), sp, &mut packed) }.expect("it fits");
                    assert!(len <= 10 * changes as usize + 64, "{changes} changes took {len} bytes");
                    // SAFETY: as above; the contents are packed.
                    unsafe {
                        map::decommit(range.start + slab::GUARD_BYTES, range.len() - slab::GUARD_BYTES);
                        packer.unpack(&packed[..len], &place(&slot), sp);
                    }
                    assert!(words(sp, &slot) == before, "round {round}");
                }
                // A stack that does not fit into the buffer is refused, at any length of the
                // buffer.
                for short in [0, 1, len / 2, len.saturating_sub(1)].into_iter().filter(|&short| short < len) {
                    // SAFETY: as above.
                    assert!(unsafe { packer.pack(&place(&slot), sp, &mut packed[..short]) }.is_none());
                }
            }
        }
    }

    /// The third stack of a kind is packed as a difference, wherever its slot is. A stack of
    /// another kind is not taken for it. Kinds for which no number is left are packed without a
    /// kind.
    #[test]
    fn stacks_of_a_kind_share_their_frames() {
        const WORDS: usize = 100;
        let packer = Packer::new(None, &[]).expect("memory");
        // Used by no other test: no slot of it has a block.
        let class = slab::class_for(512 << 10).expect("small");
        let code = packer.program.code.clone();
        let mut slots = Vec::new();
        let mut packed_len = |kind: usize, differs: u64| {
            let slot = slab::allocate(class).expect("memory");
            let range = slot.range();
            let sp = slot.stack_top() - 8 * WORDS;
            for i in 0..WORDS {
                let word = match i % 5 {
                    0 => code.start + 64 * kind + i,
                    1 => range.end - 8 * i,
                    2 => i << 40,
                    3 => place(&slot).descriptor.start + i,
                    _ => 0,
                };
                // SAFETY: the slot belongs to the test, and no thread runs on it.
                unsafe { ((sp + 8 * i) as *mut u64).write(word as u64) };
            }
            // SAFETY: as above.
            unsafe { ((sp + 8 * 50) as *mut u64).write(differs) };
            let before = words(sp, &slot);
            let mut packed = [0; 1 << 10];
            // SAFETY: as above; the contents are packed.
            let len = unsafe {
                let len = packer.pack(&place(&slot), sp, &mut packed).expect("it fits");
                map::decommit(range.start + slab::GUARD_BYTES, range.len() - slab::GUARD_BYTES);
                packer.unpack(&packed[..len], &place(&slot), sp);
                len
            };
            assert_eq!(words(sp, &slot), before, "kind {kind}");
            slots.push(slot); // each is at another place
            len
        };
        let alone = packed_len(0, 1);
        assert!(alone > 3 * WORDS, "{alone} bytes of the first");
        assert_eq!(packed_len(1, 1), alone, "one of another kind");
        packed_len(0, 2);
        for differs in [0, 1, 0x1234, u64::MAX] {
            let len = packed_len(0, differs);
            assert!(len <= 20, "{len} bytes of one that differs in {differs:#x}");
        }
        for kind in 1..=KINDS {
            packed_len(kind, 3);
            packed_len(kind, 3);
        }
        assert!(packer.kinds.iter().all(|kind| kind.get().is_some()), "all numbers are given");
        for _ in 0..3 {
            assert_eq!(packed_len(KINDS + 1, 1), alone, "there is no number left");
        }
        assert!(packed_len(0, 5) <= 20, "it is still known");
    }

    /// A stack whose signature is that of a kind that is shorter, longer or much fuller: it takes
    /// more bytes, but comes back.
    #[test]
    fn a_stack_that_is_not_like_its_kind() {
        const WORDS: usize = 60;
        for known_words in [0, 1, WORDS - 1, WORDS, WORDS + 1, 3 * WORDS] {
            let packer = Packer::new(None, &[]).expect("memory");
            let slot = slab::allocate(slab::class_for(2 << 20).expect("small")).expect("memory");
            let (place, sp) = (place(&slot), slot.stack_top() - 8 * WORDS);
            // SAFETY: the slot belongs to the test, and no thread runs on it.
            unsafe { ((sp + 40) as *mut u64).write(7) };
            let before = words(sp, &slot);
            let signature = packer.signature(before.iter().copied());
            let mut frames = MapVec::new();
            (0..known_words).for_each(|i| frames.push(Expected::Value(0x1234_5678_9ABC + i as u64)));
            let home = signature as usize % KINDS;
            assert!(packer.kinds[home].set(Kind { signature, frames }).is_ok());
            let mut packed = [0; 1 << 10];
            for number in [0, home as u8 + 1] {
                // SAFETY: as above; the contents are packed.
                unsafe {
                    let len = packer.pack_as(number, &place, sp, &mut packed).expect("it fits");
                    map::decommit(place.slot.start + slab::GUARD_BYTES, place.slot.len() - slab::GUARD_BYTES);
                    packer.unpack(&packed[..len], &place, sp);
                }
                assert_eq!(words(sp, &slot), before, "a kind of {known_words} words");
            }
            // SAFETY: as above.
            let len = unsafe { packer.pack(&place, sp, &mut packed) }.expect("it fits");
            assert!(len <= CLOSE, "{len} bytes, beside a kind of {known_words} words");
        }
    }

    /// A fresh block takes few bytes: its id and its dtv.
    #[test]
    fn a_fresh_block_packs_to_a_few_bytes() {
        let layout = crate::stack::tls::tests::layout();
        let packer = Packer::new(Some(layout), &[]).expect("memory");
        for bytes in [16 << 10, 256 << 10, 1 << 20] {
            let mut slot = slab::allocate(slab::class_for(bytes).expect("small")).expect("memory");
            assert!(slot.ensure_block(layout));
            let mut packed = [0; 256];
            // SAFETY: the slot belongs to the test.
            let len = unsafe { packer.pack(&place(&slot), slot.stack_top(), &mut packed) };
            let len = len.expect("it fits");
            assert!(len < 48, "{len} bytes for a slot of {bytes}");
        }
    }
}
