//! TCP streams and listeners.

use super::addr::{each_addr, no_address};
use super::fd::{NetFd, SOCKET_FLAGS};
use crate::sys::clock;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

/// More than any system allows. The kernel takes `net.core.somaxconn` instead.
const BACKLOG: i32 = i32::MAX;

/// Listens on `fd` with the longest queue that the system allows.
pub(super) fn listen(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::listen(fd, BACKLOG)?)
}

/// A TCP connection, as [`std::net::TcpStream`].
///
/// `&TcpStream` can be read and written too. So a stream is split by borrowing it: one goroutine
/// reads while another one writes. Dropping the last handle closes the connection.
///
/// # Blocking
///
/// Reads and writes: G: yes. M: no. P: no.
///
/// A drop: G: no. M: no. P: no. It may wait if a [linger time](TcpStream::set_linger) is set.
///
/// # Examples
///
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
    /// Connects to `addr`.
    ///
    /// If there are several addresses, they are tried in turn until one accepts the connection.
    ///
    /// # Blocking
    ///
    /// G: yes. M: only while a name is looked up. P: no.
    ///
    /// # Errors
    ///
    /// The error of the last address, or `InvalidInput` if there is no address. `Other` if the
    /// runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let stream = TcpStream::connect(listener.local_addr()?)?;
    ///     assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<TcpStream> {
        each_addr(addr, |addr| TcpStream::connect_until(addr, None, None))
    }

    /// Connects to `addr`, and gives up after `timeout`.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// `TimedOut` after the time-out, `InvalidInput` if it is zero, and the kernel's errors.
    /// `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    /// use std::time::Duration;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let addr = listener.local_addr()?;
    ///     let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    ///     assert_eq!(stream.peer_addr()?, addr);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        TcpStream::connect_until(*addr, None, Some(clock::now_ns().saturating_add(timeout_ns)))
    }

    /// Connects from the local address `from` to `to`.
    ///
    /// If the port of `from` is 0, the kernel chooses it, and only as it connects. Then one local
    /// port can serve several connections, if they go to different remote addresses.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors: `AddrNotAvailable`, `AddrInUse`, and those of connecting. `Other` if
    /// the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let from = "127.0.0.1:0".parse().unwrap();
    ///     let stream = TcpStream::connect_from(from, listener.local_addr()?)?;
    ///     assert_eq!(stream.local_addr()?.ip(), from.ip());
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
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
        // An interrupted connect goes on in the background, like one in progress.
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

    /// Reads like `read`, but leaves the data in the socket.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As for reads.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    /// use std::io::{Read, Write};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let mut stream = TcpStream::connect(listener.local_addr()?)?;
    ///     listener.accept()?.0.write_all(b"hello")?;
    ///     assert_eq!(stream.peek(&mut [0; 5])?, 5);
    ///     assert_eq!(stream.read(&mut [0; 5])?, 5); // the same data
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.peek_stream(buf)
    }

    /// Sets whether the close of the connection waits until the peer has all data (`SO_LINGER`).
    ///
    /// This is about the drop, or [`close`](Self::close), of the last handle:
    ///
    /// - `None`, the default: it does not wait. The kernel sends what is left in the background.
    /// - A time: it waits for at most this long. The kernel sends what is left then in the
    ///   background.
    /// - Zero: it does not wait. The connection is reset, and data that was not sent is lost.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// The close or drop that waits: G: yes. M: yes, as inside [`blocking`](crate::blocking).
    /// P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `NotConnected` after [`close`](Self::close).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    /// use std::time::Duration;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let stream = TcpStream::connect(listener.local_addr()?)?;
    ///     stream.set_linger(Some(Duration::from_secs(2)))?;
    ///     assert_eq!(stream.linger()?, Some(Duration::from_secs(2)));
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.fd.with_fd(|fd| Ok(rustix::net::sockopt::set_socket_linger(fd, linger)?))
    }

    /// Returns the time that [`set_linger`](Self::set_linger) sets.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `NotConnected` after [`close`](Self::close).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let stream = TcpStream::connect(listener.local_addr()?)?;
    ///     assert_eq!(stream.linger()?, None);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.fd.with_fd(|fd| Ok(rustix::net::sockopt::socket_linger(fd)?))
    }

    common_methods!(TcpStream, std::net::TcpStream);
    deadline_methods!(TcpStream);
    option_methods! { TcpStream, "", std::net::TcpStream;
        /// Sets whether small writes are sent at once (`TCP_NODELAY`).
        ///
        /// With false, which is the default, the kernel may hold them back and send several in one
        /// packet.
        set_nodelay, nodelay: bool = true;
        /// Sets the time to live of packets (`IP_TTL`).
        set_ttl, ttl: u32 = 64;
    }
    std_methods! { TcpStream, "", std::net::TcpStream;
        /// Returns the address of the other end.
        peer_addr() -> SocketAddr =>
            "assert_eq!(socket.peer_addr()?, listener.local_addr()?);";
        /// Returns the address of this end.
        local_addr() -> SocketAddr =>
            "assert_eq!(socket.local_addr()?, peer.peer_addr()?);";
        /// Ends one or both directions of the connection.
        ///
        /// Reads in flight then see the end of the stream, and writes fail with `BrokenPipe`.
        shutdown(how: Shutdown) -> () =>
            "use std::io::Read;"
            "socket.shutdown(std::net::Shutdown::Write)?;"
            "assert_eq!((&peer).read(&mut [0])?, 0); // the end of the stream";
    }
}

stream_io!(TcpStream, recv_tcp, is_tcp: true);
conversions!(TcpStream, std::net::TcpStream, |s| [("addr", s.local_addr()), ("peer", s.peer_addr())]);

/// A socket that waits for TCP connections, as [`std::net::TcpListener`].
///
/// # Blocking
///
/// [`accept`](TcpListener::accept): G: yes. M: no. P: no. A drop: G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use gort::net::{TcpListener, TcpStream};
/// use std::io::Write;
///
/// gort::run(|| -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let addr = listener.local_addr()?;
///     gort::go(move || -> std::io::Result<()> {
///         for stream in listener.incoming() {
///             let mut stream = stream?;
///             gort::go(move || stream.write_all(b"welcome")); // a goroutine for each connection
///         }
///         Ok(())
///     });
///     let text = std::io::read_to_string(TcpStream::connect(addr)?)?;
///     assert_eq!(text, "welcome");
///     Ok(())
/// })
/// # .unwrap();
/// ```
pub struct TcpListener {
    fd: NetFd,
}

impl TcpListener {
    /// Listens on `addr`.
    ///
    /// If there are several addresses, they are tried in turn until one can be bound. With port 0,
    /// the system chooses the port. The queue of connections that wait for `accept` is as long as
    /// the system allows (`net.core.somaxconn`).
    ///
    /// # Blocking
    ///
    /// G: only while a name is looked up. M: likewise. P: no.
    ///
    /// # Errors
    ///
    /// The error of the last address, or `InvalidInput` if there is no address. `Other` if the
    /// runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::TcpListener;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     assert_ne!(listener.local_addr()?.port(), 0);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<TcpListener> {
        each_addr(addr, |addr| {
            let listener = std::net::TcpListener::bind(addr)?;
            listen(&listener)?; // once more: std's queue is short
            TcpListener::from_std(listener)
        })
    }

    /// Waits for a connection, and returns it with the address of its peer.
    ///
    /// A connection that the peer has given up in the queue is passed over.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// - The kernel's errors. If descriptors run out (`EMFILE`, `ENFILE`), the listener stays
    ///   usable: wait a little, or close something, and accept again.
    /// - `TimedOut` after a [deadline](Self::set_deadline).
    /// - `NotConnected` after [`close`](Self::close).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let client = TcpStream::connect(listener.local_addr()?)?;
    ///     let (_stream, peer) = listener.accept()?;
    ///     assert_eq!(peer, client.local_addr()?);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (fd, peer) = self.fd.accept()?;
        let peer = peer.ok_or_else(no_address)?.try_into()?;
        Ok((TcpStream { fd }, peer))
    }

    /// Returns an endless iterator over the connections: each step is an [`accept`](Self::accept).
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no. Each step blocks as `accept` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{TcpListener, TcpStream};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let listener = TcpListener::bind("127.0.0.1:0")?;
    ///     let client = TcpStream::connect(listener.local_addr()?)?;
    ///     let stream = listener.incoming().next().unwrap()?;
    ///     assert_eq!(stream.peer_addr()?, client.local_addr()?);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    common_methods!(TcpListener, std::net::TcpListener);
    accept_deadline_method!(TcpListener);
    option_methods! { TcpListener, "", std::net::TcpListener;
        /// Sets the time to live of packets (`IP_TTL`).
        set_ttl, ttl: u32 = 64;
    }
    std_methods! { TcpListener, "", std::net::TcpListener;
        /// Returns the address on which this listens.
        local_addr() -> SocketAddr =>
            "assert!(socket.local_addr()?.ip().is_loopback());";
    }
}

conversions!(TcpListener, std::net::TcpListener, |s| [("addr", s.local_addr())]);

/// An iterator over the connections of a [`TcpListener`]; see [`TcpListener::incoming`].
///
/// It never ends. An item is an error where [`accept`](TcpListener::accept) returns one.
///
/// # Blocking
///
/// Each step: G: yes. M: no. P: no.
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
