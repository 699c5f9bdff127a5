//! What watches the rest: the monitor, dumps, counters, fatal errors.

pub(crate) mod deadlock;
pub(crate) mod dump;
pub(crate) mod fatal_report;
pub(crate) mod stats;
pub(crate) mod sysmon;
mod without_p;
