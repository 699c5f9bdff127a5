//! Ms whose P sysmon has taken while their goroutine blocked the thread (`syscall/outside.rs`).
//!
//! When such a thread wakes up, its goroutine goes on without a P until it next calls gort. Sysmon
//! asks the kernel now and then how much CPU time the thread has used. If that is a millisecond
//! since it was last seen asleep, and the thread runs now, it gets the signal, and waits for a P. So
//! a thread that only wakes up, does a little and sleeps again sees no signal.

use crate::sched::core::fixed::fixed;
use crate::sched::core::m::M;
use crate::sched::policy::IO_SLICE;
use crate::sched::preempt;
use crate::sys::map_vec::MapVec;
use crate::sys::sync::Ordering::*;
use crate::sys::thread;

/// How many of them it looks at each time.
const PER_LOOK: usize = 64;
/// A goroutine that has computed for so long without a P is to wait for one.
const LEAST_NS: u64 = IO_SLICE.as_nanos() as u64;

/// The Ms. Sysmon's own.
#[derive(Default)]
pub(crate) struct WithoutP {
    /// Those without a P, and some that have one again.
    ms: MapVec<&'static M>,
    /// By the number of the M.
    seen: MapVec<Seen>,
    /// Where the next look goes on.
    next: usize,
}

#[derive(Clone, Copy)]
struct Seen {
    is_listed: bool,
    /// How much CPU time the thread had used when it was last seen asleep.
    cpu_ns: u64,
}

impl WithoutP {
    /// Sysmon has taken the P of `m`, whose thread sleeps.
    pub(crate) fn add(&mut self, m: &'static M) {
        let id = m.id as usize;
        while self.seen.len() <= id {
            self.seen.push(Seen { is_listed: false, cpu_ns: 0 });
        }
        let seen = &mut self.seen[id];
        seen.cpu_ns = cpu_ns(m);
        if !seen.is_listed {
            seen.is_listed = true;
            self.ms.push(m);
        }
    }

    /// Whether one more may lose its P to others. Each has its thread, and so the number of threads
    /// would grow to the cap. Past half of that, such goroutines are asked by the signal: then they
    /// count as stopped, and newcomers are let in slowly.
    pub(crate) fn has_room(&self) -> bool {
        self.ms.len() < fixed().thread_cap / 2
    }

    /// How many goroutines may run, or will, that have no P.
    pub(crate) fn count(&self) -> usize {
        self.ms.iter().filter(|m| m.p.is_taken()).count()
    }

    /// Looks at some of them, and sends those that compute the signal.
    pub(crate) fn look(&mut self) {
        for _ in 0..self.ms.len().min(PER_LOOK) {
            if self.next >= self.ms.len() {
                self.next = 0;
            }
            let Some(&m) = self.ms.get(self.next) else { return };
            let seen = &mut self.seen[m.id as usize];
            if !m.p.is_taken() {
                seen.is_listed = false;
                let last = self.ms.len() - 1;
                self.ms.swap(self.next, last);
                self.ms.pop();
                continue;
            }
            self.next += 1;
            let cpu_ns = cpu_ns(m);
            if cpu_ns < seen.cpu_ns + LEAST_NS {
                continue;
            }
            if thread::is_asleep(m.tid.load(Acquire)) != Some(false) {
                seen.cpu_ns = cpu_ns;
            } else if m.g().is_some_and(|g| g.no_preempt.load(Relaxed) == 0) {
                preempt::request_without_p(m);
            }
        }
    }
}

fn cpu_ns(m: &M) -> u64 {
    thread::cpu_ns(m.tid.load(Acquire)).unwrap_or(0)
}
