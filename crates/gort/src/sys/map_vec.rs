//! A growing array on mappings of its own, for what the runtime keeps under its raw locks: it never asks the program's allocator,
//! whose locks a goroutine may hold that was stopped.

use super::map::{self, PAGE};
use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// As a `Vec`, of values that need no destructor.
pub(crate) struct MapVec<T> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: it owns its values.
unsafe impl<T: Send> Send for MapVec<T> {}
// SAFETY: as above; a shared one only gives its values out to be read.
unsafe impl<T: Sync> Sync for MapVec<T> {}

impl<T> MapVec<T> {
    /// Empty, without a mapping.
    pub(crate) const fn new() -> MapVec<T> {
        const { assert!(!std::mem::needs_drop::<T>() && size_of::<T>() != 0 && align_of::<T>() <= PAGE) };
        MapVec { start: NonNull::dangling(), len: 0, capacity: 0 }
    }

    /// Empty, with room for `n`; `None` if the system has no memory.
    pub(crate) fn with_room(n: usize) -> Option<MapVec<T>> {
        let mut room = MapVec::new();
        if n != 0 {
            room.start = NonNull::new(map::reserve(n * size_of::<T>()).ok()? as *mut T)?;
            room.capacity = n;
        }
        Some(room)
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.len == self.capacity {
            self.grow();
        }
        // SAFETY: there is room for one more, and the array is ours.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the value was written by `push`, and is not in the array any more.
        Some(unsafe { self.start.add(self.len).read() })
    }

    /// Takes the first `n` out and hands each to `f`.
    pub(crate) fn take_front(&mut self, n: usize, mut f: impl FnMut(T)) {
        assert!(n <= self.len);
        for i in 0..n {
            // SAFETY: below the length; the value is overwritten, or beyond the length, below.
            f(unsafe { self.start.add(i).read() });
        }
        self.len -= n;
        // SAFETY: both ranges lie in the array.
        unsafe { self.start.copy_from(self.start.add(n), self.len) };
    }

    #[cold]
    fn grow(&mut self) {
        let capacity = (2 * self.capacity).max(PAGE / size_of::<T>()).max(1);
        let Ok(to) = map::reserve(capacity * size_of::<T>()) else {
            handle_alloc_error(Layout::array::<T>(capacity).expect("a mapping of this size was asked for"))
        };
        let to = NonNull::new(to as *mut T).expect("a mapping is not at 0");
        // SAFETY: the new mapping has room for all, and does not overlap; nobody uses the old one any more.
        unsafe {
            to.copy_from_nonoverlapping(self.start, self.len);
            self.release();
        }
        self.start = to;
        self.capacity = capacity;
    }

    /// # Safety
    /// The array is not used any more.
    unsafe fn release(&mut self) {
        if self.capacity != 0 {
            // SAFETY: the mapping is ours, and the caller's promise.
            unsafe { map::release(self.start.as_ptr().addr(), self.capacity * size_of::<T>()) };
        }
    }
}

impl<T> Deref for MapVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: that many values were written; dangling is right for none.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for MapVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the array is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for MapVec<T> {
    fn drop(&mut self) {
        // SAFETY: nobody can use the array after this.
        unsafe { self.release() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_before_more_is_asked_for() {
        let mut v = MapVec::with_room(100).expect("memory");
        let at = v.as_ptr();
        (0..100u64).for_each(|i| v.push(i));
        assert_eq!((v.as_ptr(), v.len()), (at, 100));
        v.push(100);
        assert!(v.iter().copied().eq(0..=100));
        assert!(MapVec::<u64>::with_room(usize::MAX / 64).is_none());
        assert_eq!(MapVec::<u64>::with_room(0).expect("nothing").len(), 0);
    }

    /// It holds what was put in, across growing, and gives it back from either end.
    #[test]
    fn holds_what_was_pushed() {
        let mut v = MapVec::new();
        assert_eq!(v.pop(), None);
        (0..10_000u64).for_each(|i| v.push(i));
        assert!(v.iter().copied().eq(0..10_000));
        v[5] = 7;
        let mut front = Vec::new();
        v.take_front(6, |i| front.push(i));
        assert_eq!(front, [0, 1, 2, 3, 4, 7]);
        assert_eq!((v.len(), v[0], v.pop()), (9_994, 6, Some(9_999)));
        v.take_front(9_993, drop);
        assert_eq!(v.pop(), None);
    }
}
