//! The members of each channel, and how an event reaches all of them.
//!
//! # Role
//!
//! Connections join and leave channels. The HTTP API and client events publish. An event comes in
//! as one encoded frame and is put into each member's queue by reference. Members whose queue is
//! full come last: a publisher waits for them, without a lock, when all other members have the
//! event. `client.rs` says for how long.
//!
//! # States
//!
//! Names are spread over shards by their hash. The first member of a channel creates it. A channel
//! is *dead* once its last member has left. A dead channel has left the map or is about to, and no
//! client joins it again. Members are in segments of at most `SEGMENT`, and each segment has its
//! own lock.
//!
//! # Invariants
//!
//! 1. `subscription_succeeded` is in a member's queue before any event of the channel: both go in
//!    under the segment's lock.
//! 2. An event that is published after `join` returned reaches the member, and one that is
//!    published after `leave` returned does not: a publisher that has waited for a member checks
//!    under the segment's lock whether it is still there.
//! 3. Two events that one publisher sends one after the other arrive in that order: `publish`
//!    returns when the event is in all queues.
//! 4. Locks are taken in the order shard, channel, segment, queue. None is held for longer than one
//!    segment takes, so a channel with 100 000 members delays a joining client by at most 512 queue
//!    operations. No goroutine waits, and none is started, under one of them.
//!
//! # Protocol
//!
//! The goroutine that removes the last member marks the channel dead under the channel's lock. Then
//! it takes the channel out of the shard, if that still has this one. A goroutine that finds a dead
//! channel in the shard replaces it with a new one under the shard's lock. So neither waits for the
//! other, and a name has at most one live channel.
//!
//! # Rejected
//!
//! - A snapshot of all members for each event (copy on write): joining is then quadratic.
//! - A goroutine for each channel that owns its members: one more stack for each channel, and one
//!   more switch for each event.

use crate::client::{Client, Offer, Patience, Writer, start, start_all};
use crate::protocol::{self, SocketId};
use crate::rt;
use crate::rt::sync::{Mutex, RwLock};
use crate::sync::{lock, read, write};
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::Arc;

const SHARDS: usize = 64;
const SEGMENT: usize = 512;

type Shard = HashMap<Arc<str>, Arc<Channel>>;

#[derive(Debug)]
pub(crate) struct Channels {
    shards: Vec<RwLock<Shard>>,
    hasher: RandomState,
}

#[derive(Debug)]
pub(crate) struct Channel {
    name: Arc<str>,
    members: RwLock<Members>,
}

#[derive(Debug, Default)]
struct Members {
    segments: Vec<Arc<Segment>>,
    count: usize,
    dead: bool,
}

type Segment = Mutex<Vec<Arc<Client>>>;

/// The subscription of one client to one channel. It ends with [`Channels::leave`].
#[derive(Debug)]
pub(crate) struct Subscription {
    channel: Arc<Channel>,
    segment: Arc<Segment>,
}

impl Subscription {
    pub(crate) fn channel(&self) -> &str {
        &self.channel.name
    }
}

impl Channels {
    pub(crate) fn new() -> Channels {
        Channels { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), hasher: RandomState::new() }
    }

    fn shard(&self, name: &str) -> &RwLock<Shard> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    /// How many channels have members.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    /// Adds `client` to the channel and tells it so.
    pub(crate) fn join(&self, name: &str, client: &Arc<Client>) -> Subscription {
        let welcome = protocol::subscription_succeeded(name);
        loop {
            let found = read(self.shard(name)).get(name).cloned();
            let channel = found.unwrap_or_else(|| self.make(name));
            if let Some(segment) = channel.add(client, &welcome) {
                return Subscription { channel, segment };
            }
            // The last member has left in between: replace the dead channel.
            self.make(name);
        }
    }

    fn make(&self, name: &str) -> Arc<Channel> {
        let fresh = || Arc::new(Channel { name: name.into(), members: RwLock::default() });
        match write(self.shard(name)).entry(name.into()) {
            Entry::Vacant(entry) => entry.insert(fresh()).clone(),
            Entry::Occupied(mut entry) => {
                if read(&entry.get().members).dead {
                    entry.insert(fresh());
                }
                entry.get().clone()
            }
        }
    }

    /// Removes `client` from the channel.
    pub(crate) fn leave(&self, subscription: Subscription, client: &Arc<Client>) {
        let Subscription { channel, segment } = subscription;
        if channel.remove(client, &segment) {
            let mut shard = write(self.shard(&channel.name));
            if shard.get(&channel.name).is_some_and(|there| Arc::ptr_eq(there, &channel)) {
                shard.remove(&channel.name);
            }
        }
    }

    /// Queues `frame` for every member but `except`. Waits for members whose queue is full, within
    /// `patience`.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub(crate) fn publish(
        &self,
        name: &str,
        frame: &Arc<[u8]>,
        except: Option<SocketId>,
        patience: &mut Patience,
    ) {
        let Some(channel) = read(self.shard(name)).get(name).cloned() else { return };
        let segments = read(&channel.members).segments.clone();
        let mut writers: Vec<Writer> = Vec::new();
        let mut full = Vec::new();
        for (i, segment) in segments.iter().enumerate() {
            if i > 0 {
                // Lets the writers of the last segment start before the next one is handled.
                rt::yield_now();
            }
            for client in lock(segment).iter().filter(|client| Some(client.id()) != except) {
                match client.offer(frame) {
                    Offer::Queued(writer) => writers.extend(writer),
                    Offer::Full => full.push((segment.clone(), client.clone())),
                    Offer::Closed => {}
                }
            }
            start_all(&mut writers);
        }
        for (segment, client) in full {
            while client.wait_while_full(patience) {
                let inside = lock(&segment);
                let is_member = inside.iter().any(|member| Arc::ptr_eq(member, &client));
                let offer = if is_member { client.offer(frame) } else { Offer::Closed };
                drop(inside);
                match offer {
                    Offer::Full => continue,
                    Offer::Queued(writer) => start(writer),
                    Offer::Closed => {}
                }
                break;
            }
        }
    }
}

impl Channel {
    fn add(&self, client: &Arc<Client>, welcome: &Arc<[u8]>) -> Option<Arc<Segment>> {
        let mut members = write(&self.members);
        if members.dead {
            return None;
        }
        let has_room = |segment: &&Arc<Segment>| lock(segment).len() < SEGMENT;
        let segment = match members.segments.iter().rev().find(has_room) {
            Some(segment) => segment.clone(),
            None => {
                let segment = Arc::new(Segment::default());
                members.segments.push(segment.clone());
                segment
            }
        };
        members.count += 1;
        let mut inside = lock(&segment);
        let writer = client.answer(welcome.clone());
        inside.push(client.clone());
        drop(inside);
        drop(members);
        start(writer);
        Some(segment)
    }

    /// True if that was the last member.
    fn remove(&self, client: &Arc<Client>, segment: &Arc<Segment>) -> bool {
        let mut members = write(&self.members);
        let mut inside = lock(segment);
        if let Some(at) = inside.iter().position(|member| Arc::ptr_eq(member, client)) {
            inside.swap_remove(at);
            members.count -= 1;
        }
        let empty = inside.is_empty();
        drop(inside);
        if empty {
            members.segments.retain(|other| !Arc::ptr_eq(other, segment));
        }
        members.dead = members.count == 0;
        members.dead
    }
}
