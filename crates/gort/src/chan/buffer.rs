//! The messages in a channel: a ring for bounded channels, blocks for unbounded ones. Rendezvous
//! channels use blocks too, because a message on its way to a `select` passes through memory.
//!
//! No memory is allocated or freed under the channel's lock. [`Buffer::has_room`] says whether a
//! push needs memory. If so, the sender unlocks, allocates it ([`Memory::new`]) and gives it to the
//! buffer. Memory that a pop leaves over is returned to the caller. The caller (`core.rs`) counts
//! the messages, because it needs the count for more than this.
//!
//! A new channel has no memory at all. A ring is allocated whole by the first send that needs it.
//! An unbounded channel starts with a small block, and keeps one block when it has run empty.
//!
//! Rejected: one growing ring for unbounded channels. Moving a backlog of millions under the lock
//! takes milliseconds, and all users of the channel wait for it.

use std::collections::TryReserveError;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// The intended size of a block of an unbounded channel.
const BLOCK_BYTES: usize = 1024;
/// Messages in the first block.
const FIRST_BLOCK_SLOTS: usize = 8;

type Slots<T> = Box<[MaybeUninit<T>]>;

pub(super) enum Buffer<T> {
    Ring(Ring<T>),
    Blocks(Blocks<T>),
}

/// Memory for messages, on its way into a buffer.
pub(super) enum Memory<T> {
    Ring(Slots<T>),
    Block(Box<Block<T>>),
}

/// Memory that a pop leaves over, to be dropped after unlocking. It is one word, so it is returned
/// in a register.
pub(super) type LeftOver<T> = Option<Box<Block<T>>>;

/// The memory that a push needs, in slots.
#[derive(Clone, Copy)]
pub(super) enum Need {
    Ring(usize),
    Block(usize),
}

impl<T> Memory<T> {
    #[cold]
    pub(super) fn new(need: Need) -> Memory<T> {
        match need {
            Need::Ring(slots) => Memory::Ring(Box::new_uninit_slice(slots)),
            Need::Block(slots) => {
                Memory::Block(Box::new(Block { next: None, slots: Box::new_uninit_slice(slots) }))
            }
        }
    }
}

/// Fails if no machine could allocate a ring of `cap` messages.
pub(super) fn check_capacity<T>(cap: usize) -> Result<(), TryReserveError> {
    if cap.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= isize::MAX as usize) {
        return Ok(());
    }
    Vec::<T>::new().try_reserve(cap)
}

impl<T> Buffer<T> {
    pub(super) fn ring(cap: usize) -> Buffer<T> {
        Buffer::Ring(Ring { slots: Box::new_uninit_slice(0), head: 0, cap })
    }

    pub(super) const fn blocks() -> Buffer<T> {
        Buffer::Blocks(Blocks { head: None, tail: None, head_slot: 0, tail_slot: 0, spare: None })
    }

    /// An empty buffer of the same kind.
    pub(super) fn empty_like(&self) -> Buffer<T> {
        match self {
            Buffer::Ring(ring) => Buffer::ring(ring.cap),
            Buffer::Blocks(_) => Buffer::blocks(),
        }
    }

    /// Whether there is memory for a push. For a ring: whether it was allocated; the caller counts.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        match self {
            Buffer::Ring(ring) => !ring.slots.is_empty(),
            Buffer::Blocks(blocks) => blocks.has_room(),
        }
    }

    /// What to allocate when there is no room.
    pub(super) fn need(&self) -> Need {
        match self {
            Buffer::Ring(ring) => Need::Ring(ring.cap),
            Buffer::Blocks(blocks) => {
                let slots = (BLOCK_BYTES / size_of::<T>().max(1)).max(1);
                Need::Block(if blocks.head.is_none() { slots.min(FIRST_BLOCK_SLOTS) } else { slots })
            }
        }
    }

    /// Takes the memory. Returns it if it is no longer needed.
    #[must_use = "what is left over is to be dropped after unlocking"]
    pub(super) fn give(&mut self, memory: Memory<T>) -> Option<Memory<T>> {
        if self.has_room() {
            return Some(memory);
        }
        match (self, memory) {
            (Buffer::Ring(ring), Memory::Ring(slots)) => ring.slots = slots,
            (Buffer::Blocks(blocks), Memory::Block(block)) => blocks.spare = Some(block),
            (_, other) => return Some(other),
        }
        None
    }

    /// Puts a message behind the `len` messages that are there. There is room.
    #[inline]
    pub(super) fn push(&mut self, len: usize, message: T) {
        match self {
            Buffer::Ring(ring) => {
                let i = ring.head + len;
                let i = if i >= ring.cap { i - ring.cap } else { i };
                ring.slots[i].write(message);
            }
            Buffer::Blocks(blocks) => blocks.push(message),
        }
    }

    /// The place of the first message. There is one.
    #[inline]
    pub(super) fn front(&self) -> *const T {
        match self {
            Buffer::Ring(ring) => ring.slots[ring.head].as_ptr(),
            Buffer::Blocks(blocks) => {
                // SAFETY: there is a message, so there is a head block, which this buffer owns.
                let head = unsafe { blocks.head.expect("a message lies in a block").as_ref() };
                head.slots[blocks.head_slot].as_ptr()
            }
        }
    }

    /// Forgets the first of `len` messages, which the caller has moved out. Memory that is no
    /// longer needed is returned, to be dropped after unlocking.
    #[inline]
    pub(super) fn advance(&mut self, len: usize) -> LeftOver<T> {
        match self {
            Buffer::Ring(ring) => {
                ring.head += 1;
                if ring.head == ring.cap {
                    ring.head = 0;
                }
                None
            }
            Buffer::Blocks(blocks) => blocks.advance(len),
        }
    }

    /// Drops `len` messages and the memory. No lock is held.
    pub(super) fn drop_all(mut self, len: usize) {
        for left in (1..=len).rev() {
            // SAFETY: `left` messages are still there. This one is forgotten before it is dropped.
            let message = unsafe { self.front().read() };
            drop(self.advance(left));
            drop(message);
        }
    }
}

pub(super) struct Ring<T> {
    /// Empty until the first send, then `cap` long.
    slots: Slots<T>,
    head: usize,
    cap: usize,
}

pub(super) struct Block<T> {
    next: Option<NonNull<Block<T>>>,
    slots: Slots<T>,
}

/// ```text
///   head ──▶ [· · · m m m] ──▶ [m m m m m m] ──▶ [m m · · · ·] ◀── tail       spare: [· · · · · ·]
///                   ▲ head_slot                       ▲ tail_slot
/// ```
pub(super) struct Blocks<T> {
    head: Option<NonNull<Block<T>>>,
    tail: Option<NonNull<Block<T>>>,
    head_slot: usize,
    tail_slot: usize,
    spare: Option<Box<Block<T>>>,
}

// SAFETY: the blocks are owned by the buffer alone, and hold messages that may be sent.
unsafe impl<T: Send> Send for Blocks<T> {}

impl<T> Blocks<T> {
    #[inline]
    fn tail_has_room(&self) -> bool {
        // SAFETY: blocks in the list are owned by this buffer.
        self.tail.is_some_and(|tail| self.tail_slot < unsafe { tail.as_ref() }.slots.len())
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.tail_has_room() || self.spare.is_some()
    }

    #[inline]
    fn push(&mut self, message: T) {
        if !self.tail_has_room() {
            self.link_spare();
        }
        let mut tail = self.tail.expect("there is room, so there is a block");
        // SAFETY: the buffer owns its blocks, and is borrowed mutably.
        unsafe { tail.as_mut() }.slots[self.tail_slot].write(message);
        self.tail_slot += 1;
    }

    #[cold]
    fn link_spare(&mut self) {
        let block = NonNull::from(Box::leak(self.spare.take().expect("a push is told that there is room")));
        match self.tail {
            // SAFETY: the buffer owns its blocks, and is borrowed mutably.
            Some(mut tail) => unsafe { tail.as_mut() }.next = Some(block),
            None => (self.head, self.head_slot) = (Some(block), 0),
        }
        (self.tail, self.tail_slot) = (Some(block), 0);
    }

    #[inline]
    fn advance(&mut self, len: usize) -> LeftOver<T> {
        self.head_slot += 1;
        if len == 1 {
            // Empty: head and tail are the same block. Use it again, it is in the cache.
            (self.head_slot, self.tail_slot) = (0, 0);
            return self.spare.take();
        }
        let head = self.head.expect("a message lies in a block");
        // SAFETY: the buffer owns its blocks.
        if self.head_slot < unsafe { head.as_ref() }.slots.len() {
            return None;
        }
        self.unlink_head()
    }

    #[cold]
    fn unlink_head(&mut self) -> LeftOver<T> {
        let head = self.head.expect("the head block was used up");
        // SAFETY: the block came from `Box::leak` in `link_spare`, and is unlinked here.
        let mut block = unsafe { Box::from_raw(head.as_ptr()) };
        (self.head, self.head_slot) = (block.next.take(), 0);
        if self.spare.is_some() {
            return Some(block);
        }
        self.spare = Some(block);
        None
    }
}

impl<T> Drop for Blocks<T> {
    fn drop(&mut self) {
        while let Some(head) = self.head {
            // SAFETY: the block came from `Box::leak` in `link_spare`, and the list alone owns it.
            let block = unsafe { Box::from_raw(head.as_ptr()) };
            self.head = block.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rng::Rng;
    use std::collections::VecDeque;

    /// Runs a buffer beside a `VecDeque`.
    fn check(mut buffer: Buffer<Box<u32>>, cap: usize, seed: u64) {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut model = VecDeque::new();
        for i in 0..20_000u32 {
            let filling = (i / 1000) % 2 == 0;
            if (rng.below(10) < if filling { 8 } else { 2 }) && model.len() < cap {
                if !buffer.has_room() {
                    let memory = Memory::new(buffer.need());
                    assert!(buffer.give(memory).is_none());
                }
                buffer.push(model.len(), Box::new(i));
                model.push_back(i);
            } else if let Some(expected) = model.pop_front() {
                // SAFETY: there was a message, and it is forgotten at once.
                let message = unsafe { buffer.front().read() };
                drop(buffer.advance(model.len() + 1));
                assert_eq!(*message, expected);
            }
        }
        buffer.drop_all(model.len());
    }

    #[test]
    fn ring_is_a_queue() {
        for cap in [1, 2, 3, 7, 64] {
            check(Buffer::ring(cap), cap, cap as u64);
        }
    }

    #[test]
    fn blocks_are_a_queue() {
        check(Buffer::blocks(), usize::MAX, 99);
    }

    /// An empty buffer keeps one block, however much was in it.
    #[test]
    fn blocks_give_memory_back() {
        let mut buffer = Buffer::blocks();
        for i in 0..100_000u64 {
            if !buffer.has_room() {
                let memory = Memory::new(buffer.need());
                assert!(buffer.give(memory).is_none());
            }
            buffer.push(i as usize, i);
        }
        for left in (1..=100_000).rev() {
            drop(buffer.advance(left));
        }
        let Buffer::Blocks(blocks) = &buffer else { unreachable!() };
        assert!(blocks.spare.is_none());
        assert_eq!(blocks.head, blocks.tail);
    }

    #[test]
    fn impossible_capacities_are_known_before() {
        assert!(check_capacity::<u64>(usize::MAX / 2).is_err());
        assert!(check_capacity::<()>(usize::MAX).is_ok());
        assert!(check_capacity::<u64>(1 << 20).is_ok());
    }
}
