//! Many connections that are always ready, and one P: each gets its share.

mod child;

use child::{ends_well_in_both_modes, is_played};
use gort::net::TcpListener;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// More than a ring of goroutines.
const CONNECTIONS: usize = 400;
/// The total of messages; and how many of them each connection gets at least.
const MESSAGES: usize = 100 * CONNECTIONS;
const LEAST: usize = 20;

/// Goroutines woken by I/O are not overtaken again and again by those that were woken later.
#[test]
fn every_connection_is_answered() {
    if is_played(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        gort::go(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                gort::go(move || {
                    let mut buffer = [0; 256];
                    while let Ok(n @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..n]).unwrap();
                    }
                });
            }
        });
        let counts = gort::blocking(|| ask_all(addr));
        let least = *counts.iter().min().unwrap();
        assert!(least >= LEAST, "one of {CONNECTIONS} has {least} of {MESSAGES} answers: {counts:?}");
    }) {
        return;
    }
    ends_well_in_both_modes("every_connection_is_answered", "1");
}

/// The client: a plain thread on which every connection sends its next request as soon as it has an
/// answer. Returns how many answers each connection had.
fn ask_all(addr: std::net::SocketAddr) -> Vec<usize> {
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let stream = TcpStream::connect(addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    let mut fds: Vec<_> = streams
        .iter()
        .map(|stream| libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let mut counts = vec![0; CONNECTIONS];
    streams.iter_mut().for_each(|stream| stream.write_all(b"x").unwrap());
    while counts.iter().sum::<usize>() < MESSAGES {
        // SAFETY: the array is exclusively borrowed during the call.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 10_000) };
        assert!(ready > 0, "no answer");
        for ((stream, fd), count) in streams.iter_mut().zip(&fds).zip(&mut counts) {
            if fd.revents == 0 {
                continue;
            }
            match stream.read(&mut [0]) {
                Ok(1) => {
                    *count += 1;
                    stream.write_all(b"x").unwrap();
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                other => panic!("{other:?}"),
            }
        }
    }
    counts
}
