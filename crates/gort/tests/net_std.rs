//! Compatibility with `std::net` and `std::os::unix::net`.

mod net_support;

use gort::net::{
    Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket, UnixDatagram, UnixListener,
    UnixStream,
};
use net_support::*;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Several addresses are tried in turn, names are looked up, nonsense is an error. In a process of
/// its own, so that no forked child keeps the closed listener.
#[test]
fn connect_tries_all_addresses() {
    if !in_child("connect_tries_all_addresses", |_| {}) {
        return;
    }
    gort::run(|| {
        let (closed, closed_addr) = listen_apart(3);
        drop(closed);
        let (listener, addr) = listen();
        TcpStream::connect(&[closed_addr, addr][..]).unwrap();
        TcpStream::connect(("127.0.0.1", addr.port())).unwrap();
        TcpStream::connect(addr.to_string()).unwrap();
        TcpStream::connect((Ipv4Addr::LOCALHOST, addr.port())).unwrap();
        for _ in 0..4 {
            listener.accept().unwrap();
        }
        assert_eq!(TcpStream::connect("nonsense").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(TcpStream::connect(&[][..]).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(TcpListener::bind(&[][..]).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// A name goes through the system's resolver. `localhost` may be ::1 first, where nothing listens.
#[test]
fn names_are_looked_up() {
    gort::run(|| {
        if ("localhost", 1).to_socket_addrs().is_err() {
            println!("this machine does not know localhost");
            return;
        }
        let (listener, addr) = listen();
        let stream = TcpStream::connect(("localhost", addr.port())).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        listener.accept().unwrap();
        let stream = TcpStream::connect(format!("localhost:{}", addr.port())).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addr);
        let u = UdpSocket::bind("localhost:0").unwrap();
        assert!(u.local_addr().unwrap().ip().is_loopback());
    });
}

#[test]
fn tcp_over_ipv6() {
    gort::run(|| {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            println!("this machine has no IPv6");
            return;
        };
        let addr = listener.local_addr().unwrap();
        let client = TcpStream::connect(addr).unwrap();
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        client.write_all(b"six").unwrap();
        let mut buf = [0; 3];
        server.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"six");
    });
}

/// The kernel keeps options, and they can be read back.
#[test]
fn tcp_options() {
    gort::run(|| {
        let (a, _b) = tcp_pair();
        a.set_nodelay(true).unwrap();
        assert!(a.nodelay().unwrap());
        a.set_nodelay(false).unwrap();
        assert!(!a.nodelay().unwrap());
        a.set_ttl(42).unwrap();
        assert_eq!(a.ttl().unwrap(), 42);
        assert_eq!(a.linger().unwrap(), None);
        a.set_linger(Some(Duration::from_secs(3))).unwrap();
        assert_eq!(a.linger().unwrap(), Some(Duration::from_secs(3)));
        a.set_linger(None).unwrap();
        assert!(a.take_error().unwrap().is_none());
        let (listener, _) = listen();
        listener.set_ttl(7).unwrap();
        assert_eq!(listener.ttl().unwrap(), 7);
        assert!(listener.take_error().unwrap().is_none());
        assert!(format!("{a:?}").starts_with("TcpStream { addr: 127.0.0.1:"));
        assert!(format!("{listener:?}").starts_with("TcpListener { addr: 127.0.0.1:"));
    });
}

/// A linger of zero resets the connection: the peer's read fails.
#[test]
fn linger_zero_resets() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        let h = gort::go(move || b.read(&mut [0]));
        pause_ms(10);
        a.set_linger(Some(Duration::ZERO)).unwrap();
        drop(a);
        assert_eq!(h.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

/// A reset that arrived with data, before the first read, is seen after the data was read.
#[test]
fn reset_behind_data_is_seen() {
    gort::run(|| {
        for _ in 0..20 {
            let (a, b) = tcp_pair();
            a.write_all(b"data").unwrap();
            a.shutdown(Shutdown::Write).unwrap();
            pause_ms(1);
            b.set_read_deadline(Some(std::time::Instant::now() + HANG)).unwrap();
            let mut buf = [0; 100];
            assert_eq!(b.read(&mut buf).unwrap(), 4);
            assert_eq!(b.read(&mut buf).unwrap(), 0);
        }
    });
}

/// Urgent data splits a read in two. The data after its mark is returned without waiting.
#[test]
fn urgent_data_does_not_hide_what_follows() {
    gort::run(|| {
        for pause_us in [0, 100, 2000] {
            let (a, b) = tcp_pair();
            b.set_read_deadline(Some(std::time::Instant::now() + HANG)).unwrap();
            a.write_all(b"before").unwrap();
            rustix::net::send(&a, b"!", rustix::net::SendFlags::OOB).unwrap();
            a.write_all(b"behind").unwrap();
            pause(Duration::from_micros(pause_us));
            let mut got = Vec::new();
            while got.len() < 12 {
                let mut buf = [0; 100];
                let n = b.read(&mut buf).unwrap();
                assert!(n > 0);
                got.extend_from_slice(&buf[..n]);
            }
            assert_eq!(got, b"beforebehind");
        }
    });
}

/// Vectored writes and reads, by value and by reference.
#[test]
fn vectored() {
    fn check<C: Conn + Read + Write>((mut a, mut b): (C, C)) {
        let n = a.write_vectored(&[IoSlice::new(b"he"), IoSlice::new(b""), IoSlice::new(b"llo")]).unwrap();
        assert_eq!(n, 5);
        let (mut x, mut y) = ([0; 3], [0; 10]);
        let n = b.read_vectored(&mut [IoSliceMut::new(&mut x), IoSliceMut::new(&mut y)]).unwrap();
        assert_eq!(n, 5);
        assert_eq!((&x, &y[..2]), (b"hel", &b"lo"[..]));
        assert_eq!(b.read_vectored(&mut []).unwrap(), 0);
        // More pieces than the kernel takes at once.
        let pieces = vec![IoSlice::new(b"x"); 3000];
        let n = a.write_vectored(&pieces).unwrap();
        assert!((1..=3000).contains(&n));
        let mut back = vec![0; n];
        Read::read_exact(&mut b, &mut back).unwrap();
        a.flush().unwrap();
    }
    gort::run(|| {
        check(tcp_pair());
        check(UnixStream::pair().unwrap());
    });
}

/// `peek` leaves the data: a later read returns the same.
#[test]
fn peek_leaves_the_data() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        let h = gort::go(move || {
            pause_ms(5);
            a.write_all(b"peekaboo").unwrap();
            a
        });
        let mut buf = [0; 100];
        for _ in 0..3 {
            assert_eq!(b.peek(&mut buf).unwrap(), 8);
        }
        assert_eq!(b.read(&mut buf).unwrap(), 8);
        assert_eq!(&buf[..8], b"peekaboo");
        h.join().unwrap().write_all(b"more").unwrap();
        assert_eq!(b.peek(&mut buf[..2]).unwrap(), 2);
        assert_eq!(b.read(&mut buf).unwrap(), 4);
    });
}

/// A clone is the same connection with deadlines and a close of its own. (`net_deadline.rs` has
/// its time-outs.)
#[test]
fn clones() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        let c = a.try_clone().unwrap();
        c.set_read_deadline(past()).unwrap();
        assert_timeout(c.read(&mut [0]));
        b.write_all(b"x").unwrap();
        a.read_exact(&mut [0]).unwrap();
        a.close();
        assert_closed(a.write(b"x"));
        c.write_all(b"y").unwrap();
        b.read_exact(&mut [0]).unwrap();
        c.set_read_deadline(None).unwrap();
        let h = gort::go(move || c.read(&mut [0]).unwrap());
        b.write_all(b"z").unwrap();
        assert_eq!(h.join().unwrap(), 1);
        assert_eq!(b.read(&mut [0]).unwrap(), 0);

        let (listener, addr) = listen();
        let second = listener.try_clone().unwrap();
        listener.close();
        TcpStream::connect(addr).unwrap();
        second.accept().unwrap();
    });
}

/// Sockets convert from std's to gort's and back, and through descriptors.
#[test]
fn conversions() {
    gort::run(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = TcpListener::try_from(listener).unwrap();
        let client = std::net::TcpStream::connect(addr).unwrap();
        let number = client.as_raw_fd();
        let client = TcpStream::try_from(client).unwrap();
        assert_eq!(client.as_raw_fd(), number);
        let (server, _) = listener.accept().unwrap();
        let h = gort::go(move || {
            let mut buf = [0; 4];
            server.read_exact(&mut buf).unwrap(); // Parks: the socket is non-blocking.
            server.write_all(&buf).unwrap();
        });
        pause_ms(5);
        client.write_all(b"over").unwrap();
        // As a std socket it blocks again: the echo may come later.
        let mut client: std::net::TcpStream = client.try_into().unwrap();
        let mut buf = [0; 4];
        gort::blocking(|| client.read_exact(&mut buf)).unwrap();
        assert_eq!(&buf, b"over");
        h.join().unwrap();

        let (a, b) = UnixStream::pair().unwrap();
        let a = UnixStream::try_from(OwnedFd::from(a)).unwrap();
        a.write_all(b"x").unwrap();
        b.read_exact(&mut [0]).unwrap();
        let u = UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        u.into_std().unwrap().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let d = UnixDatagram::try_from(std::os::unix::net::UnixDatagram::unbound().unwrap()).unwrap();
        let d: std::os::unix::net::UnixDatagram = d.try_into().unwrap();
        drop(UnixDatagram::try_from(d).unwrap());
    });
}

/// In non-blocking mode calls fail with WouldBlock instead of waiting, as in std.
#[test]
fn nonblocking() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        a.set_nonblocking(true).unwrap();
        let mut buf = [0; 10];
        assert_eq!(a.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        b.write_all(b"abc").unwrap();
        a.set_nonblocking(false).unwrap();
        assert_eq!(a.read(&mut buf).unwrap(), 3);
        a.set_nonblocking(true).unwrap();
        assert_eq!(a.read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
        while a.write(&[0; 65536]).is_ok() {}
        assert_eq!(a.write(&[0; 65536]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let (listener, _) = listen();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

/// Several goroutines accept on one listener, and several read one UDP socket. Each client is
/// served once.
#[test]
fn many_on_one_socket() {
    gort::run(|| {
        let (listener, addr) = listen();
        let listener = Arc::new(listener);
        let servers: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                gort::go(move || {
                    for stream in listener.incoming().take(5) {
                        stream.unwrap().write_all(b"x").unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            let mut all = Vec::new();
            TcpStream::connect(addr).unwrap().read_to_end(&mut all).unwrap();
            assert_eq!(all, b"x");
        }
        servers.into_iter().for_each(|h| h.join().unwrap());

        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let echoes: Vec<_> = (0..4)
            .map(|_| {
                let socket = socket.clone();
                gort::go(move || {
                    let mut buf = [0; 8];
                    for _ in 0..5 {
                        let (n, from) = socket.recv_from(&mut buf).unwrap();
                        socket.send_to(&buf[..n], from).unwrap();
                    }
                })
            })
            .collect();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        for i in 0..20u8 {
            client.send(&[i]).unwrap();
            let mut buf = [0; 8];
            assert_eq!((client.recv(&mut buf).unwrap(), buf[0]), (1, i));
        }
        echoes.into_iter().for_each(|h| h.join().unwrap());
    });
}

/// UDP: truncation at the buffer's end, empty datagrams, peek, options, multicast.
#[test]
fn udp() {
    gort::run(|| {
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        let b = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let mut buf = [0; 4];
        a.send_to(b"longer than four", to_b).unwrap();
        assert_eq!(b.peek_from(&mut buf).unwrap(), (4, to_a));
        assert_eq!(b.recv_from(&mut buf).unwrap(), (4, to_a));
        assert_eq!(&buf, b"long");
        a.send_to(b"", to_b).unwrap();
        assert_eq!(b.recv_from(&mut []).unwrap(), (0, to_a));
        assert!(a.peer_addr().is_err());
        a.connect(to_b).unwrap();
        assert_eq!(a.peer_addr().unwrap(), to_b);
        b.connect(to_a).unwrap();
        a.send(b"1").unwrap();
        assert_eq!(b.peek(&mut buf).unwrap(), 1);
        assert_eq!(b.recv(&mut buf).unwrap(), 1);

        assert!(!a.broadcast().unwrap());
        a.set_broadcast(true).unwrap();
        assert!(a.broadcast().unwrap());
        a.set_ttl(9).unwrap();
        assert_eq!(a.ttl().unwrap(), 9);
        a.set_multicast_ttl_v4(3).unwrap();
        assert_eq!(a.multicast_ttl_v4().unwrap(), 3);
        a.set_multicast_loop_v4(false).unwrap();
        assert!(!a.multicast_loop_v4().unwrap());
        let group = Ipv4Addr::new(224, 0, 0, 251);
        let m = UdpSocket::bind("0.0.0.0:0").unwrap();
        m.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        m.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
        assert!(m.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).is_err());
        assert_eq!(a.send_to(b"x", &[][..]).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// A connected UDP socket reports that nothing listens at the other end.
#[test]
fn udp_refused() {
    gort::run(|| {
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        a.connect(gone).unwrap();
        a.send(b"anybody?").unwrap();
        assert_eq!(a.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

/// Unix addresses: paths, abstract names, unnamed.
#[test]
fn unix_addresses() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    gort::run(|| {
        let path = socket_path("addresses");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(&*path));
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path));
        let (_server, peer) = listener.accept().unwrap();
        assert!(peer.is_unnamed());
        assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::NotFound);

        let name = format!("gort-test-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&addr).unwrap();
        let client = UnixStream::connect_addr(&addr).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        assert_eq!(server.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));

        let a_name = SocketAddr::from_abstract_name(format!("{name}-a")).unwrap();
        let b_path = socket_path("datagram");
        let a = UnixDatagram::bind_addr(&a_name).unwrap();
        let b = UnixDatagram::bind(&b_path).unwrap();
        let mut buf = [0; 8];
        a.send_to(b"to b", &b_path).unwrap();
        let (n, from) = b.recv_from(&mut buf).unwrap();
        assert_eq!((n, from.as_abstract_name()), (4, a_name.as_abstract_name()));
        b.send_to_addr(b"to a!", &a_name).unwrap();
        let (n, from) = a.recv_from(&mut buf).unwrap();
        assert_eq!((n, from.as_pathname()), (5, Some(&*b_path)));
        UnixDatagram::unbound().unwrap().send_to(b"x", &b_path).unwrap();
        assert!(b.recv_from(&mut buf).unwrap().1.is_unnamed());
        let c = UnixDatagram::unbound().unwrap();
        c.connect(&b_path).unwrap();
        c.send(b"connected").unwrap();
        assert_eq!(b.recv(&mut [0; 20]).unwrap(), 9);
        c.connect_addr(&a_name).unwrap();
        c.send(b"to a").unwrap();
        assert_eq!(a.recv(&mut [0; 20]).unwrap(), 4);
        std::fs::remove_file(&b_path).unwrap();
    });
}

/// Sockets work from plain threads too.
#[test]
fn plain_threads() {
    gort::start().unwrap();
    let (a, b) = tcp_pair();
    let h = std::thread::spawn(move || {
        let mut buf = [0; 3];
        b.read_exact(&mut buf).unwrap();
        buf
    });
    std::thread::sleep(Duration::from_millis(10));
    a.write_all(b"abc").unwrap();
    assert_eq!(&h.join().unwrap(), b"abc");
}

/// Sockets are `Send`, `Sync` and small.
#[test]
fn send_sync_and_small() {
    fn check<T: Send + Sync + 'static>() {
        assert!(size_of::<T>() <= 64);
    }
    check::<TcpStream>();
    check::<TcpListener>();
    check::<UdpSocket>();
    check::<UnixStream>();
    check::<UnixListener>();
    check::<UnixDatagram>();
}

/// `wait_readable` leaves the data. It returns for data that came before it, for the end, for a
/// deadline and for a close.
#[test]
fn waits_for_data_without_a_buffer() {
    gort::run(|| {
        for early in [false, true] {
            let (a, b) = tcp_pair();
            for i in 0..50u8 {
                if early {
                    b.write_all(&[i; 3]).unwrap();
                }
                gort::scope(|s| {
                    let reader = s.go(|| {
                        a.wait_readable().unwrap();
                        a.wait_readable().unwrap();
                        let mut got = [0; 8];
                        (a.try_read(&mut got).unwrap(), got[0])
                    });
                    if !early {
                        gort::yield_now();
                        b.write_all(&[i; 3]).unwrap();
                    }
                    assert_eq!(reader.join().unwrap(), (3, i));
                });
            }
            a.set_read_deadline(Some(Instant::now() + Duration::from_millis(5))).unwrap();
            assert_eq!(a.wait_readable().unwrap_err().kind(), ErrorKind::TimedOut);
            a.set_read_deadline(None).unwrap();
            a.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            assert_eq!(a.wait_readable().unwrap_err().kind(), ErrorKind::TimedOut);
            a.set_read_timeout(None).unwrap();
            if early {
                drop(b);
                a.wait_readable().unwrap();
                assert_eq!(a.try_read(&mut [0]).unwrap(), 0);
            } else {
                gort::scope(|s| {
                    let waiter = s.go(|| a.wait_readable().unwrap_err().kind());
                    gort::yield_now();
                    a.close();
                    assert_eq!(waiter.join().unwrap(), ErrorKind::NotConnected);
                });
            }
        }
    });
}

/// The `try_` methods do not wait, even if another goroutine uses the same direction. Readiness
/// that they use up or leave is not lost for the goroutines that wait.
#[test]
fn tries_do_not_wait() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        let would_block = |result: std::io::Result<usize>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock);
        };
        let mut buf = [0; 8];
        would_block(a.try_read(&mut buf));
        assert_eq!(a.try_read(&mut []).unwrap(), 0, "as a read");
        gort::scope(|s| {
            // A goroutine waits to read.
            let reader = s.go(|| {
                let mut first = [0; 2];
                a.read_exact(&mut first).unwrap();
                first
            });
            while gort::metrics::snapshot().io_waiters == 0 {
                gort::yield_now();
            }
            would_block(a.try_read(&mut [0; 8]));
            assert_eq!(b.try_write(b"ab").unwrap(), 2);
            assert_eq!(reader.join().unwrap(), *b"ab");
        });
        // Tries and waits in turn, with data that came before the one and after the other.
        for i in 0..200u8 {
            assert_eq!(b.try_write(&[i; 3]).unwrap(), 3);
            let mut got = [0; 8];
            if i % 3 == 0 {
                while a.try_read(&mut got).is_err_and(|e| e.kind() == ErrorKind::WouldBlock) {
                    gort::yield_now();
                }
            } else {
                assert_eq!(a.read(&mut got).unwrap(), 3);
            }
            assert_eq!(got[..3], [i; 3]);
            would_block(a.try_read(&mut got));
        }
        // A full socket, and a goroutine that waits for room in it.
        let bytes = vec![7; 1 << 16];
        let mut sent = 0;
        let full = loop {
            match a.try_write_vectored(&[IoSlice::new(&bytes), IoSlice::new(&bytes)]) {
                Ok(n) => sent += n,
                other => break other,
            }
        };
        would_block(full);
        gort::scope(|s| {
            let writer = s.go(|| a.write_all(&bytes).unwrap());
            // It need not wait, if the kernel has made room meanwhile.
            while gort::metrics::snapshot().io_waiters == 0 && !writer.is_finished() {
                gort::yield_now();
            }
            // The other goroutine is first; or there is room again, and it does not wait.
            match a.try_write(&[7]) {
                Ok(n) => sent += n,
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
            let mut rest = vec![0; sent + bytes.len()];
            b.read_exact(&mut rest).unwrap();
            assert!(rest.iter().all(|&byte| byte == 7));
            writer.join().unwrap();
        });
        drop(b);
        assert_eq!(a.read(&mut buf).unwrap(), 0);
        assert_eq!(a.try_read(&mut buf).unwrap(), 0, "the end is there without waiting");
        a.close();
        assert_eq!(a.try_read(&mut buf).unwrap_err().kind(), ErrorKind::NotConnected);
        assert_eq!(a.try_write(b"x").unwrap_err().kind(), ErrorKind::NotConnected);
    });
}
