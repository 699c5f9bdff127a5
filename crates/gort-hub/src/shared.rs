//! The state of a hub that its connections share: its clients, the channels, the places for
//! HTTP connections, and how far a drain has come.

use crate::channel::Channels;
use crate::client::{Client, GOING_DOWN};
use crate::common::Common;
use crate::config::Config;
use crate::protocol::{self, code};
use crate::rt;
use crate::rt::sync::{Condvar, Mutex};
use crate::slots::Slots;
use crate::stats::Stats;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SHARDS: usize = 64;

/// How finely a drain spreads the closing of connections.
const CLOSE_STEP: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) common: Arc<Common>,
    pub(crate) channels: Channels,
    pub(crate) slots: Arc<Slots>,
    pub(crate) ping: Arc<[u8]>,
    pub(crate) pong: Arc<[u8]>,
    started: Instant,
    /// All connections by their number.
    clients: Vec<Mutex<HashMap<u64, Arc<Client>>>>,
    sockets: AtomicUsize,
    /// `/healthz` says 503.
    draining: AtomicBool,
    /// No connection is accepted any more.
    closing: AtomicBool,
    /// A connection has ended while `closing`.
    gone: Condvar,
    gone_lock: Mutex<()>,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Shared {
        Shared {
            slots: Slots::new(config.max_http_connections, config.max_http_per_address),
            common: Arc::new(Common::new(config)),
            channels: Channels::new(),
            ping: protocol::ping(),
            pong: protocol::pong(),
            started: Instant::now(),
            clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sockets: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            gone: Condvar::new(),
            gone_lock: Mutex::new(()),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// `/healthz` says 503 from now on.
    pub(crate) fn announce_drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// No connection is accepted from now on.
    pub(crate) fn begin_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// How many connections there are, of any kind.
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::SeqCst)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            channels: self.channels.count(),
            http_connections: self.slots.count(),
            draining: self.is_draining(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            ..self.common.counters.snapshot()
        }
    }

    pub(crate) fn register(&self, client: &Arc<Client>) {
        let number = client.number();
        self.sockets.fetch_add(1, Ordering::SeqCst);
        lock(self.clients_of(number)).insert(number, client.clone());
        if self.is_closing() {
            // A drain may already have looked at this shard. If not, closing twice does no harm.
            client.close(code::RECONNECT, GOING_DOWN);
        }
    }

    pub(crate) fn forget(&self, client: &Client) {
        lock(self.clients_of(client.number())).remove(&client.number());
        self.sockets.fetch_sub(1, Ordering::SeqCst);
        if self.is_closing() {
            let _order = lock(&self.gone_lock);
            self.gone.notify_all();
        }
    }

    /// Tells all clients to reconnect elsewhere. They do so at once, so they are told one after the
    /// other, within `drain_spread`.
    pub(crate) fn close_all(&self, until: Instant) {
        let clients: Vec<Arc<Client>> = self.all_clients().collect();
        let start = Instant::now();
        let spread = self.common.config.drain_spread.min(until.saturating_duration_since(start) / 2);
        for (i, client) in clients.iter().enumerate() {
            let due = spread.mul_f64(i as f64 / clients.len() as f64);
            // Not a sleep for each of perhaps a hundred thousand clients.
            let early = due.saturating_sub(start.elapsed());
            if early >= CLOSE_STEP {
                rt::sleep(early);
            }
            client.close(code::RECONNECT, GOING_DOWN);
        }
    }

    pub(crate) fn all_clients(&self) -> impl Iterator<Item = Arc<Client>> {
        self.clients.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>())
    }

    pub(crate) fn wait_for_sockets(&self, until: Instant) {
        let mut guard = lock(&self.gone_lock);
        while self.sockets() > 0 {
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

    fn clients_of(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Client>>> {
        &self.clients[number as usize % SHARDS]
    }
}
