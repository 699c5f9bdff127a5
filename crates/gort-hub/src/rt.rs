//! The runtime's names, in one place: what the rest of the crate calls `rt::…`.

pub(crate) use gort::{blocking, go, net, num_goroutine, sleep, sync, yield_now};

/// OS threads of the runtime.
pub(crate) fn threads() -> usize {
    gort::metrics::snapshot().threads
}
