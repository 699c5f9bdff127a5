//! Sockets of the Unix family: streams, listeners, datagrams.

use super::fd::{NetFd, SEND_FLAGS, SOCKET_FLAGS, by_std, pass_over_aborted};
use super::tcp::listen;
use crate::sched::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType};
use std::io;
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as std_unix, SocketAddr};
use std::path::Path;

/// The kernel's form of std's address.
fn to_kernel(addr: &SocketAddr) -> io::Result<SocketAddrUnix> {
    Ok(match (addr.as_pathname(), addr.as_abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (None, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
        (None, None) => SocketAddrUnix::new_unnamed(),
    })
}

/// A connection between processes of one machine, as [`std::os::unix::net::UnixStream`].
///
/// # Blocking
/// Reads and writes: G: yes. M: no. P: no.
///
/// # Examples
/// ```
/// use gort::net::UnixStream;
/// use std::io::{Read, Write};
///
/// gort::run(|| -> std::io::Result<()> {
///     let (mut a, mut b) = UnixStream::pair()?;
///     let h = gort::go(move || a.write_all(b"hello"));
///     let mut text = String::new();
///     b.read_to_string(&mut text)?;
///     assert_eq!(text, "hello");
///     h.join().unwrap()
/// })
/// # .unwrap();
/// ```
pub struct UnixStream {
    fd: NetFd,
}

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Blocking
    /// G: yes, while the listener's queue is full. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_to(&SocketAddrUnix::new(path.as_ref())?)
    }

    /// Connects to the socket at `addr`.
    ///
    /// # Blocking
    /// G: yes, while the listener's queue is full. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connect_addr(addr: &SocketAddr) -> io::Result<UnixStream> {
        UnixStream::connect_to(&to_kernel(addr)?)
    }

    fn connect_to(addr: &SocketAddrUnix) -> io::Result<UnixStream> {
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)?;
        match rustix::net::connect(&fd, addr) {
            Ok(()) => Ok(UnixStream { fd: NetFd::new(fd)? }),
            // The listener's queue is full, and there is no edge for when it is not.
            Err(Errno::AGAIN | Errno::INTR) => {
                let fd = NetFd::new(fd)?;
                fd.operate_without_edges(|fd| rustix::net::connect(fd, addr))?;
                Ok(UnixStream { fd })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Makes two streams that are connected with each other.
    ///
    /// # Blocking
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)?;
        Ok((UnixStream { fd: NetFd::new(a)? }, UnixStream { fd: NetFd::new(b)? }))
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

    common_methods!(std_unix::UnixStream);
    deadline_methods!();
    std_methods! { std_unix::UnixStream;
        /// The other end's address.
        peer_addr() -> SocketAddr;
        /// Our end's address.
        local_addr() -> SocketAddr;
        /// Ends one or both directions. Reads in flight then see the end, writes fail with `BrokenPipe`.
        shutdown(how: Shutdown) -> ();
    }
}

stream_io!(UnixStream, recv_stream, is_tcp: false);
conversions!(UnixStream, std_unix::UnixStream, |s| [("local", s.local_addr()), ("peer", s.peer_addr())]);

/// Waits for connections of this machine, as [`std::os::unix::net::UnixListener`].
///
/// As with std's, the file stays when the listener goes.
///
/// ```
/// use gort::net::{UnixListener, UnixStream};
/// use std::io::{Read, Write};
///
/// gort::run(|| -> std::io::Result<()> {
///     let path = std::env::temp_dir().join(format!("gort-doc-{}.sock", std::process::id()));
///     let listener = UnixListener::bind(&path)?;
///     let mut client = UnixStream::connect(&path)?;
///     let (mut server, _) = listener.accept()?;
///     client.write_all(b"hi")?;
///     let mut word = [0; 2];
///     server.read_exact(&mut word)?;
///     assert_eq!(&word, b"hi");
///     std::fs::remove_file(path)
/// })
/// # .unwrap();
/// ```
pub struct UnixListener {
    fd: NetFd,
}

impl UnixListener {
    /// Makes the socket file `path`, which must not exist, and listens on it.
    ///
    /// # Blocking
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::from_bound(std_unix::UnixListener::bind(path)?)
    }

    /// Listens on `addr`.
    ///
    /// # Blocking
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::from_bound(std_unix::UnixListener::bind_addr(addr)?)
    }

    fn from_bound(listener: std_unix::UnixListener) -> io::Result<UnixListener> {
        listen(&listener)?;
        UnixListener::from_std(listener)
    }

    /// Waits for a connection and takes it; see [`TcpListener::accept`](super::TcpListener::accept).
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, `TimedOut` after a deadline, `NotConnected` after [`close`](Self::close).
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        // By std, because the address of a peer without a name cannot be made from outside of it.
        let (stream, peer) = self.fd.operate(Mode::Read, |fd| {
            pass_over_aborted(|| by_std(fd, |listener: &std_unix::UnixListener| listener.accept()))
        })?;
        Ok((UnixStream::from_std(stream)?, peer))
    }

    /// The connections, one after the other, without end: each step is an [`accept`](Self::accept).
    ///
    /// # Blocking
    /// G: no; each step as `accept`. M: no. P: no.
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    common_methods!(std_unix::UnixListener);
    accept_deadline_method!();
    std_methods! { std_unix::UnixListener;
        /// The address that is listened on.
        local_addr() -> SocketAddr;
    }
}

conversions!(UnixListener, std_unix::UnixListener, |s| [("local", s.local_addr())]);

/// The connections of a [`UnixListener`]; see [`UnixListener::incoming`].
#[derive(Debug)]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _peer)| stream))
    }
}

impl std::iter::FusedIterator for UnixIncoming<'_> {}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = UnixIncoming<'a>;

    fn into_iter(self) -> UnixIncoming<'a> {
        self.incoming()
    }
}

/// A datagram socket of this machine, as [`std::os::unix::net::UnixDatagram`].
///
/// ```
/// use gort::net::UnixDatagram;
///
/// gort::run(|| -> std::io::Result<()> {
///     let (a, b) = UnixDatagram::pair()?;
///     a.send(b"one")?;
///     a.send(b"two")?;
///     let mut buf = [0; 8];
///     assert_eq!(b.recv(&mut buf)?, 3);
///     assert_eq!(&buf[..3], b"one");
///     Ok(())
/// })
/// # .unwrap();
/// ```
pub struct UnixDatagram {
    fd: NetFd,
}

impl UnixDatagram {
    /// Makes the socket file `path`, which must not exist, and receives what is sent there.
    ///
    /// # Blocking
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std_unix::UnixDatagram::bind(path)?)
    }

    /// Receives what is sent to `addr`.
    ///
    /// # Blocking
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std_unix::UnixDatagram::bind_addr(addr)?)
    }

    /// Makes a socket without an address.
    ///
    /// # Blocking
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std_unix::UnixDatagram::unbound()?)
    }

    /// Makes two sockets that are connected with each other.
    ///
    /// # Blocking
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SOCKET_FLAGS, None)?;
        Ok((UnixDatagram { fd: NetFd::new(a)? }, UnixDatagram { fd: NetFd::new(b)? }))
    }

    /// Sets the peer for `send` and `recv`.
    ///
    /// # Blocking
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, and `NotConnected` after [`close`](Self::close).
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.fd.with_std(|s: &std_unix::UnixDatagram| s.connect(path))
    }

    /// Sets the peer for `send` and `recv`.
    ///
    /// # Blocking
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, and `NotConnected` after [`close`](Self::close).
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        self.fd.with_std(|s: &std_unix::UnixDatagram| s.connect_addr(addr))
    }

    /// Receives a datagram: how long it was (cut off at the buffer's end) and who sent it.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, `TimedOut` after a deadline, `NotConnected` after [`close`](Self::close).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.fd.operate(Mode::Read, |fd| by_std(fd, |s: &std_unix::UnixDatagram| s.recv_from(buf)))
    }

    /// Receives a datagram.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.recv_datagram(buf, RecvFlags::empty())
    }

    /// Sends a datagram to the socket at `path`.
    ///
    /// # Blocking
    /// G: yes, while the receiver's queue is full. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, `TimedOut` after a deadline, `NotConnected` after [`close`](Self::close).
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_kernel(buf, &SocketAddrUnix::new(path.as_ref())?)
    }

    /// Sends a datagram to the socket at `addr`.
    ///
    /// # Blocking
    /// G: yes, while the receiver's queue is full. M: no. P: no.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn send_to_addr(&self, buf: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        self.send_to_kernel(buf, &to_kernel(addr)?)
    }

    fn send_to_kernel(&self, buf: &[u8], addr: &SocketAddrUnix) -> io::Result<usize> {
        self.fd.operate_without_edges(|fd| rustix::net::sendto(fd, buf, SEND_FLAGS, addr))
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Blocking
    /// G: yes, while the receiver's queue is full. M: no. P: no.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.send_datagram(buf)
    }

    common_methods!(std_unix::UnixDatagram);
    deadline_methods!();
    std_methods! { std_unix::UnixDatagram;
        /// Our address.
        local_addr() -> SocketAddr;
        /// The connected peer's address.
        peer_addr() -> SocketAddr;
        /// Ends one or both directions.
        shutdown(how: Shutdown) -> ();
    }
}

conversions!(UnixDatagram, std_unix::UnixDatagram, |s| [("local", s.local_addr())]);
