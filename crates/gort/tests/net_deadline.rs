//! GO-CASES N1 to N8: time-outs and deadlines.

mod net_support;

use gort::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use net_support::*;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

/// A listener whose queue is full, so further connections are not answered. The streams fill the
/// queue.
fn deaf_listener() -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        fill.push(stream);
        assert!(fill.len() < 10);
    }
    (listener, fill)
}

/// GO-CASES N1: a connection that is not answered fails in time and never early. Zero is an error,
/// as in std; a huge timeout works.
#[test]
fn n1_connect_timeout() {
    gort::run(|| {
        let (deaf, _fill) = deaf_listener();
        let addr = deaf.local_addr().unwrap();
        for timeout in [Duration::from_nanos(1), Duration::from_millis(1), Duration::from_millis(30)] {
            let began = Instant::now();
            assert_timeout(TcpStream::connect_timeout(&addr, timeout));
            assert!(began.elapsed() >= timeout);
            assert!(began.elapsed() < HANG);
        }
        let e = TcpStream::connect_timeout(&addr, Duration::ZERO).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        let (_listener, addr) = listen();
        TcpStream::connect_timeout(&addr, Duration::MAX).unwrap();
        TcpStream::connect_timeout(&addr, Duration::from_nanos(i64::MAX as u64)).unwrap();
    });
}

/// GO-CASES N2: a deadline in the past fails `accept` although a connection is queued, also the
/// second time. When it is removed, `accept` returns the connection.
#[test]
fn n2_accept_deadline() {
    gort::run(|| {
        let (listener, addr) = listen();
        let _client = TcpStream::connect(addr).unwrap();
        listener.set_deadline(past()).unwrap();
        assert_timeout(listener.accept());
        assert_timeout(listener.accept());
        listener.set_deadline(None).unwrap();
        listener.accept().unwrap();

        let began = Instant::now();
        listener.set_deadline(in_ms(10)).unwrap();
        assert_timeout(listener.accept());
        assert!(began.elapsed() >= Duration::from_millis(10));
        assert_timeout(listener.accept());

        let path = socket_path("n2");
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).unwrap();
        listener.set_deadline(past()).unwrap();
        assert_timeout(listener.accept());
        listener.set_deadline(None).unwrap();
        listener.accept().unwrap();
        std::fs::remove_file(path).unwrap();
    });
}

/// GO-CASES N2: a deadline that was removed does not end a later `accept`.
#[test]
fn n2_accept_without_deadline_must_not_return() {
    gort::run(|| {
        let (listener, addr) = listen();
        listener.set_deadline(in_ms(10)).unwrap();
        listener.set_deadline(None).unwrap();
        let returned = Arc::new(AtomicBool::new(false));
        let r = returned.clone();
        let h = gort::go(move || {
            let result = listener.accept();
            r.store(true, Release);
            result.unwrap();
        });
        pause_ms(100);
        assert!(!returned.load(Acquire));
        TcpStream::connect(addr).unwrap();
        h.join().unwrap();
    });
}

/// GO-CASES N3: a deadline in the past wins over data that is there, and stays. A deadline in the
/// future lets the data through first.
fn n3_stream<C: Conn>((a, b): (C, C)) {
    b.write_all(b"data").unwrap();
    let mut buf = [0; 4];
    a.set_deadline(past()).unwrap();
    for _ in 0..2 {
        assert_timeout(a.read(&mut buf));
        assert_timeout(a.write(b"x"));
    }
    a.set_deadline(Some(Instant::now() + HANG)).unwrap();
    a.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"data");
    let began = Instant::now();
    a.set_deadline(in_ms(50)).unwrap();
    assert_timeout(a.read(&mut buf));
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_timeout(a.read(&mut buf));
    a.set_deadline(None).unwrap();
    a.write_all(b"x").unwrap();
    b.read_exact(&mut buf[..1]).unwrap();
}

#[test]
fn n3_past_deadline_wins_tcp() {
    gort::run(|| n3_stream(tcp_pair()));
}

#[test]
fn n3_past_deadline_wins_unix() {
    gort::run(|| n3_stream(UnixStream::pair().unwrap()));
}

/// GO-CASES N3: the same for datagrams.
#[test]
fn n3_past_deadline_wins_datagrams() {
    gort::run(|| {
        let a = UdpSocket::bind("127.0.0.1:0").unwrap();
        let b = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        b.send_to(b"data", to_a).unwrap();
        let mut buf = [0; 8];
        a.set_deadline(past()).unwrap();
        for _ in 0..2 {
            assert_timeout(a.recv_from(&mut buf));
            assert_timeout(a.peek_from(&mut buf));
            assert_timeout(a.recv(&mut buf));
            assert_timeout(a.send_to(b"x", to_b));
        }
        a.set_deadline(Some(Instant::now() + HANG)).unwrap();
        assert_eq!(a.recv_from(&mut buf).unwrap(), (4, to_b));
        a.set_deadline(in_ms(50)).unwrap();
        assert_timeout(a.recv_from(&mut buf));

        let (a, b) = UnixDatagram::pair().unwrap();
        b.send(b"data").unwrap();
        a.set_read_deadline(past()).unwrap();
        assert_timeout(a.recv(&mut buf));
        a.send(b"x").unwrap();
        a.set_read_deadline(Some(Instant::now() + HANG)).unwrap();
        assert_eq!(a.recv(&mut buf).unwrap(), 4);
        a.set_read_deadline(in_ms(50)).unwrap();
        assert_timeout(a.recv(&mut buf));
    });
}

/// GO-CASES N4: a write deadline does not end a read, nor a read deadline a write. After a close
/// the error is not a timeout.
#[test]
fn n4_deadlines_keep_to_their_side() {
    gort::run(|| {
        let (a, _b) = tcp_pair();
        let a = Arc::new(a);
        let reader = a.clone();
        a.set_write_deadline(in_ms(10)).unwrap();
        let h = gort::go(move || reader.read(&mut [0]));
        pause_ms(100);
        assert!(!h.is_finished());
        assert_timeout(a.write(b"x"));
        a.close();
        assert_closed(h.join().unwrap());

        let (a, _b) = tcp_pair();
        let a = Arc::new(a);
        let writer = a.clone();
        a.set_read_deadline(in_ms(10)).unwrap();
        let h = gort::go(move || {
            loop {
                if let Err(e) = writer.write(&[0; 65536]) {
                    return e;
                }
            }
        });
        pause_ms(100);
        assert!(!h.is_finished());
        assert_timeout(a.read(&mut [0]));
        a.close();
        assert_closed::<()>(Err(h.join().unwrap()));
    });
}

/// GO-CASES N5: a short deadline is never early.
#[test]
fn n5_never_early() {
    gort::run(|| {
        let (a, _b) = tcp_pair();
        let u = UdpSocket::bind("127.0.0.1:0").unwrap();
        for us in [1, 100, 1000, 1250, 3000] {
            for _ in 0..5 {
                let deadline = Instant::now() + Duration::from_micros(us);
                a.set_read_deadline(Some(deadline)).unwrap();
                u.set_read_deadline(Some(deadline)).unwrap();
                assert_timeout(a.read(&mut [0]));
                assert!(Instant::now() >= deadline);
                assert_timeout(u.recv(&mut [0]));
                let deadline = Instant::now() + Duration::from_micros(us);
                a.set_write_deadline(Some(deadline)).unwrap();
                while a.write(&[0; 65536]).is_ok() {}
                assert!(Instant::now() >= deadline);
            }
        }
    });
}

/// GO-CASES N6: every deadline from a nanosecond to a second ends a transfer that would not end.
#[test]
fn n6_various_deadlines() {
    gort::run(|| {
        let (listener, addr) = listen();
        let server = gort::go(move || {
            while let Ok((stream, _)) = listener.accept() {
                gort::go(move || while stream.write(&[b'a'; 4096]).is_ok() {});
                if stream_count_reached() {
                    return;
                }
            }
        });
        for ns in VARIOUS_NS {
            let stream = TcpStream::connect(addr).unwrap();
            let deadline = Instant::now() + Duration::from_nanos(ns);
            stream.set_read_deadline(Some(deadline)).unwrap();
            let mut buf = [0; 4096];
            let e = loop {
                if let Err(e) = stream.read(&mut buf) {
                    break e;
                }
            };
            assert!(Instant::now() >= deadline);
            assert_timeout::<()>(Err(e));
        }
        server.join().unwrap();
    });
}

const VARIOUS_NS: [u64; 17] = [
    1,
    5,
    50,
    100,
    300,
    1_000,
    5_000,
    20_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
];

/// Counts the calls; true for the last one.
fn stream_count_reached() -> bool {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    COUNT.fetch_add(1, Relaxed) + 1 == VARIOUS_NS.len()
}

/// GO-CASES N7: a deadline that is moved again and again does not end a slow conversation.
#[test]
fn n7_prolonged_deadline() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        let h = gort::go(move || {
            for i in 0..20u8 {
                pause_ms(10);
                b.write_all(&[i]).unwrap();
            }
            b
        });
        let deadline_first = Instant::now() + Duration::from_secs(20);
        let mut buf = [0];
        for i in 0..20u8 {
            a.set_deadline(Some(deadline_first + Duration::from_secs(u64::from(i)))).unwrap();
            a.read_exact(&mut buf).unwrap();
            assert_eq!(buf, [i]);
        }
        drop(h.join().unwrap());
    });
}

/// GO-CASES N7: a read in flight whose deadline is moved repeatedly ends after the last one only.
#[test]
fn n7_deadline_moved_under_a_read() {
    gort::run(|| {
        let (a, _b) = tcp_pair();
        let a = Arc::new(a);
        let began = Instant::now();
        a.set_read_deadline(Some(began + HANG)).unwrap();
        let reader = a.clone();
        let h = gort::go(move || {
            assert_timeout(reader.read(&mut [0]));
            Instant::now()
        });
        let mut last = began;
        for _ in 0..50 {
            pause_ms(1);
            last = Instant::now() + Duration::from_millis(50);
            a.set_read_deadline(Some(last)).unwrap();
        }
        let ended = h.join().unwrap();
        // On a busy machine a pause may exceed 50 ms; then an earlier deadline was right to end it.
        assert!(ended >= began + Duration::from_millis(50));
        if ended < last {
            println!("the machine was slow: ended {:?} before the last deadline", last - ended);
        }
    });
}

/// GO-CASES N7: deadlines move every few microseconds during a thousand reads and writes. Nothing
/// hangs.
#[test]
fn n7_deadline_race() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        let (a, b) = (Arc::new(a), Arc::new(b));
        let done = Arc::new(AtomicBool::new(false));
        let (mover, d) = (a.clone(), done.clone());
        let h0 = gort::go(move || {
            while !d.load(Acquire) {
                mover.set_deadline(Some(Instant::now() + Duration::from_micros(2))).unwrap();
                gort::yield_now();
            }
        });
        let reader = a.clone();
        let h1 = gort::go(move || {
            for _ in 0..1000 {
                match reader.read(&mut [0; 1]) {
                    Ok(n) => assert_eq!(n, 1),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::TimedOut),
                }
            }
        });
        let h2 = gort::go(move || {
            for _ in 0..1000 {
                match a.write(&[0; 1]) {
                    Ok(n) => assert_eq!(n, 1),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::TimedOut),
                }
            }
        });
        b.write_all(&[0; 500]).unwrap();
        h1.join().unwrap();
        h2.join().unwrap();
        done.store(true, Release);
        h0.join().unwrap();
    });
}

/// GO-CASES N7: many goroutines set earlier and earlier deadlines on many connections; the earliest
/// counts.
#[test]
fn n7_concurrent_set_deadline() {
    gort::run(|| {
        let conns: Arc<Vec<TcpStream>> = Arc::new((0..10).map(|_| tcp_pair().0).collect());
        let setters: Vec<_> = (0..8u64)
            .map(|g| {
                let conns = conns.clone();
                gort::go(move || {
                    let base = Instant::now() + HANG;
                    for i in 0..100u64 {
                        for c in conns.iter() {
                            c.set_deadline(Some(base - Duration::from_micros(i * 10 + g))).unwrap();
                        }
                    }
                })
            })
            .collect();
        setters.into_iter().for_each(|h| h.join().unwrap());
        for c in conns.iter() {
            c.set_deadline(in_ms(5)).unwrap();
        }
        for c in conns.iter() {
            // The peer is gone, so the read sees the end, or the deadline first.
            match c.read(&mut [0]) {
                Ok(n) => assert_eq!(n, 0),
                Err(e) => assert_eq!(e.kind(), ErrorKind::TimedOut),
            }
            pause_ms(6);
            assert_timeout(c.read(&mut [0]));
        }
    });
}

/// An operation that begins after its deadline fails, even if the timer has not fired yet and data
/// is there.
#[test]
fn a_passed_deadline_needs_no_timer() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        b.write_all(&[1]).unwrap();
        for _ in 0..20 {
            let deadline = Instant::now() + Duration::from_micros(200);
            a.set_deadline(Some(deadline)).unwrap();
            while Instant::now() <= deadline + Duration::from_micros(1) {}
            assert_timeout(a.read(&mut [0]));
            assert_timeout(a.write(&[0]));
        }
        a.set_deadline(None).unwrap();
        assert_eq!(a.read(&mut [0]).unwrap(), 1);
    });
}

/// GO-CASES N8: a deadline in the past that another goroutine sets ends a read on each kind of
/// socket.
#[test]
fn n8_deadline_interrupts_a_read() {
    fn check(read: impl FnOnce() -> std::io::Result<usize> + Send + 'static, set: impl FnOnce()) {
        let h = gort::go(read);
        pause_ms(20);
        assert!(!h.is_finished());
        set();
        assert_timeout(h.join().unwrap());
    }
    gort::run(|| {
        let (a, _b) = tcp_pair();
        let a = Arc::new(a);
        let r = a.clone();
        check(move || r.read(&mut [0]), || a.set_read_deadline(past()).unwrap());
        a.set_deadline(None).unwrap();
        let r = a.clone();
        check(move || r.peek(&mut [0]), || a.set_read_deadline(past()).unwrap());

        let u = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let r = u.clone();
        check(move || r.recv_from(&mut [0]).map(|x| x.0), || u.set_deadline(past()).unwrap());

        let l = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let r = l.clone();
        check(move || r.accept().map(|_| 0), || l.set_deadline(past()).unwrap());

        let (d, _e) = UnixDatagram::pair().unwrap();
        let d = Arc::new(d);
        let r = d.clone();
        check(move || r.recv(&mut [0]), || d.set_deadline(past()).unwrap());
    });
}

/// The deadline also ends a read that waits behind another read.
#[test]
fn deadline_ends_reads_in_line() {
    gort::run(|| {
        let (a, _b) = tcp_pair();
        let a = Arc::new(a);
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let a = a.clone();
                gort::go(move || assert_timeout(a.read(&mut [0])))
            })
            .collect();
        pause_ms(20);
        a.set_read_deadline(past()).unwrap();
        readers.into_iter().for_each(|h| h.join().unwrap());
    });
}

/// std's timeouts apply to each call anew, are never early, and do not stay.
#[test]
fn read_timeout_of_each_call() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        let timeout = Duration::from_millis(20);
        assert_eq!(a.read_timeout().unwrap(), None);
        a.set_read_timeout(Some(timeout)).unwrap();
        assert_eq!(a.read_timeout().unwrap(), Some(timeout));
        for _ in 0..3 {
            let began = Instant::now();
            assert_timeout(a.read(&mut [0]));
            assert!(began.elapsed() >= timeout);
        }
        b.write_all(b"x").unwrap();
        a.read_exact(&mut [0]).unwrap();
        assert_eq!(a.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(a.set_write_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);

        // Two reads at once: each has its own timeout, also the one that waits behind the other.
        let a = Arc::new(a);
        let second = a.clone();
        let h = gort::go(move || assert_timeout(second.read(&mut [0])));
        assert_timeout(a.read(&mut [0]));
        h.join().unwrap();

        a.set_read_timeout(None).unwrap();
        a.set_write_timeout(Some(timeout)).unwrap();
        let e = loop {
            if let Err(e) = a.write(&[0; 65536]) {
                break e;
            }
        };
        assert_timeout::<()>(Err(e));
    });
}

/// The earlier of timeout and deadline ends the call. The deadline stays, the timeout does not.
#[test]
fn timeout_beside_deadline() {
    gort::run(|| {
        let (a, b) = tcp_pair();
        a.set_read_timeout(Some(HANG)).unwrap();
        a.set_read_deadline(in_ms(10)).unwrap();
        assert_timeout(a.read(&mut [0]));
        a.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        a.set_read_deadline(Some(Instant::now() + HANG)).unwrap();
        assert_timeout(a.read(&mut [0]));
        b.write_all(b"x").unwrap();
        a.read_exact(&mut [0]).unwrap();
    });
}

/// A datagram to a Unix socket with a full queue waits, obeys deadlines, and is sent when there is
/// room.
#[test]
fn full_datagram_queue() {
    gort::run(|| {
        let path = socket_path("full");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let sender = Arc::new(UnixDatagram::unbound().unwrap());
        sender.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut sent = 0;
        let e = loop {
            match sender.send_to(b"x", &path) {
                Ok(_) => sent += 1,
                Err(e) => break e,
            }
        };
        assert_timeout::<()>(Err(e));
        assert!(sent > 0);
        sender.set_write_timeout(None).unwrap();
        sender.set_write_deadline(in_ms(10)).unwrap();
        assert_timeout(sender.send_to(b"x", &path));
        sender.set_write_deadline(None).unwrap();
        let (s, p) = (sender.clone(), path.clone());
        let h = gort::go(move || s.send_to(b"last", &p));
        pause_ms(5);
        let mut buf = [0; 8];
        for _ in 0..sent {
            assert_eq!(receiver.recv(&mut buf).unwrap(), 1);
        }
        assert_eq!(receiver.recv(&mut buf).unwrap(), 4);
        assert_eq!(h.join().unwrap().unwrap(), 4);
        std::fs::remove_file(path).unwrap();
    });
}

/// Time-outs belong to the socket, as in std: what one handle sets holds for those that were cloned
/// before and after, also when that handle is gone.
macro_rules! timeouts_are_shared {
    ($socket:expr, $recv:expr) => {{
        let socket = $socket;
        let before = socket.try_clone().unwrap();
        let second = Some(Duration::from_secs(1));
        socket.set_read_timeout(second).unwrap();
        before.set_write_timeout(second).unwrap();
        let after = before.try_clone().unwrap();
        for handle in [&socket, &before, &after] {
            assert_eq!(handle.read_timeout().unwrap(), second);
            assert_eq!(handle.write_timeout().unwrap(), second);
        }
        let short = Duration::from_millis(2);
        after.set_read_timeout(Some(short)).unwrap();
        drop(after);
        let began = Instant::now();
        assert_timeout($recv(&before));
        assert!(began.elapsed() >= short);
        socket.set_read_timeout(None).unwrap();
        assert_eq!(before.read_timeout().unwrap(), None);
        // Zero is an error, and changes nothing.
        assert_eq!(
            before.set_write_timeout(Some(Duration::ZERO)).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert_eq!(socket.write_timeout().unwrap(), second);
    }};
}

#[test]
fn clones_share_their_timeouts() {
    gort::run(|| {
        let (tcp, _peer) = tcp_pair();
        timeouts_are_shared!(tcp, |s: &TcpStream| s.read(&mut [0]));
        let (unix, _peer) = UnixStream::pair().unwrap();
        timeouts_are_shared!(unix, |s: &UnixStream| s.read(&mut [0]));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        timeouts_are_shared!(udp, |s: &UdpSocket| s.recv(&mut [0]));
        let (datagram, _peer) = UnixDatagram::pair().unwrap();
        timeouts_are_shared!(datagram, |s: &UnixDatagram| s.recv(&mut [0]));
    });
}

/// Many threads set a first time-out and clone at the same time: all handles end with one limit.
#[test]
fn the_first_timeout_is_set_once() {
    gort::run(|| {
        for _ in 0..200 {
            let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
            let start = Arc::new(std::sync::Barrier::new(4));
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (socket, start) = (socket.clone(), start.clone());
                    std::thread::spawn(move || {
                        start.wait();
                        let clone = socket.try_clone().unwrap();
                        clone.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                        clone
                    })
                })
                .collect();
            let clones: Vec<_> = gort::blocking(|| threads.into_iter().map(|t| t.join().unwrap()).collect());
            socket.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
            for clone in clones {
                assert_eq!(clone.read_timeout().unwrap(), Some(Duration::from_secs(7)));
            }
        }
    });
}
