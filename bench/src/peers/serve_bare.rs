//! The echo without a runtime: a thread and an epoll for each P. A runtime cannot need less CPU
//! with the same system calls.

use super::{ECHO_BUFFER, until_told};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// Events of one poll, as many as tokio asks for.
const EVENTS: usize = 1_024;
/// The token that tells a thread that it was given connections.
const GIVEN: Token = Token(usize::MAX);

/// Serves until it is told to end. False: there is no such server.
pub(crate) fn serve(kind: &str, procs: usize) -> bool {
    if kind != "echo" {
        return false;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let workers: Vec<_> = (0..procs).map(|_| worker().unwrap()).collect();
    std::thread::spawn(move || {
        for give in workers.iter().cycle() {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).unwrap();
            give(TcpStream::from_std(stream));
        }
    });
    until_told();
    std::process::exit(0)
}

/// Starts a thread; returns a function that gives it connections.
fn worker() -> io::Result<impl Fn(TcpStream) + Send> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), GIVEN)?;
    let (tx, rx) = channel();
    std::thread::spawn(move || work(poll, &rx).unwrap());
    Ok(move |stream| {
        tx.send(stream).unwrap();
        waker.wake().unwrap();
    })
}

fn work(mut poll: Poll, given: &Receiver<TcpStream>) -> io::Result<()> {
    let mut events = Events::with_capacity(EVENTS);
    let mut streams = Vec::new();
    loop {
        poll.poll(&mut events, None).or_else(|e| match e.kind() {
            ErrorKind::Interrupted => Ok(()),
            _ => Err(e),
        })?;
        for event in &events {
            if event.token() == GIVEN {
                for mut stream in given.try_iter() {
                    poll.registry().register(&mut stream, Token(streams.len()), Interest::READABLE)?;
                    streams.push(stream);
                }
                continue;
            }
            let _ = answer(&mut streams[event.token().0]); // The client reports a missing answer.
        }
    }
}

/// Echoes what is there. A read of less than the buffer is the last one, as in the runtimes; an
/// empty socket takes the answer at once.
fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; ECHO_BUFFER];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                stream.write_all(&buffer[..n])?;
                if n < buffer.len() {
                    return Ok(());
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}
