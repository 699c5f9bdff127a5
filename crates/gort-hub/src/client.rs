//! One connection as the others see it: a bounded queue of frames, and a writer while there is something in it.
//!
//! # Role
//!
//! Publishers offer frames (`Client::offer`, under a segment's lock): that queues or says that the
//! queue is full, and never waits. The connection's own goroutine reads and answers
//! (`Client::send`); it lives in `conn.rs`. A goroutine that pushes the first frame gets the
//! [`Writer`], and starts it when it holds no lock: the writer writes at once what the socket takes.
//! If more is queued then, a goroutine is started for the rest, which ends with the queue. So an idle connection costs one stack, not two,
//! and a delivery usually one system call and no switch. Those of a big channel are written by some
//! goroutines for many connections each, so that all Ps take part.
//!
//! # States
//!
//! ```text
//!             send, offer               queue empty
//!   no writer ───────────▶ writing ────────────────────▶ no writer
//!                           ▲   │ one write, look again
//!                           └───┘
//!
//!             an offer does not fit         half is free, or closed
//!   room ────────────────────────▶ full ────────────────────────▶ room
//!
//!   Http ──upgrade──▶ Open ──close──▶ Closing ──close frame written──▶ Closed
//!     └──drain──────────┼───────────▶  ▲ └──peer gone, time-out, abort──▲
//!                       │  upgrade ────┘ the drain came during the handshake: only the close frame is sent
//!                       └──peer gone, abort─────────────────────────────┘
//! ```
//!
//! # Invariants
//!
//! 1. `writing` is set exactly while a [`Writer`] is there: at most one, so frames go out whole and
//!    in order.
//! 2. Only `Open` queues frames. `Closing` has the close frame as the last of its queue; `Closed` has no queue.
//! 3. What is queued or being written costs `max_queued_bytes` at most, or one frame; each frame
//!    costs `FRAME_COST` beside its bytes. The answers to the client's own messages come on top:
//!    they are a message's worth, since its reader goes on only when half of the queue is free.
//! 4. What the kernel holds is bounded by the socket's buffers, whose size is fixed (`hub.rs`). A
//!    connection that ends with something unsent is reset, so that its buffers go at once.
//! 5. Deadlines of the stream are set under the queue's lock, so that the one which ends a closing
//!    connection is not overwritten by one that was worked out before.
//! 6. Writers are started outside of all locks: a push gives a [`Writer`] to its caller.
//!
//! # What waits for what
//!
//! ```text
//!   publisher ─▶ a full queue ─▶ its writer ─▶ the peer's socket
//!   reader ────▶ its own queue, half of it ─▶ its writer ─▶ the peer's socket
//! ```
//!
//! Writers wait for nothing else and hold no lock meanwhile, so there is no circle among
//! goroutines. The peer alone can make it long, and each wait for it has an end:
//!
//! - A publisher first offers its frame to everybody and then waits for those that are full. A
//!   client is cut off (4100) when it has been full and nothing was written to it for
//!   `slow_timeout` (those that stop together are cut off together), or when publishers have waited
//!   for it `PATIENCE` times as long altogether; it regains a tenth of the time. So one slow client
//!   costs its publishers five seconds once, and then 9 % of the time at most. A publisher has the
//!   same patience for all clients together: when it is used up, a client that is full is cut off
//!   at once. So many slow clients cost one publisher no more than one does.
//! - A reader holds back its own client only, so it waits longer: until nothing was written for
//!   `pong_timeout`.
//! - Before a client is cut off the kernel is asked whether its socket would take more. If so we
//!   are behind, not the peer, and the wait begins anew: an overloaded hub makes publishers slower
//!   and cuts off nobody.
//!
//! # Protocol
//!
//! Nothing is left behind: the sender pushes and looks at `writing` under one lock; the writer finds the queue
//! empty and clears `writing` under the same lock. One of the two comes first. If the sender's push, the writer
//! sees the frame; if the writer's clearing, the sender sees no writer and starts one.
//!
//! Nothing waits for ever: a goroutine that waits has seen under the lock that the queue is more
//! than half full or that an offer did not fit, so the queue is not empty and a writer is at work
//! (invariant 1). Each of its writes is followed by a look at the queue under the lock, which wakes
//! all that wait once half is free; the last one finds the queue empty. A phase other than `Open`
//! wakes them as well. A writer that is stuck writes nothing, which the waits above notice by
//! themselves.
//!
//! # Rejected
//!
//! A writer goroutine for each connection: a second stack for each, idle nearly always. One that is
//! started for each burst: starting it, and touching its stack, is a tenth of a delivery's cost. A
//! publisher that waits for sockets: one that is full would hold back everybody behind it. A limit of messages:
//! a burst of small ones passes it before the writer had a chance to run. Cutting off a client at
//! once when it is full: a publisher in the same machine is always faster than a network.

use crate::hub::Shared;
use crate::log::line;
use crate::protocol::{SocketId, code};
use crate::rt;
use crate::rt::net::TcpStream;
use crate::rt::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::stats::add;
use crate::sync::lock;
use crate::ws;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_tcp_user_timeout;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why a drain closes.
pub(crate) const GOING_DOWN: &str = "the server is going down";

/// Frames in one `writev`, and bytes, which is about what a socket's buffer takes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 64 * 1024;

/// What a queued frame costs beside its bytes: its place in the queue and its head on the heap.
const FRAME_COST: usize = 64;

/// How many times `slow_timeout` publishers wait for one client altogether, and one publisher for
/// all.
const PATIENCE: u32 = 5;
/// The part of the time by which patience comes back.
const PATIENCE_BACK: u32 = 10;

/// Time that may be spent waiting. It comes back slowly.
#[derive(Debug)]
pub(crate) struct Patience {
    most: Duration,
    left: Duration,
    at: Instant,
}

impl Patience {
    pub(crate) fn new(slow_timeout: Duration) -> Patience {
        let most = slow_timeout * PATIENCE;
        Patience { most, left: most, at: Instant::now() }
    }

    fn left(&mut self, now: Instant) -> Duration {
        let back = now.saturating_duration_since(self.at) / PATIENCE_BACK;
        self.left = (self.left + back).min(self.most);
        self.at = now;
        self.left
    }

    /// Takes off a wait that began at `since`.
    fn spend(&mut self, since: Instant, now: Instant) {
        self.left = self.left(since).saturating_sub(now.saturating_duration_since(since));
        self.at = now;
    }
}

pub(crate) struct Client {
    number: u64,
    peer: SocketAddr,
    hub: Arc<Shared>,
    stream: TcpStream,
    out: Mutex<Outbox>,
    /// Half of the queue is free, or the phase is no longer `Open`.
    room: Condvar,
}

#[derive(Debug)]
struct Outbox {
    phase: Phase,
    writing: bool,
    queue: VecDeque<Arc<[u8]>>,
    /// What the queue costs, with what the writer has taken from it and not yet written.
    cost: usize,
    /// When the kernel last took something.
    written: Instant,
    /// Waiters at `room`.
    waiting: u32,
    /// Since when offers are refused.
    full: Option<Instant>,
    patience: Patience,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Http,
    Open,
    Closing,
    Closed,
}

/// What became of a frame.
#[derive(Debug)]
pub(crate) enum Offer {
    /// It is queued.
    Queued(Option<Writer>),
    /// It did not fit: wait with [`Client::wait_while_full`] and offer it again.
    Full,
    /// The connection is closing.
    Closed,
}

/// The writer of a connection. The goroutine that got it [starts](start) it, once it holds no lock.
#[must_use = "frames wait for the writer"]
#[derive(Debug)]
pub(crate) struct Writer {
    client: Arc<Client>,
    /// What was taken from the queue, and how many bytes of it the kernel has.
    batch: Vec<Arc<[u8]>>,
    written: usize,
}

impl Writer {
    /// Writes what the socket takes at once. If more waits then, or comes meanwhile, a goroutine
    /// goes on with it.
    ///
    /// # Blocking
    ///
    /// G: only where the peer turns out to be gone, until its reader has left the socket. M: no.
    /// P: no.
    fn start(mut self) {
        if self.step(false) {
            rt::go(move || while self.step(true) {});
        }
    }
}

pub(crate) fn start(writer: Option<Writer>) {
    if let Some(writer) = writer {
        writer.start();
    }
}

/// So many writers take no longer than a millisecond, unless the machine is slow.
const TOGETHER: usize = 128;

/// Starts many of them, some in a goroutine together, so that all Ps take part.
pub(crate) fn start_all(writers: &mut Vec<Writer>) {
    while !writers.is_empty() {
        let some = writers.split_off(writers.len().saturating_sub(TOGETHER));
        rt::go(move || some.into_iter().for_each(Writer::start));
    }
}

fn cost(frame: &[u8]) -> usize {
    frame.len() + FRAME_COST
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id()).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(number: u64, peer: SocketAddr, hub: Arc<Shared>, stream: TcpStream) -> Arc<Client> {
        let out = Outbox {
            phase: Phase::Http,
            writing: false,
            queue: VecDeque::new(),
            cost: 0,
            written: Instant::now(),
            waiting: 0,
            full: None,
            patience: Patience::new(hub.config.slow_timeout),
        };
        Arc::new(Client { number, peer, hub, stream, out: Mutex::new(out), room: Condvar::new() })
    }

    pub(crate) fn id(&self) -> SocketId {
        SocketId { hub: self.hub.instance, number: self.number }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The address it came from.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Turns an HTTP connection into a WebSocket. False if the hub began to drain during the handshake: the peer, who has a
    /// WebSocket now, is told by a close frame.
    pub(crate) fn open(self: &Arc<Self>) -> bool {
        let mut out = lock(&self.out);
        match out.phase {
            Phase::Http => {
                out.phase = Phase::Open;
                true
            }
            Phase::Closing => {
                let writer = self.close_with(&mut out, code::RECONNECT, GOING_DOWN);
                drop(out);
                start(writer);
                false
            }
            phase => phase == Phase::Open,
        }
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

    /// Queues an answer to the client, whatever else waits (invariant 3); nothing if the connection
    /// is closing.
    pub(crate) fn send(self: &Arc<Self>, frame: Arc<[u8]>) {
        start(self.answer(frame));
    }

    /// The same, for a caller that holds a lock.
    pub(crate) fn answer(self: &Arc<Self>, frame: Arc<[u8]>) -> Option<Writer> {
        let mut out = lock(&self.out);
        if out.phase == Phase::Open { self.push(&mut out, frame) } else { None }
    }

    /// Queues an event, if there is room for it. Never waits.
    pub(crate) fn offer(self: &Arc<Self>, frame: &Arc<[u8]>) -> Offer {
        let mut out = lock(&self.out);
        if out.phase != Phase::Open {
            return Offer::Closed;
        }
        let fits = out.cost == 0 || out.cost + cost(frame) <= self.hub.config.max_queued_bytes;
        if out.full.is_none() && fits {
            return Offer::Queued(self.push(&mut out, frame.clone()));
        }
        // A frame that comes later does not overtake those that wait.
        out.full.get_or_insert_with(Instant::now);
        Offer::Full
    }

    /// Waits while the queue is full, for as long as `publisher` has patience and the client
    /// deserves it; then it is cut off. False if it is not open any more.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub(crate) fn wait_while_full(self: &Arc<Self>, publisher: &mut Patience) -> bool {
        let began = Instant::now();
        let no_progress = self.hub.config.slow_timeout;
        let open = self.wait_for_room(no_progress, |out| {
            let since = out.full?;
            let now = Instant::now();
            let client = out.patience.left(now).saturating_sub(now.saturating_duration_since(since));
            let publisher = publisher.left(now).saturating_sub(now.saturating_duration_since(began));
            Some((since, client.min(publisher)))
        });
        publisher.spend(began, Instant::now());
        open
    }

    /// What the reader does between two messages: waits while more than half of the queue is taken.
    /// False if the connection is not open any more.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub(crate) fn wait_to_read(self: &Arc<Self>) -> bool {
        let half = self.hub.config.max_queued_bytes / 2;
        let mut began = None;
        self.wait_for_room(self.hub.config.pong_timeout, |out| {
            (out.cost > half).then(|| (*began.get_or_insert_with(Instant::now), Duration::MAX))
        })
    }

    /// Waits as long as `patience` says since when, and for how long still, and the connection is
    /// open. It is cut off when nothing was written for `no_progress`, or when the time is over;
    /// both only if its socket takes nothing.
    fn wait_for_room(
        self: &Arc<Self>,
        no_progress: Duration,
        mut patience: impl FnMut(&mut Outbox) -> Option<(Instant, Duration)>,
    ) -> bool {
        let mut out = lock(&self.out);
        let mut not_before = None;
        while out.phase == Phase::Open {
            let Some((since, left)) = patience(&mut out) else { return true };
            let now = Instant::now();
            let time = (since.max(out.written) + no_progress).saturating_duration_since(now).min(left);
            let time = not_before.map_or(time, |at: Instant| time.max(at.saturating_duration_since(now)));
            if !time.is_zero() {
                out = self.wait(out, time);
            } else if is_writable(&self.stream) {
                // We are behind, not the peer.
                not_before = Some(now + no_progress);
                out.full = out.full.map(|_| now);
            } else {
                let queued_bytes = out.cost;
                let writer = self.cut_off(&mut out);
                drop(out);
                start(writer);
                line!(self.hub.log.slow, warn, peer = %self.peer, socket_id = %self.id(), queued_bytes,
                    "slow consumer: closed with 4100");
                return false;
            }
        }
        false
    }

    fn wait<'a>(&self, mut out: MutexGuard<'a, Outbox>, time: Duration) -> MutexGuard<'a, Outbox> {
        out.waiting += 1;
        let mut out = match self.room.wait_timeout(out, time) {
            Ok((out, _)) => out,
            Err(poisoned) => PoisonError::into_inner(poisoned).0,
        };
        out.waiting -= 1;
        out
    }

    /// Closes a client that is too slow.
    fn cut_off(self: &Arc<Self>, out: &mut Outbox) -> Option<Writer> {
        add(&self.hub.counters.slow_consumers, 1);
        // What the peer did not read in time is not worth keeping: only the reason goes after what
        // is in flight.
        out.cost -= out.queue.iter().map(|frame| cost(frame)).sum::<usize>();
        out.queue = VecDeque::new();
        self.close_with(out, code::OVER_CAPACITY, "too slow: messages wait that were not read")
    }

    /// Closes with `code` after what is queued. The first close counts; later ones do nothing.
    pub(crate) fn close(self: &Arc<Self>, code: u16, reason: &str) {
        let mut out = lock(&self.out);
        match out.phase {
            Phase::Open => {
                let writer = self.close_with(&mut out, code, reason);
                drop(out);
                start(writer);
            }
            Phase::Http => {
                // Between requests, or in one: what has arrived within the time-out is still answered.
                out.phase = Phase::Closing;
                let _ = self.stream.set_read_deadline(Some(Instant::now() + self.hub.config.close_timeout));
            }
            Phase::Closing | Phase::Closed => {}
        }
    }

    /// Ends the connection now, whatever waits: the peer sees a reset, and the kernel keeps
    /// nothing.
    pub(crate) fn abort(&self) {
        self.forget_queue();
        self.reset();
    }

    /// Ends the connection when its peer has hung up. What the kernel has not sent yet it may still
    /// send, but not for long, and not if the peer takes nothing.
    pub(crate) fn end(&self) {
        self.wait_for_last_frame();
        if self.forget_queue() && is_writable(&self.stream) {
            let ms = self.hub.config.close_timeout.as_millis().clamp(1, u32::MAX.into()) as u32;
            let _ = set_tcp_user_timeout(&self.stream, ms);
            self.stream.close();
        } else {
            self.reset();
        }
    }

    /// A peer that has hung up may still read: the close frame is worth a moment.
    fn wait_for_last_frame(&self) {
        let until = Instant::now() + self.hub.config.close_timeout;
        let mut out = lock(&self.out);
        while out.phase == Phase::Closing && out.writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            out = self.wait(out, left);
        }
    }

    /// True if nothing was left of it.
    fn forget_queue(&self) -> bool {
        let mut out = lock(&self.out);
        out.phase = Phase::Closed;
        out.queue = VecDeque::new();
        self.room.notify_all();
        !out.writing
    }

    fn reset(&self) {
        // Fails only when it was closed before.
        let _ = self.stream.set_linger(Some(Duration::ZERO));
        self.stream.close();
    }

    fn close_with(self: &Arc<Self>, out: &mut Outbox, code: u16, reason: &str) -> Option<Writer> {
        let writer = self.push(out, ws::close_frame(code, reason));
        out.phase = Phase::Closing;
        self.room.notify_all();
        let until = Some(Instant::now() + self.hub.config.close_timeout);
        let _ = self.stream.set_write_deadline(until);
        let _ = self.stream.set_read_deadline(until);
        writer
    }

    fn push(self: &Arc<Self>, out: &mut Outbox, frame: Arc<[u8]>) -> Option<Writer> {
        out.cost += cost(&frame);
        out.queue.push_back(frame);
        let starts = !std::mem::replace(&mut out.writing, true);
        starts.then(|| Writer { client: self.clone(), batch: Vec::new(), written: 0 })
    }
}

impl Writer {
    /// One write of what waits, with a look at the queue before the first one and after each.
    /// `waits`: for the socket, if it takes nothing. True: something is left, or has come.
    fn step(&mut self, waits: bool) -> bool {
        if self.batch.is_empty() && !self.settle(false) {
            return false;
        }
        match write_once(&self.client.stream, &self.batch, self.written, waits) {
            Ok(n) => {
                self.written += n;
                self.settle(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && !waits => true,
            Err(_) => {
                self.client.abort();
                let mut out = lock(&self.client.out);
                out.writing = false;
                out.cost = 0;
                false
            }
        }
    }

    /// Takes off what is written, and takes more from the queue. False: nothing waits any more, and
    /// there is no writer.
    fn settle(&mut self, wrote: bool) -> bool {
        let client = &self.client;
        let half = client.hub.config.max_queued_bytes / 2;
        let done = whole_frames(&self.batch, &mut self.written);
        add(&client.hub.counters.messages_out, done as u64);
        let mut out = lock(&client.out);
        if wrote {
            out.written = Instant::now();
        }
        out.cost -= self.batch.drain(..done).map(|frame| cost(&frame)).sum::<usize>();
        if out.cost <= half {
            if let Some(since) = out.full.take() {
                out.patience.spend(since, Instant::now());
            }
            if out.waiting > 0 {
                client.room.notify_all();
            }
        }
        if self.batch.is_empty() {
            let mut bytes = 0;
            while let Some(frame) = out.queue.front()
                && (bytes == 0 || self.batch.len() < BATCH && bytes + frame.len() <= BATCH_BYTES)
            {
                bytes += frame.len();
                self.batch.extend(out.queue.pop_front());
            }
        }
        if !self.batch.is_empty() {
            return true;
        }
        out.queue = VecDeque::new();
        out.writing = false;
        let finished = out.phase == Phase::Closing;
        if finished {
            out.phase = Phase::Closed;
        }
        drop(out);
        if finished {
            // The reader goes on until the peer hangs up too, so that the close frame is not lost to a reset.
            let _ = client.stream.shutdown(Shutdown::Write);
        }
        false
    }
}

/// How many frames of the batch are written; `written` is then what there is of the next one.
fn whole_frames(batch: &[Arc<[u8]>], written: &mut usize) -> usize {
    let mut done = 0;
    while let Some(frame) = batch.get(done)
        && frame.len() <= *written
    {
        *written -= frame.len();
        done += 1;
    }
    done
}

/// One write of what is left of the frames after their first `skip` bytes.
fn write_once(mut stream: &TcpStream, frames: &[Arc<[u8]>], skip: usize, waits: bool) -> io::Result<usize> {
    let n = if let [frame] = frames {
        let bytes = &frame[skip..];
        if waits { stream.write(bytes) } else { stream.try_write(bytes) }
    } else {
        let mut slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        slices[0] = IoSlice::new(&frames[0][skip..]);
        if waits { stream.write_vectored(&slices) } else { stream.try_write_vectored(&slices) }
    }?;
    if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) }
}

/// Whether the kernel would take something now, or has taken all that there will be. False also if
/// the connection has failed.
fn is_writable(stream: &TcpStream) -> bool {
    let mut fd = [PollFd::new(stream, PollFlags::OUT)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_told = matches!(poll(&mut fd, Some(&now)), Ok(1));
    is_told && fd[0].revents().contains(PollFlags::OUT) && !fd[0].revents().contains(PollFlags::ERR)
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
            let (stream, from) = listener.accept().unwrap();
            let client = Client::new(1, from, hub.shared().clone(), stream);
            client.close(code::RECONNECT, GOING_DOWN);
            assert!(!client.open());
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            assert_eq!(got, *ws::close_frame(code::RECONNECT, GOING_DOWN));
        });
    }
}
