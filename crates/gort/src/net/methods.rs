//! Methods and conversions that several kinds of sockets share, written once. Each type has a field
//! `fd: NetFd`.
//!
//! The examples are written once too. The macros below give the lines that differ by kind.

/// The imports of an example about a socket of this kind.
macro_rules! example_use {
    (TcpStream) => {
        "use gort::net::{TcpListener, TcpStream};"
    };
    (TcpListener) => {
        "use gort::net::TcpListener;"
    };
    (UdpSocket) => {
        "use gort::net::UdpSocket;"
    };
    (UdpSocketV6) => {
        "use gort::net::UdpSocket;"
    };
    (UnixStream) => {
        "use gort::net::UnixStream;"
    };
    (UnixListener) => {
        r#"use gort::net::UnixListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;"#
    };
    (UnixDatagram) => {
        "use gort::net::UnixDatagram;"
    };
}

/// The lines of an example that make `socket`. Where it is connected, its peer is `peer`.
macro_rules! example_socket {
    (TcpStream) => {
        r#"    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    let (peer, _addr) = listener.accept()?;"#
    };
    (TcpListener) => {
        r#"    let socket = TcpListener::bind("127.0.0.1:0")?;"#
    };
    (UdpSocket) => {
        r#"    let socket = UdpSocket::bind("127.0.0.1:0")?;"#
    };
    (UdpSocketV6) => {
        r#"    let socket = UdpSocket::bind("[::1]:0")?;"#
    };
    (UnixStream) => {
        "    let (socket, peer) = UnixStream::pair()?;"
    };
    (UnixListener) => {
        r#"    let addr = SocketAddr::from_abstract_name(format!("gort-{}", std::process::id()))?;
    let socket = UnixListener::bind_addr(&addr)?;"#
    };
    (UnixDatagram) => {
        "    let (socket, peer) = UnixDatagram::pair()?;"
    };
}

/// A call on `socket` that has to wait until something comes in.
macro_rules! example_read {
    (TcpStream) => {
        "(&socket).read(&mut [0])"
    };
    (TcpListener) => {
        "socket.accept()"
    };
    (UdpSocket) => {
        "socket.recv(&mut [0])"
    };
    (UnixStream) => {
        "(&socket).read(&mut [0])"
    };
    (UnixListener) => {
        "socket.accept()"
    };
    (UnixDatagram) => {
        "socket.recv(&mut [0])"
    };
}

/// A call on `socket` that sends something.
macro_rules! example_write {
    (TcpStream) => {
        "(&socket).write(b\"hello\")"
    };
    (UdpSocket) => {
        "socket.send(b\"hello\")"
    };
    (UnixStream) => {
        "(&socket).write(b\"hello\")"
    };
    (UnixDatagram) => {
        "socket.send(b\"hello\")"
    };
}

/// `close` and what every socket has.
macro_rules! common_methods {
    ($name:ident, $std:ty) => {
        /// Takes over a socket of std's. It may be in blocking or in non-blocking mode.
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
        #[doc = example_use!($name)]
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     let of_std = socket.into_std()?;
        #[doc = concat!("    let socket = ", stringify!($name), "::from_std(of_std)?;")]
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn from_std(socket: $std) -> std::io::Result<Self> {
            Ok(Self { fd: crate::net::fd::NetFd::from_blocking(socket)? })
        }

        /// Converts this handle into std's type.
        ///
        /// The socket is put into blocking mode, or into non-blocking mode after
        /// `set_nonblocking(true)`. Deadlines and time-outs are not kept.
        ///
        /// The mode belongs to the socket. So in a clone that remains, `accept` and
        /// [`UnixDatagram::recv_from`](crate::net::UnixDatagram::recv_from) would block their
        /// thread. All other calls ask the kernel each time not to block.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close), and the kernel's errors.
        ///
        /// # Panics
        ///
        /// In a [forked child](crate#forks): the mode is the parent's too.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     let of_std = socket.into_std()?;
        ///     assert!(of_std.local_addr().is_ok());
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn into_std(self) -> std::io::Result<$std> {
            Ok(self.fd.into_blocking()?.into())
        }

        /// Makes a second handle to the same socket.
        ///
        /// The new handle has deadlines and a [`close`](Self::close) of its own. Time-outs belong
        /// to the socket, as in std: one that is set by one handle holds for all. The socket ends
        /// when all handles are closed or dropped.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close), and the kernel's errors (for example, no
        /// descriptors are left).
        ///
        /// # Panics
        ///
        /// In a [forked child](crate#forks).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     let clone = socket.try_clone()?;
        ///     socket.close();
        ///     assert!(clone.local_addr().is_ok()); // still open
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn try_clone(&self) -> std::io::Result<Self> {
            Ok(Self { fd: self.fd.try_clone()? })
        }

        /// Closes the socket for all goroutines and threads that share this handle.
        ///
        /// Calls in flight and later calls fail with
        /// [`NotConnected`](std::io::ErrorKind::NotConnected). The peer sees the same as after a
        /// drop. Closing a second time does nothing.
        ///
        /// - The number of the descriptor is given back when the handle is dropped.
        /// - The socket itself lives as long as another handle to it. A process that was forked
        ///   meanwhile has such a handle until it calls `exec`.
        ///
        /// # Blocking
        ///
        /// G: yes, until the calls in flight have left, which they do at once. M: no. P: no.
        ///
        /// The last handle to a connection with a
        /// [linger time](crate::net::TcpStream::set_linger) is the exception, for a drop too: G:
        /// yes. M: yes, as inside [`blocking`](crate::blocking). P: no.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::ErrorKind;
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.close();
        ///     assert_eq!(socket.local_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn close(&self) {
            self.fd.close();
        }

        /// Takes the pending error of the socket (`SO_ERROR`), and clears it.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     assert!(socket.take_error()?.is_none());
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
            self.fd.with_std(|s: &$std| s.take_error())
        }

        /// Sets whether calls that would have to wait fail instead.
        ///
        /// With true, they fail with [`WouldBlock`](std::io::ErrorKind::WouldBlock), as std's do.
        /// Unlike in std, the setting belongs to this handle and not to the socket.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::{ErrorKind, Read};
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.set_nonblocking(true)?;
        #[doc = concat!("    let error = ", example_read!($name), ".unwrap_err();")]
        ///     assert_eq!(error.kind(), ErrorKind::WouldBlock);
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
            self.fd.set_nonblocking(nonblocking)
        }
    };
}

/// Deadlines of sockets that are read and written.
macro_rules! deadline_methods {
    ($name:ident) => {
        /// Sets the deadline of all reads and writes, including calls in flight. `None` removes it.
        ///
        /// A call that misses the deadline fails with
        /// [`TimedOut`](std::io::ErrorKind::TimedOut), "i/o timeout". With a deadline in the past,
        /// calls fail at once, even when data is ready. The socket stays usable: set another
        /// deadline and go on.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Panics
        ///
        /// In a [forked child](crate#forks).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::{ErrorKind, Read};
        /// use std::time::Instant;
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.set_deadline(Some(Instant::now()))?;
        #[doc = concat!("    let error = ", example_read!($name), ".unwrap_err();")]
        ///     assert_eq!(error.kind(), ErrorKind::TimedOut);
        ///     socket.set_deadline(None) // usable again
        /// })
        /// # .unwrap();
        /// ```
        pub fn set_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(true, true, deadline)
        }

        /// Sets the deadline of reads only; see [`set_deadline`](Self::set_deadline).
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Panics
        ///
        /// In a [forked child](crate#forks).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::{ErrorKind, Read};
        /// use std::time::{Duration, Instant};
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.set_read_deadline(Some(Instant::now() + Duration::from_millis(2)))?;
        #[doc = concat!("    let error = ", example_read!($name), ".unwrap_err();")]
        ///     assert_eq!(error.kind(), ErrorKind::TimedOut);
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn set_read_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(true, false, deadline)
        }

        /// Sets the deadline of writes only; see [`set_deadline`](Self::set_deadline).
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Panics
        ///
        /// In a [forked child](crate#forks).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::{ErrorKind, Write};
        /// use std::time::Instant;
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.set_write_deadline(Some(Instant::now()))?;
        #[doc = concat!("    let error = ", example_write!($name), ".unwrap_err();")]
        ///     assert_eq!(error.kind(), ErrorKind::TimedOut);
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn set_write_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(false, true, deadline)
        }

        /// Sets how long each read may take, as std's method does. `None` removes the limit.
        ///
        /// It holds for all handles to the socket that [`try_clone`](Self::try_clone) has made.
        ///
        /// Calls in flight keep the limit that they began with. A read that takes longer fails with
        /// [`TimedOut`](std::io::ErrorKind::TimedOut). (On Unix, std's fails with `WouldBlock`;
        /// portable code expects both.) If there is a deadline too, the earlier one ends the call.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `InvalidInput` if the time-out is zero, and `NotConnected` after
        /// [`close`](Self::close).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::{ErrorKind, Read};
        /// use std::time::Duration;
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.set_read_timeout(Some(Duration::from_millis(2)))?;
        #[doc = concat!("    let error = ", example_read!($name), ".unwrap_err();")]
        ///     assert_eq!(error.kind(), ErrorKind::TimedOut);
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
            self.fd.set_timeout(crate::sched::Mode::Read, timeout)
        }

        /// Sets how long each write may take; see [`set_read_timeout`](Self::set_read_timeout).
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `InvalidInput` if the time-out is zero, and `NotConnected` after
        /// [`close`](Self::close).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::ErrorKind;
        /// use std::time::Duration;
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.set_write_timeout(Some(Duration::from_secs(5)))?;
        ///     let error = socket.set_write_timeout(Some(Duration::ZERO)).unwrap_err();
        ///     assert_eq!(error.kind(), ErrorKind::InvalidInput);
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn set_write_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
            self.fd.set_timeout(crate::sched::Mode::Write, timeout)
        }

        /// Returns how long each read may take; `None` if there is no limit.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::time::Duration;
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     assert_eq!(socket.read_timeout()?, None);
        ///     socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        ///     assert_eq!(socket.read_timeout()?, Some(Duration::from_secs(5)));
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn read_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
            self.fd.timeout(crate::sched::Mode::Read)
        }

        /// Returns how long each write may take; `None` if there is no limit.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::time::Duration;
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     assert_eq!(socket.write_timeout()?, None);
        ///     socket.set_write_timeout(Some(Duration::from_secs(5)))?;
        ///     assert_eq!(socket.write_timeout()?, Some(Duration::from_secs(5)));
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn write_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
            self.fd.timeout(crate::sched::Mode::Write)
        }
    };
}

/// The deadline of listeners.
macro_rules! accept_deadline_method {
    ($name:ident) => {
        /// Sets the deadline of `accept`, including calls in flight. `None` removes it.
        ///
        /// A call that misses the deadline fails with
        /// [`TimedOut`](std::io::ErrorKind::TimedOut). With a deadline in the past, calls fail at
        /// once, even when a connection is there.
        ///
        /// # Blocking
        ///
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        ///
        /// `NotConnected` after [`close`](Self::close).
        ///
        /// # Panics
        ///
        /// In a [forked child](crate#forks).
        ///
        /// # Examples
        ///
        /// ```
        #[doc = example_use!($name)]
        /// use std::io::ErrorKind;
        /// use std::time::{Duration, Instant};
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($name)]
        ///     socket.set_deadline(Some(Instant::now() + Duration::from_millis(2)))?;
        ///     assert_eq!(socket.accept().unwrap_err().kind(), ErrorKind::TimedOut);
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn set_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(true, true, deadline)
        }
    };
}

/// One option of std's type: a setter, a getter. `$kind` is for the examples, `$fence` what stands
/// behind their opening fence.
macro_rules! option_methods {
    ($kind:ident, $fence:literal, $std:ty;
     $($(#[$doc:meta])* $set:ident, $get:ident: $value:ty = $example:literal;)*) => {$(
        $(#[$doc])*
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
        #[doc = concat!("```", $fence)]
        #[doc = example_use!($kind)]
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($kind)]
        #[doc = concat!("    socket.", stringify!($set), "(", stringify!($example), ")?;")]
        #[doc = concat!("    assert_eq!(socket.", stringify!($get), "()?, ", stringify!($example), ");")]
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn $set(&self, value: $value) -> std::io::Result<()> {
            self.fd.with_std(|s: &$std| s.$set(value))
        }

        #[doc = concat!("Returns what [`", stringify!($set), "`](Self::", stringify!($set), ") sets.")]
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
        #[doc = concat!("```", $fence)]
        #[doc = example_use!($kind)]
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($kind)]
        #[doc = concat!("    socket.", stringify!($set), "(", stringify!($example), ")?;")]
        #[doc = concat!("    assert_eq!(socket.", stringify!($get), "()?, ", stringify!($example), ");")]
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn $get(&self) -> std::io::Result<$value> {
            self.fd.with_std(|s: &$std| s.$get())
        }
    )*};
}

/// Methods that std's type has and that do not wait. Behind each stand the lines of its example;
/// `$kind` and `$fence` as in `option_methods`.
macro_rules! std_methods {
    ($kind:ident, $fence:literal, $std:ty;
     $($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty => $($example:literal)*;)*) => {$(
        $(#[$doc])*
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
        #[doc = concat!("```", $fence)]
        #[doc = example_use!($kind)]
        ///
        /// gort::run(|| -> std::io::Result<()> {
        #[doc = example_socket!($kind)]
        $(#[doc = concat!("    ", $example)])*
        ///     Ok(())
        /// })
        /// # .unwrap();
        /// ```
        pub fn $name(&self, $($arg: $ty),*) -> std::io::Result<$ret> {
            self.fd.with_std(|s: &$std| s.$name($($arg),*))
        }
    )*};
}

/// To and from std, and to and from descriptors.
macro_rules! conversions {
    ($name:ident, $std:ty, |$s:ident| $debug:expr) => {
        /// As `from_std`.
        impl TryFrom<$std> for $name {
            type Error = std::io::Error;

            fn try_from(socket: $std) -> std::io::Result<$name> {
                $name::from_std(socket)
            }
        }

        /// As `from_std`. Whether the descriptor is a socket of this kind shows only when methods
        /// are called.
        impl TryFrom<std::os::fd::OwnedFd> for $name {
            type Error = std::io::Error;

            fn try_from(fd: std::os::fd::OwnedFd) -> std::io::Result<$name> {
                $name::from_std(<$std>::from(fd))
            }
        }

        impl TryFrom<$name> for $std {
            type Error = std::io::Error;

            /// As `into_std`.
            fn try_from(socket: $name) -> std::io::Result<$std> {
                socket.into_std()
            }
        }

        /// The descriptor stays in non-blocking mode. After `close`, it is that of another file,
        /// from which nothing can be read.
        impl From<$name> for std::os::fd::OwnedFd {
            fn from(socket: $name) -> std::os::fd::OwnedFd {
                socket.fd.into_fd()
            }
        }

        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.fd.as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&self.fd.as_fd())
            }
        }

        /// As the conversion to `OwnedFd`.
        impl std::os::fd::IntoRawFd for $name {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(self.fd.into_fd())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $s = self;
                let mut out = f.debug_struct(stringify!($name));
                for (field, value) in $debug {
                    if let Ok(value) = value {
                        out.field(field, &value);
                    }
                }
                out.field("fd", &std::os::fd::AsRawFd::as_raw_fd(self)).finish()
            }
        }
    };
}

/// The methods of streams that do not wait or need no buffer; `Read` and `Write`, for the value and
/// for a reference to it.
macro_rules! stream_io {
    ($name:ident, $recv:ident, is_tcp: $is_tcp:expr) => {
        impl $name {
            /// Waits until there is something to read: data, the end of the stream or an error.
            ///
            /// This needs no buffer, so an idle connection needs little stack. It may return early,
            /// as `poll` may. The read that follows then waits.
            ///
            /// # Blocking
            ///
            /// G: yes. M: no. P: no.
            ///
            /// # Errors
            ///
            /// As for reads; `WouldBlock` after `set_nonblocking(true)`.
            ///
            /// # Panics
            ///
            /// In a [forked child](crate#forks).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = example_use!($name)]
            /// use std::io::Write;
            ///
            /// gort::run(|| -> std::io::Result<()> {
            #[doc = example_socket!($name)]
            ///     let reader = gort::go(move || {
            ///         socket.wait_readable()?;
            ///         socket.try_read(&mut vec![0; 64 << 10]) // the buffer is made only now
            ///     });
            ///     (&peer).write_all(b"hello")?;
            ///     assert_eq!(reader.join().unwrap()?, 5);
            ///     Ok(())
            /// })
            /// # .unwrap();
            /// ```
            pub fn wait_readable(&self) -> std::io::Result<()> {
                self.fd.wait_readable()
            }

            /// Reads the data that is there, without waiting.
            ///
            /// # Blocking
            ///
            /// G: no. M: no. P: no.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if nothing is there, or if another goroutine is reading; otherwise as
            /// for reads.
            ///
            /// # Panics
            ///
            /// In a [forked child](crate#forks).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = example_use!($name)]
            /// use std::io::{ErrorKind, Write};
            ///
            /// gort::run(|| -> std::io::Result<()> {
            #[doc = example_socket!($name)]
            ///     let error = socket.try_read(&mut [0; 8]).unwrap_err();
            ///     assert_eq!(error.kind(), ErrorKind::WouldBlock);
            ///     (&peer).write_all(b"hello")?;
            ///     socket.wait_readable()?;
            ///     assert_eq!(socket.try_read(&mut [0; 8])?, 5);
            ///     Ok(())
            /// })
            /// # .unwrap();
            /// ```
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.fd.try_recv(buf, $is_tcp)
            }

            /// Writes as much as the send buffer has room for, without waiting.
            ///
            /// With this, one goroutine can write to many sockets. For a socket that is full, start
            /// a goroutine that waits.
            ///
            /// # Blocking
            ///
            /// G: no. M: no. P: no.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is no room, or if another goroutine is writing; otherwise as
            /// for writes.
            ///
            /// # Panics
            ///
            /// In a [forked child](crate#forks).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = example_use!($name)]
            /// use std::io::Read;
            ///
            /// gort::run(|| -> std::io::Result<()> {
            #[doc = example_socket!($name)]
            ///     assert_eq!(socket.try_write(b"hello")?, 5);
            ///     let mut word = [0; 5];
            ///     (&peer).read_exact(&mut word)?;
            ///     assert_eq!(&word, b"hello");
            ///     Ok(())
            /// })
            /// # .unwrap();
            /// ```
            #[inline]
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.fd.try_send(buf)
            }

            /// As [`try_write`](Self::try_write), from several buffers.
            ///
            /// # Blocking
            ///
            /// G: no. M: no. P: no.
            ///
            /// # Errors
            ///
            /// As [`try_write`](Self::try_write).
            ///
            /// # Panics
            ///
            /// In a [forked child](crate#forks).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = example_use!($name)]
            /// use std::io::IoSlice;
            ///
            /// gort::run(|| -> std::io::Result<()> {
            #[doc = example_socket!($name)]
            ///     let bufs = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
            ///     assert_eq!(socket.try_write_vectored(&bufs)?, 12);
            ///     Ok(())
            /// })
            /// # .unwrap();
            /// ```
            pub fn try_write_vectored(&self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.fd.try_send_vectored(bufs)
            }
        }

        impl std::io::Read for &$name {
            #[inline]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.fd.$recv(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                self.fd.recv_vectored(bufs, $is_tcp)
            }
        }

        impl std::io::Write for &$name {
            #[inline]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.fd.send_stream(buf)
            }

            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.fd.send_vectored(bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Read for $name {
            #[inline]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buf)
            }

            fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                (&*self).read_vectored(bufs)
            }
        }

        impl std::io::Write for $name {
            #[inline]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                (&*self).write(buf)
            }

            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                (&*self).write_vectored(bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}
