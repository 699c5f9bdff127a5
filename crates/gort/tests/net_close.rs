//! GO-CASES N9 to N14, D25, and the PEERS row about listeners: the end of sockets, and the limits
//! of the system.

mod child;
mod net_support;

use gort::net::{Shutdown, TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use net_support::*;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// GO-CASES N9: the peer's close ends a read in flight with the end of the stream.
#[test]
fn n9_close_of_the_peer_unblocks() {
    fn check<C: Conn>((a, b): (C, C)) {
        let h = gort::go(move || a.read(&mut [0]));
        pause_ms(10);
        b.close();
        assert_eq!(h.join().unwrap().unwrap(), 0);
    }
    gort::run(|| {
        check(tcp_pair());
        check(UnixStream::pair().unwrap());
        let (a, b) = tcp_pair();
        let h = gort::go(move || a.read(&mut [0]));
        pause_ms(10);
        drop(b);
        assert_eq!(h.join().unwrap().unwrap(), 0);
    });
}

/// GO-CASES N9, N10: a close ends calls in flight, queued calls and later calls with the same
/// error, on every kind of socket. A second close has no effect.
#[test]
fn n10_close_unblocks() {
    fn check<S: Send + Sync + 'static>(
        socket: S,
        call: fn(&S) -> std::io::Result<usize>,
        close: fn(&S),
        in_flight: usize,
    ) {
        let socket = Arc::new(socket);
        let calls: Vec<_> = (0..in_flight)
            .map(|_| {
                let s = socket.clone();
                gort::go(move || call(&s))
            })
            .collect();
        pause_ms(20);
        assert!(calls.iter().all(|h| !h.is_finished()));
        close(&socket);
        calls.into_iter().for_each(|h| assert_closed(h.join().unwrap()));
        assert_closed(call(&socket));
        close(&socket);
        assert_closed(call(&socket));
    }
    gort::run(|| {
        for in_flight in [0, 1, 5] {
            let (a, _b) = tcp_pair();
            check(a, |s| s.read(&mut [0]), TcpStream::close, in_flight);
            let (a, _b) = tcp_pair();
            check(
                a,
                |s| {
                    loop {
                        s.write(&[0; 65536])?;
                    }
                },
                TcpStream::close,
                in_flight,
            );
            let (a, _b) = UnixStream::pair().unwrap();
            check(a, |s| s.read(&mut [0]), UnixStream::close, in_flight);
            check(listen().0, |s| s.accept().map(|_| 0), TcpListener::close, in_flight);
            let u = UdpSocket::bind("127.0.0.1:0").unwrap();
            check(u, |s| s.recv_from(&mut [0]).map(|x| x.0), UdpSocket::close, in_flight);
            let (d, _e) = UnixDatagram::pair().unwrap();
            check(d, |s| s.recv(&mut [0]), UnixDatagram::close, in_flight);
            let path = socket_path(&format!("n10-{in_flight}"));
            let l = UnixListener::bind(&path).unwrap();
            check(l, |s| s.accept().map(|_| 0), UnixListener::close, in_flight);
            std::fs::remove_file(path).unwrap();
        }
    });
}

/// After a close every method returns the error of a closed socket.
#[test]
fn n10_all_methods_after_close() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        a.close();
        assert_closed(a.local_addr());
        assert_closed(a.peer_addr());
        assert_closed(a.set_deadline(None));
        assert_closed(a.set_read_timeout(None));
        assert_closed(a.set_nodelay(true));
        assert_closed(a.shutdown(Shutdown::Both));
        assert_closed(a.take_error());
        assert_closed(a.try_clone());
        assert_closed(a.peek(&mut [0]));
        assert_closed(a.read(&mut []));
        assert_closed(a.write(b""));
        assert_closed(a.into_std());
        // The peer sees the end at once, although the handle still exists.
        assert_eq!(b.read(&mut [0]).unwrap(), 0);
    });
}

/// A close frees the port before it returns, even with an `accept` in flight and the handle still
/// there. In a process of its own: a forked child of another test holds the listener until it calls
/// `exec`.
#[test]
fn close_frees_the_port() {
    if !in_child("close_frees_the_port", |_| {}) {
        return;
    }
    gort::run(|| {
        let (listener, addr) = listen_apart(1);
        let listener = Arc::new(listener);
        let l = listener.clone();
        let h = gort::go(move || assert_closed(l.accept()));
        pause_ms(5);
        listener.close();
        let again = TcpListener::bind(addr).unwrap();
        assert_eq!(again.local_addr().unwrap(), addr);
        h.join().unwrap();
    });
}

/// A borrowed descriptor stays valid after a close: its number is not reused while the handle
/// exists.
#[test]
fn a_descriptor_is_not_reused_after_close() {
    gort::run(|| {
        let (a, _b) = tcp_pair();
        let borrowed = a.as_fd();
        a.close();
        let strangers: Vec<OwnedFd> =
            (0..20).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        assert!(strangers.iter().all(|f| f.as_raw_fd() != borrowed.as_raw_fd()));
        // The number now refers to something that is not a socket.
        let e = rustix::net::recv(borrowed, &mut [0; 1], rustix::net::RecvFlags::DONTWAIT).unwrap_err();
        assert_eq!(e, rustix::io::Errno::NOTSOCK);
        drop(OwnedFd::from(a));
    });
}

/// Many goroutines close and use one socket at once; each call ends.
#[test]
fn n14_close_race() {
    gort::run(|| {
        for _ in 0..50 {
            let (a, b) = tcp_pair();
            let a = Arc::new(a);
            b.write_all(&[0; 100]).unwrap();
            let calls: Vec<_> = (0..8)
                .map(|i| {
                    let a = a.clone();
                    gort::go(move || {
                        let result = match i {
                            0 | 1 => {
                                a.close();
                                return;
                            }
                            2 | 3 => loop {
                                if let Err(e) = a.read(&mut [0; 7]) {
                                    break Err(e);
                                }
                            },
                            4 | 5 => loop {
                                if let Err(e) = a.write(&[0; 7]) {
                                    break Err(e);
                                }
                            },
                            6 => a.set_deadline(Some(std::time::Instant::now() + HANG)),
                            _ => a.local_addr().map(drop),
                        };
                        if result.is_err() {
                            assert_closed(result);
                        }
                    })
                })
                .collect();
            calls.into_iter().for_each(|h| h.join().unwrap());
        }
    });
}

/// GO-CASES N11: a half-close ends reads in flight and makes writes fail. An empty read returns at
/// once.
#[test]
fn n11_shutdown() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        assert_eq!(a.read(&mut []).unwrap(), 0);
        let a = Arc::new(a);
        let reader = a.clone();
        let h = gort::go(move || reader.read(&mut [0]));
        pause_ms(10);
        a.shutdown(Shutdown::Read).unwrap();
        assert_eq!(h.join().unwrap().unwrap(), 0);
        a.shutdown(Shutdown::Write).unwrap();
        // A SIGPIPE would end the test here.
        assert_eq!(a.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(b.read(&mut [0]).unwrap(), 0);
    });
}

/// Every way of writing to a peer that is gone returns an error and raises no SIGPIPE.
#[test]
fn no_sigpipe() {
    if !in_child("no_sigpipe", |_| {}) {
        return;
    }
    fn check<C: Conn + std::io::Write>((mut a, b): (C, C)) {
        drop(b);
        // The first write to a TCP peer that is gone only causes its reset.
        let e = loop {
            if let Err(e) = Conn::write(&a, b"x") {
                break e;
            }
            pause_ms(1);
        };
        assert!(matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{e}");
        assert_eq!(Conn::write(&a, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        let e = a.write_vectored(&[std::io::IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BrokenPipe);
    }
    gort::run(|| {
        // SAFETY: the default disposition runs no handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        check(tcp_pair());
        check(UnixStream::pair().unwrap());
        let (a, b) = UnixDatagram::pair().unwrap();
        drop(b);
        assert!(a.send(b"x").is_err());
    });
}

/// GO-CASES N14: a hundred waiting readers need no more threads than a hundred goroutines that wait
/// for something else.
#[test]
fn n14_waiting_readers_hold_no_threads() {
    // Signed, because some threads may end meanwhile.
    fn threads() -> isize {
        std::fs::read_dir("/proc/self/task").unwrap().count() as isize
    }
    if !in_child("n14_waiting_readers_hold_no_threads", |_| {}) {
        return;
    }
    gort::run(|| {
        let at_start = threads();
        let (gate, waiting): (Vec<_>, Vec<_>) = (0..100).map(|_| UnixStream::pair().unwrap()).unzip();
        let readers: Vec<_> =
            waiting.into_iter().map(|s| gort::go(move || s.read(&mut [0]).unwrap())).collect();
        pause_ms(300);
        let with_readers = threads() - at_start;
        let joiners: Vec<_> = readers.into_iter().map(|h| gort::go(move || h.join().unwrap())).collect();
        pause_ms(300);
        let with_joiners = threads() - at_start - with_readers;
        assert!(with_readers <= with_joiners + 20, "{with_readers} for readers, {with_joiners} for joiners");
        drop(gate);
        joiners.into_iter().for_each(|h| assert_eq!(h.join().unwrap(), 0));
    });
}

/// GO-CASES D25: a refused connection is an error, and the program goes on to its end.
#[test]
fn d25_refused_connection() {
    if !in_child("d25_refused_connection", |out| assert!(out.contains("done"))) {
        return;
    }
    gort::run(|| {
        let (listener, addr) = listen_apart(2);
        drop(listener);
        assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(TcpStream::connect_timeout(&addr, HANG).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        println!("done");
    });
}

/// If descriptors run out, `accept` returns the error, and works again when some are free.
#[test]
fn accept_without_descriptors() {
    if !in_child("accept_without_descriptors", |_| {}) {
        return;
    }
    // A fixed number of Ps: a runtime that follows cgroup limits opens files now and then, and so
    // would have descriptors to give back.
    let runtime = gort::Runtime::builder().gomaxprocs(2);
    let scene = || {
        let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: `limit` is a valid rlimit.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        let (listener, addr) = listen();
        // A connection that the kernel has queued needs only the client's descriptor here.
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let mut hoard = Vec::new();
        let e = loop {
            match std::fs::File::open("/dev/null") {
                Ok(f) => hoard.push(f),
                Err(e) => break e,
            }
        };
        assert_eq!(e.raw_os_error(), Some(libc::EMFILE));
        for _ in 0..3 {
            assert_eq!(listener.accept().unwrap_err().raw_os_error(), Some(libc::EMFILE));
        }
        // The loop of a server: it backs off and goes on.
        let (refused, was_refused) = gort::chan::unbounded();
        let server = gort::go(move || {
            let mut served = 0;
            while served < 3 {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.write_all(b"hello").unwrap();
                        served += 1;
                    }
                    Err(e) => {
                        assert_eq!(e.raw_os_error(), Some(libc::EMFILE));
                        refused.send(()).unwrap();
                        pause_ms(2);
                    }
                }
            }
        });
        for _ in 0..3 {
            was_refused.recv().unwrap();
        }
        hoard.truncate(5);
        for client in &clients {
            let mut word = [0; 5];
            client.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"hello");
        }
        server.join().unwrap();
    };
    runtime.run(scene).unwrap();
}

/// The longest queue that the kernel allows this listener.
fn backlog_of(listener: &impl AsFd) -> usize {
    // SAFETY: tcp_info is plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has room for `len` bytes.
    let r = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut len,
        )
    };
    assert_eq!(r, 0);
    info.tcpi_sacked as usize // For a listener: the limit of its queue.
}

/// PEERS, listen backlog: it is the system's limit, and 2 000 clients (or as many as the system
/// queues) connect before the server accepts the first.
#[test]
fn backlog_of_the_system() {
    if !in_child("backlog_of_the_system", |_| {}) {
        return;
    }
    gort::run(|| {
        let (listener, addr) = listen();
        let somaxconn: usize =
            std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        assert_eq!(backlog_of(&listener), somaxconn);

        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid rlimit, for both calls.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
            limit.rlim_cur = limit.rlim_max;
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        }
        let clients_max = 2000.min(somaxconn).min((limit.rlim_cur as usize - 100) / 2);
        let clients: Vec<_> = (0..clients_max)
            .map(|i| {
                TcpStream::connect_timeout(&addr, HANG)
                    .unwrap_or_else(|e| panic!("client {i} of {clients_max}: {e}"))
            })
            .collect();
        let servers: Vec<_> = (0..clients_max).map(|_| listener.accept().unwrap().0).collect();
        for (server, client) in servers.iter().zip(&clients) {
            assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
            server.write_all(b"x").unwrap();
        }
        for client in &clients {
            client.read_exact(&mut [0]).unwrap();
        }
    });
}

/// Unix clients that do not fit into a listener's queue wait without a thread, and all are served.
#[test]
fn unix_connect_waits_for_the_queue() {
    gort::run(|| {
        let path = socket_path("queue");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let listener = UnixListener::try_from(listener).unwrap();
        let clients: Vec<_> = (0..10)
            .map(|_| {
                let path = path.clone();
                gort::go(move || {
                    let mut word = [0; 2];
                    UnixStream::connect(&path).unwrap().read_exact(&mut word).unwrap();
                    assert_eq!(&word, b"hi");
                })
            })
            .collect();
        pause(Duration::from_millis(20));
        for _ in 0..10 {
            listener.accept().unwrap().0.write_all(b"hi").unwrap();
        }
        clients.into_iter().for_each(|h| h.join().unwrap());
        std::fs::remove_file(path).unwrap();
    });
}

/// Closing or dropping a connection that lingers blocks its thread, but not the only P.
#[test]
fn a_lingering_close_holds_no_p() {
    if child::is_played(|| {
        for way in ["close", "drop", "by the last reader"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (peer, _) = listener.accept().unwrap();
            // More than the peer takes, which does not read.
            stream.set_nonblocking(true).unwrap();
            while stream.write(&[0; 64 << 10]).is_ok() {}
            stream.set_nonblocking(false).unwrap();
            stream.set_linger(Some(Duration::from_secs(2))).unwrap();
            let begun = Instant::now();
            let closer = gort::go(move || {
                match way {
                    "close" => stream.close(),
                    "drop" => drop(stream),
                    _ => gort::scope(|s| {
                        s.go(|| stream.read(&mut [0]).unwrap_err());
                        gort::yield_now();
                        stream.close();
                    }),
                }
                begun.elapsed()
            });
            let mut ticks = 0;
            while !closer.is_finished() {
                gort::sleep(Duration::from_millis(1));
                ticks += 1;
            }
            let took = closer.join().unwrap();
            assert!(took >= Duration::from_millis(1900), "{way}: it has not lingered: {took:?}");
            assert!(ticks >= 200, "{way}: {ticks} sleeps of a millisecond meanwhile");
            drop(peer);
        }
    }) {
        return;
    }
    child::ends_well_in_both_modes("a_lingering_close_holds_no_p", "1");
}
