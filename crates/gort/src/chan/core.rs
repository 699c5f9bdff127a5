//! The part of a channel that does not know the type of its messages: what waits, how many messages
//! the channel holds, and what is promised to which waiter.
//!
//! # Role
//! `channel.rs` uses it to move messages, `select.rs` to commit arms. All of [`State`] is under the
//! channel's lock.
//!
//! # Promises
//! A `select` commits to an arm first and moves the message later, in `SelectedOperation::{send,
//! recv}`, possibly after user code. In between it has a [`Permit`]:
//! ```text
//!            len messages, of which `claimed` are promised          `reserved` places are promised
//!          ├──────────────────────────────┤                       ├────────┤
//!   ring   [m m m m m m m m m m m m m m m m · · · · · · · · · · · · · · · · ]   cap
//! ```
//! | permit  | promised                         | redeemed by      | given back by |
//! | ------- | -------------------------------- | ---------------- | ------------- |
//! | Space   | a place: `reserved` + 1          | push or hand-off | `reserved` - 1, see below |
//! | Claimed | a message: `claimed` + 1         | pop              | `claimed` - 1, see below |
//! | Held    | a held partner (`waiters.rs`)      | its slot         | the partner looks again |
//! | Closed  | nothing: the other side is gone  | an error         | |
//! | Tick    | a time, already taken            | returning it     | it is lost |
//!
//! The time of a `Tick` is a timer's (`timer.rs`). `Claimed` promises no certain message, but the
//! one that is first when it is redeemed. When a `Space` is given back, all senders look again;
//! when a `Claimed` is, all receivers do.
//!
//! # Invariants
//! 1. `claimed <= len`, and `len + reserved <= cap` unless the capacity is zero.
//! 2. With capacity zero, `len` counts only messages on their way to a `select` that has committed
//!    to receive (`len == claimed`, unless an operation was given back).
//! 3. While a message is available (`len > claimed`), no receiver is queued. While a place is free,
//!    no sender is queued. Exceptions: while the lock is held, and while all of them have been told
//!    to look again.
//!
//! # Why no wake-up is lost
//! A waiter enrols in the same critical section in which it saw that it cannot go on. A side that
//! makes a message or a place available does so under the lock, and then serves the queues
//! (invariant 3). A served waiter owns what it was served: the message itself, or a permit. Nothing
//! can take that away, so nothing has to be signalled twice. When a promise is given back, all
//! waiters of the queue look again, not just one: that one might be a `select` that prefers another
//! arm.
//!
//! # Rejected
//! - Keeping the message in `SelectedOperation`: its type is not known there.
//! - Claiming one certain message: other receivers would have to wait for it, or overtake it. A
//!   count needs neither.

use super::waiters::{DONE, Held, Outcome, WaitNode, WaitQueue, Wakes};
use crate::sched::{Lent, WaitReason, WaiterRef, Wake};
use crate::sys::lock::{Guard, Lock};
use crate::sys::sync::{AtomicBool, Ordering::Relaxed, is_child};
use std::ptr;
use std::time::{Duration, Instant};

/// The capacity of an unbounded channel.
pub(super) const UNBOUNDED: usize = usize::MAX;

pub(super) struct State {
    pub(super) len: usize,
    pub(super) cap: usize,
    /// Places promised to `select`s that have committed to send.
    pub(super) reserved: usize,
    /// Messages promised to `select`s that have committed to receive.
    pub(super) claimed: usize,
    pub(super) senders_gone: bool,
    pub(super) receivers_gone: bool,
    pub(super) recvq: WaitQueue,
    pub(super) sendq: WaitQueue,
    /// The waiters in `Select::ready`. They are told to look again at every change.
    pub(super) watchers: WaitQueue,
}

impl State {
    pub(super) fn new(cap: usize) -> State {
        State {
            len: 0,
            cap,
            reserved: 0,
            claimed: 0,
            senders_gone: false,
            receivers_gone: false,
            recvq: WaitQueue::new(),
            sendq: WaitQueue::new(),
            watchers: WaitQueue::new(),
        }
    }

    /// There is a message that is not promised to a `select`.
    #[inline]
    pub(super) fn has_message(&self) -> bool {
        self.len > self.claimed
    }

    /// There is a free place that is not promised to a `select`.
    #[inline]
    pub(super) fn has_space(&self) -> bool {
        self.len + self.reserved < self.cap
    }

    pub(super) fn recv_ready(&self) -> bool {
        self.has_message() || self.senders_gone || (self.cap == 0 && self.sendq.any_waiting())
    }

    pub(super) fn send_ready(&self) -> bool {
        self.has_space() || self.receivers_gone || (self.cap == 0 && self.recvq.any_waiting())
    }

    /// Commits the calling `select` to receive, if that is possible now. `node` is its arm's, and
    /// is not enrolled.
    pub(super) fn commit_recv(&mut self, node: &WaitNode) -> Option<Commit> {
        if self.has_message() {
            self.claimed += 1;
            return Some(Commit::Now(Permit::Claimed));
        }
        if self.cap == 0 {
            while let Some(sender) = self.sendq.pop() {
                if !sender.is_arm() {
                    if let Some(held) = sender.hold() {
                        return Some(Commit::Now(Permit::Held(held)));
                    }
                    continue;
                }
                let me = WaiterRef::current();
                me.arm();
                if let Some(wake) = sender.serve_with_partner(node, me, ptr::null_mut()) {
                    return Some(Commit::Meet(wake));
                }
            }
        }
        self.senders_gone.then_some(Commit::Now(Permit::Closed))
    }

    /// Commits a `select` to send, if that is possible now.
    pub(super) fn commit_send(&mut self) -> Option<Permit> {
        if self.receivers_gone {
            return Some(Permit::Closed);
        }
        if self.has_space() {
            self.reserved += 1;
            return Some(Permit::Space);
        }
        if self.cap == 0 {
            while let Some(receiver) = self.recvq.pop() {
                if let Some(held) = receiver.hold() {
                    return Some(Permit::Held(held));
                }
            }
        }
        None
    }
}

/// A `select`'s right to complete the operation it chose.
pub(super) enum Permit {
    Space,
    Claimed,
    Held(Held),
    Closed,
    Tick(Instant),
}

impl Permit {
    /// The permit of the arm `node`, which was served: its wait ended with its own token.
    pub(super) fn served(node: &WaitNode, sending: bool) -> Permit {
        match (sending, node.partner()) {
            (false, _) => Permit::Claimed,
            (true, Some(held)) => Permit::Held(held),
            (true, None) => Permit::Space,
        }
    }
}

/// How a `select` has committed.
pub(super) enum Commit {
    Now(Permit),
    /// To a select-sender, which must be made ready. The receiver waits in `WaitNode::wait_rearmed`
    /// until that sender has delivered. Then it has a `Claimed`.
    Meet(Wake),
}

/// A channel without its messages.
pub(super) struct Core {
    pub(super) state: Lock<State>,
    /// See [`Core::may_recv`].
    may_recv: AtomicBool,
}

impl Core {
    pub(super) fn new(cap: usize) -> Core {
        Core { state: Lock::new(State::new(cap)), may_recv: AtomicBool::new(false) }
    }

    /// Whether a receive is likely to find something. This is a guess: with it, the first look of a
    /// `select` passes over channels without locking them. What the first look misses, the second
    /// one finds. But a choice among several arms is fair only if the guess is seldom wrong.
    #[inline]
    pub(super) fn may_recv(&self) -> bool {
        self.may_recv.load(Relaxed)
    }

    /// Keeps the guess up to date. Call it before unlocking, if messages or senders came or went.
    #[inline]
    pub(super) fn note(&self, state: &State) {
        let sender_waits = state.cap == 0 && !state.sendq.is_empty();
        self.may_recv.store(state.has_message() || sender_waits || state.senders_gone, Relaxed);
    }

    /// Tells the watchers to look again.
    #[cold]
    pub(super) fn notify_watchers(&self) {
        self.retry_all(|state| &mut state.watchers);
    }

    fn retry_all(&self, queue: impl Fn(&mut State) -> &mut WaitQueue) {
        loop {
            let mut wakes = Wakes::new();
            queue(&mut self.state.lock()).retry_all(&mut wakes);
            let more = wakes.is_full();
            wakes.ready();
            if !more {
                return;
            }
        }
    }

    /// One side is gone altogether. `mark` notes that, and the waiters in `queue`, which wait for
    /// that side, look again.
    pub(super) fn close<R>(
        &self,
        queue: impl Fn(&mut State) -> &mut WaitQueue,
        mark: impl FnOnce(&mut Guard<'_, State>) -> R,
    ) -> R {
        let mut state = self.state.lock();
        let result = mark(&mut state);
        self.note(&state);
        let none_waits = queue(&mut state).is_empty() && state.watchers.is_empty();
        drop(state);
        if !none_waits {
            self.retry_all(queue);
            self.notify_watchers();
        }
        result
    }

    /// Gives a permit back.
    pub(super) fn abandon(&self, permit: Permit) {
        if is_child() {
            return;
        }
        match permit {
            Permit::Closed | Permit::Tick(_) => return,
            Permit::Held(held) => self.settle(self.state.lock(), held, Outcome::Abandoned),
            Permit::Space => {
                self.state.lock().reserved -= 1;
                self.retry_all(|state| &mut state.sendq);
            }
            Permit::Claimed => {
                let mut state = self.state.lock();
                state.claimed -= 1;
                self.note(&state);
                drop(state);
                self.retry_all(|state| &mut state.recvq);
            }
        }
        self.notify_watchers();
    }

    /// Settles a held partner, unlocks, and makes the partner ready.
    pub(super) fn settle(&self, locked: Guard<'_, State>, held: Held, outcome: Outcome) {
        let wake = held.settle(outcome);
        drop(locked);
        wake.ready();
    }

    /// Waits in one of the queues. Others use the slot in the caller's frame under this channel's
    /// lock.
    #[inline]
    pub(super) fn wait(&self, me: WaiterRef, reason: WaitReason, patience: Patience) -> usize {
        match patience.deadline() {
            None => me.wait_swappable(reason, Lent::Under(self.state.erased())),
            deadline => me.wait(reason, deadline),
        }
    }

    /// Takes a plain operation that timed out out of `queue`, where its node may still be linked.
    #[cold]
    pub(super) fn withdraw(&self, node: &WaitNode, queue: impl Fn(&mut State) -> &mut WaitQueue) {
        queue(&mut self.state.lock()).remove(node);
    }
}

/// How long an operation may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    /// Until this time.
    Until(Instant),
    /// For ever.
    Forever,
}

impl Patience {
    /// Lasts for `timeout` from now.
    pub fn lasting(timeout: Duration) -> Patience {
        Instant::now().checked_add(timeout).map_or(Patience::Forever, Patience::Until)
    }

    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Patience::Until(deadline) => Some(deadline),
            Patience::None | Patience::Forever => None,
        }
    }

    /// Whether it is over now.
    pub(super) fn is_over(self) -> bool {
        match self {
            Patience::None => true,
            Patience::Until(deadline) => Instant::now() >= deadline,
            Patience::Forever => false,
        }
    }
}

/// The token of a plain wait. Each arm of a `select` has its own token instead.
pub(super) const PLAIN: usize = DONE;
