//! Helpers for the tests of sockets.

#![allow(dead_code, reason = "each test file uses its part")]

use gort::net::{SocketAddr, TcpListener, TcpStream, UnixStream};
use std::io::{self, ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Far longer than anything here takes: only a hang reaches it.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// A time in the past.
pub(crate) fn past() -> Option<Instant> {
    Some(Instant::now() - Duration::from_millis(1))
}

/// `ms` milliseconds from now.
pub(crate) fn in_ms(ms: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(ms))
}

/// Sleeps without holding a P.
pub(crate) fn pause(d: Duration) {
    gort::blocking(|| std::thread::sleep(d));
}

pub(crate) fn pause_ms(ms: u64) {
    pause(Duration::from_millis(ms));
}

/// Checks that the error is a missed deadline, by kind and text.
#[track_caller]
pub(crate) fn assert_timeout<T: std::fmt::Debug>(result: io::Result<T>) {
    let e = result.expect_err("a deadline must be missed");
    assert_eq!(e.kind(), ErrorKind::TimedOut, "{e}");
    assert_eq!(e.to_string(), "i/o timeout");
}

/// Checks that the error is a closed handle, by kind and text.
#[track_caller]
pub(crate) fn assert_closed<T: std::fmt::Debug>(result: io::Result<T>) {
    let e = result.expect_err("the socket is closed");
    assert_eq!(e.kind(), ErrorKind::NotConnected, "{e}");
    assert_eq!(e.to_string(), "use of closed network connection");
}

/// A stream of any family.
pub(crate) trait Conn: Send + Sync + Sized + 'static {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn write(&self, buf: &[u8]) -> io::Result<usize>;
    fn set_deadline(&self, deadline: Option<Instant>) -> io::Result<()>;
    fn set_read_deadline(&self, deadline: Option<Instant>) -> io::Result<()>;
    fn set_write_deadline(&self, deadline: Option<Instant>) -> io::Result<()>;
    fn shutdown_write(&self) -> io::Result<()>;
    fn addresses(&self) -> io::Result<()>;
    fn close(&self);

    fn write_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let n = self.write(buf)?;
            buf = &buf[n..];
        }
        Ok(())
    }

    fn read_exact(&self, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read(buf)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => buf = &mut buf[n..],
            }
        }
        Ok(())
    }
}

macro_rules! conn {
    ($ty:ty) => {
        impl Conn for $ty {
            fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
                Read::read(&mut &*self, buf)
            }
            fn write(&self, buf: &[u8]) -> io::Result<usize> {
                Write::write(&mut &*self, buf)
            }
            fn set_deadline(&self, deadline: Option<Instant>) -> io::Result<()> {
                <$ty>::set_deadline(self, deadline)
            }
            fn set_read_deadline(&self, deadline: Option<Instant>) -> io::Result<()> {
                <$ty>::set_read_deadline(self, deadline)
            }
            fn set_write_deadline(&self, deadline: Option<Instant>) -> io::Result<()> {
                <$ty>::set_write_deadline(self, deadline)
            }
            fn shutdown_write(&self) -> io::Result<()> {
                self.shutdown(std::net::Shutdown::Write)
            }
            fn addresses(&self) -> io::Result<()> {
                self.local_addr()?;
                self.peer_addr()?;
                Ok(())
            }
            fn close(&self) {
                <$ty>::close(self)
            }
        }
    };
}
conn!(TcpStream);
conn!(UnixStream);

/// A listener on the loopback.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A listener on a loopback address that nothing else uses, so its port stays free when it is
/// closed.
pub(crate) fn listen_apart(last: u8) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((std::net::Ipv4Addr::new(127, 71, 79, last), 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// The two ends of a connection: the client, then the server's side.
pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let (listener, addr) = listen();
    let client = TcpStream::connect(addr).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

/// A path for a socket that no other test uses.
pub(crate) fn socket_path(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("gort-{}-{name}.sock", std::process::id()))
}

/// Returns true in a child process that runs only the test `name`. Otherwise runs that child, with
/// a limit, and gives its output to `check` when it has succeeded.
pub(crate) fn in_child(name: &str, check: impl FnOnce(&str)) -> bool {
    const KEY: &str = "GORT_NET_TEST";
    if std::env::var_os(KEY).is_some_and(|v| v == name) {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(KEY, name)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Each pipe has a reader, so that a child with much output does not block.
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let read = |pipe: &mut dyn Read| {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    };
    let (out, err) = std::thread::scope(|s| {
        let out = s.spawn(move || read(&mut stdout));
        let err = s.spawn(move || read(&mut stderr));
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed() > HANG {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (out.join().unwrap(), err.join().unwrap())
    });
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}\n{out}\n{err}");
    assert!(out.contains("1 passed"), "{out}");
    check(&out);
    false
}
