//! TCP.

use super::addr::{each_addr, no_address};
use super::fd::{NetFd, SOCKET_FLAGS};
use crate::sys::clock;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

/// More than any system allows; the kernel takes `net.core.somaxconn` instead.
const BACKLOG: i32 = i32::MAX;

/// Listens on `fd` with the longest queue that the system allows.
pub(super) fn listen(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::listen(fd, BACKLOG)?)
}

/// A TCP connection, as [`std::net::TcpStream`].
///
/// It is read and written through `&TcpStream` too, so it splits by borrowing: one goroutine reads, another writes.
///
/// # Blocking
/// Reads and writes: G: yes. M: no. P: no.
///
/// # Examples
/// ```
/// use gort::net::{TcpListener, TcpStream};
/// use std::io::{ErrorKind, Read};
/// use std::time::Instant;
///
/// gort::run(|| -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let stream = TcpStream::connect(listener.local_addr()?)?;
///     stream.set_read_deadline(Some(Instant::now()))?;
///     assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
///     stream.close();
///     assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::NotConnected);
///     Ok(())
/// })
/// # .unwrap();
/// ```
pub struct TcpStream {
    fd: NetFd,
}

impl TcpStream {
    /// Connects to `addr`; of several addresses, to the first that answers.
    ///
    /// # Blocking
    /// G: yes. M: no, but for the look-up of a name. P: no.
    ///
    /// # Errors
    /// The last address's error, or `InvalidInput` if there is none.
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        each_addr(addr, |addr| TcpStream::connect_until(addr, None, None))
    }

    /// Connects to `addr`, and gives up after `timeout`.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// `TimedOut`, `InvalidInput` for a time-out of zero, and the kernel's.
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        TcpStream::connect_until(*addr, None, Some(clock::now_ns().saturating_add(timeout_ns)))
    }

    /// Connects from the local address `from` to `to`: a port of 0 lets the kernel choose, late, so that one local address has its
    /// 64 000 ports for each remote one.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's: `AddrNotAvailable`, `AddrInUse`, and those of connecting.
    pub fn connect_from(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect_until(to, Some(from), None)
    }

    fn connect_until(
        addr: SocketAddr,
        from: Option<SocketAddr>,
        deadline_ns: Option<u64>,
    ) -> io::Result<TcpStream> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = rustix::net::socket_with(family, SocketType::STREAM, SOCKET_FLAGS, None)?;
        if let Some(from) = from {
            if from.port() == 0 {
                crate::sys::socket::choose_port_late(fd.as_fd())?;
            }
            rustix::net::bind(&fd, &from)?;
        }
        // Interrupted, it goes on in the background like one in progress.
        let in_progress = match rustix::net::connect(&fd, &addr) {
            Ok(()) => false,
            Err(Errno::INPROGRESS | Errno::INTR) => true,
            Err(e) => return Err(e.into()),
        };
        let fd = NetFd::new(fd)?;
        if in_progress {
            fd.wait_connected(deadline_ns)?;
        }
        Ok(TcpStream { fd })
    }

    /// Reads like `read`, but leaves the data where it is.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// As for reads.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.peek_stream(buf)
    }

    /// With a time, a drop or close of the last handle waits until the peer has all that was sent,
    /// for that long at most; what is left then goes on in the background. Zero resets the
    /// connection at once. `None` is the default: nobody waits, the kernel sends what is left in
    /// the background.
    ///
    /// # Blocking
    /// G: no. M: no. P: no. The [`close`](Self::close), or drop, that waits: G: yes. M: yes, as
    /// inside [`blocking`](crate::blocking). P: no.
    ///
    /// # Errors
    /// The kernel's, and `NotConnected` after [`close`](Self::close).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.fd.with_fd(|fd| Ok(rustix::net::sockopt::set_socket_linger(fd, linger)?))
    }

    /// What [`set_linger`](Self::set_linger) was last told.
    ///
    /// # Blocking
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, and `NotConnected` after [`close`](Self::close).
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.fd.with_fd(|fd| Ok(rustix::net::sockopt::socket_linger(fd)?))
    }

    common_methods!(std::net::TcpStream);
    deadline_methods!();
    option_methods! { std::net::TcpStream;
        /// With true, data is sent at once (`TCP_NODELAY`); with false, small pieces wait for company.
        set_nodelay, nodelay: bool;
        /// Sets the time to live of packets (`IP_TTL`).
        set_ttl, ttl: u32;
    }
    std_methods! { std::net::TcpStream;
        /// The other end's address.
        peer_addr() -> SocketAddr;
        /// Our end's address.
        local_addr() -> SocketAddr;
        /// Ends one or both directions. Reads in flight then see the end, writes fail with `BrokenPipe`.
        shutdown(how: Shutdown) -> ();
    }
}

stream_io!(TcpStream, recv_tcp, is_tcp: true);
conversions!(TcpStream, std::net::TcpStream, |s| [("addr", s.local_addr()), ("peer", s.peer_addr())]);

/// Waits for TCP connections, as [`std::net::TcpListener`].
///
/// See [the module](super) for an example.
pub struct TcpListener {
    fd: NetFd,
}

impl TcpListener {
    /// Listens on `addr`; of several addresses, on the first that can be had. The port 0 lets the system choose.
    ///
    /// The queue of connections that wait for `accept` is as long as the system allows (`net.core.somaxconn`).
    ///
    /// # Blocking
    /// G: yes for the look-up of a name. M: likewise. P: no.
    ///
    /// # Errors
    /// The last address's error, or `InvalidInput` if there is none.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        each_addr(addr, |addr| {
            let listener = std::net::TcpListener::bind(addr)?;
            listen(&listener)?; // again: std's queue is short
            TcpListener::from_std(listener)
        })
    }

    /// Waits for a connection and takes it.
    ///
    /// Connections that were given up before we took them are passed over. When descriptors or memory run out, that is the
    /// caller's to know (`EMFILE`, `ENFILE`): wait a little, or close something, and accept again.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, `TimedOut` after a deadline, `NotConnected` after [`close`](Self::close).
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, peer) = self.fd.accept()?;
        let peer = peer.ok_or_else(no_address)?.try_into()?;
        Ok((TcpStream { fd }, peer))
    }

    /// The connections, one after the other, without end: each step is an [`accept`](Self::accept).
    ///
    /// # Blocking
    /// G: no; each step as `accept`. M: no. P: no.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    common_methods!(std::net::TcpListener);
    accept_deadline_method!();
    option_methods! { std::net::TcpListener;
        /// Sets the time to live of packets (`IP_TTL`).
        set_ttl, ttl: u32;
    }
    std_methods! { std::net::TcpListener;
        /// The address that is listened on.
        local_addr() -> SocketAddr;
    }
}

conversions!(TcpListener, std::net::TcpListener, |s| [("addr", s.local_addr())]);

/// The connections of a [`TcpListener`]; see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _peer)| stream))
    }
}

impl std::iter::FusedIterator for Incoming<'_> {}
