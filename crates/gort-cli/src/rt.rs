//! The runtime's names, in one place: what the rest of the program calls `rt::…`.

pub(crate) use gort::{blocking, chan, go, net, num_goroutine, run, sleep_until, sync};

/// OS threads of the runtime.
pub(crate) fn threads() -> usize {
    gort::metrics::snapshot().threads
}
