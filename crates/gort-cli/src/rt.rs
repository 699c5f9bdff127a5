//! What the program uses of the runtime; the other modules call it `rt::…`.

pub(crate) use gort::{blocking, chan, go, net, num_goroutine, signal, sleep_until, sync};
pub(crate) use gort_cli_rt::run;

/// OS threads of the runtime.
pub(crate) fn threads() -> usize {
    gort::metrics::snapshot().threads
}
