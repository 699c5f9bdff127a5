//! The runtime's names, in one place: what the rest of the crate calls `rt::…`.
//!
//! TEMPORARY: `net`, `sync`, `sleep` and the two counts stand on std until gort's own modules are merged. Then
//! this file becomes `pub(crate) use gort::{go, net, sleep, sync, ..}`; nothing else names std's blocking types.

pub(crate) use gort::{blocking, go, yield_now};
pub(crate) use std::thread::sleep;

/// `gort::sync`.
pub(crate) mod sync {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
}

/// `gort::num_goroutine()`.
pub(crate) fn num_goroutine() -> usize {
    threads()
}

/// `gort::metrics::snapshot().threads`.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |dir| dir.count())
}

/// `gort::net`.
pub(crate) mod net {
    use std::io::{self, IoSlice, Read, Write};
    use std::net::{Shutdown, SocketAddr};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    const QUANTUM: Duration = Duration::from_millis(50);

    #[derive(Debug)]
    pub(crate) struct TcpListener {
        inner: std::net::TcpListener,
        closed: AtomicBool,
    }

    impl TcpListener {
        pub(crate) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
            Ok(TcpListener { inner: std::net::TcpListener::bind(addr)?, closed: AtomicBool::new(false) })
        }
        pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
            self.inner.local_addr()
        }
        pub(crate) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            if self.closed.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let (stream, peer) = self.inner.accept()?;
            Ok((TcpStream::new(stream)?, peer))
        }
        pub(crate) fn close(&self) {
            self.closed.store(true, Ordering::SeqCst);
            let _ = rustix::net::shutdown(&self.inner, rustix::net::Shutdown::Both);
        }
    }

    #[derive(Debug)]
    pub(crate) struct TcpStream {
        inner: std::net::TcpStream,
        read: Mutex<Option<Instant>>,
        write: Mutex<Option<Instant>>,
        closed: AtomicBool,
    }

    impl TcpStream {
        fn new(inner: std::net::TcpStream) -> io::Result<TcpStream> {
            inner.set_read_timeout(Some(QUANTUM))?;
            inner.set_write_timeout(Some(QUANTUM))?;
            Ok(TcpStream {
                inner,
                read: Mutex::new(None),
                write: Mutex::new(None),
                closed: AtomicBool::new(false),
            })
        }
        pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
            self.inner.set_nodelay(on)
        }
        pub(crate) fn set_read_deadline(&self, at: Option<Instant>) -> io::Result<()> {
            *self.read.lock().unwrap() = at;
            Ok(())
        }
        pub(crate) fn set_write_deadline(&self, at: Option<Instant>) -> io::Result<()> {
            *self.write.lock().unwrap() = at;
            Ok(())
        }
        pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
            self.inner.shutdown(how)
        }
        pub(crate) fn close(&self) {
            self.closed.store(true, Ordering::SeqCst);
            let _ = self.inner.shutdown(Shutdown::Both);
        }
        fn retry<R>(
            &self,
            deadline: &Mutex<Option<Instant>>,
            mut op: impl FnMut() -> io::Result<R>,
        ) -> io::Result<R> {
            loop {
                if self.closed.load(Ordering::SeqCst) {
                    return Err(io::ErrorKind::NotConnected.into());
                }
                if deadline.lock().unwrap().is_some_and(|at| at <= Instant::now()) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                match op() {
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    other => return other,
                }
            }
        }
    }

    impl Read for &TcpStream {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.retry(&self.read, || (&self.inner).read(buf))
        }
    }

    impl Write for &TcpStream {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.retry(&self.write, || (&self.inner).write(buf))
        }
        fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
            self.retry(&self.write, || (&self.inner).write_vectored(bufs))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
