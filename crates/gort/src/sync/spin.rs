//! Spinning, for waits in which looking again is cheaper than parking.

use crate::sys::sync::{AtomicUsize, Ordering::Relaxed, pause};

/// How often to look, as in Go: a short critical section is over by then, and a longer one is worth
/// a park.
const ROUNDS_MAX: u32 = 4;
/// Pauses between two looks.
const PAUSES: u32 = 30;

/// The rounds of one wait.
pub(crate) struct Spin {
    rounds: u32,
}

impl Spin {
    pub(crate) fn new() -> Spin {
        Spin { rounds: 0 }
    }

    /// Waits a moment before the next look. False if that does not help any more: the rounds are
    /// used up, or there is one processor, on which the owner cannot be running.
    pub(crate) fn turn(&mut self) -> bool {
        if self.rounds == ROUNDS_MAX || cpus() == 1 {
            return false;
        }
        self.rounds += 1;
        pause(PAUSES);
        true
    }
}

fn cpus() -> usize {
    static CPUS: AtomicUsize = AtomicUsize::new(0);
    match CPUS.load(Relaxed) {
        0 => {
            let n = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            CPUS.store(n, Relaxed);
            n
        }
        n => n,
    }
}
