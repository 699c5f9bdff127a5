//! Queues of goroutines: the ring of a P, and lists. What is queued is a [`Handle`](ring::Handle):
//! the right to run a goroutine, which is in one place at a time.

pub(crate) mod list;
pub(crate) mod ring;
