//! Ends a wait through an eventfd, which is written at most once until the sleeper has seen it.
//!
//! # States
//! ```text
//!              wake: writes the eventfd
//!   IDLE ──────────────────────────────▶ PENDING     (a further wake does nothing)
//!     ▲──────────────────────────────────┘
//!              consume: empties the eventfd, then resets the word
//! ```
//! # Why no wake-up is lost
//! A waker first changes what the sleeper checks (an earlier timer, for example), then swaps the
//! word.
//!
//! - If it finds IDLE it writes, and the eventfd stays readable until `consume`.
//! - If it finds PENDING, its swap comes before the sleeper's swap in the order of that one word.
//!   The sleeper checks again after `consume`, so it sees the change.

use crate::sys::sync::{AtomicBool, Ordering::*};
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

#[derive(Debug)]
pub(super) struct Waker {
    eventfd: OwnedFd,
    pending: AtomicBool,
}

impl Waker {
    pub(super) fn new() -> io::Result<Waker> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Waker { eventfd, pending: AtomicBool::new(false) })
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Returns true if this call wrote the eventfd, false if a wake was already pending.
    pub(super) fn wake(&self) -> bool {
        if self.pending.swap(true, AcqRel) {
            return false;
        }
        // The counter cannot overflow, because it is written once per `consume`.
        loop {
            match rustix::io::write(&self.eventfd, &1u64.to_ne_bytes()) {
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => super::is_gone("a write to its eventfd", e.into()),
            }
        }
    }

    pub(super) fn consume(&self) {
        let mut counter = [0; 8];
        // EAGAIN: another sleeper was woken by the same write and has emptied the eventfd; both
        // check again.
        while rustix::io::read(&self.eventfd, &mut counter) == Err(rustix::io::Errno::INTR) {}
        self.pending.swap(false, AcqRel);
    }
}
