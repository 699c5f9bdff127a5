//! UDP sockets.

use super::addr::{each_addr, no_address, resolve};
use super::fd::{NetFd, SEND_FLAGS};
use crate::sched::Mode;
use rustix::net::RecvFlags;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A UDP socket, as [`std::net::UdpSocket`].
///
/// # Blocking
///
/// Receiving and sending: G: yes. M: no. P: no. A drop: G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use gort::net::UdpSocket;
///
/// gort::run(|| -> std::io::Result<()> {
///     let a = UdpSocket::bind("127.0.0.1:0")?;
///     let b = UdpSocket::bind("127.0.0.1:0")?;
///     a.send_to(b"hello", b.local_addr()?)?;
///     let mut buf = [0; 16];
///     let (n, from) = b.recv_from(&mut buf)?;
///     assert_eq!((&buf[..n], from), (&b"hello"[..], a.local_addr()?));
///     Ok(())
/// })
/// # .unwrap();
/// ```
pub struct UdpSocket {
    fd: NetFd,
}

impl UdpSocket {
    /// Makes a socket that is bound to `addr`.
    ///
    /// If there are several addresses, they are tried in turn until one can be bound. With port 0,
    /// the system chooses the port.
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
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let socket = UdpSocket::bind("127.0.0.1:0")?;
    ///     assert_ne!(socket.local_addr()?.port(), 0);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        each_addr(addr, |addr| UdpSocket::from_std(std::net::UdpSocket::bind(addr)?))
    }

    /// Sets the peer of `send` and `recv`. Datagrams from other addresses are no longer received.
    ///
    /// If there are several addresses, they are tried in turn until one can be set.
    ///
    /// # Blocking
    ///
    /// G: only while a name is looked up. M: likewise. P: no.
    ///
    /// # Errors
    ///
    /// The error of the last address, or `InvalidInput` if there is no address. `NotConnected`
    /// after [`close`](Self::close).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     a.connect(b.local_addr()?)?;
    ///     assert_eq!(a.peer_addr()?, b.local_addr()?);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each_addr(addr, |addr| self.fd.with_std(|s: &std::net::UdpSocket| s.connect(addr)))
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
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     a.send_to(b"hello", b.local_addr()?)?;
    ///     assert_eq!(b.recv_from(&mut [0; 16])?, (5, a.local_addr()?));
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::empty())
    }

    /// As [`recv_from`](Self::recv_from), but the datagram stays in the socket.
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
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     a.send_to(b"hello", b.local_addr()?)?;
    ///     assert_eq!(b.peek_from(&mut [0; 16])?, (5, a.local_addr()?));
    ///     assert_eq!(b.recv_from(&mut [0; 16])?, (5, a.local_addr()?)); // the same datagram
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::PEEK)
    }

    fn recv_from_with(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        self.fd
            .operate(Mode::Read, |fd| rustix::net::recvfrom(fd, &mut *buf, flags | RecvFlags::DONTWAIT))
            .and_then(|(n, _, from)| Ok((n, from.ok_or_else(no_address)?.try_into()?)))
    }

    /// Sends a datagram to `addr`, and returns its length. Of several addresses, the first is used.
    ///
    /// # Blocking
    ///
    /// G: yes, while the send buffer is full. M: only while a name is looked up. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors, `TimedOut` after a deadline or time-out, and `NotConnected` after
    /// [`close`](Self::close). `InvalidInput` if there is no address.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     assert_eq!(a.send_to(b"hello", b.local_addr()?)?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let addr = resolve(&addr)?.next().ok_or_else(no_address)?;
        self.fd.operate(Mode::Write, |fd| rustix::net::sendto(fd, buf, SEND_FLAGS, &addr))
    }

    /// Waits for a datagram from the connected peer, and returns its length.
    ///
    /// What does not fit into `buf` is lost. Without a peer, this receives datagrams of all
    /// senders.
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
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     b.connect(a.local_addr()?)?;
    ///     a.send_to(b"hello", b.local_addr()?)?;
    ///     assert_eq!(b.recv(&mut [0; 16])?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.recv_datagram(buf, RecvFlags::empty())
    }

    /// As [`recv`](Self::recv), but the datagram stays in the socket.
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
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     a.send_to(b"hello", b.local_addr()?)?;
    ///     assert_eq!(b.peek(&mut [0; 16])?, 5);
    ///     assert_eq!(b.recv(&mut [0; 16])?, 5); // the same datagram
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.recv_datagram(buf, RecvFlags::PEEK)
    }

    /// Sends a datagram to the connected peer, and returns its length.
    ///
    /// # Blocking
    ///
    /// G: yes, while the send buffer is full. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The kernel's errors (`EDESTADDRREQ` if there is no peer), `TimedOut` after a deadline or
    /// time-out, and `NotConnected` after [`close`](Self::close).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::net::UdpSocket;
    ///
    /// gort::run(|| -> std::io::Result<()> {
    ///     let (a, b) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ///     a.connect(b.local_addr()?)?;
    ///     assert_eq!(a.send(b"hello")?, 5);
    ///     assert_eq!(b.recv(&mut [0; 16])?, 5);
    ///     Ok(())
    /// })
    /// # .unwrap();
    /// ```
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.send_datagram(buf)
    }

    common_methods!(UdpSocket, std::net::UdpSocket);
    deadline_methods!(UdpSocket);
    option_methods! { UdpSocket, "", std::net::UdpSocket;
        /// Sets whether datagrams may be sent to broadcast addresses (`SO_BROADCAST`).
        set_broadcast, broadcast: bool = true;
        /// Sets the time to live of packets (`IP_TTL`).
        set_ttl, ttl: u32 = 64;
        /// Sets whether the IPv4 multicasts that this socket sends also reach this machine
        /// (`IP_MULTICAST_LOOP`).
        set_multicast_loop_v4, multicast_loop_v4: bool = false;
        /// Sets the time to live of IPv4 multicasts (`IP_MULTICAST_TTL`).
        set_multicast_ttl_v4, multicast_ttl_v4: u32 = 2;
    }
    option_methods! { UdpSocketV6, "no_run", std::net::UdpSocket;
        /// Sets whether the IPv6 multicasts that this socket sends also reach this machine
        /// (`IPV6_MULTICAST_LOOP`).
        set_multicast_loop_v6, multicast_loop_v6: bool = false;
    }
    std_methods! { UdpSocket, "", std::net::UdpSocket;
        /// Returns the address of this socket.
        local_addr() -> SocketAddr =>
            "assert!(socket.local_addr()?.ip().is_loopback());";
        /// Returns the address of the connected peer.
        peer_addr() -> SocketAddr =>
            "socket.connect(\"127.0.0.1:9\")?;"
            "assert_eq!(socket.peer_addr()?.port(), 9);";
        /// Joins an IPv4 multicast group on the interface with the given address.
        join_multicast_v4(group: &Ipv4Addr, interface: &Ipv4Addr) -> () =>
            "use std::net::Ipv4Addr;"
            "let group = Ipv4Addr::new(224, 0, 0, 123);"
            "socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;";
        /// Leaves an IPv4 multicast group.
        leave_multicast_v4(group: &Ipv4Addr, interface: &Ipv4Addr) -> () =>
            "use std::net::Ipv4Addr;"
            "let (group, interface) = (Ipv4Addr::new(224, 0, 0, 123), Ipv4Addr::LOCALHOST);"
            "socket.join_multicast_v4(&group, &interface)?;"
            "socket.leave_multicast_v4(&group, &interface)?;";
    }
    std_methods! { UdpSocketV6, "no_run", std::net::UdpSocket;
        /// Joins an IPv6 multicast group on the interface with the given index.
        join_multicast_v6(group: &Ipv6Addr, interface: u32) -> () =>
            "let group = \"ff02::123\".parse().unwrap();"
            "socket.join_multicast_v6(&group, 1)?;";
        /// Leaves an IPv6 multicast group.
        leave_multicast_v6(group: &Ipv6Addr, interface: u32) -> () =>
            "let group = \"ff02::123\".parse().unwrap();"
            "socket.join_multicast_v6(&group, 1)?;"
            "socket.leave_multicast_v6(&group, 1)?;";
    }
}

conversions!(UdpSocket, std::net::UdpSocket, |s| [("addr", s.local_addr())]);
