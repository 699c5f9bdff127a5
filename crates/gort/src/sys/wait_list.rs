//! The list of waiters at a channel, a lock, a socket, or the limit of `blocking`. The links lie in
//! the nodes, so nothing is allocated.
//!
//! # Invariants
//! 1. Links are read and written under one lock, which guards the list too.
//! 2. A linked node is alive, and stays where it is. That is the promise of the code that links it.
//!    Its owner takes the node out under the lock before the node goes away, or finds that another
//!    side has taken it out.

use std::cell::Cell;
use std::ptr;

/// A node, which can be in one [`WaitList`] at a time.
pub(crate) trait Node: Sized {
    /// Where its links lie.
    fn links(&self) -> &Links<Self>;
}

/// The links of a node.
pub(crate) struct Links<N> {
    prev: Cell<*const N>,
    next: Cell<*const N>,
    linked: Cell<bool>,
}

impl<N> Links<N> {
    pub(crate) const fn new() -> Links<N> {
        Links { prev: Cell::new(ptr::null()), next: Cell::new(ptr::null()), linked: Cell::new(false) }
    }

    /// Whether the node is in a list.
    #[inline]
    pub(crate) fn is_linked(&self) -> bool {
        self.linked.get()
    }
}

/// Nodes, usually in the order of arrival. All methods run under the lock that guards the list.
pub(crate) struct WaitList<N> {
    first: *const N,
    last: *const N,
}

// SAFETY: the nodes are touched under the lock that guards the list (invariant 1), on any thread.
unsafe impl<N> Send for WaitList<N> {}

impl<N: Node> WaitList<N> {
    pub(crate) const fn new() -> WaitList<N> {
        WaitList { first: ptr::null(), last: ptr::null() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Links `node` behind all others.
    ///
    /// # Safety
    /// The caller makes invariant 2 true: until the node is taken out of this list it stays alive,
    /// and where it is.
    pub(crate) unsafe fn push_back(&mut self, node: &N) {
        // SAFETY: the caller's promise.
        unsafe { self.link(self.last, node, ptr::null()) };
    }

    /// Links `node` before all others.
    ///
    /// # Safety
    /// As [`push_back`](WaitList::push_back).
    pub(crate) unsafe fn push_front(&mut self, node: &N) {
        // SAFETY: the caller's promise.
        unsafe { self.link(ptr::null(), node, self.first) };
    }

    /// Links `node` between two neighbours.
    ///
    /// # Safety
    /// As [`push_back`](WaitList::push_back). `prev` and `next` are neighbours in this list; null
    /// stands for its end.
    #[inline]
    unsafe fn link(&mut self, prev: *const N, node: &N, next: *const N) {
        let links = node.links();
        debug_assert!(!links.linked.get(), "the node is in a list already");
        links.linked.set(true);
        links.prev.set(prev);
        links.next.set(next);
        self.set_next_of(prev, node);
        self.set_prev_of(next, node);
    }

    /// The first node, which stays in the list.
    #[inline]
    pub(crate) fn front(&self) -> Option<&N> {
        // SAFETY: a linked node is alive (invariant 2), and stays so under the lock.
        unsafe { self.first.as_ref() }
    }

    /// Takes the first node out.
    ///
    /// Its owner may free it as soon as it has learnt that it is out of the list, or can get the
    /// lock: so use the node before its wait is ended and the lock is dropped.
    #[inline]
    pub(crate) fn pop_front<'a>(&mut self) -> Option<&'a N> {
        // SAFETY: a linked node is alive (invariant 2).
        let node = unsafe { self.first.as_ref()? };
        self.remove(node);
        Some(node)
    }

    /// Takes `node` out. Returns false if it is in no list. If it is in one, it is this one.
    #[inline]
    pub(crate) fn remove(&mut self, node: &N) -> bool {
        let links = node.links();
        if !links.linked.replace(false) {
            return false;
        }
        let (prev, next) = (links.prev.get(), links.next.get());
        self.set_next_of(prev, next);
        self.set_prev_of(next, prev);
        true
    }

    /// All nodes, from the first to the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &N> {
        // SAFETY: as in `front`.
        std::iter::successors(self.front(), |node| unsafe { node.links().next.get().as_ref() })
    }

    #[inline]
    fn set_next_of(&mut self, node: *const N, next: *const N) {
        // SAFETY: null, or linked in this list, so alive (invariant 2).
        match unsafe { node.as_ref() } {
            Some(node) => node.links().next.set(next),
            None => self.first = next,
        }
    }

    #[inline]
    fn set_prev_of(&mut self, node: *const N, prev: *const N) {
        // SAFETY: as in `set_next_of`.
        match unsafe { node.as_ref() } {
            Some(node) => node.links().prev.set(prev),
            None => self.last = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::rng::Rng;
    use std::collections::VecDeque;

    struct Item {
        links: Links<Item>,
        number: usize,
    }

    impl Node for Item {
        fn links(&self) -> &Links<Item> {
            &self.links
        }
    }

    /// It does what a `VecDeque` does, in each of many random steps.
    #[test]
    fn as_a_deque() {
        let items: Vec<Item> = (0..8).map(|number| Item { links: Links::new(), number }).collect();
        let (mut list, mut model) = (WaitList::new(), VecDeque::new());
        let mut rng = Rng::new(11);
        for _ in 0..2000 {
            let item = &items[rng.below(8) as usize];
            let at = model.iter().position(|&n| n == item.number);
            match (rng.below(5), at) {
                (0, None) => {
                    // SAFETY: the items outlive the list, and do not move.
                    unsafe { list.push_front(item) };
                    model.push_front(item.number);
                }
                (1 | 2, None) => {
                    // SAFETY: as above.
                    unsafe { list.push_back(item) };
                    model.push_back(item.number);
                }
                (3, _) => assert_eq!(list.pop_front().map(|item| item.number), model.pop_front()),
                (_, at) => {
                    assert_eq!(list.remove(item), at.is_some());
                    at.map(|at| model.remove(at));
                }
            }
            assert!(list.iter().map(|item| item.number).eq(model.iter().copied()));
            assert_eq!(list.front().map(|item| item.number), model.front().copied());
            assert_eq!(list.is_empty(), model.is_empty());
            assert_eq!(item.links.is_linked(), model.contains(&item.number));
        }
    }
}
