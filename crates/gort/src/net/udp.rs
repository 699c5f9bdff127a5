//! UDP.

use super::addr::{each_addr, no_address, resolve};
use super::fd::{NetFd, SEND_FLAGS};
use crate::sched::Mode;
use rustix::net::RecvFlags;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// A UDP socket, as [`std::net::UdpSocket`].
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
    /// Makes a socket bound to `addr`; of several addresses, to the first that can be had.
    ///
    /// # Blocking
    /// G: yes for the look-up of a name. M: likewise. P: no.
    ///
    /// # Errors
    /// The last address's error, or `InvalidInput` if there is none.
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<UdpSocket> {
        each_addr(addr, |addr| UdpSocket::from_std(std::net::UdpSocket::bind(addr)?))
    }

    /// Sets the peer for `send` and `recv`; of several addresses, the first that can be had.
    ///
    /// # Blocking
    /// G: yes for the look-up of a name. M: likewise. P: no.
    ///
    /// # Errors
    /// The last address's error, or `InvalidInput` if there is none.
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        each_addr(addr, |addr| self.fd.with_std(|s: &std::net::UdpSocket| s.connect(addr)))
    }

    /// Receives a datagram: how long it was (cut off at the buffer's end) and who sent it.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// The kernel's, `TimedOut` after a deadline, `NotConnected` after [`close`](Self::close).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::empty())
    }

    /// The same, but the datagram stays.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.recv_from_with(buf, RecvFlags::PEEK)
    }

    fn recv_from_with(&self, buf: &mut [u8], flags: RecvFlags) -> io::Result<(usize, SocketAddr)> {
        self.fd
            .operate(Mode::Read, |fd| rustix::net::recvfrom(fd, &mut *buf, flags | RecvFlags::DONTWAIT))
            .and_then(|(n, _, from)| Ok((n, from.ok_or_else(no_address)?.try_into()?)))
    }

    /// Sends a datagram to `addr` (to the first, of several). Returns how long it was.
    ///
    /// # Blocking
    /// G: yes, while the send buffer is full. M: no, but for the look-up of a name. P: no.
    ///
    /// # Errors
    /// The kernel's, `TimedOut` after a deadline, `NotConnected` after [`close`](Self::close), `InvalidInput` if there is
    /// no address.
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let addr = resolve(&addr)?.next().ok_or_else(no_address)?;
        self.fd.operate(Mode::Write, |fd| rustix::net::sendto(fd, buf, SEND_FLAGS, &addr))
    }

    /// Receives a datagram from the connected peer.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.recv_datagram(buf, RecvFlags::empty())
    }

    /// The same, but the datagram stays.
    ///
    /// # Blocking
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.recv_datagram(buf, RecvFlags::PEEK)
    }

    /// Sends a datagram to the connected peer.
    ///
    /// # Blocking
    /// G: yes, while the send buffer is full. M: no. P: no.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); `DestinationAddressRequired` (by its number) if there is no peer.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.send_datagram(buf)
    }

    common_methods!(std::net::UdpSocket);
    deadline_methods!();
    option_methods! { std::net::UdpSocket;
        /// Allows to send to broadcast addresses (`SO_BROADCAST`).
        set_broadcast, broadcast: bool;
        /// Sets the time to live of packets (`IP_TTL`).
        set_ttl, ttl: u32;
        /// With true, our own IPv4 multicasts come back to us.
        set_multicast_loop_v4, multicast_loop_v4: bool;
        /// Sets the time to live of IPv4 multicasts.
        set_multicast_ttl_v4, multicast_ttl_v4: u32;
        /// With true, our own IPv6 multicasts come back to us.
        set_multicast_loop_v6, multicast_loop_v6: bool;
    }
    std_methods! { std::net::UdpSocket;
        /// Our address.
        local_addr() -> SocketAddr;
        /// The connected peer's address.
        peer_addr() -> SocketAddr;
        /// Joins an IPv4 multicast group on the given interface.
        join_multicast_v4(group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
        /// Joins an IPv6 multicast group on the interface with the given index.
        join_multicast_v6(group: &Ipv6Addr, interface: u32) -> ();
        /// Leaves an IPv4 multicast group.
        leave_multicast_v4(group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
        /// Leaves an IPv6 multicast group.
        leave_multicast_v6(group: &Ipv6Addr, interface: u32) -> ();
    }
}

conversions!(UdpSocket, std::net::UdpSocket, |s| [("addr", s.local_addr())]);
