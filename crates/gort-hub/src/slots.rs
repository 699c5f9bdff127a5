//! Places for connections that are not (yet) WebSockets: handshakes, publishers, and connections
//! that are idle between requests.
//!
//! # Role
//!
//! The accept loop asks for a place for each new connection ([`Slots::enter`]). If the connection
//! has to wait for one, its own goroutine asks again. The goroutine of the connection says when it
//! waits for its peer and when it works on a request ([`Place`]), and gives the place back.
//!
//! # States
//!
//! ```text
//!   enter ─▶ waiting ──whole request──▶ working ──answered──▶ waiting
//!               │                          └──a WebSocket, or the end──▶ (place given back)
//!               └──another needs the place──▶ taken
//! ```
//!
//! # Rules
//!
//! 1. There are `limit` places in total, and `per_address` for one address. In IPv6, a /64 network
//!    counts as one address.
//! 2. If there is no place for a new connection, the connection that has been waiting longest loses
//!    its place. If the new connection's address has used up its own limit, that is one of the same
//!    address. A connection that works on a request keeps its place. If all do, the new one is
//!    refused.
//! 3. A quarter of the places is reserved for the API: while at most so many connections have sent
//!    a signed request, they are not evicted for others (but for their own address's limit). So
//!    neither silent connections nor handshakes keep publishers out, and idle publishers keep out
//!    no other connection.
//! 4. A connection that has not sent a signed request keeps its place for `GRACE` after it has
//!    begun to wait: in a rush of handshakes, all connections are new. If all work on a request, a
//!    new connection waits for a moment, because most requests take less.
//!
//! # Protocol
//!
//! `waits_since` is taken by one exchange, either by the connection's goroutine (to work) or for a
//! new connection (to end it). One of them comes first, and the other sees that. So no request that
//! is being worked on is cut off.

use crate::client::Client;
use crate::rt::sync::Mutex;
use crate::sync::lock;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_millis(50);

/// One in so many places is reserved for the API.
const API_PART: usize = 4;

/// `waits_since` of a connection that works on a request, and of one that has lost its place.
const WORKING: u64 = 0;
const TAKEN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Slots {
    limit: usize,
    per_address: usize,
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    places: HashMap<u64, Entry>,
    addresses: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Entry {
    client: Arc<Client>,
    address: IpAddr,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct Slot {
    /// In nanoseconds since `Slots::start`, plus 1.
    waits_since: AtomicU64,
    is_api: AtomicBool,
}

/// The result of asking for a place.
#[derive(Debug)]
pub(crate) enum Entered {
    /// A place, and the connection that has lost it, which the caller ends.
    Place(Place, Option<Evicted>),
    /// Ask again after this time.
    Wait(Duration),
    /// All places are in use. The limit that was reached, in words and as a number.
    Refused(&'static str, usize),
}

#[derive(Debug)]
pub(crate) struct Evicted {
    pub(crate) client: Arc<Client>,
    pub(crate) waited: Duration,
}

/// A place. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    slots: Arc<Slots>,
    number: u64,
    slot: Arc<Slot>,
}

impl Place {
    /// The connection waits for its peer from now on.
    pub(crate) fn wait(&self) {
        let now = self.slots.nanos(Instant::now());
        let _ = self.slot.waits_since.compare_exchange(WORKING, now, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The connection works on a request from now on. False if it has lost its place.
    pub(crate) fn work(&self) -> bool {
        let to_work = |since| (since != TAKEN).then_some(WORKING);
        self.slot.waits_since.fetch_update(Ordering::SeqCst, Ordering::SeqCst, to_work).is_ok()
    }

    /// The connection has sent a signed request.
    pub(crate) fn is_api(&self) {
        self.slot.is_api.store(true, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.slots.inner).remove(self.number);
    }
}

impl Inner {
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.places.remove(&number)?;
        if let Some(n) = self.addresses.get_mut(&entry.address) {
            *n -= 1;
            if *n == 0 {
                self.addresses.remove(&entry.address);
            }
        }
        Some(entry)
    }
}

impl Slots {
    pub(crate) fn new(limit: usize, per_address: usize) -> Arc<Slots> {
        Arc::new(Slots { limit, per_address, start: Instant::now(), inner: Mutex::default() })
    }

    /// How many connections have a place.
    pub(crate) fn count(&self) -> usize {
        lock(&self.inner).places.len()
    }

    fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_nanos() as u64 + 1
    }

    /// Asks for a place for `client`, which waits for its first request. With `at_once`, no
    /// connection has `GRACE`, and the result is never `Wait`.
    pub(crate) fn enter(self: &Arc<Self>, client: &Arc<Client>, at_once: bool) -> Entered {
        let address = of_one(client.peer().ip());
        let now = self.nanos(Instant::now());
        let mut inner = lock(&self.inner);
        let of_address = inner.addresses.get(&address).copied().unwrap_or(0);
        let mut evicted = None;
        if of_address >= self.per_address || inner.places.len() >= self.limit {
            let only = (of_address >= self.per_address).then_some(address);
            let grace = if at_once { 0 } else { GRACE.as_nanos() as u64 };
            match self.longest_waiting(&inner, only, now, grace) {
                Ok((number, since)) => {
                    let entry = inner.remove(number).expect("it was found there");
                    let waited = Duration::from_nanos(now.saturating_sub(since));
                    evicted = Some(Evicted { client: entry.client, waited });
                }
                Err(Some(grace)) => return Entered::Wait(grace),
                Err(None) if !at_once => return Entered::Wait(GRACE / 10),
                Err(None) if only.is_some() => return Entered::Refused("from one address", self.per_address),
                Err(None) => return Entered::Refused("in total", self.limit),
            }
        }
        let slot = Arc::new(Slot { waits_since: AtomicU64::new(now), is_api: AtomicBool::new(false) });
        *inner.addresses.entry(address).or_default() += 1;
        let number = client.number();
        inner.places.insert(number, Entry { client: client.clone(), address, slot: slot.clone() });
        Entered::Place(Place { slots: self.clone(), number, slot }, evicted)
    }

    /// Takes the place of the connection that has been waiting longest. `Err` has the time until
    /// the grace of a new connection ends.
    fn longest_waiting(
        &self,
        inner: &Inner,
        only: Option<IpAddr>,
        now: u64,
        grace: u64,
    ) -> Result<(u64, u64), Option<Duration>> {
        let is_api = |entry: &Entry| entry.slot.is_api.load(Ordering::Relaxed);
        let apis = inner.places.values().filter(|entry| is_api(entry)).count();
        let spare_apis = only.is_none() && apis <= self.limit / API_PART;
        let mut soonest = None;
        loop {
            let candidate = inner
                .places
                .iter()
                .filter(|(_, entry)| only.is_none_or(|address| entry.address == address))
                .filter(|(_, entry)| !(spare_apis && is_api(entry)))
                .map(|(number, entry)| (entry.slot.waits_since.load(Ordering::SeqCst), number, entry))
                .filter(|(since, ..)| !matches!(*since, WORKING | TAKEN))
                .filter(|(since, _, entry)| {
                    let left =
                        if is_api(entry) { 0 } else { grace.saturating_sub(now.saturating_sub(*since)) };
                    if left > 0 {
                        soonest = Some(soonest.map_or(left, |soonest: u64| soonest.min(left)));
                    }
                    left == 0
                })
                .min_by_key(|(since, number, _)| (*since, **number));
            let Some((since, number, entry)) = candidate else {
                return Err(soonest.map(Duration::from_nanos));
            };
            let slot = &entry.slot.waits_since;
            if slot.compare_exchange(since, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Ok((*number, since));
            }
            // It has just got its request: look for the next one.
        }
    }
}

/// The address that a limit counts: in IPv6 the /64 network, because one host has all of its
/// addresses.
fn of_one(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !(u128::from(u64::MAX)))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::Common;
    use crate::config::{App, Config};
    use crate::rt::net::{TcpListener, TcpStream};

    /// Connections from these addresses of the loopback network, without their goroutines.
    fn clients(addresses: &[u8]) -> Vec<Arc<Client>> {
        let common = Arc::new(Common::new(Config::new(App::new("1", "k", "s").unwrap())));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = |(i, last): (usize, &u8)| {
            let from = std::net::SocketAddr::from(([127, 0, 0, *last], 0));
            let _peer = TcpStream::connect_from(from, listener.local_addr().unwrap()).unwrap();
            let (stream, from) = listener.accept().unwrap();
            Client::new(i as u64, from, common.clone(), stream)
        };
        addresses.iter().enumerate().map(connect).collect()
    }

    fn place(entered: Entered) -> (Place, Option<u64>) {
        match entered {
            Entered::Place(place, evicted) => (place, evicted.map(|evicted| evicted.client.number())),
            other => panic!("{other:?}"),
        }
    }

    /// The connection that waits longest goes first. One that works is kept, and if all work, the
    /// new one is refused.
    #[test]
    fn the_longest_waiting_goes_first() {
        gort::run(|| {
            let all = clients(&[1, 1, 1, 1, 1]);
            let slots = Slots::new(3, 3);
            let mut places: Vec<_> =
                all[..3].iter().map(|client| place(slots.enter(client, true)).0).collect();
            assert!(places[0].work());
            places[0].wait();
            assert!(places[1].work());
            // 2 waits longer than 0, and 1 works.
            let (fourth, evicted) = place(slots.enter(&all[3], true));
            assert_eq!(evicted, Some(2));
            assert!(!places[2].work(), "its place is taken");
            assert!(places[0].work() && fourth.work());
            assert!(matches!(slots.enter(&all[4], true), Entered::Refused("from one address", 3)));
            places.clear();
            assert_eq!(slots.count(), 1);
            drop(fourth);
            assert_eq!((slots.count(), lock(&slots.inner).addresses.len()), (0, 0));
        });
    }

    /// A new connection keeps its place for a moment, unless the place is needed at once.
    #[test]
    fn new_connections_have_a_moment() {
        gort::run(|| {
            let all = clients(&[1, 2]);
            let slots = Slots::new(1, 1);
            let _first = place(slots.enter(&all[0], false));
            assert!(matches!(slots.enter(&all[1], false), Entered::Wait(left) if left <= GRACE));
            assert_eq!(place(slots.enter(&all[1], true)).1, Some(0));
        });
    }

    /// Each address has its own limit, and evicts only its own connections.
    #[test]
    fn an_address_evicts_its_own() {
        gort::run(|| {
            let all = clients(&[1, 2, 2, 2]);
            let slots = Slots::new(8, 2);
            let _places: Vec<_> = all[..3].iter().map(|client| place(slots.enter(client, true))).collect();
            assert_eq!(place(slots.enter(&all[3], true)).1, Some(1));
        });
    }

    /// The API keeps its part against connections that have not sent a signed request, and no more
    /// than its part.
    #[test]
    fn the_api_has_its_part() {
        gort::run(|| {
            let all = clients(&[1; 12]);
            let slots = Slots::new(8, 100);
            let places: Vec<_> = all[..8].iter().map(|client| place(slots.enter(client, true)).0).collect();
            // The two that wait longest are the API's.
            places[..2].iter().for_each(Place::is_api);
            let (_ninth, evicted) = place(slots.enter(&all[8], true));
            assert_eq!(evicted, Some(2));
            places[3].is_api();
            let (_tenth, evicted) = place(slots.enter(&all[9], true));
            assert_eq!(evicted, Some(0), "three are more than a quarter of eight");
        });
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| of_one(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
