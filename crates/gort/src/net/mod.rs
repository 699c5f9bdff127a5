//! Sockets: std's shapes, and waiting parks the goroutine instead of the thread.
//!
//! [`TcpStream`], [`TcpListener`], [`UdpSocket`], [`UnixStream`], [`UnixListener`] and [`UnixDatagram`] have the methods
//! of their namesakes in [`std::net`] and [`std::os::unix::net`]. Code written for those works when the `use` line is
//! changed. What is added:
//!
//! - **Deadlines** (`set_deadline`, `set_read_deadline`, `set_write_deadline`): moments, not durations. They hold for all
//!   calls until they are changed, calls in flight included. A call that misses one fails with
//!   [`ErrorKind::TimedOut`](std::io::ErrorKind::TimedOut), "i/o timeout". One in the past fails calls at once even when
//!   data is ready, so `set_deadline(Some(Instant::now()))` from another goroutine interrupts whatever goes on.
//! - **`close`**: ends the socket for all who share it. Calls in flight and later ones fail with
//!   [`ErrorKind::NotConnected`](std::io::ErrorKind::NotConnected), "use of closed network connection".
//! - Listeners ask for the longest backlog that the system allows (`net.core.somaxconn`) instead of 128.
//!
//! Everything is `&self`, so one goroutine may read while another one writes, on one socket in an `Arc` or borrowed in a
//! scope. Several reads at once are served one after the other, and so are several writes.
//!
//! Sockets work from plain OS threads too (a wait then holds the thread); what they need is that the runtime was started.
//!
//! ```
//! use gort::net::{TcpListener, TcpStream};
//! use std::io::{Read, Write};
//!
//! gort::run(|| -> std::io::Result<()> {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let addr = listener.local_addr()?;
//!     let server = gort::go(move || -> std::io::Result<()> {
//!         let (mut stream, _peer) = listener.accept()?;
//!         let mut word = [0; 5];
//!         stream.read_exact(&mut word)?;
//!         stream.write_all(&word)
//!     });
//!     let mut stream = TcpStream::connect(addr)?;
//!     stream.write_all(b"hello")?;
//!     let mut echo = String::new();
//!     stream.read_to_string(&mut echo)?;
//!     assert_eq!(echo, "hello");
//!     server.join().unwrap()
//! })
//! # .unwrap();
//! ```

#[macro_use]
mod methods;

mod addr;
mod error;
mod fd;
mod fd_mutex;
mod tcp;
mod udp;
mod unix;

pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixIncoming, UnixListener, UnixStream};

#[doc(no_inline)]
pub use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs,
};

#[cfg(test)]
mod tests;
