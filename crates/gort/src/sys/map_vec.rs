//! A growable array on memory mappings of its own, for data that the runtime keeps under its raw
//! locks. It never calls the program's allocator, because a preempted goroutine may hold that
//! allocator's locks.

use super::map::{self, PAGE};
use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Like `Vec`, for values that need no destructor.
pub(crate) struct MapVec<T> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: it owns its values.
unsafe impl<T: Send> Send for MapVec<T> {}
// SAFETY: as above; through a shared reference the values can only be read.
unsafe impl<T: Sync> Sync for MapVec<T> {}

impl<T> MapVec<T> {
    /// Empty, without a mapping.
    pub(crate) const fn new() -> MapVec<T> {
        const { assert!(!std::mem::needs_drop::<T>() && size_of::<T>() != 0 && align_of::<T>() <= PAGE) };
        MapVec { start: NonNull::dangling(), len: 0, capacity: 0 }
    }

    /// An empty array with room for `n` values; `None` if the system has no memory.
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
        // SAFETY: there is room for one more value, and the array is borrowed mutably.
        unsafe { self.start.add(self.len).write(value) };
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: the value was written by `push`, and it is no longer in the array.
        Some(unsafe { self.start.add(self.len).read() })
    }

    /// Removes the first `n` values and passes each to `f`.
    pub(crate) fn take_front(&mut self, n: usize, mut f: impl FnMut(T)) {
        assert!(n <= self.len);
        for i in 0..n {
            // SAFETY: `i` is below the length. The place is overwritten, or beyond the new length,
            // below.
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
        // SAFETY: the new mapping has room for all values and does not overlap; the old one is not
        // used afterwards.
        unsafe {
            to.copy_from_nonoverlapping(self.start, self.len);
            self.release();
        }
        self.start = to;
        self.capacity = capacity;
    }

    /// # Safety
    /// The array is not used afterwards.
    unsafe fn release(&mut self) {
        if self.capacity != 0 {
            // SAFETY: the mapping belongs to this array, and the caller's promise.
            unsafe { map::release(self.start.as_ptr().addr(), self.capacity * size_of::<T>()) };
        }
    }
}

impl<T> Default for MapVec<T> {
    fn default() -> MapVec<T> {
        MapVec::new()
    }
}

impl<T> Deref for MapVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written; a dangling pointer is valid for an empty slice.
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
        // SAFETY: the array cannot be used after this.
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

    /// The array holds the pushed values across growth, and returns them from either end.
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
