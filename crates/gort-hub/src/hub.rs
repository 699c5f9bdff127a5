//! The hub: its listener, everybody who is connected, and the way down.

use crate::channel::Channels;
use crate::client::{Client, GOING_DOWN};
use crate::config::Config;
use crate::conn::{self, AcceptError};
use crate::log::{Log, line};
use crate::protocol::{self, code};
use crate::rt;
use crate::rt::net::{TcpListener, TcpStream};
use crate::rt::sync::{Condvar, Mutex};
use crate::slots::{Entered, Evicted, Place, Slots};
use crate::stats::{Counters, Stats, add};
use crate::sync::lock;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

const SHARDS: usize = 64;

/// The longest pause of an accept loop that has no file descriptors.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How finely a drain spreads the closing of connections.
const CLOSE_STEP: Duration = Duration::from_millis(5);

/// A WebSocket hub on one address. Cheap to clone: all clones are the same hub.
///
/// ```
/// gort::run(|| {
///     let app = "1:my-key:my-secret".parse().unwrap();
///     let hub = gort_hub::Hub::bind("127.0.0.1:0".parse().unwrap(), gort_hub::Config::new(app)).unwrap();
///     let serving = gort::go({
///         let hub = hub.clone();
///         move || hub.serve()
///     });
///     println!("clients connect to ws://{}/app/my-key?protocol=7", hub.local_addr());
///     let report = hub.drain(std::time::Duration::from_secs(10));
///     assert_eq!(report.forced, 0);
///     serving.join().unwrap().unwrap();
/// });
/// ```
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// Why a hub cannot start.
#[derive(Debug, Error)]
pub enum HubError {
    /// The address is taken, or not of this machine, or not for this user.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// What was asked for.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves in time.
    pub closed: usize,
    /// Connections that were cut off at the end of the time.
    pub forced: usize,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) instance: u32,
    pub(crate) channels: Channels,
    pub(crate) counters: Counters,
    pub(crate) log: Log,
    slots: Arc<Slots>,
    pub(crate) ping: Arc<[u8]>,
    pub(crate) pong: Arc<[u8]>,
    listener: TcpListener,
    local_addr: SocketAddr,
    started: Instant,
    next_number: AtomicU64,
    /// All connections, by number.
    clients: Vec<Mutex<HashMap<u64, Arc<Client>>>>,
    sockets: AtomicUsize,
    /// Newcomers that wait for a place.
    waiting: AtomicUsize,
    /// `/healthz` says so.
    draining: AtomicBool,
    /// Nobody is accepted any more.
    closing: AtomicBool,
    gone: Condvar,
    gone_lock: Mutex<()>,
}

impl Hub {
    /// Takes the address. Connections wait in the backlog until [`Hub::serve`] runs.
    ///
    /// # Errors
    ///
    /// [`HubError::Bind`].
    pub fn bind(addr: SocketAddr, config: Config) -> Result<Hub, HubError> {
        let bound = listen(addr, config.socket_buffer_bytes)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local_addr, listener) = bound.map_err(|source| HubError::Bind { addr, source })?;
        Ok(Hub {
            shared: Arc::new(Shared {
                slots: Slots::new(config.max_http_connections, config.max_http_per_address),
                config,
                instance: RandomState::new().hash_one(local_addr) as u32,
                channels: Channels::new(),
                counters: Counters::default(),
                log: Log::default(),
                ping: protocol::ping(),
                pong: protocol::pong(),
                listener,
                local_addr,
                started: Instant::now(),
                next_number: AtomicU64::new(1),
                clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
                sockets: AtomicUsize::new(0),
                waiting: AtomicUsize::new(0),
                draining: AtomicBool::new(false),
                closing: AtomicBool::new(false),
                gone: Condvar::new(),
                gone_lock: Mutex::new(()),
            }),
        })
    }

    /// The address, with the port that was chosen if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Accepts connections, a goroutine for each, until [`Hub::drain`].
    ///
    /// Without file descriptors it waits and goes on when there are some again; the operator is told.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The listener does not work any more.
    pub fn serve(&self) -> io::Result<()> {
        let hub = &self.shared;
        let mut backoff = Duration::ZERO;
        loop {
            match hub.listener.accept() {
                Ok((stream, from)) => {
                    backoff = Duration::ZERO;
                    hub.admit(stream, from);
                }
                Err(_) if hub.is_closing() => return Ok(()),
                Err(e) => {
                    add(&hub.counters.accept_errors, 1);
                    match AcceptError::of(&e) {
                        AcceptError::Gone => {}
                        AcceptError::Broken => return Err(e),
                        AcceptError::Exhausted(why) => {
                            backoff = (backoff * 2).clamp(Duration::from_millis(5), BACKOFF_MAX);
                            line!(hub.log.accept, error, "cannot accept connections: {why}");
                            rt::sleep(backoff);
                        }
                    }
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The numbers of now.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Goes down: `/healthz` says 503 for [`drain_delay`](Config::drain_delay) while all else goes
    /// on; then nobody more is accepted, every connection is closed with 4200, over
    /// [`drain_spread`](Config::drain_spread), and it waits until all have hung up. Those that have
    /// not after `timeout`, which is for all of it, are cut off. The delay takes a third
    /// of it at most, the closing half of the rest.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub fn drain(&self, timeout: Duration) -> Drained {
        let hub = &self.shared;
        let until = Instant::now() + timeout;
        hub.draining.store(true, Ordering::SeqCst);
        rt::sleep(hub.config.drain_delay.min(timeout / 3));
        hub.closing.store(true, Ordering::SeqCst);
        hub.listener.close();
        let at_start = hub.sockets.load(Ordering::SeqCst);
        hub.close_all(until);
        hub.wait_for_sockets(until);
        let forced = hub.sockets.load(Ordering::SeqCst);
        if forced > 0 {
            for client in hub.all_clients() {
                client.abort();
            }
            // Their goroutines end as soon as they run.
            hub.wait_for_sockets(Instant::now() + Duration::from_secs(1));
        }
        Drained { closed: at_start.saturating_sub(forced), forced }
    }
}

impl Shared {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Tells all clients to come back elsewhere: one after the other, since they do so at once.
    fn close_all(&self, until: Instant) {
        let clients: Vec<Arc<Client>> = self.all_clients().collect();
        let start = Instant::now();
        let spread = self.config.drain_spread.min(until.saturating_duration_since(start) / 2);
        for (i, client) in clients.iter().enumerate() {
            let due = spread.mul_f64(i as f64 / clients.len() as f64);
            // A timer for each of a hundred thousand would be many.
            let early = due.saturating_sub(start.elapsed());
            if early >= CLOSE_STEP {
                rt::sleep(early);
            }
            client.close(code::RECONNECT, GOING_DOWN);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            channels: self.channels.count(),
            http_connections: self.slots.count(),
            draining: self.is_draining(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            ..self.counters.snapshot()
        }
    }

    /// Starts the goroutine of a new connection, or turns it away. One that has to wait for a place
    /// does so in a goroutine of its own: the others are accepted meanwhile.
    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        // Frames are whole when they are written; waiting for more only delays them. If this fails the peer is gone.
        let _ = stream.set_nodelay(true);
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let client = Client::new(number, from, self.clone(), stream);
        let hub = self.clone();
        let entered = match self.slots.enter(&client, false) {
            Entered::Wait(time) if self.may_wait() => {
                rt::go(move || {
                    rt::sleep(time);
                    hub.waiting.fetch_sub(1, Ordering::Relaxed);
                    let entered = hub.slots.enter(&client, true);
                    if let Some(place) = hub.place(&client, entered) {
                        hub.register(&client);
                        hub.serve_one(&client, place);
                    }
                });
                return;
            }
            Entered::Wait(_) => self.slots.enter(&client, true),
            entered => entered,
        };
        let Some(place) = self.place(&client, entered) else { return };
        self.register(&client);
        rt::go(move || hub.serve_one(&client, place));
    }

    /// Whether one more newcomer may wait: as many as there are places.
    fn may_wait(&self) -> bool {
        let may = self.waiting.fetch_add(1, Ordering::Relaxed) < self.config.max_http_connections;
        if !may {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        may
    }

    fn register(&self, client: &Arc<Client>) {
        let number = client.number();
        self.sockets.fetch_add(1, Ordering::SeqCst);
        lock(self.clients_of(number)).insert(number, client.clone());
        if self.is_closing() {
            // A drain may have looked at this shard before; if not, closing twice does no harm.
            client.close(code::RECONNECT, GOING_DOWN);
        }
    }

    fn serve_one(self: &Arc<Self>, client: &Arc<Client>, place: Place) {
        conn::serve(self, client, place);
        self.forget(client);
    }

    /// The place that a new connection got, if need be that of one that is idle. `None` when it was
    /// refused.
    fn place(&self, client: &Client, entered: Entered) -> Option<Place> {
        let from = client.peer();
        match entered {
            Entered::Place(place, evicted) => {
                if let Some(Evicted { client, waited }) = evicted {
                    add(&self.counters.evicted, 1);
                    line!(self.log.refused, info, peer = %client.peer(), idle = ?waited, %from,
                        "closed an idle HTTP connection to make room");
                    // That waits until its goroutine has left.
                    rt::go(move || client.end());
                }
                Some(place)
            }
            Entered::Refused(whose, limit) => {
                add(&self.counters.refused, 1);
                line!(self.log.refused, warn, %from, limit, "refused with 503: too many HTTP connections {whose}");
                let busy = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                // The socket of a new connection has room for one line.
                let _ = client.stream().write_all(busy);
                None
            }
            Entered::Wait(_) => unreachable!("nobody is given time"),
        }
    }

    fn forget(&self, client: &Client) {
        lock(self.clients_of(client.number())).remove(&client.number());
        self.sockets.fetch_sub(1, Ordering::SeqCst);
        if self.is_closing() {
            let _order = lock(&self.gone_lock);
            self.gone.notify_all();
        }
    }

    fn clients_of(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Client>>> {
        &self.clients[number as usize % SHARDS]
    }

    fn all_clients(&self) -> impl Iterator<Item = Arc<Client>> {
        self.clients.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>())
    }

    fn wait_for_sockets(&self, until: Instant) {
        let mut guard = lock(&self.gone_lock);
        while self.sockets.load(Ordering::SeqCst) > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            guard = match self.gone.wait_timeout(guard, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

/// Listens on `addr`; the sockets of its connections get buffers of this size, from their first
/// packet on.
fn listen(addr: SocketAddr, buffer_bytes: usize) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_send_buffer_size(&socket, buffer_bytes)?;
    sockopt::set_socket_recv_buffer_size(&socket, buffer_bytes)?;
    net::bind(&socket, &addr)?;
    // The kernel takes the longest queue that the system allows instead.
    net::listen(&socket, i32::MAX)?;
    TcpListener::from_std(socket.into())
}
