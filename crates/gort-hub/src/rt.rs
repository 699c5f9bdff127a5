//! What the hub uses of the runtime; the other modules call it `rt::…`.

pub(crate) use gort::{blocking, go, net, num_goroutine, sleep, sync, yield_now};

/// OS threads of the runtime.
pub(crate) fn threads() -> usize {
    gort::metrics::snapshot().threads
}
