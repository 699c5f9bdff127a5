//! One connection as the rest of the hub sees it: a bounded queue of frames, and a writer while the
//! queue is not empty.
//!
//! # Role
//!
//! - A publisher offers a frame (`Client::offer`, under a segment's lock). That queues the frame,
//!   or says that the queue is full. It never waits.
//! - The connection's own goroutine (`conn.rs`) reads messages and answers them (`Client::send`).
//! - The goroutine that queues the first frame gets the [`Writer`] and starts it when it holds no
//!   lock. The writer writes at once what the socket takes. If frames are left then, or others have
//!   come, a goroutine is started for them, which ends when the queue is empty.
//!
//! So an idle connection costs one stack, not two, and a delivery usually costs one system call and
//! no switch. The writers of a big channel are started in groups, with one goroutine for each
//! group, so that all Ps take part.
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
//!                       │  upgrade ────┘                                │
//!                       └──peer gone, abort─────────────────────────────┘
//! ```
//!
//! An upgrade in `Closing` means that the drain came during the handshake. Then only the close
//! frame is sent.
//!
//! # Invariants
//!
//! 1. `writing` is set exactly while a [`Writer`] exists. There is at most one, so frames are
//!    written whole and in order.
//! 2. Only `Open` queues frames. In `Closing`, the close frame is the last of the queue. `Closed`
//!    has no queue.
//! 3. What is queued or being written costs at most `max_queued_bytes`, or is one frame. Each frame
//!    costs `FRAME_COST` in addition to its bytes. The answers to the client's own messages are not
//!    limited by that. They are the answers to one message, because the reader goes on to the next
//!    message only when half of the queue is free.
//! 4. The kernel holds at most what the socket's buffers hold, whose size is fixed (`hub.rs`). A
//!    connection that ends with unsent data is reset, so that its buffers are freed at once.
//! 5. `arm_read` and the close set deadlines of the stream under the queue's lock. So the deadline
//!    that ends a closing connection is not overwritten by one that was computed before.
//! 6. Writers are started outside of all locks: a push returns the [`Writer`] to its caller.
//!
//! # What waits for what
//!
//! ```text
//!   publisher ─▶ a full queue ─▶ its writer ─▶ the peer's socket
//!   reader ────▶ its own queue, half of it ─▶ its writer ─▶ the peer's socket
//! ```
//!
//! Writers wait for nothing else, and hold no lock while they wait. So goroutines cannot wait for
//! each other in a circle. Only the peer can make a wait long, and each wait for it has an end:
//!
//! - **A publisher** first offers its frame to all members, and then waits for those that are full.
//!   Such a client is closed (4100) in two cases: it has been full and nothing was written to it
//!   for `slow_timeout` (clients that stop together are closed together); or publishers have waited
//!   for it for `PATIENCE` times `slow_timeout` altogether. It regains a tenth of the time. So with
//!   the default `slow_timeout`, a slow client costs its publishers five seconds once, and then at
//!   most 9 % of the time. A publisher has the same patience for all clients together. When that is
//!   used up, a full client is closed at once. So many slow clients cost a publisher no more than
//!   one.
//! - **A reader** delays only its own client, so it waits longer: until nothing was written for
//!   `pong_timeout`.
//! - **Before a client is closed**, the kernel is asked whether its socket would take more. If so,
//!   the hub is behind and not the peer, and the wait begins again. So an overloaded hub slows
//!   publishers down and closes no client.
//!
//! # Protocol
//!
//! No frame is left behind. The sender pushes the frame and looks at `writing` under one lock. The
//! writer finds the queue empty and clears `writing` under the same lock. If the push comes first,
//! the writer sees the frame. If the clearing comes first, the sender sees no writer and starts
//! one.
//!
//! No wait lasts for ever. A goroutine that waits has seen under the lock that the queue is more
//! than half full, or that an offer did not fit. So the queue is not empty, and a writer is at work
//! (invariant 1). Each of its writes is followed by a look at the queue under the lock, which wakes
//! all waiting goroutines once half is free; the last one finds the queue empty. A phase other than
//! `Open` wakes them as well. A writer that is stuck writes nothing, and the waits above end by
//! themselves.
//!
//! # Rejected
//!
//! - A writer goroutine for each connection: each has a second stack, and is idle nearly always.
//! - A writer goroutine for each burst: starting it, and touching its stack, is a tenth of the cost
//!   of a delivery.
//! - A publisher that waits for sockets: a full one would delay all members after it.
//! - A limit on the number of messages: a burst of small ones reaches it before the writer has had
//!   a chance to run.
//! - Closing a client as soon as it is full: a publisher on the same machine is always faster than
//!   a network.

use crate::common::Common;
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

/// The reason of the close frames of a drain.
pub(crate) const GOING_DOWN: &str = "the server is going down";

/// The most frames in one `writev`, and about the most bytes: as many as a socket's buffer takes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 64 * 1024;

/// What a queued frame costs in addition to its bytes: its place in the queue and its header on the
/// heap.
const FRAME_COST: usize = 64;

/// How many times `slow_timeout` all publishers wait for one client, and one publisher waits for
/// all clients.
const PATIENCE: u32 = 5;
/// Patience grows by the time that passes, divided by this.
const PATIENCE_BACK: u32 = 10;

/// Time that may be spent on waiting. It grows back slowly.
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

    /// Subtracts a wait that began at `since`.
    fn spend(&mut self, since: Instant, now: Instant) {
        self.left = self.left(since).saturating_sub(now.saturating_duration_since(since));
        self.at = now;
    }
}

pub(crate) struct Client {
    number: u64,
    peer: SocketAddr,
    common: Arc<Common>,
    stream: TcpStream,
    out: Mutex<Outbox>,
    /// Notified when half of the queue is free, or the phase is no longer `Open`.
    room: Condvar,
}

#[derive(Debug)]
struct Outbox {
    phase: Phase,
    writing: bool,
    queue: VecDeque<Arc<[u8]>>,
    /// What the queue costs, with the frames that the writer has taken and not yet written.
    cost: usize,
    /// When the kernel last took bytes.
    written: Instant,
    /// How many goroutines wait at `room`.
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

/// The result of an offer.
#[derive(Debug)]
pub(crate) enum Offer {
    /// The frame is queued.
    Queued(Option<Writer>),
    /// The frame did not fit. Wait with [`Client::wait_while_full`] and offer it again.
    Full,
    /// The connection is closing.
    Closed,
}

/// The writer of a connection. The goroutine that gets it [starts](start) it when it holds no lock.
#[must_use = "frames wait for the writer"]
#[derive(Debug)]
pub(crate) struct Writer {
    client: Arc<Client>,
    /// The frames taken from the queue, and how many bytes of them the kernel has taken.
    batch: Vec<Arc<[u8]>>,
    written: usize,
}

impl Writer {
    /// Writes what the socket takes at once. If frames are left then, or others have come, starts a
    /// goroutine for them.
    ///
    /// # Blocking
    ///
    /// G: only if the peer turns out to be gone, until the reader of the connection has left the
    /// socket. M: no. P: no.
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

/// The most writers that one goroutine starts. So many take no longer than a millisecond, unless
/// the machine is slow.
const TOGETHER: usize = 128;

/// Starts many writers, in a goroutine for each group, so that all Ps take part.
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
    pub(crate) fn new(number: u64, peer: SocketAddr, common: Arc<Common>, stream: TcpStream) -> Arc<Client> {
        let out = Outbox {
            phase: Phase::Http,
            writing: false,
            queue: VecDeque::new(),
            cost: 0,
            written: Instant::now(),
            waiting: 0,
            full: None,
            patience: Patience::new(common.config.slow_timeout),
        };
        Arc::new(Client { number, peer, common, stream, out: Mutex::new(out), room: Condvar::new() })
    }

    pub(crate) fn id(&self) -> SocketId {
        SocketId { hub: self.common.instance, number: self.number }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The address of the peer.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Turns an HTTP connection into a WebSocket. False if the hub began to drain during the
    /// handshake. The peer already has a WebSocket then, so it gets a close frame.
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

    /// Sets until when the connection's goroutine may wait for its peer. Has no effect once the
    /// connection is closing.
    pub(crate) fn arm_read(&self, until: Instant) {
        let out = lock(&self.out);
        if matches!(out.phase, Phase::Http | Phase::Open) {
            // Fails only if the stream is closed, and then the next read fails as well.
            let _ = self.stream.set_read_deadline(Some(until));
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        lock(&self.out).phase == Phase::Open
    }

    /// Queues an answer to the client, whatever else is queued (invariant 3). Does nothing if the
    /// connection is closing.
    pub(crate) fn send(self: &Arc<Self>, frame: Arc<[u8]>) {
        start(self.answer(frame));
    }

    /// Like `send`, for a caller that holds a lock.
    pub(crate) fn answer(self: &Arc<Self>, frame: Arc<[u8]>) -> Option<Writer> {
        let mut out = lock(&self.out);
        if out.phase == Phase::Open { self.push(&mut out, frame) } else { None }
    }

    /// Queues an event if there is room for it. Never waits.
    pub(crate) fn offer(self: &Arc<Self>, frame: &Arc<[u8]>) -> Offer {
        let mut out = lock(&self.out);
        if out.phase != Phase::Open {
            return Offer::Closed;
        }
        let fits = out.cost == 0 || out.cost + cost(frame) <= self.common.config.max_queued_bytes;
        if out.full.is_none() && fits {
            return Offer::Queued(self.push(&mut out, frame.clone()));
        }
        // After one refused offer all are refused until half is free: a later frame must not
        // overtake an earlier one.
        out.full.get_or_insert_with(Instant::now);
        Offer::Full
    }

    /// Waits while the queue is full, at most for the patience that is left of `publisher` and of
    /// this client. Then the client is closed. False if it is not open any more.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub(crate) fn wait_while_full(self: &Arc<Self>, publisher: &mut Patience) -> bool {
        let began = Instant::now();
        let no_progress = self.common.config.slow_timeout;
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

    /// Waits while more than half of the queue is in use. The reader calls this between two
    /// messages. False if the connection is not open any more.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub(crate) fn wait_to_read(self: &Arc<Self>) -> bool {
        let half = self.common.config.max_queued_bytes / 2;
        let mut began = None;
        self.wait_for_room(self.common.config.pong_timeout, |out| {
            (out.cost > half).then(|| (*began.get_or_insert_with(Instant::now), Duration::MAX))
        })
    }

    /// Waits while the connection is open and `patience` returns since when the wait lasts and how
    /// much of its time is left. The client is closed when that is used up, or when nothing was
    /// written for `no_progress`; both only if its socket takes nothing.
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
                // The hub is behind, not the peer.
                not_before = Some(now + no_progress);
                out.full = out.full.map(|_| now);
            } else {
                let queued_bytes = out.cost;
                let writer = self.close_slow(&mut out);
                drop(out);
                start(writer);
                line!(self.common.log.slow, warn, peer = %self.peer, socket_id = %self.id(), queued_bytes,
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
    fn close_slow(self: &Arc<Self>, out: &mut Outbox) -> Option<Writer> {
        add(&self.common.counters.slow_consumers, 1);
        // What the peer did not read in time is dropped. Only the close frame follows what is being
        // written.
        out.cost -= out.queue.iter().map(|frame| cost(frame)).sum::<usize>();
        out.queue = VecDeque::new();
        self.close_with(out, code::OVER_CAPACITY, "too slow: messages are waiting to be read")
    }

    /// Closes with `code` after what is queued. Only the first close has an effect.
    pub(crate) fn close(self: &Arc<Self>, code: u16, reason: &str) {
        let mut out = lock(&self.out);
        match out.phase {
            Phase::Open => {
                let writer = self.close_with(&mut out, code, reason);
                drop(out);
                start(writer);
            }
            Phase::Http => {
                // A request that has arrived within the time-out is still answered.
                out.phase = Phase::Closing;
                let _ =
                    self.stream.set_read_deadline(Some(Instant::now() + self.common.config.close_timeout));
            }
            Phase::Closing | Phase::Closed => {}
        }
    }

    /// Ends the connection at once, whatever is queued. The peer sees a reset, and the kernel keeps
    /// nothing.
    pub(crate) fn abort(&self) {
        self.forget_queue();
        self.reset();
    }

    /// Ends the connection after its peer has hung up. The kernel may still send what it has, but
    /// only for `close_timeout`, and not if the peer takes nothing.
    pub(crate) fn end(&self) {
        self.wait_for_last_frame();
        if self.forget_queue() && is_writable(&self.stream) {
            let ms = self.common.config.close_timeout.as_millis().clamp(1, u32::MAX.into()) as u32;
            let _ = set_tcp_user_timeout(&self.stream, ms);
            self.stream.close();
        } else {
            self.reset();
        }
    }

    /// Gives the close frame some time: a peer that has hung up may still read.
    fn wait_for_last_frame(&self) {
        let until = Instant::now() + self.common.config.close_timeout;
        let mut out = lock(&self.out);
        while out.phase == Phase::Closing && out.writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            out = self.wait(out, left);
        }
    }

    /// True if no writer was left.
    fn forget_queue(&self) -> bool {
        let mut out = lock(&self.out);
        out.phase = Phase::Closed;
        out.queue = VecDeque::new();
        self.room.notify_all();
        !out.writing
    }

    fn reset(&self) {
        // Fails only if the stream is already closed.
        let _ = self.stream.set_linger(Some(Duration::ZERO));
        self.stream.close();
    }

    fn close_with(self: &Arc<Self>, out: &mut Outbox, code: u16, reason: &str) -> Option<Writer> {
        let writer = self.push(out, ws::close_frame(code, reason));
        out.phase = Phase::Closing;
        self.room.notify_all();
        let until = Some(Instant::now() + self.common.config.close_timeout);
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
    /// Writes once. Looks at the queue before the first write and after each one. `waits` says
    /// whether to wait for a socket that takes nothing. True if frames are left or have come.
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

    /// Removes what is written, and takes more from the queue. False if the queue is empty; then
    /// there is no writer any more.
    fn settle(&mut self, wrote: bool) -> bool {
        let client = &self.client;
        let half = client.common.config.max_queued_bytes / 2;
        let done = whole_frames(&self.batch, &mut self.written);
        add(&client.common.counters.messages_out, done as u64);
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
            // The reader goes on until the peer has hung up as well, so that no reset makes the
            // peer lose the close frame.
            let _ = client.stream.shutdown(Shutdown::Write);
        }
        false
    }
}

/// How many frames of the batch are written. Leaves in `written` how many bytes of the next one
/// are.
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

/// Writes the frames without their first `skip` bytes, by one system call.
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
    use crate::config::{App, Config};
    use crate::rt::net::TcpListener;
    use std::io::Read;

    /// If a drain comes between the answer to the handshake and the upgrade, the peer gets a close
    /// frame and not only the end of the stream.
    #[test]
    fn drain_during_the_handshake() {
        gort::run(|| {
            let app = App { id: "1".into(), key: "k".into(), secret: "s".into() };
            let common = Arc::new(Common::new(Config::new(app)));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (stream, from) = listener.accept().unwrap();
            let client = Client::new(1, from, common, stream);
            client.close(code::RECONNECT, GOING_DOWN);
            assert!(!client.open());
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            assert_eq!(got, *ws::close_frame(code::RECONNECT, GOING_DOWN));
        });
    }
}
