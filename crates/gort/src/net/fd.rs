//! A socket as the rest of `net/` uses it: the descriptor, its lock, poll handle and time-outs, and
//! the loop of every operation.
//!
//! # Role
//!
//! `tcp`, `udp` and `unix` give it system calls to try. It parks the caller where they would block.
//!
//! # Invariants
//!
//! 1. The *number* of the descriptor belongs to the `NetFd` until its drop, so an `AsFd` borrow is
//!    always sound. `close` ends the *socket* early: when the last operation has left, a harmless
//!    file (an empty eventfd) takes its place under the same number.
//! 2. Reads and writes hold the lock of their direction (`fd_mutex.rs`), everything else holds a
//!    reference. So no system call of gort's meets the harmless file.
//! 3. `drained` belongs to the holder of the read lock.
//!
//! # Fewer system calls than trying first
//!
//! A read that brought less than there was room for has emptied the stream (epoll(7) says so). So
//! the next read waits for an edge without trying. What comes after the first read makes a new
//! edge. There are exceptions, which the poller marks as *lasting*:
//!
//! - the end of the stream and errors: their edge may be consumed together with the data before
//!   them;
//! - urgent data: a read stops at its mark.
//!
//! Once such an event was seen, every read tries first. All this is for TCP only: a read from a
//! Unix stream also ends where descriptors were sent along.
//!
//! # Rejected
//!
//! Closing the descriptor in `close`: a `BorrowedFd` of it may exist, and the number would be
//! reused for another file.

use super::error;
use super::fd_mutex::{FdMutex, Left, LockError};
use crate::sched;
use crate::sched::{IoHandle, IoWaitError, Mode};
use crate::sys::sync::{AtomicBool, AtomicI32, AtomicU64, Ordering::*, is_child};
use crate::sys::{clock, fork};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, SocketFlags};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How many buffers the kernel takes in one call.
const IOV_MAX: usize = 1024;

/// A socket.
#[derive(Debug)]
pub(super) struct NetFd {
    // The order matters: `io` leaves the poller before the descriptor is closed.
    io: IoHandle,
    fd: Descriptor,
    drained: AtomicBool,
    /// After `set_nonblocking(true)`: operations fail instead of waiting.
    nonblocking: AtomicBool,
    mutex: FdMutex,
    timeouts: Timeouts,
}

/// How long each read and write may take. As in std, this belongs to the socket: all its handles
/// share it.
///
/// They are made when a time-out is set or the handle is cloned, whichever comes first: so a socket
/// without either pays for one load.
#[derive(Debug)]
struct Timeouts(OnceLock<Arc<Limits>>);

/// In nanoseconds, 0 for none.
#[derive(Debug, Default)]
struct Limits {
    read_ns: AtomicU64,
    write_ns: AtomicU64,
}

impl Limits {
    fn of(&self, mode: Mode) -> &AtomicU64 {
        match mode {
            Mode::Read => &self.read_ns,
            Mode::Write => &self.write_ns,
        }
    }
}

impl Timeouts {
    fn new() -> Timeouts {
        Timeouts(OnceLock::new())
    }

    /// 0: no limit.
    #[inline]
    fn get(&self, mode: Mode) -> u64 {
        self.0.get().map_or(0, |limits| limits.of(mode).load(Relaxed))
    }

    fn set(&self, mode: Mode, ns: u64) {
        self.shared().of(mode).store(ns, Relaxed);
    }

    /// For a second handle to the same socket.
    fn share(&self) -> Timeouts {
        Timeouts(OnceLock::from(self.shared().clone()))
    }

    /// What the handles share.
    fn shared(&self) -> &Arc<Limits> {
        if self.0.get().is_none() {
            // Made before, so that no goroutine is stopped in malloc while others wait for this.
            let fresh = Arc::default();
            let _ = self.0.set(fresh); // another thread may have been first
        }
        self.0.get().expect("it was set")
    }
}

/// The descriptor. Closing it may take as long as the socket is to linger.
#[derive(Debug)]
struct Descriptor(ManuallyDrop<OwnedFd>);

impl Descriptor {
    fn new(fd: OwnedFd) -> Descriptor {
        Descriptor(ManuallyDrop::new(fd))
    }

    /// Whether closing it may wait for the peer. This is asked each time, because the option
    /// belongs to the socket: it is inherited from a listener or comes from std, and can be set
    /// without gort.
    fn lingers(&self) -> bool {
        rustix::net::sockopt::socket_linger(&*self.0).is_ok_and(|time| time.is_some_and(|t| !t.is_zero()))
    }

    fn into_owned(self) -> OwnedFd {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: it is taken once, since `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl Deref for Descriptor {
    type Target = OwnedFd;

    #[inline]
    fn deref(&self) -> &OwnedFd {
        &self.0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let lingers = self.lingers();
        // SAFETY: it is taken once, since this is the drop.
        let fd = unsafe { ManuallyDrop::take(&mut self.0) };
        if lingers { sched::blocking(|| drop(fd)) } else { drop(fd) }
    }
}

const _: () = assert!(size_of::<NetFd>() <= 64, "a socket fits a cache line");

/// An operation that holds the lock of its direction.
struct Operation<'a> {
    fd: &'a NetFd,
    mode: Mode,
    deadline_ns: Option<u64>,
}

impl Drop for Operation<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.fd.mutex.unlock(self.mode) == Left::Last {
            self.fd.destroy();
        }
    }
}

/// A call that holds a reference.
struct Reference<'a>(&'a NetFd);

impl Drop for Reference<'_> {
    fn drop(&mut self) {
        if self.0.mutex.leave() == Left::Last {
            self.0.destroy();
        }
    }
}

impl NetFd {
    /// Takes a socket that is in non-blocking mode.
    pub(super) fn new(fd: OwnedFd) -> io::Result<NetFd> {
        placeholder()?;
        Ok(NetFd {
            io: IoHandle::open(fd.as_fd())?,
            fd: Descriptor::new(fd),
            drained: AtomicBool::new(false),
            nonblocking: AtomicBool::new(false),
            mutex: FdMutex::new(),
            timeouts: Timeouts::new(),
        })
    }

    /// Takes any socket and puts it into non-blocking mode.
    pub(super) fn from_blocking(fd: impl Into<OwnedFd>) -> io::Result<NetFd> {
        let fd = fd.into();
        rustix::io::ioctl_fionbio(&fd, true)?;
        NetFd::new(fd)
    }

    // ---- operations ----

    #[inline]
    fn begin(&self, mode: Mode) -> io::Result<Operation<'_>> {
        fork::refuse("I/O");
        let deadline_ns = match self.timeouts.get(mode) {
            0 => None,
            timeout_ns => Some(clock::now_ns().saturating_add(timeout_ns)),
        };
        match self.mutex.lock(mode, deadline_ns) {
            Ok(()) => Ok(Operation { fd: self, mode, deadline_ns }),
            Err(LockError::Closed) => Err(error::closed()),
            Err(LockError::TimedOut) => Err(error::timed_out()),
        }
    }

    /// Runs one operation: tries it, and parks whenever the socket is not ready.
    #[inline]
    pub(super) fn operate<T>(
        &self,
        mode: Mode,
        attempt: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let operation = self.begin(mode)?;
        self.io.prepare(mode)?;
        operation.run(attempt)
    }

    /// Tries one operation. Fails with `WouldBlock` where it would have to park, be it behind
    /// another operation in the same direction.
    #[inline]
    fn operate_at_once<T>(
        &self,
        mode: Mode,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        fork::refuse("I/O");
        if !self.mutex.try_lock(mode) {
            return Err(if self.mutex.is_closed() { error::closed() } else { Errno::AGAIN.into() });
        }
        let operation = Operation { fd: self, mode, deadline_ns: None };
        self.io.prepare(mode)?;
        operation.try_once(&mut attempt)?.ok_or_else(|| Errno::AGAIN.into())
    }

    /// `recv` of a stream, if something is there. `is_tcp` as in `recv_vectored`.
    #[inline]
    pub(super) fn try_recv(&self, buf: &mut [u8], is_tcp: bool) -> io::Result<usize> {
        let len = buf.len();
        self.operate_at_once(Mode::Read, |fd| {
            if len == 0 {
                return Ok(0);
            }
            self.drained.store(false, Relaxed);
            let n = recv(fd, buf, RecvFlags::empty())?;
            if is_tcp {
                self.note_read(n, len);
            }
            Ok(n)
        })
    }

    /// `send` on a stream, if there is room.
    #[inline]
    pub(super) fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.operate_at_once(Mode::Write, |fd| send(fd, buf))
    }

    /// Vectored `send` on a stream, if there is room.
    pub(super) fn try_send_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.operate_at_once(Mode::Write, |fd| send_vectored(fd, bufs))
    }

    /// Reads from a stream. `attempt` has room for `len` bytes.
    #[inline]
    fn read_stream(
        &self,
        len: usize,
        attempt: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        let operation = self.begin(Mode::Read)?;
        if len == 0 {
            return Ok(0);
        }
        operation.wait_if_drained()?;
        self.io.prepare(Mode::Read)?;
        operation.run(attempt)
    }

    /// Parks until a read of a stream would not park. It may return early.
    pub(super) fn wait_readable(&self) -> io::Result<()> {
        let operation = self.begin(Mode::Read)?;
        if operation.wait_if_drained()? {
            return Ok(());
        }
        self.io.prepare(Mode::Read)?;
        operation.run(|fd| recv(fd, &mut [0], RecvFlags::PEEK).map(drop))
    }

    /// `recv` of a TCP stream.
    #[inline]
    pub(super) fn recv_tcp(&self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len();
        self.read_stream(len, |fd| {
            let n = recv(fd, buf, RecvFlags::empty())?;
            self.note_read(n, len);
            Ok(n)
        })
    }

    /// `recv` of a Unix stream.
    #[inline]
    pub(super) fn recv_stream(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_stream(buf.len(), |fd| recv(fd, buf, RecvFlags::empty()))
    }

    /// Vectored `recv` of a stream. `is_tcp` tells whether short reads are noted, as in `recv_tcp`.
    pub(super) fn recv_vectored(&self, bufs: &mut [IoSliceMut<'_>], is_tcp: bool) -> io::Result<usize> {
        let count = bufs.len().min(IOV_MAX);
        let bufs = &mut bufs[..count];
        let len = bufs.iter().map(|b| b.len()).sum();
        self.read_stream(len, |fd| {
            let n = recv_vectored(fd, bufs)?;
            if is_tcp {
                self.note_read(n, len);
            }
            Ok(n)
        })
    }

    /// Notes that a read has emptied a TCP stream. Called under the read lock.
    #[inline]
    fn note_read(&self, n: usize, len: usize) {
        if n > 0 && n < len {
            self.drained.store(true, Relaxed);
        }
    }

    /// `recv` that leaves the data where it is.
    pub(super) fn peek_stream(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_stream(buf.len(), |fd| recv(fd, buf, RecvFlags::PEEK))
    }

    /// `send` on a stream.
    #[inline]
    pub(super) fn send_stream(&self, buf: &[u8]) -> io::Result<usize> {
        self.operate(Mode::Write, |fd| send(fd, buf))
    }

    /// Vectored `send` on a stream.
    pub(super) fn send_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.operate(Mode::Write, |fd| send_vectored(fd, bufs))
    }

    /// `recv` of a datagram.
    pub(super) fn recv_datagram(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        self.operate(Mode::Read, |fd| recv(fd, buf, flags))
    }

    /// `send` of a datagram to the connected peer.
    pub(super) fn send_datagram(&self, buf: &[u8]) -> io::Result<usize> {
        self.operate(Mode::Write, |fd| send(fd, buf))
    }

    /// `accept` of a listener. Connections that their peers have given up are passed over.
    pub(super) fn accept(&self) -> io::Result<(NetFd, Option<SocketAddrAny>)> {
        let (fd, peer) = self
            .operate(Mode::Read, |fd| pass_over_aborted(|| rustix::net::acceptfrom_with(fd, SOCKET_FLAGS)))?;
        Ok((NetFd::new(fd)?, peer))
    }

    /// Tries `attempt` until it returns something else than EAGAIN. For cases in which the kernel
    /// reports no edge: the queue of *another* Unix socket is full. The sleeps between attempts get
    /// longer.
    pub(super) fn operate_without_edges<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        const FIRST_NS: u64 = 250_000;
        const MOST_NS: u64 = 16_000_000;
        let operation = self.begin(Mode::Write)?;
        let mut pause_ns = FIRST_NS;
        self.io.prepare(Mode::Write)?;
        loop {
            match operation.try_once(&mut attempt)? {
                Some(done) => return Ok(done),
                None => {
                    let now_ns = clock::now_ns();
                    if operation.deadline_ns.is_some_and(|d| now_ns >= d) {
                        return Err(error::timed_out());
                    }
                    let wake_ns = (now_ns + pause_ns).min(operation.deadline_ns.unwrap_or(u64::MAX));
                    match self.io.wait(Mode::Write, Some(wake_ns)) {
                        Err(IoWaitError::DeadlineExceeded) => self.io.check(Mode::Write)?,
                        other => other?,
                    }
                    pause_ns = (pause_ns * 2).min(MOST_NS);
                }
            }
        }
    }

    /// Parks until the connection that `connect` began is made or has failed, but not longer than
    /// until `deadline_ns`.
    pub(super) fn wait_connected(&self, deadline_ns: Option<u64>) -> io::Result<()> {
        loop {
            self.io.wait(Mode::Write, deadline_ns)?;
            rustix::net::sockopt::socket_error(&*self.fd)??;
            // No error may also mean that the wake-up was spurious.
            match rustix::net::getpeername(&*self.fd) {
                Err(Errno::NOTCONN) => {}
                other => return other.map(drop).map_err(io::Error::from),
            }
        }
    }

    // ---- everything else ----

    fn enter(&self) -> io::Result<Reference<'_>> {
        if self.mutex.enter() { Ok(Reference(self)) } else { Err(error::closed()) }
    }

    /// Calls a method of std's type that does not wait: options, addresses, `shutdown`.
    pub(super) fn with_std<S: From<OwnedFd>, T>(&self, f: impl FnOnce(&S) -> io::Result<T>) -> io::Result<T> {
        let _reference = self.enter()?;
        f(&borrow_std(self.fd.as_fd()))
    }

    /// As `with_std`, with the plain descriptor.
    pub(super) fn with_fd<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        let _reference = self.enter()?;
        f(self.fd.as_fd())
    }

    /// Makes a second handle to the same socket. It has deadlines and a `close` of its own, and
    /// shares the time-outs.
    pub(super) fn try_clone(&self) -> io::Result<NetFd> {
        let fd = self.with_fd(|fd| fd.try_clone_to_owned())?;
        let mut clone = NetFd::new(fd)?;
        clone.timeouts = self.timeouts.share();
        clone.nonblocking.store(self.nonblocking.load(Relaxed), Relaxed);
        Ok(clone)
    }

    pub(super) fn set_deadline(&self, read: bool, write: bool, deadline: Option<Instant>) -> io::Result<()> {
        let _reference = self.enter()?;
        self.io.set_deadline(read, write, deadline);
        Ok(())
    }

    pub(super) fn set_timeout(&self, mode: Mode, timeout: Option<Duration>) -> io::Result<()> {
        let _reference = self.enter()?;
        let ns = match timeout {
            None => 0,
            Some(Duration::ZERO) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
            }
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.timeouts.set(mode, ns);
        Ok(())
    }

    pub(super) fn timeout(&self, mode: Mode) -> io::Result<Option<Duration>> {
        let _reference = self.enter()?;
        let ns = self.timeouts.get(mode);
        Ok((ns != 0).then(|| Duration::from_nanos(ns)))
    }

    pub(super) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        let _reference = self.enter()?;
        self.nonblocking.store(nonblocking, Relaxed);
        Ok(())
    }

    /// The descriptor, also after `close` (invariant 1).
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    // ---- the end ----

    /// Ends the socket. Returns when it is gone.
    ///
    /// In a forked child, this ends the descriptor of this process only, and no other thread can be
    /// in an operation.
    pub(super) fn close(&self) {
        if is_child() {
            if self.mutex.close_alone() {
                self.destroy();
            }
            return;
        }
        if !self.mutex.close() {
            return;
        }
        self.io.evict();
        if self.mutex.leave() == Left::Last {
            self.destroy();
        }
        self.mutex.wait_destroyed();
    }

    /// Gives the socket back to the system, but keeps the number. Called once, by the last
    /// operation to leave after `close`.
    fn destroy(&self) {
        if !is_child() {
            self.io.deregister();
        }
        if self.fd.lingers() {
            sched::blocking(|| self.replace_fd())
        } else {
            self.replace_fd()
        }
        if !is_child() {
            self.mutex.destroyed();
        }
    }

    /// Puts the harmless file into the socket's place.
    fn replace_fd(&self) {
        let placeholder = placeholder().expect("made by `new`");
        loop {
            // SAFETY: the number belongs to this `NetFd` until the drop. That it names another file
            // from now on is invariant 1 of the module. No operation is left that would meet it.
            let r = unsafe { libc::dup3(placeholder, self.fd.as_raw_fd(), libc::O_CLOEXEC) };
            if r != -1
                || !matches!(
                    Errno::from_io_error(&io::Error::last_os_error()),
                    Some(Errno::INTR | Errno::BUSY)
                )
            {
                break;
            }
        }
    }

    /// The descriptor, taken from the poller, in the mode of std's sockets: blocking, unless
    /// `set_nonblocking(true)` was called.
    ///
    /// # Errors
    ///
    /// `NotConnected` after `close`, and the kernel's errors.
    ///
    /// # Panics
    ///
    /// In a forked child: the mode is the parent's too.
    pub(super) fn into_blocking(self) -> io::Result<OwnedFd> {
        fork::refuse("another mode of a socket");
        if self.mutex.is_closed() {
            return Err(error::closed());
        }
        rustix::io::ioctl_fionbio(&*self.fd, self.nonblocking.load(Relaxed))?;
        Ok(self.into_fd())
    }

    /// The descriptor as it is. After `close` it is the harmless file.
    pub(super) fn into_fd(self) -> OwnedFd {
        let NetFd { io, fd, .. } = self;
        drop(io);
        fd.into_owned()
    }
}

impl Operation<'_> {
    /// Waits for an edge if the stream was emptied by the last read. Returns whether it waited.
    #[inline]
    fn wait_if_drained(&self) -> io::Result<bool> {
        let fd = self.fd;
        if !fd.drained.load(Relaxed) {
            return Ok(false);
        }
        fd.drained.store(false, Relaxed);
        if fd.io.is_lasting(Mode::Read) || fd.nonblocking.load(Relaxed) {
            return Ok(false);
        }
        fd.io.wait(Mode::Read, self.deadline_ns)?;
        Ok(true)
    }

    /// Tries once. Returns `None` where the call would block.
    #[inline]
    fn try_once<T>(
        &self,
        attempt: &mut impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<Option<T>> {
        loop {
            match attempt(self.fd.fd.as_fd()) {
                Ok(done) => return Ok(Some(done)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !self.fd.nonblocking.load(Relaxed) => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    #[inline]
    fn run<T>(&self, mut attempt: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>) -> io::Result<T> {
        loop {
            if let Some(done) = self.try_once(&mut attempt)? {
                return Ok(done);
            }
            self.fd.io.wait(self.mode, self.deadline_ns)?;
        }
    }
}

/// The harmless file that takes the place of closed sockets: an eventfd that is never written.
/// There is one for the process.
fn placeholder() -> io::Result<RawFd> {
    static FD: AtomicI32 = AtomicI32::new(-1);
    let fd = FD.load(Acquire);
    if fd != -1 {
        return Ok(fd);
    }
    let new = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    match FD.compare_exchange(-1, new.as_raw_fd(), AcqRel, Acquire) {
        Ok(_) => Ok(new.into_raw_fd()),
        Err(first) => Ok(first),
    }
}

// ---- system calls ----

/// `DONTWAIT`, although the descriptor is non-blocking: the mode belongs to the socket, and another
/// handle to it may have changed the mode.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// How sockets are made: non-blocking from the start, and closed by `exec`.
pub(super) const SOCKET_FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// std's type over a borrowed descriptor.
fn borrow_std<S: From<OwnedFd>>(fd: BorrowedFd<'_>) -> ManuallyDrop<S> {
    // SAFETY: the callers use the copy while `fd` is borrowed, and `ManuallyDrop` keeps it from
    // closing.
    ManuallyDrop::new(S::from(unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) }))
}

/// An attempt by a method of std's. The socket is in non-blocking mode.
pub(super) fn by_std<S: From<OwnedFd>, T>(
    fd: BorrowedFd<'_>,
    f: impl FnOnce(&S) -> io::Result<T>,
) -> Result<T, Errno> {
    f(&borrow_std(fd)).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// Repeats `accept` while it meets aborted connections.
pub(super) fn pass_over_aborted<T>(mut accept: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match accept() {
            Err(Errno::CONNABORTED) => {}
            other => return other,
        }
    }
}

#[inline]
fn recv(fd: BorrowedFd<'_>, buf: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
    let (n, _) = rustix::net::recv(fd, buf, flags | RecvFlags::DONTWAIT)?;
    Ok(n)
}

#[inline]
fn send(fd: BorrowedFd<'_>, buf: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(fd, buf, SEND_FLAGS)
}

fn send_vectored(fd: BorrowedFd<'_>, bufs: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let bufs = &bufs[..bufs.len().min(IOV_MAX)];
    let mut control = rustix::net::SendAncillaryBuffer::default();
    rustix::net::sendmsg(fd, bufs, &mut control, SEND_FLAGS)
}

fn recv_vectored(fd: BorrowedFd<'_>, bufs: &mut [IoSliceMut<'_>]) -> Result<usize, Errno> {
    let mut control = rustix::net::RecvAncillaryBuffer::default();
    Ok(rustix::net::recvmsg(fd, bufs, &mut control, RecvFlags::DONTWAIT)?.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GO-CASES N12: an aborted connection does not end `accept`. All other results reach the
    /// caller.
    #[test]
    fn aborted_connections_are_passed_over() {
        let mut answers = vec![Err(Errno::MFILE), Ok(7), Err(Errno::CONNABORTED), Err(Errno::CONNABORTED)];
        let mut accept = || pass_over_aborted(|| answers.pop().unwrap());
        assert_eq!(accept(), Ok(7));
        assert_eq!(accept(), Err(Errno::MFILE));
    }
}
