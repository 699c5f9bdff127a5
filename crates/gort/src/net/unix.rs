//! Unix sockets: streams, listeners, datagrams.

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

/// Converts std's address into the form for the kernel.
fn to_kernel(addr: &SocketAddr) -> io::Result<SocketAddrUnix> {
    Ok(match (addr.as_pathname(), addr.as_abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (None, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
        (None, None) => SocketAddrUnix::new_unnamed(),
    })
}

/// A connection between processes of one machine, as [`std::os::unix::net::UnixStream`].
///
/// `&UnixStream` can be read and written too. So a stream is split by borrowing it: one goroutine
/// reads while another one writes. Dropping the last handle closes the connection.
///
/// # Blocking
///
/// Reads and writes: G: yes. M: no. P: no. A drop: G: no. M: no. P: no.
///
/// # Examples
///
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
    ///
    /// G: yes, while the listener's queue is full. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{UnixListener, UnixStream};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let path = std::env::temp_dir().join(format!("gort-connect-{}", std::process::id()));
    ///     let listener = UnixListener::bind(&path)?;
    ///     let stream = UnixStream::connect(&path)?;
    ///     assert_eq!(stream.peer_addr()?.as_pathname(), Some(&*path));
    ///     std::fs::remove_file(path)
    /// })
    /// # .unwrap();
    /// ```
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_to(&SocketAddrUnix::new(path.as_ref())?)
    }

    /// Connects to the socket at `addr`, which may be a name without a file.
    ///
    /// # Blocking
    ///
    /// G: yes, while the listener's queue is full. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{UnixListener, UnixStream};
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    ///     let listener = UnixListener::bind_addr(&addr)?;
    ///     let stream = UnixStream::connect_addr(&addr)?;
    ///     assert_eq!(stream.peer_addr()?.as_abstract_name(), addr.as_abstract_name());
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn connect_addr(addr: &SocketAddr) -> io::Result<UnixStream> {
        UnixStream::connect_to(&to_kernel(addr)?)
    }

    fn connect_to(addr: &SocketAddrUnix) -> io::Result<UnixStream> {
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)?;
        match rustix::net::connect(&fd, addr) {
            Ok(()) => Ok(UnixStream { fd: NetFd::new(fd)? }),
            // The listener's queue is full, and the kernel reports no edge when it has room again.
            Err(Errno::AGAIN | Errno::INTR) => {
                let fd = NetFd::new(fd)?;
                fd.operate_without_edges(|fd| rustix::net::connect(fd, addr))?;
                Ok(UnixStream { fd })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Makes two streams that are connected to each other.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixStream;
    /// use std::io::Write;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (mut a, b) = UnixStream::pair()?;
    ///     a.write_all(b"hello")?;
    ///     drop(a); // the end of the stream
    ///     assert_eq!(std::io::read_to_string(b)?, "hello");
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SOCKET_FLAGS, None)?;
        Ok((UnixStream { fd: NetFd::new(a)? }, UnixStream { fd: NetFd::new(b)? }))
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
    /// use gort::net::UnixStream;
    /// use std::io::{Read, Write};
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (mut a, mut b) = UnixStream::pair()?;
    ///     a.write_all(b"hello")?;
    ///     assert_eq!(b.peek(&mut [0; 5])?, 5);
    ///     assert_eq!(b.read(&mut [0; 5])?, 5); // the same data
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.peek_stream(buf)
    }

    common_methods!(UnixStream, std_unix::UnixStream);
    deadline_methods!(UnixStream);
    std_methods! { UnixStream, "", std_unix::UnixStream;
        /// Returns the address of the other end.
        peer_addr() -> SocketAddr =>
            "assert!(socket.peer_addr()?.is_unnamed());";
        /// Returns the address of this end.
        local_addr() -> SocketAddr =>
            "assert!(socket.local_addr()?.is_unnamed());";
        /// Ends one or both directions of the connection.
        ///
        /// Reads in flight then see the end of the stream, and writes fail with `BrokenPipe`.
        shutdown(how: Shutdown) -> () =>
            "use std::io::Read;"
            "socket.shutdown(std::net::Shutdown::Write)?;"
            "assert_eq!((&peer).read(&mut [0])?, 0); // the end of the stream";
    }
}

stream_io!(UnixStream, recv_stream, is_tcp: false);
conversions!(UnixStream, std_unix::UnixStream, |s| [("local", s.local_addr()), ("peer", s.peer_addr())]);

/// A socket that waits for connections of this machine, as [`std::os::unix::net::UnixListener`].
///
/// As with std's, the file of the socket is not removed when the listener is dropped.
///
/// # Blocking
///
/// [`accept`](UnixListener::accept): G: yes. M: no. P: no. A drop: G: no. M: no. P: no.
///
/// # Examples
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
    ///
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixListener;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let path = std::env::temp_dir().join(format!("gort-bind-{}", std::process::id()));
    ///     let listener = UnixListener::bind(&path)?;
    ///     assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    ///     std::fs::remove_file(path)
    /// })
    /// # .unwrap();
    /// ```
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::from_bound(std_unix::UnixListener::bind(path)?)
    }

    /// Listens on `addr`, which may be a name without a file.
    ///
    /// # Blocking
    ///
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::{UnixListener, UnixStream};
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    ///     let listener = UnixListener::bind_addr(&addr)?;
    ///     assert!(UnixStream::connect_addr(&addr).is_ok());
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::from_bound(std_unix::UnixListener::bind_addr(addr)?)
    }

    fn from_bound(listener: std_unix::UnixListener) -> io::Result<UnixListener> {
        listen(&listener)?;
        UnixListener::from_std(listener)
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
    /// use gort::net::{UnixListener, UnixStream};
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    ///     let listener = UnixListener::bind_addr(&addr)?;
    ///     let _client = UnixStream::connect_addr(&addr)?;
    ///     let (_stream, peer) = listener.accept()?;
    ///     assert!(peer.is_unnamed());
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        // By std, because only std can make the address of a peer without a name.
        let (stream, peer) = self.fd.operate(Mode::Read, |fd| {
            pass_over_aborted(|| by_std(fd, |listener: &std_unix::UnixListener| listener.accept()))
        })?;
        Ok((UnixStream::from_std(stream)?, peer))
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
    /// use gort::net::{UnixListener, UnixStream};
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    ///     let listener = UnixListener::bind_addr(&addr)?;
    ///     let _client = UnixStream::connect_addr(&addr)?;
    ///     assert!(listener.incoming().next().unwrap().is_ok());
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    common_methods!(UnixListener, std_unix::UnixListener);
    accept_deadline_method!(UnixListener);
    std_methods! { UnixListener, "", std_unix::UnixListener;
        /// Returns the address on which this listens.
        local_addr() -> SocketAddr =>
            "assert_eq!(socket.local_addr()?.as_abstract_name(), addr.as_abstract_name());";
    }
}

conversions!(UnixListener, std_unix::UnixListener, |s| [("local", s.local_addr())]);

/// An iterator over the connections of a [`UnixListener`]; see [`UnixListener::incoming`].
///
/// It never ends. An item is an error where [`accept`](UnixListener::accept) returns one.
///
/// # Blocking
///
/// Each step: G: yes. M: no. P: no.
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
/// As with std's, the file of a bound socket is not removed when the socket is dropped.
///
/// # Blocking
///
/// Receiving and sending: G: yes. M: no. P: no. A drop: G: no. M: no. P: no.
///
/// # Examples
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
    /// Makes the socket file `path`, which must not exist, and a socket that receives there.
    ///
    /// # Blocking
    ///
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let path = std::env::temp_dir().join(format!("gort-bind-{}", std::process::id()));
    ///     let socket = UnixDatagram::bind(&path)?;
    ///     UnixDatagram::unbound()?.send_to(b"hello", &path)?;
    ///     assert_eq!(socket.recv(&mut [0; 16])?, 5);
    ///     std::fs::remove_file(path)
    /// })
    /// # .unwrap();
    /// ```
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std_unix::UnixDatagram::bind(path)?)
    }

    /// Makes a socket that receives at `addr`, which may be a name without a file.
    ///
    /// # Blocking
    ///
    /// G: no. M: while the file is made. P: likewise.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    ///     let socket = UnixDatagram::bind_addr(&addr)?;
    ///     UnixDatagram::unbound()?.send_to_addr(b"hello", &addr)?;
    ///     assert_eq!(socket.recv(&mut [0; 16])?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn bind_addr(addr: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std_unix::UnixDatagram::bind_addr(addr)?)
    }

    /// Makes a socket without an address: it can send, but others cannot send to it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let socket = UnixDatagram::unbound()?;
    ///     assert!(socket.local_addr()?.is_unnamed());
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(std_unix::UnixDatagram::unbound()?)
    }

    /// Makes two sockets that are connected to each other.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, and `Other` if the runtime was not started.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = UnixDatagram::pair()?;
    ///     a.send(b"hello")?;
    ///     assert_eq!(b.recv(&mut [0; 16])?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SOCKET_FLAGS, None)?;
        Ok((UnixDatagram { fd: NetFd::new(a)? }, UnixDatagram { fd: NetFd::new(b)? }))
    }

    /// Sets the peer of `send` and `recv` to the socket at `path`.
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
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let path = std::env::temp_dir().join(format!("gort-peer-{}", std::process::id()));
    ///     let (a, b) = (UnixDatagram::unbound()?, UnixDatagram::bind(&path)?);
    ///     a.connect(&path)?;
    ///     a.send(b"hello")?;
    ///     assert_eq!(b.recv(&mut [0; 16])?, 5);
    ///     std::fs::remove_file(path)
    /// })
    /// # .unwrap();
    /// ```
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.fd.with_std(|s: &std_unix::UnixDatagram| s.connect(path))
    }

    /// Sets the peer of `send` and `recv` to the socket at `addr`.
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
    /// use gort::net::UnixDatagram;
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    ///     let (a, b) = (UnixDatagram::unbound()?, UnixDatagram::bind_addr(&addr)?);
    ///     a.connect_addr(&addr)?;
    ///     a.send(b"hello")?;
    ///     assert_eq!(b.recv(&mut [0; 16])?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn connect_addr(&self, addr: &SocketAddr) -> io::Result<()> {
        self.fd.with_std(|s: &std_unix::UnixDatagram| s.connect_addr(addr))
    }

    /// Waits for a datagram, and returns its length and its sender.
    ///
    /// What does not fit into `buf` is lost.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, `TimedOut` after a deadline or time-out, and `NotConnected` after
    /// [`close`](Self::close).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = UnixDatagram::pair()?;
    ///     a.send(b"hello")?;
    ///     let (n, from) = b.recv_from(&mut [0; 16])?;
    ///     assert!(n == 5 && from.is_unnamed());
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.fd.operate(Mode::Read, |fd| by_std(fd, |s: &std_unix::UnixDatagram| s.recv_from(buf)))
    }

    /// Waits for a datagram, and returns its length.
    ///
    /// What does not fit into `buf` is lost.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = UnixDatagram::pair()?;
    ///     a.send(b"hello")?;
    ///     assert_eq!(b.recv(&mut [0; 16])?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.recv_datagram(buf, RecvFlags::empty())
    }

    /// Sends a datagram to the socket at `path`, and returns its length.
    ///
    /// # Blocking
    ///
    /// G: yes, while the queue of the receiver is full. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, `TimedOut` after a deadline or time-out, and `NotConnected` after
    /// [`close`](Self::close).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let path = std::env::temp_dir().join(format!("gort-send-{}", std::process::id()));
    ///     let socket = UnixDatagram::bind(&path)?;
    ///     assert_eq!(UnixDatagram::unbound()?.send_to(b"hello", &path)?, 5);
    ///     std::fs::remove_file(path)
    /// })
    /// # .unwrap();
    /// ```
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.send_to_kernel(buf, &SocketAddrUnix::new(path.as_ref())?)
    }

    /// Sends a datagram to the socket at `addr`, and returns its length.
    ///
    /// # Blocking
    ///
    /// G: yes, while the queue of the receiver is full. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    /// use std::os::linux::net::SocketAddrExt;
    /// use std::os::unix::net::SocketAddr;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    ///     let socket = UnixDatagram::bind_addr(&addr)?;
    ///     assert_eq!(UnixDatagram::unbound()?.send_to_addr(b"hello", &addr)?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn send_to_addr(&self, buf: &[u8], addr: &SocketAddr) -> io::Result<usize> {
        self.send_to_kernel(buf, &to_kernel(addr)?)
    }

    fn send_to_kernel(&self, buf: &[u8], addr: &SocketAddrUnix) -> io::Result<usize> {
        self.fd.operate_without_edges(|fd| rustix::net::sendto(fd, buf, SEND_FLAGS, addr))
    }

    /// Sends a datagram to the connected peer, and returns its length.
    ///
    /// # Blocking
    ///
    /// G: yes, while the queue of the receiver is full. M: no. P: no.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UnixDatagram;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, _b) = UnixDatagram::pair()?;
    ///     assert_eq!(a.send(b"hello")?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.send_datagram(buf)
    }

    common_methods!(UnixDatagram, std_unix::UnixDatagram);
    deadline_methods!(UnixDatagram);
    std_methods! { UnixDatagram, "", std_unix::UnixDatagram;
        /// Returns the address of this socket.
        local_addr() -> SocketAddr =>
            "assert!(socket.local_addr()?.is_unnamed());";
        /// Returns the address of the connected peer.
        peer_addr() -> SocketAddr =>
            "assert!(socket.peer_addr()?.is_unnamed());";
        /// Ends one or both directions: receiving, sending.
        shutdown(how: Shutdown) -> () =>
            "socket.shutdown(std::net::Shutdown::Write)?;"
            "let error = socket.send(b\"hello\").unwrap_err();"
            "assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);";
    }
}

conversions!(UnixDatagram, std_unix::UnixDatagram, |s| [("local", s.local_addr())]);
