//! Asks the kernel which file descriptors became ready. This floor knows tokens, not goroutines.
//!
//! # Role
//! `sched/netpoll` registers each descriptor under a token of its choice and waits. Only
//! `sched/netpoll` knows what a token means.
//!
//! # Invariants
//! 1. A descriptor is registered once, for all events, edge-triggered. After that, no wait needs an
//!    `epoll_ctl`.
//! 2. [`Poller::wake`] ends the wait in progress, or else the next one that may sleep. While a wake
//!    is pending, further ones cost one atomic operation (`waker.rs`).
//! 3. A forked child shares the instance and the eventfd with its parent; it changes neither.
//! 4. A wait allocates nothing. `EINTR` is returned to the caller, because only the caller knows
//!    how much time is left.
//! 5. Without the instance or the eventfd nothing would be woken any more. The first call that
//!    finds one of them closed ends the process and reports the reason. (Libraries that close all
//!    descriptors they do not know do this.)
//!
//! # Rejected
//! - Level triggering with one-shot re-arming: one `epoll_ctl` per wait of a goroutine.
//! - Rounding time-outs to milliseconds as Go does: a timer of 100 µs would be ten times late.

mod waker;

use crate::sys::sync::{AtomicBool, Ordering::*, is_child};
use crate::sys::{fatal, fork};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use waker::Waker;

/// The most events that one wait can return.
pub(crate) const EVENTS_MAX: usize = 128;

/// The events a descriptor is registered for. `PRI` is included because urgent data splits a
/// stream's reads (`net/fd.rs`).
const INTEREST: i32 = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET;

/// The waker's own token; [`Poller::add`] must not be called with it.
pub(crate) const WAKER_TOKEN: u64 = u64::MAX;

/// An epoll instance, and a way to end its wait.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    waker: Waker,
    /// False once the kernel has reported that it has no `epoll_pwait2` (before Linux 5.11).
    has_pwait2: AtomicBool,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?;
        let waker = Waker::new()?;
        let poller = Poller { epoll, waker, has_pwait2: AtomicBool::new(true) };
        // Level-triggered, so that a wait that does not sleep leaves the wake to one that does.
        poller.control(libc::EPOLL_CTL_ADD, poller.waker.as_raw_fd(), libc::EPOLLIN, WAKER_TOKEN)?;
        Ok(poller)
    }

    /// Registers `fd`: from now on its edges are reported under `token`, including what is ready
    /// already.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        debug_assert_ne!(token, WAKER_TOKEN);
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), INTEREST, token)
    }

    /// Ends the registration. Events that a wait has already fetched may still be reported.
    pub(crate) fn delete(&self, fd: i32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: i32, interest: i32, token: u64) -> io::Result<()> {
        if is_child() {
            return Err(io::Error::other(fork::sentence("I/O")));
        }
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        // SAFETY: `event` is a valid epoll_event for the length of the call. A descriptor that is
        // not open only gives an error.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Ends the wait in progress, or the next one that may sleep. Returns false if such a wake was
    /// already pending.
    pub(crate) fn wake(&self) -> bool {
        !is_child() && self.waker.wake()
    }

    /// Waits for events, at most `timeout_ns` (`None`: no limit, `Some(0)`: do not sleep), and
    /// leaves them in `events`.
    ///
    /// An empty result means that the time is over or that [`wake`](Poller::wake) was called. The M
    /// sleeps in the kernel, so it must not hold a P or a raw lock.
    ///
    /// # Errors
    /// A signal interrupted the wait; the caller computes its time-out again.
    pub(crate) fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> Result<(), Interrupted> {
        events.len = 0;
        if is_child() {
            fatal::write_stderr(format!("fatal error: {}\n", fork::sentence("a wait")).as_bytes());
            fatal::exit(2);
        }
        let waited = if self.has_pwait2.load(Relaxed) {
            match self.wait_ns(events, timeout_ns) {
                // EPERM is the answer of some sandboxes to system calls that they do not know.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.has_pwait2.store(false, Relaxed);
                    self.wait_ms(events, timeout_ns)
                }
                other => other,
            }
        } else {
            self.wait_ms(events, timeout_ns)
        };
        events.len = match waited {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(Interrupted),
            Err(e) => is_gone("epoll_pwait2", e),
        };
        // A wait that does not sleep leaves the wake: it is meant for the wait that sleeps.
        if timeout_ns != Some(0) && events.raw().iter().any(|e| e.u64 == WAKER_TOKEN) {
            self.waker.consume();
        }
        Ok(())
    }

    fn wait_ns(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<usize> {
        let timeout = timeout_ns.map(crate::sys::clock::timespec);
        let timeout_ptr = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the buffer has room for EVENTS_MAX events. `timeout_ptr` is null or points to
        // `timeout`, which outlives the call. A null signal mask is allowed.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                events.buf.as_mut_ptr(),
                EVENTS_MAX as i32,
                timeout_ptr,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    /// The same on old kernels: in milliseconds, rounded up, because a timer must not be early.
    fn wait_ms(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<usize> {
        let timeout_ms =
            timeout_ns.map_or(-1, |ns| i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: the buffer has room for EVENTS_MAX events.
        let n = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.buf.as_mut_ptr().cast(),
                EVENTS_MAX as i32,
                timeout_ms,
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

/// A signal interrupted a wait.
#[derive(Debug)]
pub(crate) struct Interrupted;

/// Ends the process: according to `call`, one of the poller's descriptors is closed, or belongs to
/// something else.
#[cold]
fn is_gone(call: &str, e: io::Error) -> ! {
    fatal::write_stderr(
        format!(
            "fatal error: the gort runtime cannot wait for I/O and time any more ({call}: {e})\n\n\
             One of its file descriptors was closed, perhaps by code that closes all that it does \
             not know (close_range, closefrom, daemon).\nRun such code before the runtime starts, \
             or exclude those that /proc/self/fd shows as eventpoll and eventfd.\n"
        )
        .as_bytes(),
    );
    fatal::exit(2)
}

/// Room for the events of one wait. It is on the stack of the M that polls.
pub(crate) struct Events {
    buf: [MaybeUninit<libc::epoll_event>; EVENTS_MAX],
    len: usize,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { buf: [MaybeUninit::uninit(); EVENTS_MAX], len: 0 }
    }

    fn raw(&self) -> &[libc::epoll_event] {
        // SAFETY: the kernel has written the first `len` events, because `Poller::wait` sets `len`
        // to the kernel's answer.
        unsafe { std::slice::from_raw_parts(self.buf.as_ptr().cast(), self.len) }
    }

    /// The events of registered descriptors, without the waker's.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> {
        self.raw()
            .iter()
            .map(|e| Event { token: e.u64, bits: e.events as i32 })
            .filter(|e| e.token != WAKER_TOKEN)
    }
}

/// An event: one descriptor became ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) token: u64,
    bits: i32,
}

impl Event {
    fn has(self, bits: i32) -> bool {
        self.bits & bits != 0
    }

    /// A read will not block: there is data, the end of the stream, or an error to report.
    pub(crate) fn is_readable(self) -> bool {
        self.has(libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// A write will not block.
    pub(crate) fn is_writable(self) -> bool {
        self.has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// The event stays without a further edge: the end of the stream, an error, or urgent data.
    pub(crate) fn is_lasting(self) -> bool {
        self.has(libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn tokens(events: &Events) -> Vec<u64> {
        events.iter().map(|e| e.token).collect()
    }

    /// GO-CASES S29: a wait of ten seconds ends at once when another thread calls `wake`
    /// repeatedly.
    #[test]
    fn wake_breaks_a_wait() {
        let poller = Poller::new().unwrap();
        let began = Instant::now();
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !done.load(Relaxed) {
                    poller.wake();
                    std::thread::sleep(Duration::from_micros(100));
                }
            });
            let mut events = Events::new();
            poller.wait(&mut events, Some(10_000_000_000)).unwrap();
            done.store(true, Relaxed);
            assert_eq!(tokens(&events), []);
        });
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    /// GO-CASES S29: several wakes before a wait are one wake. The wait that may sleep consumes it;
    /// a wait that does not sleep leaves it.
    #[test]
    fn wakes_coalesce_and_a_look_leaves_them() {
        let poller = Poller::new().unwrap();
        let written = (0..1000).filter(|_| poller.wake()).count();
        assert_eq!(written, 1);
        let mut events = Events::new();
        poller.wait(&mut events, Some(0)).unwrap();
        assert!(!poller.wake(), "the look must not consume the wake");
        poller.wait(&mut events, Some(60_000_000_000)).unwrap();
        assert!(poller.wake(), "the wait must have consumed the wake");
    }

    /// An edge is reported once, under its token, and a new edge after new data.
    #[test]
    fn edges_come_once() {
        let poller = Poller::new().unwrap();
        let (a, mut b) = UnixStream::pair().unwrap();
        poller.add(a.as_fd(), 7).unwrap();
        let mut events = Events::new();
        poller.wait(&mut events, Some(0)).unwrap();
        assert_eq!(tokens(&events), [7]); // writable
        poller.wait(&mut events, Some(0)).unwrap();
        assert_eq!(tokens(&events), []);
        b.write_all(b"x").unwrap();
        poller.wait(&mut events, None).unwrap();
        let event = events.iter().next().unwrap();
        assert!(event.is_readable());
        assert!(!event.is_lasting());
        drop(b);
        poller.wait(&mut events, None).unwrap();
        assert!(events.iter().next().unwrap().is_lasting());
        poller.delete(a.as_raw_fd()).unwrap();
    }

    /// A time-out is never early, with either system call, and the old call rounds up.
    #[test]
    fn timeouts_are_never_early() {
        let poller = Poller::new().unwrap();
        let mut events = Events::new();
        for ns in [1, 50_000, 1_500_000] {
            let began = Instant::now();
            assert_eq!(poller.wait_ns(&mut events, Some(ns)).unwrap(), 0);
            assert!(began.elapsed() >= Duration::from_nanos(ns));
            let began = Instant::now();
            assert_eq!(poller.wait_ms(&mut events, Some(ns)).unwrap(), 0);
            assert!(began.elapsed() >= Duration::from_nanos(ns));
        }
    }
}
