//! One connection as the others see it: a bounded queue of frames, and a writer while there is something in it.
//!
//! # Role
//!
//! Anybody sends (`Client::send`, from fan-outs, under a segment's lock): that queues and never waits for
//! the peer. The connection's own goroutine reads; it lives in `conn.rs`. Writing is done by a goroutine that
//! exists only while frames wait, so an idle connection costs one stack, not two.
//!
//! # States
//!
//! ```text
//!             send                      queue empty
//!   no writer ───────▶ writing ────────────────────▶ no writer
//!                       ▲   │ write up to BATCH frames, look again
//!                       └───┘
//!
//!   Http ──upgrade──▶ Open ──close──▶ Closing ──close frame written──▶ Closed
//!     └──drain──────────┼───────────▶  ▲ └──peer gone, time-out, abort──▲
//!                       │  upgrade ────┘ the drain came during the handshake: only the close frame is sent
//!                       └──peer gone, abort─────────────────────────────┘
//! ```
//!
//! # Invariants
//!
//! 1. `writing` is set exactly while a writer goroutine is on its way or at work: at most one, so frames go
//!    out whole and in order.
//! 2. Only `Open` queues frames. `Closing` has the close frame as the last of its queue; `Closed` has no queue.
//! 3. Frames that are queued or being written never exceed the limits of messages and bytes. A frame over them
//!    is not queued: the connection is closed with 4100 and counted.
//! 4. Deadlines of the stream are set under the queue's lock, so that the one which ends a closing
//!    connection is not overwritten by one that was worked out before.
//!
//! # Protocol
//!
//! Nothing is left behind: the sender pushes and looks at `writing` under one lock; the writer finds the queue
//! empty and clears `writing` under the same lock. One of the two comes first. If the sender's push, the writer
//! sees the frame; if the writer's clearing, the sender sees no writer and starts one.
//!
//! # Rejected
//!
//! A writer goroutine for each connection: a second stack for each, idle nearly always. Writing in the
//! publisher's goroutine: one full socket would hold back everybody behind it.

use crate::hub::Shared;
use crate::protocol::{SocketId, code};
use crate::rt;
use crate::rt::net::TcpStream;
use crate::rt::sync::Mutex;
use crate::stats::add;
use crate::sync::lock;
use crate::ws;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

/// Why a drain closes.
pub(crate) const GOING_DOWN: &str = "the server is going down";

/// Frames in one `writev`.
const BATCH: usize = 64;

pub(crate) struct Client {
    number: u64,
    hub: Arc<Shared>,
    stream: TcpStream,
    out: Mutex<Outbox>,
}

#[derive(Debug, Default)]
struct Outbox {
    phase: Phase,
    writing: bool,
    queue: VecDeque<Arc<[u8]>>,
    /// Frames taken by the writer and not yet on the wire.
    in_flight: usize,
    /// Of the queue and in flight.
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Http,
    Open,
    Closing,
    Closed,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(number: u64, hub: Arc<Shared>, stream: TcpStream) -> Arc<Client> {
        Arc::new(Client { number, hub, stream, out: Mutex::default() })
    }

    pub(crate) fn id(&self) -> SocketId {
        SocketId { hub: self.hub.instance, number: self.number }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Turns an HTTP connection into a WebSocket. False if the hub began to drain during the handshake: the peer, who has a
    /// WebSocket now, is told by a close frame.
    pub(crate) fn open(self: &Arc<Self>) -> bool {
        let mut out = lock(&self.out);
        match out.phase {
            Phase::Http => out.phase = Phase::Open,
            Phase::Closing => self.close_with(&mut out, code::RECONNECT, GOING_DOWN),
            Phase::Open | Phase::Closed => {}
        }
        out.phase == Phase::Open
    }

    /// Until when the connection's goroutine may wait for its peer. Without effect once it is closing.
    pub(crate) fn arm_read(&self, until: Instant) {
        let out = lock(&self.out);
        if matches!(out.phase, Phase::Http | Phase::Open) {
            // Fails only when the stream was closed; the read that follows says so.
            let _ = self.stream.set_read_deadline(Some(until));
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        lock(&self.out).phase == Phase::Open
    }

    /// Queues one frame; false if the connection is closing, or is closed now because the queue is full.
    pub(crate) fn send(self: &Arc<Self>, frame: Arc<[u8]>) -> bool {
        let config = &self.hub.config;
        let mut out = lock(&self.out);
        if out.phase != Phase::Open {
            return false;
        }
        let messages = out.queue.len() + out.in_flight + 1;
        let bytes = out.bytes + frame.len();
        if messages > config.max_queued_messages || bytes > config.max_queued_bytes {
            add(&self.hub.counters.slow_consumers, 1);
            // What the peer did not read in time is not worth keeping: only the reason goes after what is in flight.
            out.bytes -= out.queue.iter().map(|frame| frame.len()).sum::<usize>();
            out.queue = VecDeque::new();
            self.close_with(&mut out, code::OVER_CAPACITY, "too slow: messages wait that were not read");
            return false;
        }
        self.push(&mut out, frame);
        true
    }

    /// Closes with `code` after what is queued. The first close counts; later ones do nothing.
    pub(crate) fn close(self: &Arc<Self>, code: u16, reason: &str) {
        let mut out = lock(&self.out);
        match out.phase {
            Phase::Open => self.close_with(&mut out, code, reason),
            Phase::Http => {
                // Between requests, or in one: what has arrived within the time-out is still answered.
                out.phase = Phase::Closing;
                let _ = self.stream.set_read_deadline(Some(Instant::now() + self.hub.config.close_timeout));
            }
            Phase::Closing | Phase::Closed => {}
        }
    }

    /// Ends the connection now, whatever waits.
    pub(crate) fn abort(&self) {
        let mut out = lock(&self.out);
        out.phase = Phase::Closed;
        out.queue = VecDeque::new();
        drop(out);
        self.stream.close();
    }

    fn close_with(self: &Arc<Self>, out: &mut Outbox, code: u16, reason: &str) {
        self.push(out, ws::close_frame(code, reason));
        out.phase = Phase::Closing;
        let until = Some(Instant::now() + self.hub.config.close_timeout);
        let _ = self.stream.set_write_deadline(until);
        let _ = self.stream.set_read_deadline(until);
    }

    fn push(self: &Arc<Self>, out: &mut Outbox, frame: Arc<[u8]>) {
        out.bytes += frame.len();
        out.queue.push_back(frame);
        if !out.writing {
            out.writing = true;
            let client = self.clone();
            rt::go(move || client.write_queue());
        }
    }

    /// The writer: ends when the queue is empty or the peer is gone.
    fn write_queue(self: Arc<Self>) {
        let mut batch: Vec<Arc<[u8]>> = Vec::new();
        loop {
            let mut out = lock(&self.out);
            out.bytes -= batch.iter().map(|frame| frame.len()).sum::<usize>();
            out.in_flight = 0;
            batch.clear();
            if out.queue.is_empty() {
                out.queue = VecDeque::new();
                out.writing = false;
                let finished = out.phase == Phase::Closing;
                if finished {
                    out.phase = Phase::Closed;
                }
                drop(out);
                if finished {
                    // The reader goes on until the peer hangs up too, so that the close frame is not lost to a reset.
                    let _ = self.stream.shutdown(Shutdown::Write);
                }
                return;
            }
            let take = out.queue.len().min(BATCH);
            batch.extend(out.queue.drain(..take));
            out.in_flight = take;
            drop(out);
            if write_all(&self.stream, &batch).is_err() {
                self.abort();
                let mut out = lock(&self.out);
                out.writing = false;
                out.in_flight = 0;
                out.bytes = 0;
                return;
            }
            add(&self.hub.counters.messages_out, take as u64);
        }
    }
}

fn write_all(mut stream: &TcpStream, frames: &[Arc<[u8]>]) -> io::Result<()> {
    if let [frame] = frames {
        return stream.write_all(frame);
    }
    let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let n = match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        IoSlice::advance_slices(&mut rest, n);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::net::TcpListener;
    use crate::{App, Config, Hub};
    use std::io::Read;

    /// A drain that comes between the handshake's answer and the upgrade: the peer gets a close frame, not only the end.
    #[test]
    fn drain_during_the_handshake() {
        gort::run(|| {
            let app = App { id: "1".into(), key: "k".into(), secret: "s".into() };
            let hub = Hub::bind("127.0.0.1:0".parse().unwrap(), Config::new(app)).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let client = Client::new(1, hub.shared().clone(), listener.accept().unwrap().0);
            client.close(code::RECONNECT, GOING_DOWN);
            assert!(!client.open());
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            assert_eq!(got, *ws::close_frame(code::RECONNECT, GOING_DOWN));
        });
    }
}
