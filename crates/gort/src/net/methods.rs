//! Methods and conversions that several kinds of sockets share, written once. Each has a field `fd: NetFd`.

/// `close` and what every socket has.
macro_rules! common_methods {
    ($std:ty) => {
        /// Takes a socket of std's, in whatever mode it is.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// The kernel's, or that the runtime was not started.
        pub fn from_std(socket: $std) -> std::io::Result<Self> {
            Ok(Self { fd: crate::net::fd::NetFd::from_blocking(socket)? })
        }

        /// Gives the socket to std, in blocking mode (or not, after `set_nonblocking(true)`). Deadlines and time-outs stay
        /// behind. The mode belongs to the socket, so a clone that stays here would hold its thread in `accept` or a
        /// [`UnixDatagram`](crate::net::UnixDatagram)'s `recv_from`; all else asks for each call not to block.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn into_std(self) -> std::io::Result<$std> {
            Ok(self.fd.into_blocking()?.into())
        }

        /// Makes a second handle to the same socket, with deadlines, time-outs and a [`close`](Self::close) of its own. The
        /// connection ends when all handles are closed or dropped.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close), and the kernel's (no descriptors left).
        pub fn try_clone(&self) -> std::io::Result<Self> {
            Ok(Self { fd: self.fd.try_clone()? })
        }

        /// Ends the socket for all who share this handle: calls in flight and later ones fail with
        /// [`NotConnected`](std::io::ErrorKind::NotConnected). The peer sees the end as after a drop. Closing again does
        /// nothing. The descriptor's number is given back when the handle is dropped. The socket itself lives as long
        /// as anybody has it: other handles, and a process that was forked meanwhile, until it executes.
        ///
        /// # Blocking
        /// G: yes, until calls in flight have left, which they do at once. M: no, but that of the
        /// last handle to a connection with a [linger time](crate::net::TcpStream::set_linger), as
        /// inside [`blocking`](crate::blocking). P: no. A drop is the same.
        pub fn close(&self) {
            self.fd.close();
        }

        /// The pending error of the socket, which is taken away (`SO_ERROR`).
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
            self.fd.with_std(|s: &$std| s.take_error())
        }

        /// With true, calls on this handle that would wait fail with [`WouldBlock`](std::io::ErrorKind::WouldBlock), as
        /// std's do. Unlike std's, it is a property of this handle and not of the socket.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
            self.fd.set_nonblocking(nonblocking)
        }
    };
}

/// Deadlines of sockets that are read and written.
macro_rules! deadline_methods {
    () => {
        /// Sets the deadline of all reads and writes, those in flight included; `None` takes it away.
        ///
        /// A call that misses it fails with [`TimedOut`](std::io::ErrorKind::TimedOut), "i/o timeout". A moment in the past
        /// fails calls at once, even when data is ready. The socket stays usable: set another deadline and go on.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn set_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(true, true, deadline)
        }

        /// Sets the deadline of reads only; see [`set_deadline`](Self::set_deadline).
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn set_read_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(true, false, deadline)
        }

        /// Sets the deadline of writes only; see [`set_deadline`](Self::set_deadline).
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn set_write_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(false, true, deadline)
        }

        /// Sets how long each read may take, as std's; `None` takes it away. Calls in flight keep theirs.
        ///
        /// A read that takes longer fails with [`TimedOut`](std::io::ErrorKind::TimedOut) (std on Unix says `WouldBlock`,
        /// and that portable code expects both). A deadline counts beside it: the earlier one ends the call.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `InvalidInput` for a time-out of zero, `NotConnected` after [`close`](Self::close).
        pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
            self.fd.set_timeout(crate::sched::Mode::Read, timeout)
        }

        /// Sets how long each write may take; see [`set_read_timeout`](Self::set_read_timeout).
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `InvalidInput` for a time-out of zero, `NotConnected` after [`close`](Self::close).
        pub fn set_write_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
            self.fd.set_timeout(crate::sched::Mode::Write, timeout)
        }

        /// How long each read may take.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn read_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
            self.fd.timeout(crate::sched::Mode::Read)
        }

        /// How long each write may take.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn write_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
            self.fd.timeout(crate::sched::Mode::Write)
        }
    };
}

/// The deadline of listeners.
macro_rules! accept_deadline_method {
    () => {
        /// Sets the deadline of `accept`, also of calls in flight; `None` takes it away.
        ///
        /// A call that misses it fails with [`TimedOut`](std::io::ErrorKind::TimedOut); one in the past fails calls at once,
        /// even when a connection is there.
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// `NotConnected` after [`close`](Self::close).
        pub fn set_deadline(&self, deadline: Option<std::time::Instant>) -> std::io::Result<()> {
            self.fd.set_deadline(true, true, deadline)
        }
    };
}

/// One option of std's type: a setter, a getter.
macro_rules! option_methods {
    ($std:ty; $($(#[$doc:meta])* $set:ident, $get:ident: $value:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// The kernel's, and `NotConnected` after [`close`](Self::close).
        pub fn $set(&self, value: $value) -> std::io::Result<()> {
            self.fd.with_std(|s: &$std| s.$set(value))
        }

        #[doc = concat!("What [`", stringify!($set), "`](Self::", stringify!($set), ") was last told.")]
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// The kernel's, and `NotConnected` after [`close`](Self::close).
        pub fn $get(&self) -> std::io::Result<$value> {
            self.fd.with_std(|s: &$std| s.$get())
        }
    )*};
}

/// Questions that std's type answers.
macro_rules! std_methods {
    ($std:ty; $($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Blocking
        /// G: no. M: no. P: no.
        ///
        /// # Errors
        /// The kernel's, and `NotConnected` after [`close`](Self::close).
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

        /// As `from_std`; whether it is a socket of this kind, its calls will tell.
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

        /// The descriptor stays in non-blocking mode. After `close`, it is some file that nothing can be read from.
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

/// `Read` and `Write` of streams, for the value and for a reference to it; and what does not wait.
macro_rules! stream_io {
    ($name:ident, $recv:ident, is_tcp: $is_tcp:expr) => {
        impl $name {
            /// Waits until something is there to read, the end or an error included. This needs no
            /// buffer, so the stacks of idle connections stay small.
            ///
            /// It may return early, as `poll` may: a read then still waits.
            ///
            /// # Blocking
            /// G: yes. M: no. P: no.
            ///
            /// # Errors
            /// As for reads; `WouldBlock` in non-blocking mode.
            ///
            /// # Panics
            /// In a forked child.
            ///
            /// # Examples
            /// ```
            /// use gort::net::UnixStream;
            /// use std::io::Write;
            ///
            /// gort::run(|| -> std::io::Result<()> {
            ///     let (mut here, there) = UnixStream::pair()?;
            ///     let reader = gort::go(move || {
            ///         there.wait_readable()?;
            ///         let mut buffer = vec![0; 64 << 10]; // only now
            ///         there.try_read(&mut buffer)
            ///     });
            ///     here.write_all(b"hello")?;
            ///     assert_eq!(reader.join().unwrap()?, 5);
            ///     Ok(())
            /// })
            /// # .unwrap();
            /// ```
            pub fn wait_readable(&self) -> std::io::Result<()> {
                self.fd.wait_readable()
            }

            /// Reads what is there, and never waits.
            ///
            /// # Blocking
            /// G: no. M: no. P: no.
            ///
            /// # Errors
            /// `WouldBlock` where nothing is there, or another goroutine is reading; and as for
            /// reads.
            ///
            /// # Panics
            /// In a forked child.
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.fd.try_recv(buf, $is_tcp)
            }

            /// Writes as much as the socket's buffer has room for, and never waits: so one
            /// goroutine can write to many sockets. For a socket that is full, start a goroutine
            /// that waits.
            ///
            /// # Blocking
            /// G: no. M: no. P: no.
            ///
            /// # Errors
            /// `WouldBlock` where there is no room, or another goroutine is writing; and as for
            /// writes.
            ///
            /// # Panics
            /// In a forked child.
            ///
            /// # Examples
            /// ```
            /// use gort::net::UnixStream;
            /// use std::io::{ErrorKind, Read};
            ///
            /// gort::run(|| -> std::io::Result<()> {
            ///     let (mut here, there) = UnixStream::pair()?;
            ///     assert_eq!(there.try_write(b"hello")?, 5);
            ///     here.read_exact(&mut [0; 5])?;
            ///     assert_eq!(here.try_read(&mut [0; 5]).unwrap_err().kind(), ErrorKind::WouldBlock);
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
            /// G: no. M: no. P: no.
            ///
            /// # Errors
            /// As there.
            ///
            /// # Panics
            /// As there.
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
