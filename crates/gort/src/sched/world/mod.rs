//! All Ps at once: how many there are, and how they are stopped.

pub(crate) mod procs;
pub(crate) mod stop;
