//! Time and I/O: what wakes goroutines from outside.

pub(crate) mod direction;
pub(crate) mod netpoll;
pub(crate) mod poll;
