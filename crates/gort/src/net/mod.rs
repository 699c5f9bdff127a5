//! Sockets with the methods of [`std::net`]. A call that has to wait parks the goroutine, not the
//! thread.
//!
//! [`TcpStream`], [`TcpListener`], [`UdpSocket`], [`UnixStream`], [`UnixListener`] and
//! [`UnixDatagram`] have the methods of the types of the same name in [`std::net`] and
//! [`std::os::unix::net`]. Code written for those works when the `use` line is changed. They add:
//!
//! - **Deadlines** (`set_deadline`, `set_read_deadline`, `set_write_deadline`). A deadline is a
//!   moment, not a duration. It holds for all calls until it is changed, including calls in flight.
//!   A call that misses it fails with [`TimedOut`](std::io::ErrorKind::TimedOut), "i/o timeout".
//!   With a deadline in the past, calls fail at once, even when data is ready. So
//!   `set_deadline(Some(Instant::now()))` from another goroutine interrupts the calls in flight.
//! - **`close`** ends the socket for all goroutines that share the handle. Calls in flight and
//!   later calls fail with [`NotConnected`](std::io::ErrorKind::NotConnected), "use of closed
//!   network connection".
//! - **Long queues**: listeners ask for the longest backlog that the system allows
//!   (`net.core.somaxconn`).
//!
//! # Sharing
//!
//! All methods take `&self`. So one goroutine may read while another one writes, on one socket in
//! an `Arc` or borrowed in a [`scope`](fn@crate::scope). Several reads at once are served in turn,
//! and so are several writes.
//!
//! # Blocking
//!
//! What waits for the network parks the goroutine: G: yes. M: no. P: no. Looking up a name blocks
//! the thread, as inside [`blocking`](crate::blocking).
//!
//! Sockets work on plain OS threads too, where a wait blocks the thread. The runtime must have been
//! started.
//!
//! # Errors
//!
//! Errors are [`std::io::Error`]s, and those of the kernel are passed on as they are. gort adds
//! `TimedOut`, `NotConnected` (both above), and `Other` where a socket is made before the runtime
//! was started. Some methods check arguments as std's do, and fail with `InvalidInput`.
//!
//! # Examples
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
