//! The lowest floor: system calls for futexes, signals, mappings and clocks, and what is built from
//! them.
//!
//! Nothing here knows about goroutines. Every atomic that takes part in a protocol comes from
//! [`sync`], so that the models in `crates/gort-models` can replace it with loom's.

#[cfg(feature = "swap")]
pub(crate) mod block_pool;
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod fatal;
pub(crate) mod fork;
pub(crate) mod fs;
pub(crate) mod futex;
pub(crate) mod line;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod map_vec;
pub(crate) mod membarrier;
pub(crate) mod memory;
pub(crate) mod payload;
pub(crate) mod pin;
pub(crate) mod prefetch;
pub(crate) mod program;
pub(crate) mod rng;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod sync;
pub(crate) mod thread;
pub(crate) mod wait_list;
