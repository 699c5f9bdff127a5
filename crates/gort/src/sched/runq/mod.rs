//! Run queues: the ring of a P and the list that all Ps share.

pub(crate) mod global;
pub(crate) mod local;
