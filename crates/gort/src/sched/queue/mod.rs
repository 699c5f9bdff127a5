//! Queues of goroutines: the ring of a P, and lists.

pub(crate) mod list;
pub(crate) mod ring;
