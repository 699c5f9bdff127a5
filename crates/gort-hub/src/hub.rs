//! The hub: its listener, the admission of connections, and the drain.

use crate::client::Client;
use crate::config::Config;
use crate::conn;
use crate::fd::FdLimit;
use crate::log::line;
use crate::rt;
use crate::rt::net::{TcpListener, TcpStream};
use crate::shared::Shared;
use crate::slots::{Entered, Evicted, Place};
use crate::stats::{Stats, add};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The longest pause of the accept loop while there are no file descriptors.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A WebSocket hub on one address. It is cheap to clone; all clones are the same hub.
///
/// ```
/// gort::run(|| {
///     let app = "1:my-key:my-secret".parse().unwrap();
///     let config = gort_hub::Config::new(app);
///     let hub = gort_hub::Hub::bind("127.0.0.1:0".parse().unwrap(), config).unwrap();
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    listener: TcpListener,
    local_addr: SocketAddr,
    next_number: AtomicU64,
    /// New connections that wait for a place.
    waiting: AtomicUsize,
}

/// Why a hub cannot start.
#[derive(Debug, Error)]
pub enum HubError {
    /// The address is in use, does not belong to this machine, or is not allowed for this user.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address that was asked for.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves in time.
    pub closed: usize,
    /// Connections that were reset when the time was over.
    pub forced: usize,
}

impl Hub {
    /// Listens on `addr`. Connections wait in the backlog until [`Hub::serve`] runs.
    ///
    /// # Errors
    ///
    /// [`HubError::Bind`].
    pub fn bind(addr: SocketAddr, config: Config) -> Result<Hub, HubError> {
        let bound = listen(addr, config.socket_buffer_bytes)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (local_addr, listener) = bound.map_err(|source| HubError::Bind { addr, source })?;
        Ok(Hub {
            inner: Arc::new(Inner {
                shared: Arc::new(Shared::new(config)),
                listener,
                local_addr,
                next_number: AtomicU64::new(1),
                waiting: AtomicUsize::new(0),
            }),
        })
    }

    /// The address of the hub. If port 0 was asked for, it has the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// Accepts connections until [`Hub::drain`], and starts a goroutine for each.
    ///
    /// If there are no file descriptors, it logs that and waits until there are some again.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The listener has failed.
    pub fn serve(&self) -> io::Result<()> {
        let hub = &self.inner;
        let common = &hub.shared.common;
        let mut backoff = Duration::ZERO;
        loop {
            match hub.listener.accept() {
                Ok((stream, from)) => {
                    backoff = Duration::ZERO;
                    hub.admit(stream, from);
                }
                Err(_) if hub.shared.is_closing() => return Ok(()),
                Err(e) => {
                    add(&common.counters.accept_errors, 1);
                    match AcceptError::of(&e) {
                        AcceptError::Gone => {}
                        AcceptError::Broken => return Err(e),
                        AcceptError::Exhausted(why) => {
                            backoff = (backoff * 2).clamp(Duration::from_millis(5), BACKOFF_MAX);
                            line!(common.log.accept, error, "cannot accept connections: {why}");
                            rt::sleep(backoff);
                        }
                    }
                }
            }
        }
    }

    /// The current numbers of the hub and of the process.
    pub fn stats(&self) -> Stats {
        self.inner.shared.stats()
    }

    /// Ends the hub in an orderly way:
    ///
    /// 1. For [`drain_delay`](Config::drain_delay), `/healthz` says 503 while all else goes on.
    /// 2. No more connections are accepted. All connections are closed, WebSocket clients with
    ///    4200, spread over [`drain_spread`](Config::drain_spread).
    /// 3. The drain waits until all have hung up.
    ///
    /// Connections that have not hung up after `timeout`, which is the time for all of this, are
    /// reset. The delay takes at most a third of `timeout`, and the closing at most half of the
    /// rest.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub fn drain(&self, timeout: Duration) -> Drained {
        let hub = &self.inner.shared;
        let until = Instant::now() + timeout;
        hub.announce_drain();
        rt::sleep(hub.common.config.drain_delay.min(timeout / 3));
        hub.begin_closing();
        self.inner.listener.close();
        let at_start = hub.sockets();
        hub.close_all(until);
        hub.wait_for_sockets(until);
        let forced = hub.sockets();
        if forced > 0 {
            for client in hub.all_clients() {
                client.abort();
            }
            // Their goroutines end when they next run.
            hub.wait_for_sockets(Instant::now() + Duration::from_secs(1));
        }
        Drained { closed: at_start.saturating_sub(forced), forced }
    }
}

impl Inner {
    /// Starts the goroutine of a new connection, or refuses it. A connection that must wait for a
    /// place does so in its own goroutine, so that others are accepted meanwhile.
    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        // Frames are written whole, so waiting for more data would only delay them. This fails only
        // if the peer is gone.
        let _ = stream.set_nodelay(true);
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let client = Client::new(number, from, self.shared.common.clone(), stream);
        let hub = self.clone();
        let entered = match self.shared.slots.enter(&client, false) {
            Entered::Wait(time) if self.may_wait() => {
                rt::go(move || {
                    rt::sleep(time);
                    hub.waiting.fetch_sub(1, Ordering::Relaxed);
                    let entered = hub.shared.slots.enter(&client, true);
                    if let Some(place) = hub.place(&client, entered) {
                        hub.shared.register(&client);
                        hub.serve_one(&client, place);
                    }
                });
                return;
            }
            Entered::Wait(_) => self.shared.slots.enter(&client, true),
            entered => entered,
        };
        let Some(place) = self.place(&client, entered) else { return };
        self.shared.register(&client);
        rt::go(move || hub.serve_one(&client, place));
    }

    /// Whether one more new connection may wait. At most as many may wait as there are places.
    fn may_wait(&self) -> bool {
        let most = self.shared.common.config.max_http_connections;
        let may = self.waiting.fetch_add(1, Ordering::Relaxed) < most;
        if !may {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        may
    }

    fn serve_one(self: &Arc<Self>, client: &Arc<Client>, place: Place) {
        conn::serve(&self.shared, client, place);
        self.shared.forget(client);
    }

    /// The place of a new connection. Ends the idle connection that has lost its place to it, if
    /// there is one. `None` if the new connection is refused.
    fn place(&self, client: &Client, entered: Entered) -> Option<Place> {
        let (common, from) = (&self.shared.common, client.peer());
        match entered {
            Entered::Place(place, evicted) => {
                if let Some(Evicted { client, waited }) = evicted {
                    add(&common.counters.evicted, 1);
                    line!(common.log.refused, info, peer = %client.peer(), idle = ?waited, %from,
                        "closed an idle HTTP connection to make room");
                    // This waits until the goroutine of that connection has left its socket.
                    rt::go(move || client.end());
                }
                Some(place)
            }
            Entered::Refused(which, limit) => {
                add(&common.counters.refused, 1);
                line!(common.log.refused, warn, %from, limit,
                    "refused with 503: too many HTTP connections {which}");
                let busy = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
                    connection: close\r\ncontent-length: 0\r\n\r\n";
                // The socket of a new connection has room for this.
                let _ = client.stream().write_all(busy);
                None
            }
            Entered::Wait(_) => unreachable!("`enter` was called with `at_once`"),
        }
    }
}

/// Listens on `addr`. The sockets of its connections inherit the size of their buffers, so that it
/// applies from their first packet on.
fn listen(addr: SocketAddr, buffer_bytes: usize) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_send_buffer_size(&socket, buffer_bytes)?;
    sockopt::set_socket_recv_buffer_size(&socket, buffer_bytes)?;
    net::bind(&socket, &addr)?;
    // The kernel cuts this down to the longest backlog that the system allows.
    net::listen(&socket, i32::MAX)?;
    TcpListener::from_std(socket.into())
}

/// How `accept` failed.
#[derive(Debug, PartialEq, Eq)]
enum AcceptError {
    /// There are no file descriptors or no memory. `accept` will fail until something is closed.
    Exhausted(String),
    /// The connection was gone before it was accepted.
    Gone,
    /// The listener itself has failed.
    Broken,
}

impl AcceptError {
    fn of(e: &io::Error) -> AcceptError {
        use rustix::io::Errno;
        match Errno::from_io_error(e) {
            Some(Errno::MFILE) => {
                let limit = FdLimit::now().soft;
                AcceptError::Exhausted(format!(
                    "all {limit} file descriptors of this process are in use (ulimit -n)"
                ))
            }
            Some(Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => AcceptError::Exhausted(e.to_string()),
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT) => {
                AcceptError::Broken
            }
            Some(_) => AcceptError::Gone,
            None if e.kind() == io::ErrorKind::Interrupted => AcceptError::Gone,
            None => AcceptError::Broken,
        }
    }
}
