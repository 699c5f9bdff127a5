//! A list of goroutines through their `link` field; the global run queue is one under the scheduler's lock.

use crate::sched::g::G;
use std::ptr::null_mut;

/// First in, first out. A G is in at most one list.
pub(crate) struct GList {
    head: *mut G,
    tail: *mut G,
    len: usize,
}

// SAFETY: a list owns its Gs' `link` fields; descriptors are never freed, and moving the list moves that right.
unsafe impl Send for GList {}

impl GList {
    pub(crate) const fn new() -> GList {
        GList { head: null_mut(), tail: null_mut(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first one, still in the list.
    pub(crate) fn front(&self) -> Option<&G> {
        // SAFETY: descriptors are never freed.
        unsafe { self.head.as_ref() }
    }

    pub(crate) fn push_back(&mut self, g: *mut G) {
        // SAFETY: descriptors are never freed; the pusher owns `g`, the list owns its tail.
        unsafe {
            (*g).link.set(null_mut());
            if self.tail.is_null() {
                self.head = g;
            } else {
                (*self.tail).link.set(g);
            }
        }
        self.tail = g;
        self.len += 1;
    }

    pub(crate) fn push_front(&mut self, g: *mut G) {
        // SAFETY: as in `push_back`.
        unsafe { (*g).link.set(self.head) };
        self.head = g;
        if self.tail.is_null() {
            self.tail = g;
        }
        self.len += 1;
    }

    pub(crate) fn pop_front(&mut self) -> Option<*mut G> {
        let g = self.head;
        if g.is_null() {
            return None;
        }
        // SAFETY: the list owns `g` until here.
        self.head = unsafe { (*g).link.get() };
        if self.head.is_null() {
            self.tail = null_mut();
        }
        self.len -= 1;
        Some(g)
    }

    /// Appends all of `other`.
    pub(crate) fn append(&mut self, other: &mut GList) {
        if other.is_empty() {
            return;
        }
        if self.tail.is_null() {
            self.head = other.head;
        } else {
            // SAFETY: the tail is ours.
            unsafe { (*self.tail).link.set(other.head) };
        }
        self.tail = other.tail;
        self.len += other.len;
        *other = GList::new();
    }
}
