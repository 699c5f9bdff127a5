//! The life of a goroutine, from its closure to its result.

pub(crate) mod local;
pub(crate) mod lock_thread;
pub(crate) mod own_attr;
pub(crate) mod task;
pub(crate) mod trim;
