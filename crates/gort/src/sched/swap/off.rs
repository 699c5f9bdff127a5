//! What stands for this room in a build without the feature `swap`: all stacks stay, and no thread
//! looks at parked goroutines. So what lies below the live stack of one that was deep once stays as
//! well.

#[path = "counts.rs"]
mod counts;
#[path = "loan.rs"]
mod loan;

use crate::sched::core::fixed::Fixed;
use crate::sched::core::g::G;
use crate::sched::core::waiter::Lent;
use crate::sched::threads::service::PendingThreads;
use std::io;
use std::time::Duration;

pub(crate) use counts::Counts;
pub use loan::{StackLoan, lend_stack};

/// Nothing.
pub(crate) struct Prepared;

/// Nothing to prepare.
pub(crate) fn prepare(
    _after: Option<Duration>,
    _fixed: &Fixed,
    _threads: &mut PendingThreads,
) -> io::Result<Prepared> {
    Ok(Prepared)
}

/// Nothing begins.
pub(crate) fn begin(_prepared: Prepared) {}

/// How many threads are for this.
pub(crate) fn threads() -> usize {
    0
}

/// No thread looks.
pub(crate) fn look_again() {}

/// The stack stays.
#[inline]
pub(crate) fn let_go(_g: &G, _lent: Lent) -> bool {
    false
}

/// It has stayed.
#[inline]
pub(crate) fn stay(_g: &G) {}

/// It is there.
#[inline]
pub(crate) fn fetch(_g: &'static G) {}

/// It is there.
pub(crate) fn bring_back(_g: &'static G) {}

/// It was there.
pub(crate) fn keep(_g: &'static G) -> bool {
    false
}

/// No stack is out.
pub(crate) fn whose(_addr: usize) -> Option<u64> {
    None
}

/// Nothing is counted.
pub(crate) fn counts() -> Counts {
    Counts::default()
}
