//! OS threads: where they come from, sleep and end.

pub(crate) mod call;
pub(crate) mod pool;
pub(crate) mod service;
