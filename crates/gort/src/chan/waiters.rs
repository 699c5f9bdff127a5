//! The waiters at a channel, in the order of their arrival.
//!
//! A node lies in the waiter's descriptor. The nodes of a `select`, of a timer's channel and of an
//! OS thread lie on the stack.
//!
//! # Role
//! A sender, a receiver or one arm of a `select` links its [`WaitNode`] into a [`WaitQueue`] of the
//! channel, under the channel's lock, and parks. The side that can serve it pops the node, ends the
//! wait with a token, and wakes the waiter after unlocking.
//!
//! # States of a node
//! ```text
//!          enrol           pop, select(DONE | RETRY)
//!   FREE ─────────▶ QUEUED ─────────────────────────▶ FREE
//!     ▲               │ pop, hold                       ▲
//!     │ remove        ▼                                 │ settle(Done | Abandoned)
//!     └──(timeout)   HELD ──────────────────────────────┘
//! ```
//! | state  | linked | what may touch it                                             |
//! | ------ | ------ | ------------------------------------------------------------- |
//! | FREE   | no     | the waiter                                                    |
//! | QUEUED | yes    | the holder of the channel's lock                              |
//! | HELD   | no     | its holder, a committed `select`, under the channel's lock    |
//!
//! # Invariants
//! 1. A node is linked, unlinked and read under the lock of the channel it belongs to.
//! 2. A waiter leaves its wait only when none of its nodes is linked or in use by another side.
//!    Either the side that popped the node ended the wait, or the waiter itself passes the lock to
//!    remove the node. A side that popped the node in vain did so under that lock, so it no longer
//!    uses the node then.
//! 3. The side that pops a node touches it for the last time in its `try_select` (or, for a held
//!    one, in `settle`).
//! 4. A slot is written or read *before* the `try_select`. If that is lost, the copy is forgotten:
//!    the value in a sender's slot still belongs to the sender, and a value put into a receiver's
//!    slot still belongs to the side that put it there.
//! 5. A held waiter is settled exactly once, and does not go on until then.
//!
//! # Protocol of holding
//! A `select` commits before its message exists (the expression is evaluated afterwards) or before
//! its place for the message exists (`SelectedOperation::recv` comes later). With a buffer, that is
//! only a count (see `core.rs`). Without one, the partner is held, which is a rendezvous in two
//! steps:
//! ```text
//!   holder, under the lock                      held, after its wait ended with HELD
//!   1. try_select(HELD)                          1. lock
//!      ... user code, no lock held ...           2. settled? take the outcome
//!   2. lock; use the slot                        3. else arm again, `rearmed = true`
//!   3. outcome = Done | Abandoned                4. unlock, wait for DONE | RETRY
//!   4. if rearmed, try_select(DONE | RETRY)
//!   5. unlock; ready it
//! ```
//! A partner that was parked when it was held is not made ready before step 5, so it pays one park
//! for both steps. A partner that was still on its way into the park (its word was ARMED) passes
//! the lock. If it is first, the holder sees `rearmed` and selects it. If it is second, it sees the
//! outcome. Either way it goes on, once.
//!
//! The other way round, a receiver that meets a parked select-sender has nothing to take yet. It
//! arms, leaves its node as the sender's `partner` with `rearmed` set, ends the sender's wait, and
//! waits as if held.
//!
//! # Rejected
//! - Spinning until the other side has delivered, as crossbeam does: the message expression may
//!   block, and a goroutine that spins keeps its P for that long.
//! - Waking all waiters to try again: the order of arrival is lost.

use crate::sched::{FIRST_TOKEN, WaitReason, WaiterRef, Wake};
use crate::sys::lock::Lock;
use crate::sys::wait_list::{Links, Node, WaitList};
use std::cell::Cell;
use std::ptr;

/// The wait ended because something changed: look again.
pub(super) const RETRY: usize = FIRST_TOKEN;
/// The token of a plain wait that was served. The odd token after it means HELD.
pub(super) const DONE: usize = FIRST_TOKEN + 1;
/// The wait has ended, but its operation is not complete: the node is held. The token is that of
/// the node plus this.
pub(super) const HELD: usize = 1;
/// The token of a `select`'s first arm. Each further arm adds two.
pub(super) const FIRST_ARM: usize = FIRST_TOKEN + 3;

/// What happened to a held node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Pending,
    Done,
    Abandoned,
}

/// One waiter at one channel.
pub(super) struct WaitNode {
    links: Links<WaitNode>,
    rearmed: Cell<bool>,
    outcome: Cell<Outcome>,
    waiter: Cell<Option<WaiterRef>>,
    token: Cell<usize>,
    /// The message of a sender, or the place for a receiver's message. Null for an arm of a
    /// `select`.
    slot: Cell<*mut ()>,
    /// The receiver that a select-sender has to serve.
    partner: Cell<*const WaitNode>,
}

impl WaitNode {
    pub(super) const fn new() -> WaitNode {
        WaitNode {
            links: Links::new(),
            rearmed: Cell::new(false),
            outcome: Cell::new(Outcome::Pending),
            waiter: Cell::new(None),
            token: Cell::new(RETRY),
            slot: Cell::new(ptr::null_mut()),
            partner: Cell::new(ptr::null()),
        }
    }

    /// Prepares the node for a wait. The node is FREE.
    pub(super) fn enrol(&self, me: WaiterRef, token: usize, slot: *mut ()) {
        debug_assert!(!self.links.is_linked());
        self.rearmed.set(false);
        self.outcome.set(Outcome::Pending);
        self.waiter.set(Some(me));
        self.token.set(token);
        self.slot.set(slot);
        self.partner.set(ptr::null());
    }

    fn waiter(&self) -> WaiterRef {
        self.waiter.get().expect("an enrolled node has a waiter")
    }

    /// The waiter's message, or its place for one. The caller holds the channel's lock, and uses it
    /// under that lock.
    pub(super) fn slot<T>(&self) -> *mut T {
        self.waiter().fetch();
        self.slot.get().cast()
    }

    pub(super) fn is_arm(&self) -> bool {
        self.slot.get().is_null()
    }

    /// Whether its wait has not ended. It may end at any time.
    fn is_waiting(&self) -> bool {
        self.waiter().selected().is_none()
    }

    /// Ends the wait of this popped node: it was served.
    pub(super) fn serve(&self) -> Option<Wake> {
        self.waiter().try_select(self.token.get())
    }

    /// Ends the wait of this popped node: it must look again.
    pub(super) fn retry(&self) -> Option<Wake> {
        self.waiter().try_select(RETRY)
    }

    /// Ends the wait of this popped node, but its operation is completed later.
    pub(super) fn hold(&self) -> Option<Held> {
        let wake = self.waiter().try_select(self.token.get() + HELD)?;
        Some(Held { node: self, wake })
    }

    /// As `serve`, for a select-sender that must then serve `receiver`. The receiver's waiter has
    /// armed. If this succeeds, it goes to wait in [`WaitNode::wait_rearmed`].
    pub(super) fn serve_with_partner(
        &self,
        receiver: &WaitNode,
        me: WaiterRef,
        slot: *mut (),
    ) -> Option<Wake> {
        receiver.enrol(me, DONE, slot);
        receiver.rearmed.set(true);
        self.partner.set(receiver);
        self.serve()
    }

    /// The partner that this select-sender must serve after its wait. None: there is none.
    pub(super) fn partner(&self) -> Option<Held> {
        let node = self.partner.get();
        (!node.is_null()).then_some(Held { node, wake: Wake::NONE })
    }

    /// The held side: waits for the holder. True: the message has moved. False: look again.
    ///
    /// The caller is in no queue any more, and `lock` is the channel's.
    pub(super) fn wait_held<S>(&self, lock: &Lock<S>, reason: WaitReason) -> bool {
        {
            let _locked = lock.lock();
            match self.outcome.get() {
                Outcome::Done => return true,
                Outcome::Abandoned => return false,
                Outcome::Pending => {}
            }
            self.waiter().arm();
            self.rearmed.set(true);
        }
        self.wait_rearmed(reason)
    }

    /// The second half of the wait of a held node. It has no deadline: both sides have committed.
    pub(super) fn wait_rearmed(&self, reason: WaitReason) -> bool {
        self.waiter().wait(reason, None) == DONE
    }
}

/// A popped node with a waiter that does not go on until [`settle`](Held::settle).
#[must_use = "a held waiter sleeps for ever if nothing settles it"]
pub(super) struct Held {
    node: *const WaitNode,
    wake: Wake,
}

impl Held {
    /// The message of the held waiter, or its place for one. Null if it is an arm of a `select`.
    pub(super) fn slot<T>(&self) -> *mut T {
        // SAFETY: the held waiter keeps its node alive until it is settled (invariant 5).
        unsafe { (*self.node).slot() }
    }

    /// Lets the held waiter go on. The caller holds the channel's lock, and uses the wake after
    /// unlocking.
    pub(super) fn settle(self, outcome: Outcome) -> Wake {
        // SAFETY: as above; the node is accessed here for the last time, and only before the
        // `try_select` or the `ready`.
        let node = unsafe { &*self.node };
        node.outcome.set(outcome);
        if !node.rearmed.get() {
            return self.wake;
        }
        let token = if outcome == Outcome::Done { DONE } else { RETRY };
        node.waiter().try_select(token).expect("no other code ends the wait of a held node")
    }
}

impl Node for WaitNode {
    fn links(&self) -> &Links<WaitNode> {
        &self.links
    }
}

/// Nodes in the order of arrival. All methods are called under the lock of the channel.
pub(super) struct WaitQueue(WaitList<WaitNode>);

impl WaitQueue {
    pub(super) const fn new() -> WaitQueue {
        WaitQueue(WaitList::new())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Links `node` as the last one.
    ///
    /// # Safety
    /// The node stays where it is until it has been popped or removed.
    pub(super) unsafe fn push(&mut self, node: &WaitNode) {
        // SAFETY: the caller's promise.
        unsafe { self.0.push_back(node) };
    }

    /// The first node, still linked.
    pub(super) fn front(&self) -> Option<&WaitNode> {
        self.0.front()
    }

    /// Unlinks the first node.
    ///
    /// It stays alive until the caller has ended its wait, or has found it ended and dropped the
    /// lock (invariants 2 and 3). So use it before that.
    pub(super) fn pop<'a>(&mut self) -> Option<&'a WaitNode> {
        self.0.pop_front()
    }

    /// Unlinks `node` if it is linked. If it is, it is in this queue.
    pub(super) fn remove(&mut self, node: &WaitNode) {
        self.0.remove(node);
    }

    /// Whether a waiter here has not been ended yet.
    pub(super) fn any_waiting(&self) -> bool {
        self.0.iter().any(WaitNode::is_waiting)
    }

    /// Pops waiters and tells them to look again, as many as `wakes` has room for.
    pub(super) fn retry_all(&mut self, wakes: &mut Wakes) {
        while !wakes.is_full() {
            let Some(node) = self.pop() else { return };
            if let Some(wake) = node.retry() {
                wakes.push(wake);
            }
        }
    }
}

/// Waiters that must be made ready after the lock is dropped.
pub(super) struct Wakes {
    list: [Wake; Wakes::ROOM],
    len: usize,
}

impl Wakes {
    const ROOM: usize = 16;

    pub(super) const fn new() -> Wakes {
        Wakes { list: [const { Wake::NONE }; Wakes::ROOM], len: 0 }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == Wakes::ROOM
    }

    pub(super) fn push(&mut self, wake: Wake) {
        self.list[self.len] = wake;
        self.len += 1;
    }

    /// Makes them ready. The caller holds no lock.
    pub(super) fn ready(self) {
        for wake in self.list.into_iter().take(self.len) {
            wake.ready();
        }
    }
}
