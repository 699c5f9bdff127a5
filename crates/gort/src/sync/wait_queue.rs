//! The wait queue of every lock in this folder: first come, first served. A node lies in the
//! waiter's descriptor, or on the stack of an OS thread.
//!
//! # Role
//! Each lock keeps a [`WaitQueue`] beside whatever else its raw [`Lock`] guards. [`park`] puts the
//! caller into the queue. [`WaitQueue::wake_one`] and [`WaitQueue::wake_all`] take waiters out and
//! give them a token.
//!
//! # Invariants
//! 1. A node is linked only while its owner is inside [`park`]. Links are read and written under
//!    the queue's lock.
//! 2. A waker first takes the node out. Selecting it is the last thing that the waker does with it,
//!    unless the waiter was parked and so cannot run before its `ready` (waiter.rs, invariant 4).
//! 3. A waiter that was ended in another way (deadline, [`Interrupt`](super::interrupt::Interrupt))
//!    passes the queue's lock and unlinks itself before it leaves [`park`]. So a linked node is
//!    alive.
//!
//! # Why no wake-up is lost
//! The caller of [`park`] has checked the lock's state under the queue's lock, and is linked before
//! that lock is dropped. Wakers change the state and look at the queue under the same lock. A
//! waiter that was selected before it parked does not park (waiter.rs).
//!
//! # Rejected
//! - Go's global table of queues by address: it keeps locks small, but then unrelated locks share a
//!   raw lock.
//! - A vector of wakes for `wake_all`: memory would be allocated under a raw lock, and the parked
//!   nodes are a list already.

use crate::sched::{FIRST_TOKEN, Lent, TIMED_OUT, WaitReason, WaiterRef, Wake};
use crate::sys::lock::{Guard, Lock};
use crate::sys::wait_list::{self, Links, WaitList};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::time::Instant;

/// The waiter owns what it waited for.
pub(crate) const GRANTED: usize = FIRST_TOKEN;
/// Look again: it may be free.
pub(crate) const RETRY: usize = FIRST_TOKEN + 1;
/// The wait was ended from outside the queue.
pub(crate) const INTERRUPTED: usize = FIRST_TOKEN + 2;

/// One waiter in a queue.
pub(crate) struct Node {
    waiter: WaiterRef,
    /// A note for the queue's owner: permits wanted, or since when it waits.
    pub(crate) note: u64,
    links: Links<Node>,
    /// The `ready` that is owed to a node that was selected while parked, until [`Wakes::ready`]
    /// pays it.
    wake: Cell<Wake>,
}

/// Waiters in the order of their arrival. Guarded by the lock it lives in.
pub(crate) struct WaitQueue {
    nodes: WaitList<Node>,
    len: usize,
}

impl wait_list::Node for Node {
    fn links(&self) -> &Links<Node> {
        &self.links
    }
}

/// Which end of the queue a waiter joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// Before all others: it has been first before.
    Front,
    /// After all others.
    Back,
}

impl WaitQueue {
    pub(crate) const fn new() -> WaitQueue {
        WaitQueue { nodes: WaitList::new(), len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The note of the first waiter.
    pub(crate) fn front_note(&self) -> Option<u64> {
        self.nodes.front().map(|node| node.note)
    }

    /// Takes waiters out until one could be selected with `token`. `None` if none could.
    pub(crate) fn wake_one(&mut self, token: usize) -> Option<Wake> {
        while let Some(node) = self.pop_front() {
            if let Some(wake) = node.waiter.try_select(token) {
                return Some(wake);
            }
        }
        None
    }

    /// Takes all waiters out and selects them with `token`.
    pub(crate) fn wake_all(&mut self, token: usize) -> Wakes {
        let mut wakes = Wakes::new();
        while let Some(node) = self.pop_front() {
            if let Some(wake) = node.waiter.try_select(token) {
                wakes.push(node, wake);
            }
        }
        wakes
    }

    /// Takes the first waiter out and selects it with `token`. The wake goes to `wakes`. False if
    /// the wait had already ended in another way.
    pub(crate) fn wake_front(&mut self, token: usize, wakes: &mut Wakes) -> bool {
        let Some(node) = self.pop_front() else { return false };
        let Some(wake) = node.waiter.try_select(token) else { return false };
        wakes.push(node, wake);
        true
    }

    /// Takes the first node out. Its waiter's word is copied before it is selected: after that the
    /// node may be gone, unless the waiter was parked (invariant 2).
    fn pop_front<'a>(&mut self) -> Option<&'a Node> {
        let node = self.nodes.pop_front()?;
        self.len -= 1;
        Some(node)
    }

    /// # Safety
    /// Until `node` is unlinked it stays alive, and where it is.
    unsafe fn link(&mut self, node: &Node, end: End) {
        match end {
            // SAFETY: the caller's promise.
            End::Front => unsafe { self.nodes.push_front(node) },
            // SAFETY: the caller's promise.
            End::Back => unsafe { self.nodes.push_back(node) },
        }
        self.len += 1;
    }

    /// Takes `node` out if it is in the queue.
    fn unlink(&mut self, node: &Node) -> bool {
        let was_linked = self.nodes.remove(node);
        self.len -= usize::from(was_linked);
        was_linked
    }
}

/// Waiters that were selected and must be made ready, once the queue's lock is dropped.
#[must_use = "waiters that were selected sleep for ever if nothing makes them ready"]
pub(crate) struct Wakes {
    /// Parked nodes. They cannot run before their `ready`, so they are alive.
    nodes: WaitList<Node>,
}

impl Wakes {
    pub(crate) fn new() -> Wakes {
        Wakes { nodes: WaitList::new() }
    }

    /// Keeps `wake`, which ends the wait of `node`.
    fn push(&mut self, node: *const Node, wake: Wake) {
        if wake.is_none() {
            return; // it had not parked, so its node may be gone already
        }
        // SAFETY: the waiter was parked and is not ready yet, so its node is alive (waiter.rs,
        // invariant 4), and stays so until `ready` takes it out.
        unsafe {
            (*node).wake.set(wake);
            self.nodes.push_back(&*node);
        }
    }

    /// Makes them ready, in the order of their arrival.
    pub(crate) fn ready(mut self) {
        while let Some(node) = self.nodes.pop_front() {
            node.wake.replace(Wake::NONE).ready();
        }
    }
}

/// How a wait ended.
pub(crate) enum Ended<'a, S> {
    /// A waker of the queue chose this token.
    Selected(usize),
    /// The deadline or an interrupt ended it. The caller is out of the queue and holds its lock
    /// again. `taken_out`: a waker had taken it out of the queue, but came too late to select it.
    Left { guard: Guard<'a, S>, taken_out: bool },
}

/// The parameters of a wait.
pub(crate) struct Wait {
    pub(crate) end: End,
    pub(crate) note: u64,
    pub(crate) reason: WaitReason,
    pub(crate) deadline: Option<Instant>,
}

/// Parks the caller in `queue`, which is guarded by `lock`, and drops `guard`.
///
/// `before_sleep` runs when the caller is in the queue and the lock is dropped. It must not park.
pub(crate) fn park<'a, S>(
    lock: &'a Lock<S>,
    mut guard: Guard<'a, S>,
    queue: impl Fn(&mut S) -> &mut WaitQueue,
    wait: Wait,
    before_sleep: impl FnOnce(WaiterRef),
) -> Ended<'a, S> {
    let waiter = WaiterRef::current();
    waiter.arm();
    let node = Node { waiter, note: wait.note, links: Links::new(), wake: Cell::new(Wake::NONE) };
    let mut here = MaybeUninit::uninit();
    // SAFETY: from here to the end of this function the node stays where it is, and on every way
    // out it is unlinked: a waker of the queue unlinks before selecting, and for all other tokens
    // this function does. There is no other wait in between.
    let node = unsafe { waiter.place_node(&mut here, node) };
    // SAFETY: as above.
    unsafe { queue(&mut guard).link(node, wait.end) };
    drop(guard);
    before_sleep(waiter);
    let token = match wait.deadline {
        None => waiter.wait_swappable(wait.reason, Lent::Nothing),
        deadline => waiter.wait(wait.reason, deadline),
    };
    if token != TIMED_OUT && token != INTERRUPTED {
        return Ended::Selected(token);
    }
    let mut guard = lock.lock();
    let taken_out = !queue(&mut guard).unlink(node);
    Ended::Left { guard, taken_out }
}
