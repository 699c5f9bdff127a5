//! What every part of a hub needs, down to one connection: the settings, the counters and the log.

use crate::config::Config;
use crate::log::Log;
use crate::stats::Counters;
use std::hash::{BuildHasher, RandomState};

#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: Config,
    /// The first number of this hub's socket ids. It is random, so signatures of an earlier run are
    /// not valid.
    pub(crate) instance: u32,
    pub(crate) counters: Counters,
    pub(crate) log: Log,
}

impl Common {
    pub(crate) fn new(config: Config) -> Common {
        Common {
            config,
            instance: RandomState::new().hash_one(0) as u32,
            counters: Counters::default(),
            log: Log::default(),
        }
    }
}
