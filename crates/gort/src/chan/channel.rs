//! A channel with its messages: plain sends and receives, and the second half of selected ones.
//!
//! # Role
//! Behind `Sender` and `Receiver` of every channel that holds messages. Bounded, unbounded and
//! rendezvous channels (capacity zero) are one implementation: with direct hand-off they differ
//! only in counts.
//!
//! # Protocol
//! Everything happens under the lock. Waiters are made ready after unlocking.
//! - *send*: Is a receiver parked? Copy the message into its slot and end its wait. If that wait
//!   was already over, forget the copy and go on to the next receiver. (For an arm of a `select`,
//!   put the message into the buffer and claim it.) Otherwise, is a place free? Push. Otherwise
//!   park, with the message in a slot of the sender.
//! - *recv*: Is there a message? Pop it, then serve the queues: the message of a parked sender goes
//!   into the free place. With capacity zero, is a sender parked? Copy its message out and end its
//!   wait. Otherwise park with an empty slot.
//!
//! A wait that ended with DONE needs no lock again: the waker had popped the node, and it touched
//! the node for the last time when it ended the wait (`waiters.rs`, invariants 2 and 3). The order of
//! arrival is kept: a message goes to the first receiver in the queue, a place to the first sender,
//! and a later one cannot take it.
//!
//! No user code runs under the lock, and no memory is allocated or freed there (`buffer.rs`).

use super::buffer::{Buffer, LeftOver, Memory, Need};
use super::core::{Core, PLAIN, Patience, Permit, State, UNBOUNDED};
use super::waiters::{DONE, HELD, Outcome, WaitNode, Wakes};
use crate::sched::{self, TIMED_OUT, WaitReason, WaiterRef, Wake};
use crate::sys::lock::Guard;
use crate::sys::sync::{AtomicBool, AtomicUsize, Ordering::*, is_child};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

pub(super) struct Chan<T> {
    pub(super) core: Core,
    /// Under the core's lock.
    buffer: UnsafeCell<Buffer<T>>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// All handles of one side are gone. The other side frees the channel.
    half_gone: AtomicBool,
}

/// Why a message was not sent.
pub(super) enum Refused<T> {
    /// No place within the patience.
    Full(T),
    Disconnected(T),
}

/// Why nothing was received.
pub(super) enum Nothing {
    /// No message within the patience.
    Empty,
    Disconnected,
}

/// The result of an attempt to send, under the lock.
enum Offer {
    Sent(Wake),
    /// Memory is needed first.
    Grow(Need),
    Full,
    Gone,
}

/// The result of an attempt to receive, under the lock.
enum Take<T> {
    Popped(T, LeftOver<T>),
    /// From a sender, which must be made ready.
    Direct(T, Wake),
    /// A select-sender has been told to serve the caller. It must be made ready.
    Meet(Wake),
    Empty,
    Gone,
}

impl<T> Chan<T> {
    pub(super) fn new(cap: usize) -> NonNull<Chan<T>> {
        let buffer = if cap == 0 || cap == UNBOUNDED { Buffer::blocks() } else { Buffer::ring(cap) };
        NonNull::from(Box::leak(Box::new(Chan {
            core: Core::new(cap),
            buffer: UnsafeCell::new(buffer),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            half_gone: AtomicBool::new(false),
        })))
    }

    /// The buffer, for the holder of the lock.
    #[inline]
    #[allow(clippy::mut_from_ref, reason = "the borrow of the lock's guard stands for the exclusive one")]
    fn buffer<'a>(&'a self, _locked: &'a mut Guard<'_, State>) -> &'a mut Buffer<T> {
        // SAFETY: the buffer is used under the lock only, and the guard is borrowed mutably for as
        // long.
        unsafe { &mut *self.buffer.get() }
    }

    /// Tries to send the message in `slot`. If it is sent, it has moved.
    ///
    /// # Safety
    /// `slot` holds a message.
    unsafe fn offer(&self, state: &mut Guard<'_, State>, slot: *const T) -> Offer {
        if state.receivers_gone {
            return Offer::Gone;
        }
        if !state.recvq.is_empty() {
            // SAFETY: the caller's promise.
            if let Some(offer) = unsafe { self.offer_to_receivers(state, slot) } {
                return offer;
            }
        }
        if !state.has_space() {
            return Offer::Full;
        }
        let len = state.len;
        let buffer = self.buffer(state);
        if !buffer.has_room() {
            return Offer::Grow(buffer.need());
        }
        // SAFETY: the caller's promise; it counts the message as moved.
        buffer.push(len, unsafe { slot.read() });
        state.len += 1;
        Offer::Sent(Wake::NONE)
    }

    /// `offer`, if receivers are queued. None: all of them had left, or have to wait.
    ///
    /// # Safety
    /// As `offer`.
    unsafe fn offer_to_receivers(&self, state: &mut Guard<'_, State>, slot: *const T) -> Option<Offer> {
        while let Some(receiver) = state.recvq.front() {
            if !receiver.is_arm() {
                let receiver = state.recvq.pop().expect("it was the front");
                // SAFETY: the receiver's slot is valid while its popped node is in use here
                // (waiters.rs, invariants 2 and 4); if its wait is over, this copy is forgotten.
                unsafe { receiver.slot::<T>().copy_from_nonoverlapping(slot, 1) };
                if let Some(wake) = receiver.serve() {
                    return Some(Offer::Sent(wake));
                }
                continue;
            }
            if state.cap != 0 && !state.has_space() {
                return None; // all messages are claimed: receiver and sender have to wait
            }
            let len = state.len;
            let buffer = self.buffer(state);
            if !buffer.has_room() {
                return Some(Offer::Grow(buffer.need()));
            }
            let receiver = state.recvq.pop().expect("it was the front");
            if let Some(wake) = receiver.serve() {
                // SAFETY: the caller's promise; it counts the message as moved.
                self.buffer(state).push(len, unsafe { slot.read() });
                state.len += 1;
                state.claimed += 1;
                return Some(Offer::Sent(wake));
            }
        }
        None
    }

    /// Sends `message`, waiting as long as `patience` lasts.
    #[inline]
    pub(super) fn send(&self, message: T, patience: Patience) -> Result<(), Refused<T>> {
        sched::checkpoint(patience != Patience::None);
        let mut state = self.core.state.lock();
        // The common case. `offer` would find it last.
        if !state.receivers_gone && state.recvq.is_empty() && state.has_space() {
            let len = state.len;
            let buffer = self.buffer(&mut state);
            if buffer.has_room() {
                buffer.push(len, message);
                state.len += 1;
                let watched = !state.watchers.is_empty();
                self.core.note(&state);
                drop(state);
                if watched {
                    self.core.notify_watchers();
                }
                return Ok(());
            }
        }
        self.send_slow(state, message, patience)
    }

    #[inline(never)]
    fn send_slow<'a>(
        &'a self,
        mut state: Guard<'a, State>,
        message: T,
        patience: Patience,
    ) -> Result<(), Refused<T>> {
        let slot = UnsafeCell::new(MaybeUninit::new(message));
        // SAFETY: called once, if the message has not moved.
        let take_back = || unsafe { slot.get().cast::<T>().read() };
        let mut patient = patience != Patience::None;
        loop {
            let watched = !state.watchers.is_empty();
            // SAFETY: the message has not moved: once it has, this function returns.
            match unsafe { self.offer(&mut state, slot.get().cast()) } {
                Offer::Sent(wake) => {
                    self.core.note(&state);
                    drop(state);
                    wake.ready();
                    if watched {
                        self.core.notify_watchers();
                    }
                    return Ok(());
                }
                Offer::Gone => return Err(Refused::Disconnected(take_back())),
                Offer::Grow(need) => {
                    drop(state);
                    state = self.grow(need);
                }
                Offer::Full if !patient => {
                    drop(state);
                    return Err(Refused::Full(take_back()));
                }
                Offer::Full => {
                    let me = WaiterRef::current();
                    me.arm();
                    let mut here = MaybeUninit::uninit();
                    // SAFETY: the node stays where it is: on every way out of the wait below it has
                    // been popped or is removed, and there is no other wait in between.
                    let node = unsafe { me.place_node(&mut here, WaitNode::new()) };
                    node.enrol(me, PLAIN, slot.get().cast());
                    // SAFETY: as above.
                    unsafe { state.sendq.push(node) };
                    let rendezvous = state.cap == 0;
                    self.core.note(&state);
                    drop(state);
                    if watched && rendezvous {
                        self.core.notify_watchers();
                    }
                    let served = match self.core.wait(me, WaitReason::ChanSend, patience) {
                        DONE => true,
                        PLAIN_HELD => node.wait_held(&self.core.state, WaitReason::ChanSend),
                        TIMED_OUT => {
                            self.core.withdraw(node, |state| &mut state.sendq);
                            patient = false;
                            false
                        }
                        _retry => false,
                    };
                    if served {
                        return Ok(());
                    }
                    state = self.core.state.lock();
                }
            }
        }
    }

    /// Pops the first message. There is one.
    #[inline]
    fn pop(&self, state: &mut Guard<'_, State>) -> (T, LeftOver<T>) {
        let len = state.len;
        let buffer = self.buffer(state);
        // SAFETY: there is a message, and it is forgotten at once.
        let message = unsafe { buffer.front().read() };
        let left_over = buffer.advance(len);
        state.len -= 1;
        (message, left_over)
    }

    /// Tries to receive. `node` and `slot` are used if a select-sender has to serve the caller.
    #[inline]
    fn take(&self, state: &mut Guard<'_, State>, node: &WaitNode, slot: *mut T) -> Take<T> {
        if state.has_message() {
            let (message, left_over) = self.pop(state);
            return Take::Popped(message, left_over);
        }
        if state.cap == 0 && !state.sendq.is_empty() {
            let taken = self.take_from_senders(state, node, slot);
            if !matches!(taken, Take::Empty) {
                return taken;
            }
        }
        if state.senders_gone { Take::Gone } else { Take::Empty }
    }

    fn take_from_senders(&self, state: &mut Guard<'_, State>, node: &WaitNode, slot: *mut T) -> Take<T> {
        while let Some(sender) = state.sendq.pop() {
            if sender.is_arm() {
                let me = WaiterRef::current();
                me.arm();
                if let Some(wake) = sender.serve_with_partner(node, me, slot.cast()) {
                    return Take::Meet(wake);
                }
                continue;
            }
            // SAFETY: the sender's slot is valid while its popped node is in use here; if its wait
            // is over, the copy is forgotten (it is `MaybeUninit`, so it has no drop).
            let message = unsafe { sender.slot::<MaybeUninit<T>>().read() };
            if let Some(wake) = sender.serve() {
                // SAFETY: a sender's slot holds a message, which belongs to the caller now.
                return Take::Direct(unsafe { message.assume_init() }, wake);
            }
        }
        Take::Empty
    }

    /// Receives, waiting as long as `patience` lasts.
    #[inline]
    pub(super) fn recv(&self, patience: Patience) -> Result<T, Nothing> {
        sched::checkpoint(patience != Patience::None);
        self.recv_unchecked(patience)
    }

    /// As [`recv`](Self::recv), without its checkpoint: the caller has passed one.
    #[inline(always)]
    pub(super) fn recv_unchecked(&self, patience: Patience) -> Result<T, Nothing> {
        let mut state = self.core.state.lock();
        if state.has_message() {
            let (message, left_over) = self.pop(&mut state);
            self.changed(state);
            drop(left_over);
            return Ok(message);
        }
        self.recv_slow(state, patience)
    }

    #[inline(never)]
    fn recv_slow<'a>(&'a self, mut state: Guard<'a, State>, patience: Patience) -> Result<T, Nothing> {
        // Used if a select-sender has to serve this receive.
        let meeting = WaitNode::new();
        let slot = UnsafeCell::new(MaybeUninit::<T>::uninit());
        // SAFETY: called once, after a sender has filled the slot and has said so by DONE or
        // Outcome::Done.
        let message = || unsafe { slot.get().cast::<T>().read() };
        let mut patient = patience != Patience::None;
        loop {
            match self.take(&mut state, &meeting, slot.get().cast()) {
                Take::Popped(message, left_over) => {
                    self.changed(state);
                    drop(left_over);
                    return Ok(message);
                }
                Take::Direct(message, wake) => {
                    self.core.note(&state);
                    drop(state);
                    wake.ready();
                    return Ok(message);
                }
                Take::Meet(wake) => {
                    drop(state);
                    wake.ready();
                    if meeting.wait_rearmed(WaitReason::ChanReceive) {
                        return Ok(message());
                    }
                }
                Take::Gone => return Err(Nothing::Disconnected),
                Take::Empty if !patient => return Err(Nothing::Empty),
                Take::Empty => {
                    let me = WaiterRef::current();
                    me.arm();
                    let mut here = MaybeUninit::uninit();
                    // SAFETY: the node stays where it is: on every way out of the wait below it has
                    // been popped or is removed, and there is no other wait in between.
                    let node = unsafe { me.place_node(&mut here, WaitNode::new()) };
                    node.enrol(me, PLAIN, slot.get().cast());
                    // SAFETY: as above.
                    unsafe { state.recvq.push(node) };
                    let watched = state.cap == 0 && !state.watchers.is_empty();
                    drop(state);
                    if watched {
                        self.core.notify_watchers();
                    }
                    let served = match self.core.wait(me, WaitReason::ChanReceive, patience) {
                        DONE => true,
                        PLAIN_HELD => node.wait_held(&self.core.state, WaitReason::ChanReceive),
                        TIMED_OUT => {
                            self.core.withdraw(node, |state| &mut state.recvq);
                            patient = false;
                            false
                        }
                        _retry => false,
                    };
                    if served {
                        return Ok(message());
                    }
                }
            }
            state = self.core.state.lock();
        }
    }

    /// Unlocks after messages or promises have become fewer, and serves the waiters that can go on
    /// now.
    #[inline]
    fn changed(&self, state: Guard<'_, State>) {
        self.core.note(&state);
        if state.sendq.is_empty() && state.watchers.is_empty() {
            return;
        }
        self.changed_slow(state);
    }

    #[cold]
    #[inline(never)]
    fn changed_slow(&self, mut state: Guard<'_, State>) {
        let watched = !state.watchers.is_empty();
        let mut wakes = Wakes::new();
        self.serve(&mut state, &mut wakes);
        self.core.note(&state);
        drop(state);
        let mut more = wakes.is_full();
        wakes.ready();
        while more {
            let mut wakes = Wakes::new();
            self.serve(&mut self.core.state.lock(), &mut wakes);
            more = wakes.is_full();
            wakes.ready();
        }
        if watched {
            self.core.notify_watchers();
        }
    }

    /// Restores invariant 3 of `core.rs`: messages go to queued receivers, places to queued
    /// senders.
    fn serve(&self, state: &mut Guard<'_, State>, wakes: &mut Wakes) {
        while !wakes.is_full() {
            let served = if state.has_message() && !state.recvq.is_empty() {
                self.serve_receiver(state)
            } else if state.has_space() && !state.sendq.is_empty() {
                self.serve_sender(state)
            } else {
                return;
            };
            if let Some(wake) = served {
                wakes.push(wake);
            }
        }
    }

    fn serve_receiver(&self, state: &mut Guard<'_, State>) -> Option<Wake> {
        let receiver = state.recvq.pop()?;
        if receiver.is_arm() {
            let wake = receiver.serve()?;
            state.claimed += 1;
            return Some(wake);
        }
        let len = state.len;
        let buffer = self.buffer(state);
        // SAFETY: there is a message, and the receiver's slot is valid while its popped node is in
        // use here; if its wait is over, this copy is forgotten.
        unsafe { receiver.slot::<T>().copy_from_nonoverlapping(buffer.front(), 1) };
        let wake = receiver.serve()?;
        let left_over = buffer.advance(len);
        state.len -= 1;
        // Receivers are queued while there are messages only in two cases: for the moment in which
        // a promise is given back, and while all messages in a ring are claimed. A ring keeps its
        // memory, so this almost never frees anything.
        drop(left_over);
        Some(wake)
    }

    fn serve_sender(&self, state: &mut Guard<'_, State>) -> Option<Wake> {
        let sender = state.sendq.pop()?;
        if sender.is_arm() {
            let wake = sender.serve()?;
            state.reserved += 1;
            return Some(wake);
        }
        let len = state.len;
        if !self.buffer(state).has_room() {
            return sender.retry(); // it allocates, and pushes by itself
        }
        // SAFETY: the sender's slot is valid while its popped node is in use here; if its wait is
        // over, the copy is forgotten.
        let message = unsafe { sender.slot::<MaybeUninit<T>>().read() };
        let wake = sender.serve()?;
        // SAFETY: a sender's slot holds a message, which belongs to the channel now.
        self.buffer(state).push(len, unsafe { message.assume_init() });
        state.len += 1;
        Some(wake)
    }

    /// Completes a selected send.
    pub(super) fn redeem_send(&self, permit: Permit, message: T) -> Result<(), T> {
        match permit {
            Permit::Space => {
                let slot = UnsafeCell::new(MaybeUninit::new(message));
                let mut state = self.core.state.lock();
                loop {
                    // The promised place counts as free during the attempt, which is one critical
                    // section.
                    state.reserved -= 1;
                    // SAFETY: the slot holds the message: no attempt before this one has sent it.
                    match unsafe { self.offer(&mut state, slot.get().cast()) } {
                        Offer::Sent(wake) => {
                            // If the message went directly to a receiver, the place is for another
                            // sender.
                            self.changed(state);
                            wake.ready();
                            return Ok(());
                        }
                        Offer::Gone => {
                            drop(state);
                            // SAFETY: the message has not moved.
                            return Err(unsafe { slot.into_inner().assume_init() });
                        }
                        Offer::Grow(need) => {
                            state.reserved += 1;
                            drop(state);
                            state = self.grow(need);
                        }
                        Offer::Full => unreachable!("the permit kept a place free"),
                    }
                }
            }
            Permit::Held(receiver) => {
                let mut state = self.core.state.lock();
                let slot = receiver.slot::<T>();
                if slot.is_null() {
                    while !self.buffer(&mut state).has_room() {
                        let need = self.buffer(&mut state).need();
                        drop(state);
                        state = self.grow(need);
                    }
                    let len = state.len;
                    self.buffer(&mut state).push(len, message);
                    state.len += 1;
                    state.claimed += 1;
                } else {
                    // SAFETY: a held receiver keeps its slot valid until it is settled.
                    unsafe { slot.write(message) };
                }
                self.core.settle(state, receiver, Outcome::Done);
                Ok(())
            }
            Permit::Closed => Err(message),
            Permit::Claimed | Permit::Tick(_) => unreachable!("a permit to receive, used to send"),
        }
    }

    /// Allocates what the buffer needs, and locks.
    #[cold]
    fn grow(&self, need: Need) -> Guard<'_, State> {
        let memory = Memory::new(need);
        let mut state = self.core.state.lock();
        let left_over = self.buffer(&mut state).give(memory);
        if left_over.is_some() {
            drop(state);
            drop(left_over);
            state = self.core.state.lock();
        }
        state
    }

    /// Completes a selected receive. None: disconnected.
    pub(super) fn redeem_recv(&self, permit: Permit) -> Option<T> {
        match permit {
            Permit::Claimed => {
                let mut state = self.core.state.lock();
                state.claimed -= 1;
                let (message, left_over) = self.pop(&mut state);
                self.changed(state);
                drop(left_over);
                Some(message)
            }
            Permit::Held(sender) => {
                let state = self.core.state.lock();
                // SAFETY: a held sender keeps its message valid until it is settled; from now on it
                // belongs to the caller.
                let message = unsafe { sender.slot::<T>().read() };
                self.core.note(&state);
                self.core.settle(state, sender, Outcome::Done);
                Some(message)
            }
            Permit::Closed => None,
            Permit::Space | Permit::Tick(_) => unreachable!("a permit to send, used to receive"),
        }
    }

    /// The number of messages. A message that is promised to a `select` counts until it is taken:
    /// it takes a place, and so `is_empty` and `is_full` agree.
    pub(super) fn len(&self) -> usize {
        sched::checkpoint(false);
        let state = self.core.state.lock();
        if state.cap == 0 { 0 } else { state.len }
    }

    pub(super) fn is_full(&self) -> bool {
        sched::checkpoint(false);
        !self.core.state.lock().has_space()
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        let cap = self.core.state.lock().cap;
        (cap != UNBOUNDED).then_some(cap)
    }

    pub(super) fn add_sender(&self) {
        add_handle(&self.senders);
    }

    pub(super) fn add_receiver(&self) {
        add_handle(&self.receivers);
    }

    /// Counts a sender out. In a forked child the channel stays as it is.
    ///
    /// # Safety
    /// The caller owned one of the senders counted, and does not use `this` after.
    pub(super) unsafe fn drop_sender(this: NonNull<Chan<T>>) {
        // SAFETY: the caller's sender has kept the channel alive until here.
        let chan = unsafe { this.as_ref() };
        if chan.senders.fetch_sub(1, AcqRel) == 1 && !is_child() {
            chan.core.close(|state| &mut state.recvq, |state| state.senders_gone = true);
            // SAFETY: the last sender calls this, once.
            unsafe { Chan::half_drop(this) };
        }
    }

    /// Counts a receiver out. The last one drops the messages that are left.
    ///
    /// # Safety
    /// As for `drop_sender`, with receivers.
    pub(super) unsafe fn drop_receiver(this: NonNull<Chan<T>>) {
        // SAFETY: the caller's receiver has kept the channel alive until here.
        let chan = unsafe { this.as_ref() };
        if chan.receivers.fetch_sub(1, AcqRel) == 1 && !is_child() {
            let left = chan.core.close(
                |state| &mut state.sendq,
                |state| {
                    state.receivers_gone = true;
                    chan.take_messages(state)
                },
            );
            // SAFETY: the last receiver calls this, once.
            unsafe { Chan::half_drop(this) };
            if let Some((buffer, len)) = left {
                buffer.drop_all(len);
            }
        }
    }

    fn take_messages(&self, state: &mut Guard<'_, State>) -> Option<(Buffer<T>, usize)> {
        let len = std::mem::take(&mut state.len);
        state.claimed = 0;
        let buffer = self.buffer(state);
        let empty = buffer.empty_like();
        (len > 0).then(|| (std::mem::replace(buffer, empty), len))
    }

    /// One side is done with the channel. The second one to call this frees it.
    ///
    /// # Safety
    /// Called once by each side, as its last use of the channel.
    unsafe fn half_drop(this: NonNull<Chan<T>>) {
        // SAFETY: the second side to call this frees, and this side has not yet said that it is
        // gone.
        if unsafe { this.as_ref() }.half_gone.swap(true, AcqRel) {
            // SAFETY: the channel came from `Box::leak` in `new`, and both sides are done with it.
            // No messages are left: the receivers took them, and after that nothing is pushed.
            drop(unsafe { Box::from_raw(this.as_ptr()) });
        }
    }
}

const PLAIN_HELD: usize = PLAIN + HELD;

fn add_handle(count: &AtomicUsize) {
    // As in Arc: so many handles can only be leaked ones, and the count must not wrap.
    if count.fetch_add(1, Relaxed) > isize::MAX as usize {
        std::process::abort();
    }
}
