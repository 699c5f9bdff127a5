//! GO-CASES N15: what every connection must do, over Unix streams and TCP in both directions.

mod net_support;

use net_support::*;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// Copies until an error or the end.
fn copy(from: &impl Conn, to: &impl Conn) {
    let mut buf = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut buf) {
        if to.write_all(&buf[..n]).is_err() {
            return;
        }
    }
}

/// Reads until an error or the end.
fn discard(from: &impl Conn) {
    while let Ok(1..) = from.read(&mut [0; 1024]) {}
}

/// Writes until an error.
fn flood(to: &impl Conn) {
    while to.write(&[b'x'; 1024]).is_ok() {}
}

/// Something goes there and comes back. Needs an echo at the other end.
fn roundtrip(c: &impl Conn) {
    c.set_deadline(None).unwrap();
    let sent: Vec<u8> = (0..=255).collect();
    c.write_all(&sent).unwrap();
    let mut back = vec![0; sent.len()];
    c.read_exact(&mut back).unwrap();
    assert_eq!(back, sent);
}

/// Reads what interrupted writes have left, up to a mark. Needs an echo at the other end.
fn resync<C: Conn>(c: &Arc<C>) {
    let mark: Vec<u8> = (0..64).map(|i| i * 3 + 1).collect();
    let writer = c.clone();
    let sent = mark.clone();
    let h = gort::go(move || writer.write_all(&sent).unwrap());
    let mut seen = Vec::new();
    while !seen.ends_with(&mark) {
        let mut buf = [0; 1024];
        let n = c.read(&mut buf).unwrap();
        assert!(n > 0);
        seen.extend_from_slice(&buf[..n]);
    }
    h.join().unwrap();
}

fn random_bytes(n: usize) -> Vec<u8> {
    let mut state = std::hash::RandomState::new().build_hasher().finish() | 1;
    println!("seed {state}");
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// A mebibyte arrives at the other end, and comes back, without a change.
fn basic_io<C: Conn>((a, b): (C, C)) {
    let data = Arc::new(random_bytes(1 << 20));
    let (a, b) = (Arc::new(a), Arc::new(b));
    let (writer, sent) = (a.clone(), data.clone());
    let h1 = gort::go(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown_write().unwrap();
    });
    let h2 = gort::go(move || {
        let mut got = Vec::new();
        let mut buf = [0; 8192];
        while let n @ 1.. = b.read(&mut buf).unwrap() {
            got.extend_from_slice(&buf[..n]);
        }
        b.write_all(&got).unwrap();
    });
    let mut back = vec![0; data.len()];
    a.read_exact(&mut back).unwrap();
    assert!(back == *data);
    assert_eq!(a.read(&mut [0]).unwrap(), 0);
    h1.join().unwrap();
    h2.join().unwrap();
}

/// A number goes back and forth up to a thousand; each side adds one.
fn ping_pong<C: Conn>((a, b): (C, C)) {
    let player = |c: C, first: bool| {
        move || {
            let mut buf = [0; 8];
            if first {
                c.write_all(&buf).unwrap();
            }
            while c.read_exact(&mut buf).is_ok() {
                let n = u64::from_le_bytes(buf) + 1;
                buf = n.to_le_bytes();
                c.write_all(&buf).unwrap();
                if n >= 1000 {
                    break;
                }
            }
            c // Stays open until both are done.
        }
    };
    let a = gort::go(player(a, true));
    let b = gort::go(player(b, false));
    let _both = (a.join().unwrap(), b.join().unwrap());
}

/// Many goroutines read with deadlines of a millisecond; each of them sets the deadline again.
fn racy_read<C: Conn>((a, b): (C, C)) {
    let a = Arc::new(a);
    let flooding = gort::go(move || flood(&b));
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let a = a.clone();
            gort::go(move || {
                a.set_read_deadline(in_ms(1)).unwrap();
                for _ in 0..10 {
                    if let Err(e) = a.read(&mut [0; 1024]) {
                        assert_eq!(e.kind(), ErrorKind::TimedOut);
                        a.set_read_deadline(in_ms(1)).unwrap();
                    }
                }
            })
        })
        .collect();
    readers.into_iter().for_each(|h| h.join().unwrap());
    a.close();
    flooding.join().unwrap();
}

/// Many goroutines write with deadlines of a millisecond; each of them sets the deadline again.
fn racy_write<C: Conn>((a, b): (C, C)) {
    let a = Arc::new(a);
    let discarding = gort::go(move || discard(&b));
    let writers: Vec<_> = (0..10)
        .map(|_| {
            let a = a.clone();
            gort::go(move || {
                a.set_write_deadline(in_ms(1)).unwrap();
                for _ in 0..10 {
                    if let Err(e) = a.write(&[0; 1024]) {
                        assert_eq!(e.kind(), ErrorKind::TimedOut);
                        a.set_write_deadline(in_ms(1)).unwrap();
                    }
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|h| h.join().unwrap());
    a.close();
    discarding.join().unwrap();
}

/// A read deadline does not affect writes.
fn read_timeout<C: Conn>((a, b): (C, C)) {
    let discarding = gort::go(move || discard(&b));
    a.set_read_deadline(past()).unwrap();
    assert_timeout(a.read(&mut [0; 1024]));
    a.write_all(&[0; 1024]).unwrap();
    a.close();
    discarding.join().unwrap();
}

/// A write deadline does not affect reads.
fn write_timeout<C: Conn>((a, b): (C, C)) {
    let flooding = gort::go(move || flood(&b));
    a.set_write_deadline(past()).unwrap();
    assert_timeout(a.write(&[0; 1024]));
    a.read_exact(&mut [0; 1024]).unwrap();
    a.close();
    flooding.join().unwrap();
}

/// After a deadline in the past was removed, the connection works as before.
fn past_timeout<C: Conn>((a, b): (C, C)) {
    let echo = gort::go(move || copy(&b, &b));
    roundtrip(&a);
    a.set_deadline(past()).unwrap();
    assert_timeout(a.write(&[0; 1024]));
    assert_timeout(a.read(&mut [0; 1024]));
    roundtrip(&a);
    a.close();
    echo.join().unwrap();
}

/// A deadline in the past ends the reads and writes in flight.
fn present_timeout<C: Conn>((a, _b): (C, C)) {
    let a = Arc::new(a);
    let setter = a.clone();
    let h = gort::go(move || {
        pause_ms(100);
        setter.set_read_deadline(past()).unwrap();
        setter.set_write_deadline(past()).unwrap();
    });
    let reader = a.clone();
    let h1 = gort::go(move || assert_timeout(reader.read(&mut [0; 1024])));
    let h2 = gort::go(move || {
        let e = loop {
            if let Err(e) = a.write(&[0; 1024]) {
                break e;
            }
        };
        assert_timeout::<()>(Err(e));
    });
    [h, h1, h2].into_iter().for_each(|h| h.join().unwrap());
}

/// A deadline in the future ends what is in flight then; afterwards the connection still works.
fn future_timeout<C: Conn>((a, b): (C, C)) {
    let a = Arc::new(a);
    a.set_deadline(in_ms(100)).unwrap();
    let reader = a.clone();
    let h1 = gort::go(move || assert_timeout(reader.read(&mut [0; 1024])));
    let writer = a.clone();
    let h2 = gort::go(move || {
        let e = loop {
            if let Err(e) = writer.write(&[0; 1024]) {
                break e;
            }
        };
        assert_timeout::<()>(Err(e));
    });
    h1.join().unwrap();
    h2.join().unwrap();
    let echo = gort::go(move || copy(&b, &b));
    a.set_deadline(None).unwrap();
    resync(&a);
    roundtrip(&*a);
    a.close();
    echo.join().unwrap();
}

/// A close ends what is in flight with its own error, even if deadlines are set.
fn close_timeout<C: Conn>((a, b): (C, C)) {
    let a = Arc::new(a);
    let echo = gort::go(move || copy(&b, &b));
    a.set_deadline(Some(std::time::Instant::now() + HANG)).unwrap();
    let closer = a.clone();
    let h = gort::go(move || {
        pause_ms(100);
        closer.close();
    });
    let reader = a.clone();
    let h1 = gort::go(move || {
        let e = loop {
            match reader.read(&mut [0; 1024]) {
                Ok(n) => assert!(n > 0),
                Err(e) => break e,
            }
        };
        assert_closed::<()>(Err(e));
    });
    let h2 = gort::go(move || {
        let e = loop {
            if let Err(e) = a.write(&[0; 1024]) {
                break e;
            }
        };
        assert_closed::<()>(Err(e));
    });
    [h, h1, h2, echo].into_iter().for_each(|h| h.join().unwrap());
}

/// A hundred goroutines for each method, all at once.
fn concurrent_methods<C: Conn>((a, b): (C, C)) {
    let a = Arc::new(a);
    let echo = gort::go(move || copy(&b, &b));
    let methods: [fn(&C); 7] = [
        |c| drop(c.read(&mut [0; 1024])),
        |c| drop(c.write(&[0; 1024])),
        |c| c.set_deadline(in_ms(10)).unwrap(),
        |c| c.set_read_deadline(in_ms(10)).unwrap(),
        |c| c.set_write_deadline(in_ms(10)).unwrap(),
        |c| c.addresses().unwrap(),
        |c| c.set_deadline(in_ms(5)).unwrap(),
    ];
    let all: Vec<_> = (0..100)
        .flat_map(|_| methods)
        .map(|method| {
            let a = a.clone();
            gort::go(move || method(&a))
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    a.close();
    echo.join().unwrap();
}

/// After a half-close the data is read to the end, and the other direction still works.
fn half_close<C: Conn>((a, b): (C, C)) {
    a.write_all(b"last words").unwrap();
    a.shutdown_write().unwrap();
    let mut words = [0; 10];
    b.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"last words");
    assert_eq!(b.read(&mut words).unwrap(), 0);
    assert_eq!(b.read(&mut words).unwrap(), 0);
    assert_eq!(a.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    b.write_all(b"reply").unwrap();
    a.read_exact(&mut words[..5]).unwrap();
    assert_eq!(&words[..5], b"reply");
}

/// Readers get what is there without waiting for more, from a peer that writes pieces, pauses and
/// closes.
fn bits_and_pieces<C: Conn>((a, b): (C, C)) {
    let data = random_bytes(100_000);
    let sent = data.clone();
    let h = gort::go(move || {
        let mut rest = &sent[..];
        let mut n = 1;
        while !rest.is_empty() {
            n = (n * 7 + 3) % 1500 + 1;
            let (piece, after) = rest.split_at(n.min(rest.len()));
            a.write_all(piece).unwrap();
            rest = after;
            if n % 5 == 0 {
                pause(Duration::from_micros(50));
            }
        }
    });
    b.set_read_deadline(Some(std::time::Instant::now() + HANG)).unwrap();
    let mut got = Vec::new();
    let mut room = 1;
    loop {
        room = (room * 11 + 5) % 2000 + 1;
        let mut buf = vec![0; room];
        match b.read(&mut buf).unwrap() {
            0 => break,
            n => got.extend_from_slice(&buf[..n]),
        }
    }
    assert!(got == data);
    h.join().unwrap();
}

/// Deadlines that a third goroutine moves interrupt the reader and the writer all the time. No byte
/// is lost or doubled, and no goroutine hangs.
fn deadlines_lose_nothing<C: Conn>((a, b): (C, C)) {
    let data = Arc::new(random_bytes(200_000));
    let (a, b) = (Arc::new(a), Arc::new(b));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (mover_a, mover_b, d) = (a.clone(), b.clone(), done.clone());
    let mover = gort::go(move || {
        let mut n = 7u64;
        while !d.load(std::sync::atomic::Ordering::Acquire) {
            n = n * 48_271 % 2_147_483_647;
            let deadline =
                (!n.is_multiple_of(3)).then(|| std::time::Instant::now() + Duration::from_micros(n % 60));
            if n.is_multiple_of(2) {
                mover_a.set_write_deadline(deadline)
            } else {
                mover_b.set_read_deadline(deadline)
            }
            .unwrap();
            gort::yield_now();
        }
    });
    let sent = data.clone();
    let writer = gort::go(move || {
        let mut rest = &sent[..];
        let mut size = 1;
        while !rest.is_empty() {
            size = (size * 13 + 7) % 3000 + 1;
            match a.write(&rest[..size.min(rest.len())]) {
                Ok(n) => rest = &rest[n..],
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::TimedOut);
                    a.set_write_deadline(None).unwrap();
                }
            }
        }
        a.shutdown_write().unwrap();
        a
    });
    let mut got = Vec::new();
    let mut size = 1;
    loop {
        size = (size * 17 + 11) % 4000 + 1;
        let mut buf = vec![0; size];
        match b.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&buf[..n]),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::TimedOut);
                b.set_read_deadline(None).unwrap();
            }
        }
    }
    assert!(got == *data);
    drop(writer.join().unwrap());
    done.store(true, std::sync::atomic::Ordering::Release);
    mover.join().unwrap();
}

macro_rules! conformance {
    ($($family:ident, $pair:expr;)*) => {$(
        mod $family {
            #[allow(unused_imports, reason = "not all pairs are made by functions of the parent")]
            use super::tcp_pair;
            conformance! { @tests $pair;
                basic_io ping_pong racy_read racy_write read_timeout write_timeout past_timeout present_timeout
                future_timeout close_timeout concurrent_methods half_close bits_and_pieces deadlines_lose_nothing
            }
        }
    )*};
    (@tests $pair:expr; $($test:ident)*) => {$(
        #[test]
        fn $test() {
            gort::run(|| super::$test($pair));
        }
    )*};
}
conformance! {
    unix, gort::net::UnixStream::pair().unwrap();
    tcp, tcp_pair();
    tcp_other_way_round, { let (client, server) = tcp_pair(); (server, client) };
}
