//! How a goroutine, or an OS thread, waits.

pub(crate) mod park;
pub(crate) mod socket;
