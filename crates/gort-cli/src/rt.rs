//! The runtime's names, in one place: what the rest of the program calls `rt::…`.
//!
//! TEMPORARY: `chan`, `net`, `sync`, `sleep_until` and the two counts stand on std and crossbeam-channel until gort's
//! own modules are merged. Then this file becomes `pub(crate) use gort::{..}`.

pub(crate) use crossbeam_channel as chan;
pub(crate) use gort::{blocking, go, run};

/// `gort::sleep_until`.
pub(crate) fn sleep_until(at: std::time::Instant) {
    std::thread::sleep(at.saturating_duration_since(std::time::Instant::now()));
}

/// `gort::sync`.
pub(crate) mod sync {
    pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};
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
    use std::io::{self, Read, Write};
    use std::net::{Shutdown, SocketAddr};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    #[derive(Debug)]
    pub(crate) struct TcpStream {
        inner: std::net::TcpStream,
        read: Mutex<Option<Instant>>,
        closed: AtomicBool,
    }

    /// Binds to `local`, then connects. Proposed as `gort::net::TcpStream::connect_from`.
    pub(crate) fn connect_from(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(remote), socket2::Type::STREAM, None)?;
        socket.bind(&local.into())?;
        socket.connect(&remote.into())?;
        let inner: std::net::TcpStream = socket.into();
        inner.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(TcpStream { inner, read: Mutex::new(None), closed: AtomicBool::new(false) })
    }

    impl TcpStream {
        pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
            self.inner.set_nodelay(on)
        }
        pub(crate) fn set_read_deadline(&self, at: Option<Instant>) -> io::Result<()> {
            *self.read.lock().unwrap() = at;
            Ok(())
        }
        pub(crate) fn close(&self) {
            self.closed.store(true, Ordering::SeqCst);
            let _ = self.inner.shutdown(Shutdown::Both);
        }
    }

    impl Read for &TcpStream {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            loop {
                if self.closed.load(Ordering::SeqCst) {
                    return Err(io::ErrorKind::NotConnected.into());
                }
                if self.read.lock().unwrap().is_some_and(|at| at <= Instant::now()) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                match (&self.inner).read(buf) {
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    other => return other,
                }
            }
        }
    }

    impl Write for &TcpStream {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            (&self.inner).write(buf)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
