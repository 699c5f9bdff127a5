//! How a goroutine, or an OS thread, waits.

pub(crate) mod io_handle;
pub(crate) mod park;
