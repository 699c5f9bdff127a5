//! The load program, the same for all servers: one thread and epoll, in the runner's own process.
//!
//! The WebSocket clients are minimal. After the handshake every message has the same length on the
//! wire in both directions, so a message is a fixed number of bytes, as in the plain echo.

use crate::peers::MESSAGE;
use crate::process;
use crate::workloads::Load;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long the load runs before the measurement begins.
const WARM: Duration = Duration::from_millis(500);
/// A server that sends nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// The mask of all frames; it need not be secret here.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The bytes before a short payload: from the server, and from the client (masked).
const HEADER: usize = 2;
const MASKED_HEADER: usize = 6;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Puts load on the server at `addr` (process `pid`) for `lasting`. Returns the figures that
/// [`Load`] names.
pub(crate) fn run(load: Load, addr: SocketAddr, pid: u32, lasting: Duration) -> Result<Vec<f64>> {
    match load {
        Load::Echo { connections, websocket } => echo(addr, pid, connections, websocket, lasting),
        Load::Paced => paced(addr, lasting),
        Load::Broadcast { connections } => broadcast(addr, pid, connections, lasting),
        Load::Idle { connections } => idle(addr, pid, connections),
    }
}

/// Connects, and does the WebSocket handshake if asked to.
fn connect(addr: SocketAddr, websocket: bool) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    if websocket {
        stream.write_all(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(format!("no handshake: {}", String::from_utf8_lossy(&head)).into());
        }
    }
    Ok(stream)
}

/// A client's text frame.
fn frame(text: &[u8]) -> Vec<u8> {
    assert!(text.len() < 126, "a short frame");
    let mut bytes = vec![0x81, 0x80 | text.len() as u8];
    bytes.extend(MASK);
    bytes.extend(text.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// One connection.
struct Client {
    stream: mio::net::TcpStream,
    /// How many bytes of the current reply have arrived.
    got: usize,
    asked: Instant,
}

impl Client {
    /// Reads what is there. Calls `f` with each complete reply of `len` bytes.
    fn read(
        &mut self,
        buffer: &mut [u8],
        len: usize,
        mut f: impl FnMut(&mut Client, &[u8]),
    ) -> io::Result<()> {
        loop {
            let wanted = len - self.got;
            match self.stream.read(&mut buffer[self.got..len]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) if n < wanted => self.got += n,
                Ok(_) => {
                    self.got = 0;
                    f(self, &buffer[..len]);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Opens all connections and registers them with the poll.
fn open(addr: SocketAddr, connections: usize, websocket: bool) -> Result<(Poll, Vec<Client>)> {
    let poll = Poll::new()?;
    let mut clients = Vec::new();
    for i in 0..connections {
        let stream = connect(addr, websocket)?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(i), Interest::READABLE)?;
        clients.push(Client { stream, got: 0, asked: Instant::now() });
    }
    Ok((poll, clients))
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("sensible bounds")
}

fn echo(
    addr: SocketAddr,
    pid: u32,
    connections: usize,
    websocket: bool,
    lasting: Duration,
) -> Result<Vec<f64>> {
    let (mut poll, mut clients) = open(addr, connections, websocket)?;
    let (request, reply) = match websocket {
        true => (frame(&[b'x'; MESSAGE]), HEADER + MESSAGE),
        false => (vec![b'x'; MESSAGE], MESSAGE),
    };
    let mut buffers = vec![0; reply * connections];
    for client in &mut clients {
        client.asked = Instant::now();
        client.stream.write_all(&request)?;
    }
    let mut events = Events::with_capacity(1_024);
    let mut latencies = histogram();
    let mut messages = 0u64;
    // When the measurement began, and the server's CPU time then.
    let mut measured: Option<(Instant, f64)> = None;
    let begun = Instant::now();
    loop {
        let now = Instant::now();
        match measured {
            None if now >= begun + WARM => measured = Some((now, process::cpu_ns(pid)?)),
            Some((since, cpu)) if now >= since + lasting => {
                let time = now.duration_since(since).as_nanos() as f64;
                let cpu = process::cpu_ns(pid)? - cpu;
                let p99 = latencies.value_at_quantile(0.99) as f64;
                if messages == 0 {
                    return Err("not one answer".into());
                }
                return Ok(vec![cpu / messages as f64, time / messages as f64, p99]);
            }
            _ => {}
        }
        poll.poll(&mut events, Some(Duration::from_millis(100))).or_else(interrupted)?;
        for event in &events {
            let i = event.token().0;
            let buffer = &mut buffers[i * reply..(i + 1) * reply];
            let mut sent = Ok(());
            clients[i].read(buffer, reply, |client, _| {
                if measured.is_some() {
                    messages += 1;
                    latencies.saturating_record(client.asked.elapsed().as_nanos() as u64);
                }
                client.asked = Instant::now();
                // The socket's send buffer is empty, so this does not block.
                sent = client.stream.write_all(&request);
            })?;
            sent?;
        }
    }
}

fn interrupted(e: io::Error) -> io::Result<()> {
    if e.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(e) }
}

/// Sends a request at fixed intervals, answered or not. Latency counts from when a request was due.
fn paced(addr: SocketAddr, lasting: Duration) -> Result<Vec<f64>> {
    const PERIOD: Duration = Duration::from_millis(5);
    let mut stream = connect(addr, false)?;
    let begun = Instant::now();
    let mut took = histogram();
    for round in 0..(lasting.as_millis() / PERIOD.as_millis()) as u32 {
        let due = begun + round * PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(&[7; MESSAGE])?;
        stream.read_exact(&mut [0; MESSAGE])?;
        took.saturating_record(due.elapsed().as_nanos() as u64);
    }
    Ok(vec![took.value_at_quantile(0.5) as f64, took.value_at_quantile(0.99) as f64])
}

fn broadcast(addr: SocketAddr, pid: u32, connections: usize, lasting: Duration) -> Result<Vec<f64>> {
    const PERIOD: Duration = Duration::from_millis(10);
    let (mut poll, mut clients) = open(addr, connections, true)?;
    let mut events = Events::with_capacity(1_024);
    let reply = HEADER + MESSAGE;
    let mut buffers = vec![0; reply * connections];
    let mut latencies = histogram();
    let mut deliveries = 0u64;
    let begun = Instant::now();
    let cpu = process::cpu_ns(pid)?;
    let rounds = (lasting.as_millis() / PERIOD.as_millis()) as u32;
    let due = |round: u32| begun + round * PERIOD;
    let mut round = 0;
    let mut last_delivery = Instant::now();
    // Until the last delivery, or until nothing more arrives: a server may drop messages for slow
    // readers.
    while round < rounds
        || (deliveries < u64::from(rounds) * connections as u64 && last_delivery.elapsed() < PATIENCE / 10)
    {
        let now = Instant::now();
        while round < rounds && due(round) <= now {
            // The text is the round's number, so a receiver knows when the message was due.
            let text = format!("{round:0>MESSAGE$}");
            debug_assert_eq!(frame(text.as_bytes()).len(), MASKED_HEADER + MESSAGE);
            clients[0].stream.write_all(&frame(text.as_bytes()))?;
            round += 1;
        }
        let wait = if round < rounds { due(round).saturating_duration_since(Instant::now()) } else { PERIOD };
        poll.poll(&mut events, Some(wait)).or_else(interrupted)?;
        for event in &events {
            let i = event.token().0;
            let buffer = &mut buffers[i * reply..(i + 1) * reply];
            clients[i].read(buffer, reply, |_, reply| {
                let round = std::str::from_utf8(&reply[HEADER..]).ok().and_then(|text| text.parse().ok());
                let late = due(round.expect("what was sent")).elapsed();
                latencies.saturating_record(late.as_nanos() as u64);
                deliveries += 1;
                last_delivery = Instant::now();
            })?;
        }
    }
    if deliveries == 0 {
        return Err("nothing was delivered".into());
    }
    let cpu = process::cpu_ns(pid)? - cpu;
    Ok(vec![cpu / deliveries as f64, latencies.value_at_quantile(0.99) as f64])
}

/// What a connection costs after half a minute without traffic.
fn idle(addr: SocketAddr, pid: u32, connections: usize) -> Result<Vec<f64>> {
    let before = process::memory_bytes(pid)?;
    let open: Vec<_> = (0..connections).map(|_| connect(addr, true)).collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_secs(30));
    let bytes = process::memory_bytes(pid)? - before;
    Ok(vec![bytes / open.len() as f64])
}
