//! The run queue of one P: a ring of `N` places, and `next`, the one that runs before all others.
//!
//! # Role
//! The owner P puts and takes; other Ps steal. A handle stands for a goroutine: it is in one place
//! at a time.
//!
//! # Invariants
//! 1. Only the owner writes `tail` and puts into `next`. Any thread may take from `head` and from
//!    `next`, by compare-and-swap.
//! 2. `tail - head` is at most `N`, and the places `head..tail` hold queued pointers. There is one
//!    exception: while the owner finds that a thief was faster at the last one, `tail` is one
//!    before `head` for a moment.
//! 3. A place is read before `head` moves past it: a thief copies first, and then claims by the
//!    swap of `head`. If the swap fails, the copy is forgotten. The owner writes a place only when
//!    `head` has passed it.
//!
//! # Why nothing is lost or run twice
//! `head` is the only thing that consumers contend for. Its position only grows, and a swap from
//! `h` to `h + n` gives those `n` pointers to one consumer. The owner publishes `tail` with Release
//! after it has written the place, and thieves read it with Acquire. Positions are 32-bit counters
//! that wrap; an ABA would need 2³² moves between a thief's load and its swap.
//!
//! The owner may also take the last one ([`take_last`](LocalQueue::take_last)). It moves `tail`
//! back first, and then swaps `head` for the same position with another *round*:
//!
//! - A thief that has read `head` before, and perhaps the old `tail`, fails at its swap.
//! - A thief that reads the new `head` reads the new `tail` too.
//!
//! Model: `crates/gort-models/tests/runq.rs`.

use crate::sys::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};
use std::ptr::null_mut;

/// What can be queued: a pointer, together with the right to what it points to.
pub(crate) trait Handle: Sized {
    type Target;

    fn into_ptr(self) -> *mut Self::Target;

    /// # Safety
    /// `ptr` came from [`into_ptr`](Handle::into_ptr), and no other handle was made of it since.
    unsafe fn from_ptr(ptr: *mut Self::Target) -> Self;
}

/// The position of the oldest in the low half, and the round in the high half.
#[derive(Clone, Copy)]
struct Head(u64);

impl Head {
    #[inline]
    fn position(self) -> u32 {
        self.0 as u32
    }

    /// The position after the next `n`.
    #[inline]
    fn past(self, n: u32) -> Head {
        Head(self.0 & !u64::from(u32::MAX) | u64::from(self.position().wrapping_add(n)))
    }

    #[inline]
    fn next_round(self) -> Head {
        Head(self.0.wrapping_add(1 << 32))
    }
}

/// The run queue of one P. `N` is a power of two: 256 here, 4 in the model.
pub(crate) struct LocalQueue<H: Handle, const N: usize> {
    /// See [`Head`].
    head: AtomicU64,
    tail: AtomicU32,
    next: AtomicPtr<H::Target>,
    ring: [AtomicPtr<H::Target>; N],
}

/// What [`LocalQueue::push`] could not keep: half of the ring and the new one, for the global
/// queue.
#[must_use = "those that are in no queue never run"]
pub(crate) struct Overflow<H: Handle, const N: usize> {
    items: [*mut H::Target; N],
    len: usize,
}

impl<H: Handle, const N: usize> Overflow<H, N> {
    pub(crate) fn into_handles(self) -> impl Iterator<Item = H> {
        // SAFETY: the ring has given these pointers to us alone (`take_half`).
        self.items.into_iter().take(self.len).map(|ptr| unsafe { H::from_ptr(ptr) })
    }
}

impl<H: Handle, const N: usize> LocalQueue<H, N> {
    pub(crate) fn new() -> LocalQueue<H, N> {
        const { assert!(N.is_power_of_two()) };
        LocalQueue {
            head: AtomicU64::new(0),
            tail: AtomicU32::new(0),
            next: AtomicPtr::new(null_mut()),
            ring: std::array::from_fn(|_| AtomicPtr::new(null_mut())),
        }
    }

    #[inline]
    fn head(&self, order: crate::sys::sync::Ordering) -> Head {
        Head(self.head.load(order))
    }

    /// The claim (invariant 3): true if nothing was taken since `from` was read.
    #[inline]
    fn move_head(&self, from: Head, to: Head) -> bool {
        self.head.compare_exchange(from.0, to.0, AcqRel, Relaxed).is_ok()
    }

    fn place(&self, position: u32) -> &AtomicPtr<H::Target> {
        &self.ring[position as usize & (N - 1)]
    }

    /// Puts `g` in front of everything. Returns what was there, for the caller to push to the ring.
    /// Owner only.
    ///
    /// The swap is sequentially consistent: it is also the submitter's step 1 of the wake protocol.
    #[inline]
    pub(crate) fn replace_next(&self, g: H) -> Option<H> {
        let old = self.next.swap(g.into_ptr(), SeqCst);
        // SAFETY: the swap has taken it out.
        (!old.is_null()).then(|| unsafe { H::from_ptr(old) })
    }

    /// Takes what [`replace_next`](Self::replace_next) put. Owner only; thieves use
    /// [`steal_next`](Self::steal_next).
    #[inline]
    pub(crate) fn take_next(&self) -> Option<H> {
        let g = self.next.load(Relaxed);
        // A thief may take it, but only the owner puts one there. So a failed swap means that it is
        // gone.
        if !g.is_null() && self.next.compare_exchange(g, null_mut(), AcqRel, Relaxed).is_ok() {
            // SAFETY: the swap has taken it out.
            return Some(unsafe { H::from_ptr(g) });
        }
        None
    }

    /// Appends `g` to the ring. If the ring is full, half of it comes back, with `g`, for the
    /// global queue. Owner only.
    #[inline]
    pub(crate) fn push(&self, g: H) -> Option<Overflow<H, N>> {
        let g = g.into_ptr();
        loop {
            let head = self.head(Acquire);
            let tail = self.tail.load(Relaxed);
            if tail.wrapping_sub(head.position()) < N as u32 {
                self.place(tail).store(g, Relaxed);
                self.tail.store(tail.wrapping_add(1), Release);
                return None;
            }
            if let Some(overflow) = self.take_half(head, g) {
                return Some(overflow);
            }
            // A thief has made room; the push above succeeds now.
        }
    }

    #[cold]
    fn take_half(&self, head: Head, g: *mut H::Target) -> Option<Overflow<H, N>> {
        let half = N / 2;
        let mut items = [null_mut(); N];
        for (i, item) in items.iter_mut().enumerate().take(half) {
            *item = self.place(head.position().wrapping_add(i as u32)).load(Relaxed);
        }
        items[half] = g;
        self.move_head(head, head.past(half as u32)).then_some(Overflow { items, len: half + 1 })
    }

    /// The first and the second in the ring, null for none. A guess, to warm a cache. Owner only.
    #[inline]
    pub(crate) fn ahead(&self) -> [*mut H::Target; 2] {
        let head = self.head(Relaxed).position();
        let len = self.tail.load(Relaxed).wrapping_sub(head);
        let at = |i: u32| if i < len { self.place(head.wrapping_add(i)).load(Relaxed) } else { null_mut() };
        [at(0), at(1)]
    }

    /// Takes the oldest of the ring. Owner only.
    #[inline]
    pub(crate) fn pop(&self) -> Option<H> {
        loop {
            let head = self.head(Acquire);
            let tail = self.tail.load(Relaxed);
            if tail == head.position() {
                return None;
            }
            let g = self.place(head.position()).load(Relaxed);
            if self.move_head(head, head.past(1)) {
                // SAFETY: the swap of `head` has given it to us.
                return Some(unsafe { H::from_ptr(g) });
            }
        }
    }

    /// Takes `g` out of the ring, if it is the last there. Owner only.
    pub(crate) fn take_last(&self, g: *mut H::Target) -> Option<H> {
        loop {
            let head = self.head(Acquire);
            let tail = self.tail.load(Relaxed);
            let last = tail.wrapping_sub(1);
            if tail == head.position() || self.place(last).load(Relaxed) != g {
                return None;
            }
            self.tail.store(last, Relaxed);
            if self.move_head(head, head.next_round()) {
                // SAFETY: the swap of `head` has given it to us.
                return Some(unsafe { H::from_ptr(g) });
            }
            self.tail.store(tail, Release); // thieves have taken some, perhaps this one
        }
    }

    /// Whether there is nothing to run. Also right while the owner moves `next` to the ring. For
    /// any thread.
    pub(crate) fn is_empty(&self) -> bool {
        loop {
            let head = self.head(SeqCst).position();
            let tail = self.tail.load(SeqCst);
            let next = self.next.load(SeqCst);
            // If the tail did not move, the three values held together: `next` was not moved to the
            // ring between the looks.
            if tail == self.tail.load(SeqCst) {
                return head == tail && next.is_null();
            }
        }
    }

    /// How many are queued, `next` included (a moment's view).
    pub(crate) fn len(&self) -> usize {
        self.ring_len() + usize::from(!self.next.load(Relaxed).is_null())
    }

    /// How many are in the ring (a moment's view).
    pub(crate) fn ring_len(&self) -> usize {
        let head = self.head(Acquire).position();
        let tail = self.tail.load(Acquire);
        (tail.wrapping_sub(head) as i32).clamp(0, N as i32) as usize
    }

    /// Moves half of this ring (rounded up) to `to`, whose owner the caller is. Returns the last of
    /// them, to be run at once.
    pub(crate) fn steal_into(&self, to: &LocalQueue<H, N>) -> Option<H> {
        let tail = to.tail.load(Relaxed);
        loop {
            let head = self.head(Acquire);
            let end = self.tail.load(Acquire);
            let n = end.wrapping_sub(head.position());
            if n as i32 <= 0 {
                return None; // below zero: invariant 2
            }
            let n = n - n / 2;
            if n > N as u32 / 2 {
                continue; // head and tail were not read at one moment
            }
            for i in 0..n {
                let g = self.place(head.position().wrapping_add(i)).load(Relaxed);
                to.place(tail.wrapping_add(i)).store(g, Relaxed);
            }
            if self.move_head(head, head.past(n)) {
                let last = tail.wrapping_add(n - 1);
                let g = to.place(last).load(Relaxed);
                if n > 1 {
                    // `to` was empty (its owner looks for work), so it has room for half a ring.
                    to.tail.store(last, Release);
                }
                // SAFETY: the swap of `head` has given it to us, and it is behind the tail of `to`.
                return Some(unsafe { H::from_ptr(g) });
            }
        }
    }

    /// What is in `next`. For any thread.
    pub(crate) fn peek_next(&self) -> Option<*mut H::Target> {
        let g = self.next.load(Acquire);
        (!g.is_null()).then_some(g)
    }

    /// Takes `g` out of another P's `next`, if it is there.
    pub(crate) fn steal_next(&self, g: *mut H::Target) -> Option<H> {
        let taken = self.next.compare_exchange(g, null_mut(), AcqRel, Relaxed).is_ok();
        // SAFETY: the swap has taken it out.
        taken.then(|| unsafe { H::from_ptr(g) })
    }
}
