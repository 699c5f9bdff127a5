//! G, M and P, and what they are made of: data, and the steps from one state to the next. Nothing
//! here knows of the folders that use it.

pub(crate) mod config;
pub(crate) mod fixed;
pub(crate) mod frozen;
pub(crate) mod g;
pub(crate) mod handover;
pub(crate) mod held_p;
pub(crate) mod join_word;
pub(crate) mod locals;
pub(crate) mod m;
pub(crate) mod owner;
pub(crate) mod p;
pub(crate) mod reason;
pub(crate) mod start_error;
#[cfg_attr(not(feature = "swap"), path = "swap_word_off.rs")]
pub(crate) mod swap_word;
pub(crate) mod syscall_word;
pub(crate) mod timers;
pub(crate) mod wait_word;
pub(crate) mod waiter;
