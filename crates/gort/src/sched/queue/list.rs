//! A list that is linked through a field of its members. The global run queue is one, under the
//! scheduler's lock.

use super::ring::Handle;
use std::cell::Cell;
use std::ptr::null_mut;

/// What can be in a [`List`]. It is never freed.
pub(crate) trait Linked: Sized {
    /// The next one in the list. While this is in a list, the field belongs to the list.
    fn link(&self) -> &Cell<*mut Self>;
}

/// A list: first in, first out. Each member is in at most one list.
pub(crate) struct List<H: Handle<Target: Linked>> {
    head: *mut H::Target,
    tail: *mut H::Target,
    len: usize,
}

// SAFETY: a list owns the links of its members, which are never freed. Moving the list moves that
// right.
unsafe impl<H: Handle<Target: Linked + Sync>> Send for List<H> {}

impl<H: Handle<Target: Linked>> List<H> {
    pub(crate) const fn new() -> List<H> {
        List { head: null_mut(), tail: null_mut(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first one, still in the list.
    pub(crate) fn front(&self) -> Option<&H::Target> {
        // SAFETY: what is `Linked` is never freed.
        unsafe { self.head.as_ref() }
    }

    pub(crate) fn push_back(&mut self, g: H) {
        let g = g.into_ptr();
        // SAFETY: what is `Linked` is never freed; the pusher owns `g`, the list owns its tail.
        unsafe {
            (*g).link().set(null_mut());
            if self.tail.is_null() {
                self.head = g;
            } else {
                (*self.tail).link().set(g);
            }
        }
        self.tail = g;
        self.len += 1;
    }

    pub(crate) fn push_front(&mut self, g: H) {
        let g = g.into_ptr();
        // SAFETY: as in `push_back`.
        unsafe { (*g).link().set(self.head) };
        self.head = g;
        if self.tail.is_null() {
            self.tail = g;
        }
        self.len += 1;
    }

    pub(crate) fn pop_front(&mut self) -> Option<H> {
        let g = self.head;
        if g.is_null() {
            return None;
        }
        // SAFETY: the list owns `g` up to here.
        self.head = unsafe { (*g).link().get() };
        if self.head.is_null() {
            self.tail = null_mut();
        }
        self.len -= 1;
        // SAFETY: `g` is in the list no more.
        Some(unsafe { H::from_ptr(g) })
    }

    /// Appends all of `other`, which is empty then.
    pub(crate) fn append(&mut self, other: &mut List<H>) {
        if other.is_empty() {
            return;
        }
        if self.tail.is_null() {
            self.head = other.head;
        } else {
            // SAFETY: the tail is ours.
            unsafe { (*self.tail).link().set(other.head) };
        }
        self.tail = other.tail;
        self.len += other.len;
        *other = List::new();
    }
}
