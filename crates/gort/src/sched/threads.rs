//! Where Ms come from, where they sleep, and when they end.
//!
//! An M that has no P and nothing to do sleeps in the idle list. One that is not needed for some seconds
//! ends, unless there are no more than GOMAXPROCS: an idle process makes no wake-ups.

use super::config::IDLE_M;
use super::m::{self, M};
use super::p::{self, P};
use super::run;
use super::start::fixed;
use super::state;
use crate::sys::signal::AltStack;
use crate::sys::sync::Ordering::*;
use crate::sys::{clock, fs, thread};

/// The stack of an M's thread: g0 runs the scheduler and what `on_system_stack` is given.
const G0_STACK_BYTES: usize = 256 << 10;

/// Gives `p` to an M that idles, or to a new one. `spinning`: it is counted as looking for work already.
pub(crate) fn start_m(p: &'static P, spinning: bool) {
    let idle = state::lock().idle_ms.pop();
    let m = idle.unwrap_or_else(new_m);
    hand_p(m, p, spinning);
    if idle.is_some() {
        m.unpark();
    } else {
        m::on_system_stack(|| start_thread(m));
    }
}

/// Wakes `m`, which sleeps or soon will, with `p`.
pub(crate) fn wake_with(m: &'static M, p: &'static P) {
    hand_p(m, p, false);
    m.unpark();
}

fn hand_p(m: &'static M, p: &'static P, spinning: bool) {
    p.m.store(std::ptr::from_ref(m).cast_mut(), Release);
    m.next_p.set(Some(p));
    m.spinning.set(spinning);
}

/// A descriptor for one more thread; fatal past the cap.
fn new_m() -> &'static M {
    let cap = fixed().thread_cap;
    let mut s = state::lock();
    if s.threads >= cap {
        drop(s);
        super::fatal::throw(&format!(
            "gort: program exceeds {cap}-thread limit\nfatal error: thread exhaustion \
             (many goroutines inside `blocking`; see Runtime::builder().blocking_limit, .thread_cap and GORT_THREAD_CAP)"
        ));
    }
    s.threads += 1;
    if let Some(m) = s.free_ms.pop() {
        return m;
    }
    let m: &'static M = Box::leak(Box::new(M::new(s.all_ms.len() as u32)));
    s.all_ms.push(m);
    m
}

fn start_thread(m: &'static M) {
    let builder = std::thread::Builder::new().name(format!("gort-m{}", m.id)).stack_size(G0_STACK_BYTES);
    if let Err(e) = builder.spawn(move || m_main(m)) {
        let threads = state::lock().threads;
        super::fatal::throw(&format!(
            "gort: failed to create new OS thread (have {threads} already; {e})\n\
             gort: may need to increase max user processes (ulimit -u)\nfatal error: newosproc"
        ));
    }
}

/// A thread's life as an M; it starts with a P.
fn m_main(m: &'static M) {
    m.fs.set(fs::read());
    m.tid.store(thread::tid(), Release);
    M::bind(Some(m));
    let alt_stack = AltStack::install();
    thread::precise_sleeps();
    // glibc's malloc makes its cache for this thread now, so that the words a goroutine carries are never null.
    drop(std::hint::black_box(Box::new(0u64)));
    m.take_next_p();
    run::schedule(m);
    M::bind(None);
    drop(alt_stack);
    m.tid.store(0, Release);
    let mut s = state::lock();
    s.free_ms.push(m);
}

/// Sleeps in the idle list until somebody hands over a P. False: the thread is to end. On g0, without a P.
pub(crate) fn stop_m(m: &'static M) -> bool {
    state::lock().idle_ms.push(m);
    loop {
        let surplus = state::lock().threads > p::procs() + 1;
        let deadline = surplus.then(|| clock::now_ns() + IDLE_M.as_nanos() as u64);
        if m.sleep(deadline) {
            break;
        }
        let mut s = state::lock();
        let Some(i) = s.idle_ms.iter().position(|&other| std::ptr::eq(other, m)) else {
            continue; // taken out by somebody who is about to wake us
        };
        if s.threads > p::procs() + 1 {
            s.idle_ms.remove(i);
            s.threads -= 1;
            return false;
        }
    }
    m.take_next_p();
    true
}

impl M {
    /// The P that was handed over becomes this M's.
    pub(crate) fn take_next_p(&'static self) {
        let p = self.next_p.take().expect("who wakes an M hands it a P");
        self.wire(p);
    }

    /// `p`, which the caller owns, becomes this M's.
    pub(crate) fn wire(&'static self, p: &'static P) {
        p.m.store(std::ptr::from_ref(self).cast_mut(), Release);
        self.p.set(Some(p));
    }
}
