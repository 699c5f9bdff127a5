//! `select`: completes one of several operations, chosen when it is ready.
//!
//! # Role
//! [`run`] is the algorithm. It works on a slice of [`Arm`]s that the caller keeps in place: the
//! array of a `select!`, or the vector of a dynamic [`Select`]. It commits to one arm and returns
//! the permit (`core.rs`). The message moves later, in [`Committed`].
//!
//! # Protocol
//! A `select!` that only receives begins with a plain receive on one arm, chosen at random among
//! those where something is likely to be found ([`likely`]). If that gives nothing, or for any
//! other `select`:
//!
//! 0. Look at the arms one after the other, in random order (biased: in the given order). Pass over
//!    those where nothing is likely to be received. Lock the channel of each other one, and commit
//!    to the first arm that is ready. Where several are ready, this saves the other locks.
//! 1. Lock all channels involved, each once, in the order of their addresses (`Lock::rank`).
//! 2. In random order (biased: in the given order), check whether an arm can be committed to. If
//!    so: unlock, done. This is one atomic look at all channels, so `default` is never taken while
//!    something is ready.
//! 3. Otherwise enrol in all queues, unlock, and wait until another goroutine or thread commits to
//!    one of the arms, a timer arm is due, or the deadline passes.
//! 4. Remove all nodes from the queues, each under its channel's lock. The token says which arm was
//!    served.
//!
//! The waiter's word makes the choice: to serve an arm, the server must win the word
//! (`try_select`), and only one can. A loser has popped the node and goes on to the next waiter.
//! Why nothing is lost: see `core.rs` (what a served arm owns) and `waiters.rs` (rendezvous without a
//! buffer).
//!
//! # Rejected
//! Only trying the arms one after another, and again after each wake-up, as crossbeam does. It is
//! not atomic: `default` could be taken while something is ready all the time, and a woken `select`
//! may find that another one was faster.

use super::core::{Commit, Core, Patience, Permit};
use super::error::{
    ReadyTimeoutError, RecvError, SelectTimeoutError, SendError, TryReadyError, TrySelectError,
};
use super::timer::TimerChan;
use super::waiters::{FIRST_ARM, HELD, RETRY, WaitNode};
use super::{Receiver, Sender};
use crate::sched::{self, TIMED_OUT, WaitReason, WaiterRef};
use crate::sys::lock::{Guard, Lock};
use crate::sys::rng::Rng;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::time::{Duration, Instant};

/// One operation of a `select`.
#[doc(hidden)]
pub struct Arm<'a> {
    target: Target<'a>,
    index: usize,
    /// The address of the sender or receiver. The operation must be completed with the same one.
    handle: *const (),
    node: WaitNode,
}

/// What an arm operates on.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Send(&'a Core),
    Recv(&'a Core),
    Timer(&'a TimerChan),
    Never,
}

impl<'a> Arm<'a> {
    /// The arm that sends to `s`.
    pub fn send<T>(s: &'a Sender<T>, index: usize) -> Arm<'a> {
        Arm { target: s.target(), index, handle: ptr::from_ref(s).cast(), node: WaitNode::new() }
    }

    /// The arm that receives from `r`.
    pub fn recv<T>(r: &'a Receiver<T>, index: usize) -> Arm<'a> {
        Arm { target: r.target(), index, handle: ptr::from_ref(r).cast(), node: WaitNode::new() }
    }

    /// This arm, if its guard is true. Otherwise it is never ready.
    #[inline]
    pub fn only_if(self, on: bool) -> Arm<'a> {
        if on { self } else { Arm { target: Target::Never, ..self } }
    }

    /// The rank of the arm's lock, by which locks are told apart. Zero: the arm has no lock.
    fn rank(&self) -> usize {
        match self.target {
            Target::Send(core) | Target::Recv(core) => core.state.rank(),
            Target::Timer(timer) => timer.state.rank(),
            Target::Never => 0,
        }
    }

    fn lock(&self) {
        match self.target {
            Target::Send(core) | Target::Recv(core) => mem::forget(core.state.lock()),
            Target::Timer(timer) => mem::forget(timer.state.lock()),
            Target::Never => {}
        }
    }

    /// # Safety
    /// `run` holds the lock, taken by `lock`.
    unsafe fn unlock(&self) {
        // SAFETY: the caller's promise; dropping the guard gives the lock back.
        unsafe {
            match self.target {
                Target::Send(core) | Target::Recv(core) => drop(core.state.assume_locked()),
                Target::Timer(timer) => drop(timer.state.assume_locked()),
                Target::Never => {}
            }
        }
    }

    /// Commits to this arm, if it is ready.
    ///
    /// # Safety
    /// `run` holds the arm's lock.
    unsafe fn commit(&self) -> Option<Commit> {
        // SAFETY: the caller's promise.
        unsafe {
            match self.target {
                Target::Send(core) => held(&core.state).commit_send().map(Commit::Now),
                Target::Recv(core) => held(&core.state).commit_recv(&self.node),
                Target::Timer(timer) => {
                    let moment = held(&timer.state).take(Instant::now())?;
                    Some(Commit::Now(Permit::Tick(moment)))
                }
                Target::Never => None,
            }
        }
    }

    /// Whether the operation would not wait.
    ///
    /// # Safety
    /// `run_ready` holds the arm's lock.
    unsafe fn is_ready(&self) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            match self.target {
                Target::Send(core) => held(&core.state).send_ready(),
                Target::Recv(core) => held(&core.state).recv_ready(),
                Target::Timer(timer) => held(&timer.state).is_due(Instant::now()),
                Target::Never => false,
            }
        }
    }

    /// When the arm becomes ready by time alone.
    ///
    /// # Safety
    /// `run` holds the arm's lock.
    unsafe fn due(&self) -> Option<Instant> {
        match self.target {
            // SAFETY: the caller's promise.
            Target::Timer(timer) => unsafe { held(&timer.state).due() },
            _ => None,
        }
    }

    /// Enrols the arm to be served, with the token of position `position`. True: watchers must be
    /// told.
    ///
    /// # Safety
    /// `run` holds the arm's lock, keeps the arm in place, and calls `withdraw` before it lets go
    /// of it.
    unsafe fn enrol(&self, me: WaiterRef, position: usize) -> bool {
        self.node.enrol(me, FIRST_ARM + 2 * position, ptr::null_mut());
        // SAFETY: the caller's promise.
        unsafe {
            match self.target {
                Target::Send(core) => {
                    let state = &mut *held(&core.state);
                    state.sendq.push(&self.node);
                    core.note(state);
                    state.cap == 0 && !state.watchers.is_empty()
                }
                Target::Recv(core) => {
                    let state = &mut *held(&core.state);
                    state.recvq.push(&self.node);
                    state.cap == 0 && !state.watchers.is_empty()
                }
                Target::Timer(timer) => {
                    held(&timer.state).watchers.push(&self.node);
                    false
                }
                Target::Never => false,
            }
        }
    }

    /// Enrols to be told of changes.
    ///
    /// # Safety
    /// As `enrol`, with `unwatch`.
    unsafe fn watch(&self, me: WaiterRef) {
        self.node.enrol(me, RETRY, ptr::null_mut());
        // SAFETY: the caller's promise.
        unsafe {
            match self.target {
                Target::Send(core) | Target::Recv(core) => held(&core.state).watchers.push(&self.node),
                Target::Timer(timer) => held(&timer.state).watchers.push(&self.node),
                Target::Never => {}
            }
        }
    }

    fn withdraw(&self) {
        match self.target {
            Target::Send(core) => core.state.lock().sendq.remove(&self.node),
            Target::Recv(core) => core.state.lock().recvq.remove(&self.node),
            Target::Timer(timer) => timer.state.lock().watchers.remove(&self.node),
            Target::Never => {}
        }
    }

    fn unwatch(&self) {
        match self.target {
            Target::Send(core) | Target::Recv(core) => core.state.lock().watchers.remove(&self.node),
            Target::Timer(timer) => timer.state.lock().watchers.remove(&self.node),
            Target::Never => {}
        }
    }

    /// What the wait that ended with this arm's token brought. None: nothing, look again.
    fn served(&self, with: usize) -> Option<Permit> {
        let (core, sending) = match self.target {
            Target::Send(core) => (core, true),
            Target::Recv(core) => (core, false),
            Target::Timer(_) | Target::Never => return None, // never served: they look
        };
        if with != HELD {
            return Some(Permit::served(&self.node, sending));
        }
        // Only receivers are held: a select-sender is served its partner.
        self.node.wait_held(&core.state, WaitReason::Select).then_some(Permit::Claimed)
    }

    fn selected(&self, permit: Permit) -> Selected {
        let core = match self.target {
            Target::Send(core) | Target::Recv(core) => ptr::from_ref(core),
            Target::Timer(_) | Target::Never => ptr::null(),
        };
        Selected { permit, index: self.index, handle: self.handle, core }
    }
}

/// The state behind a lock that `run` holds. Dropping the result does not unlock.
///
/// # Safety
/// The lock is held by `Arm::lock`, and nothing else refers to what is behind it.
unsafe fn held<T>(lock: &Lock<T>) -> ManuallyDrop<Guard<'_, T>> {
    // SAFETY: the caller's promise.
    ManuallyDrop::new(unsafe { lock.assume_locked() })
}

/// The arms of one call, with the order in which to look at them and the order in which to lock
/// them.
struct Arms<'r, 'a> {
    arms: &'r [Arm<'a>],
    /// The first `drawn` are in the order in which arms are chosen. The rest is still to be
    /// shuffled.
    look: &'r mut [u32],
    drawn: usize,
    /// Once `sorted`, in the order of locks. The first look does not need that.
    lock: &'r mut [u32],
    sorted: bool,
}

impl<'r, 'a> Arms<'r, 'a> {
    /// `order` is scratch space: two entries for each arm.
    fn new(arms: &'r mut [Arm<'a>], order: &'r mut [u32], biased: bool) -> Arms<'r, 'a> {
        let arms = &*arms;
        let (look, lock) = order.split_at_mut(arms.len());
        for (i, (look, lock)) in look.iter_mut().zip(lock.iter_mut()).enumerate() {
            (*look, *lock) = (i as u32, i as u32);
        }
        let drawn = if biased { look.len() } else { 0 };
        Arms { arms, look, drawn, lock, sorted: false }
    }

    /// The position of the `nth` arm to look at. All before it have been drawn.
    ///
    /// The first one is drawn alone, because it is often ready.
    #[inline]
    fn draw(&mut self, nth: usize) -> usize {
        if nth == self.drawn {
            self.drawn = if nth == 0 { 1 } else { self.look.len() };
            shuffle(&mut self.look[nth..], self.drawn - nth);
        }
        self.look[nth] as usize
    }

    /// The arms in the order in which to choose; after `lock_all`.
    fn looking(&self) -> impl Iterator<Item = &'r Arm<'a>> {
        debug_assert_eq!(self.drawn, self.look.len());
        self.look.iter().map(|&i| &self.arms[i as usize])
    }

    /// One arm of each channel, in the order of locks.
    fn locking(&self) -> impl Iterator<Item = &'r Arm<'a>> {
        let mut last = 0;
        self.lock.iter().map(|&i| &self.arms[i as usize]).filter(move |arm| {
            let rank = arm.rank();
            mem::replace(&mut last, rank) != rank
        })
    }

    /// Step 0 of the protocol.
    fn first_look(&mut self) -> Option<(&'r Arm<'a>, Commit)> {
        (0..self.arms.len()).find_map(|nth| {
            let arm = &self.arms[self.draw(nth)];
            if let Target::Recv(core) = arm.target
                && !core.may_recv()
            {
                return None;
            }
            arm.lock();
            // SAFETY: the arm is locked.
            unsafe {
                let commit = arm.commit();
                if let Target::Recv(core) = arm.target {
                    core.note(&held(&core.state));
                }
                arm.unlock();
                Some((arm, commit?))
            }
        })
    }

    fn lock_all(&mut self) {
        while self.drawn < self.arms.len() {
            self.draw(self.drawn);
        }
        if !self.sorted {
            self.lock.sort_unstable_by_key(|&i| self.arms[i as usize].rank());
            self.sorted = true;
        }
        self.locking().for_each(Arm::lock);
    }

    /// # Safety
    /// `lock_all` was called before.
    unsafe fn unlock_all(&self) {
        // SAFETY: the caller's promise.
        self.locking().for_each(|arm| unsafe { arm.unlock() });
    }

    /// The earliest of the end of `patience` and the times of the timer arms.
    ///
    /// # Safety
    /// The caller is between `lock_all` and `unlock_all`.
    unsafe fn deadline(&self, patience: Patience) -> Option<Instant> {
        // SAFETY: the caller's promise.
        self.arms.iter().filter_map(|arm| unsafe { arm.due() }).chain(patience.deadline()).min()
    }
}

/// Commits to one of `arms`, waiting as long as `patience` lasts.
///
/// `order` is scratch space: two entries for each arm.
#[doc(hidden)]
pub fn run(arms: &mut [Arm<'_>], order: &mut [u32], patience: Patience, biased: bool) -> Option<Selected> {
    if arms.is_empty() {
        wait_for_nothing(patience);
        return None;
    }
    sched::checkpoint(patience != Patience::None);
    let mut arms = Arms::new(arms, order, biased);
    let mut over = patience == Patience::None;
    loop {
        let mut found = arms.first_look();
        let locked = found.is_none();
        if locked {
            arms.lock_all();
            // SAFETY: all arms are locked.
            found = arms.looking().find_map(|arm| Some((arm, unsafe { arm.commit() }?)));
        }
        if found.is_some() || over {
            if locked {
                // SAFETY: they are locked.
                unsafe { arms.unlock_all() };
            }
            match found {
                None => return None,
                Some((arm, Commit::Now(permit))) => return Some(arm.selected(permit)),
                Some((arm, Commit::Meet(wake))) => {
                    wake.ready();
                    if arm.node.wait_rearmed(WaitReason::Select) {
                        return Some(arm.selected(Permit::Claimed));
                    }
                    continue;
                }
            }
        }
        let me = WaiterRef::current();
        me.arm();
        let mut watched = false;
        // In the order of choice, because of several arms on one channel the first in the queue is
        // served.
        for &position in &*arms.look {
            let position = position as usize;
            // SAFETY: all arms are locked, are borrowed for all of this call, and withdraw below.
            watched |= unsafe { arms.arms[position].enrol(me, position) };
        }
        // SAFETY: all arms are locked.
        let deadline = unsafe { arms.deadline(patience) };
        // SAFETY: they are locked.
        unsafe { arms.unlock_all() };
        if watched {
            for arm in arms.arms {
                if let Target::Send(core) | Target::Recv(core) = arm.target {
                    core.notify_watchers();
                }
            }
        }
        let token = me.wait(WaitReason::Select, deadline);
        arms.arms.iter().for_each(Arm::withdraw);
        if token == RETRY || token == TIMED_OUT {
            over = patience.is_over();
            continue;
        }
        let arm = &arms.arms[(token - FIRST_ARM) / 2];
        if let Some(permit) = arm.served((token - FIRST_ARM) % 2) {
            return Some(arm.selected(permit));
        }
    }
}

/// As `run`, but only says which operation is ready.
fn run_ready(arms: &mut [Arm<'_>], order: &mut [u32], patience: Patience, biased: bool) -> Option<usize> {
    sched::checkpoint(patience != Patience::None);
    if arms.is_empty() {
        wait_for_nothing(patience);
        return None;
    }
    let mut arms = Arms::new(arms, order, biased);
    let mut over = patience == Patience::None;
    loop {
        arms.lock_all();
        // SAFETY: all arms are locked.
        let found = arms.looking().find(|arm| unsafe { arm.is_ready() });
        if found.is_some() || over {
            // SAFETY: they are locked.
            unsafe { arms.unlock_all() };
            return found.map(|arm| arm.index);
        }
        let me = WaiterRef::current();
        me.arm();
        for arm in arms.arms {
            // SAFETY: all arms are locked, are borrowed for all of this call, and unwatch below.
            unsafe { arm.watch(me) };
        }
        // SAFETY: all arms are locked.
        let deadline = unsafe { arms.deadline(patience) };
        // SAFETY: they are locked.
        unsafe { arms.unlock_all() };
        me.wait(WaitReason::Select, deadline);
        arms.arms.iter().for_each(Arm::unwatch);
        over = patience.is_over();
    }
}

fn wait_for_nothing(patience: Patience) {
    while !patience.is_over() {
        let me = WaiterRef::current();
        me.arm();
        me.wait(WaitReason::SelectNoCases, patience.deadline());
    }
}

/// Chooses the first `n` of `order` at random from all of it.
fn shuffle(order: &mut [u32], n: usize) {
    with_rng(|rng| {
        for i in 0..n {
            order.swap(i, i + rng.below((order.len() - i) as u32) as usize);
        }
    });
}

/// Not inlined: the address of a thread-local must not be kept across a park.
#[inline(never)]
fn with_rng<R>(f: impl FnOnce(&mut Rng) -> R) -> R {
    thread_local! {
        static RNG: Cell<Option<Rng>> = const { Cell::new(None) };
    }
    RNG.with(|cell| {
        let mut rng = cell.get().unwrap_or_else(|| {
            Rng::new(crate::sys::clock::now_ns() ^ (ptr::from_ref(cell).addr() as u64) << 20)
        });
        let result = f(&mut rng);
        cell.set(Some(rng));
        result
    })
}

/// Whether something is likely to be found at an arm that receives.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    Unlikely,
    Likely,
    /// To know it takes a look at the clock.
    Unknown,
}

impl Hint {
    /// Of an arm with this guard.
    #[inline]
    pub fn only_if(self, on: bool) -> Hint {
        if on { self } else { Hint::Unlikely }
    }
}

/// Which arm a `select!` that only receives tries alone, before it sets up what a wait needs.
///
/// It is one of those where something is likely to be found, each with the same probability
/// (biased: the first of them). `None` if there is no such arm, or if an arm is `Unknown`: that one
/// must not be passed over for the others.
#[doc(hidden)]
#[inline]
pub fn likely<const N: usize>(hints: [Hint; N], patience: Patience, biased: bool) -> Option<usize> {
    let of =
        |hint| hints.iter().enumerate().fold(0u64, |all, (i, &h)| all | u64::from(h == hint) << (i % 64));
    let mut ready = of(Hint::Likely);
    if ready == 0 || N > 64 || of(Hint::Unknown) != 0 {
        return None;
    }
    sched::checkpoint(patience != Patience::None);
    if !biased && !ready.is_power_of_two() {
        for _ in 0..with_rng(|rng| rng.below(ready.count_ones())) {
            ready &= ready - 1;
        }
    }
    Some(ready.trailing_zeros() as usize)
}

/// A sender or a receiver, as an operand of `select!`.
#[doc(hidden)]
pub trait Handle {
    /// Where a `select!` keeps what it has received before its arms were set up, until the body
    /// gets it.
    type Slot: Default;
}

impl<T> Handle for Receiver<T> {
    type Slot = Option<Result<T, RecvError>>;
}

impl<T> Handle for Sender<T> {
    type Slot = ();
}

#[doc(hidden)]
pub fn slot<H: Handle>(_: &H) -> H::Slot {
    H::Slot::default()
}

/// An arm that was committed to, without a lifetime that ties it to its channel. The macro adds
/// that by `begin`.
#[doc(hidden)]
#[must_use]
pub struct Selected {
    permit: Permit,
    index: usize,
    handle: *const (),
    core: *const Core,
}

impl Selected {
    /// The arm `index` was chosen, and its operation is complete.
    pub fn completed(index: usize) -> Selected {
        Selected { permit: Permit::Closed, index, handle: ptr::null(), core: ptr::null() }
    }

    /// The arm's index.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Ties it to the lifetime of its sender or receiver.
    pub fn begin<H>(self, handle: &H) -> Committed<'_> {
        assert!(ptr::eq(self.handle, ptr::from_ref(handle).cast()), "begun with another handle");
        self.bind()
    }

    fn bind<'a>(self) -> Committed<'a> {
        Committed { selected: ManuallyDrop::new(self), handles: PhantomData }
    }
}

/// The right to complete an operation, and the duty.
///
/// If it is dropped, the right is given back: the message expression of a `select!` has panicked or
/// left.
#[doc(hidden)]
pub struct Committed<'a> {
    selected: ManuallyDrop<Selected>,
    handles: PhantomData<&'a ()>,
}

impl Committed<'_> {
    fn redeem<H>(self, handle: &H, what: &str) -> Permit {
        let same = ptr::eq(self.selected.handle, ptr::from_ref(handle).cast());
        assert!(same, "passed a {what} that wasn't selected");
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once, because `this` is not dropped.
        unsafe { ManuallyDrop::take(&mut this.selected) }.permit
    }

    /// Completes the send.
    pub fn send<T>(self, s: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        let permit = self.redeem(s, "sender");
        s.chan().redeem_send(permit, message).map_err(SendError)
    }

    /// Completes the receive.
    pub fn recv<T>(self, r: &Receiver<T>) -> Result<T, RecvError> {
        r.redeem(self.redeem(r, "receiver"))
    }
}

impl Drop for Committed<'_> {
    fn drop(&mut self) {
        // SAFETY: taken once: this is the drop, and `redeem` prevents the drop.
        let selected = unsafe { ManuallyDrop::take(&mut self.selected) };
        // SAFETY: the channel is alive, because its handle is borrowed for as long as this value.
        if let Some(core) = unsafe { selected.core.as_ref() } {
            core.abandon(selected.permit);
        }
    }
}

/// Waits for one of a set of operations that is put together at run time.
///
/// First add operations with [`send`](Select::send) and [`recv`](Select::recv); each gets an index.
/// Then there are two ways to use the set:
///
/// - [`try_select`](Select::try_select), [`select`](Select::select) and
///   [`select_timeout`](Select::select_timeout) choose an operation. It must then be completed by
///   [`SelectedOperation::send`] or [`SelectedOperation::recv`].
/// - [`try_ready`](Select::try_ready), [`ready`](Select::ready) and
///   [`ready_timeout`](Select::ready_timeout) only say which operation is ready. Another goroutine
///   may be faster, so it need not be ready any more when it is tried.
///
/// An operation on a disconnected channel is ready: it completes with an error.
///
/// If the set is known when the program is written, [`select!`](crate::select!) is easier to use.
///
/// # Examples
///
/// ```
/// use gort::chan::{Receiver, RecvError, Select, unbounded};
///
/// /// Receives from the first receiver that has something.
/// fn recv_any<T>(rs: &[Receiver<T>]) -> Result<T, RecvError> {
///     let mut select = Select::new();
///     for r in rs {
///         select.recv(r);
///     }
///     let oper = select.select();
///     let index = oper.index();
///     oper.recv(&rs[index])
/// }
///
/// gort::run(|| {
///     let (s1, r1) = unbounded();
///     let (_s2, r2) = unbounded();
///     gort::go(move || s1.send("hello").unwrap());
///     assert_eq!(recv_any(&[r1, r2]), Ok("hello"));
/// })
/// ```
pub struct Select<'a> {
    arms: Vec<Arm<'a>>,
    order: Vec<u32>,
    next_index: usize,
    biased: bool,
}

// SAFETY: the arms refer to channels, which may be used from any thread; their nodes are linked
// only inside calls that borrow the `Select` mutably; the handles are only compared.
unsafe impl Send for Select<'_> {}
// SAFETY: as above; a shared reference only allows to clone.
unsafe impl Sync for Select<'_> {}

impl<'a> Select<'a> {
    /// Creates an empty set that chooses at random among the operations that are ready.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     s.send(1).unwrap();
    ///     let mut select = Select::new();
    ///     select.recv(&r);
    ///     assert_eq!(select.select().recv(&r), Ok(1));
    /// })
    /// ```
    pub fn new() -> Select<'a> {
        Select { arms: Vec::new(), order: Vec::new(), next_index: 0, biased: false }
    }

    /// Creates an empty set that chooses, among the operations that are ready, the one that was
    /// added first.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s1, r1) = unbounded();
    ///     let (s2, r2) = unbounded();
    ///     s1.send(1).unwrap();
    ///     s2.send(2).unwrap();
    ///     let mut select = Select::new_biased();
    ///     select.recv(&r1);
    ///     select.recv(&r2);
    ///     assert_eq!(select.select().recv(&r1), Ok(1));
    /// })
    /// ```
    pub fn new_biased() -> Select<'a> {
        Select { biased: true, ..Select::new() }
    }

    fn add(&mut self, arm: impl FnOnce(usize) -> Arm<'a>) -> usize {
        let index = self.next_index;
        self.arms.push(arm(index));
        self.order.extend([0, 0]);
        self.next_index += 1;
        index
    }

    /// Adds a send to `s` and returns its index.
    ///
    /// Indices count from zero. The message is given when the operation is completed.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     let mut select = Select::new();
    ///     assert_eq!(select.send(&s), 0);
    ///     select.select().send(&s, "hello").unwrap();
    ///     assert_eq!(r.recv(), Ok("hello"));
    /// })
    /// ```
    pub fn send<T>(&mut self, s: &'a Sender<T>) -> usize {
        self.add(|index| Arm::send(s, index))
    }

    /// Adds a receive from `r` and returns its index.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, never, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     let other = never::<i32>();
    ///     s.send(1).unwrap();
    ///     let mut select = Select::new();
    ///     assert_eq!((select.recv(&other), select.recv(&r)), (0, 1));
    ///     let oper = select.select();
    ///     assert_eq!(oper.index(), 1);
    ///     assert_eq!(oper.recv(&r), Ok(1));
    /// })
    /// ```
    pub fn recv<T>(&mut self, r: &'a Receiver<T>) -> usize {
        self.add(|index| Arm::recv(r, index))
    }

    /// Removes the operation `index`. The indices of the others stay as they are.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If no operation was ever added with that index, or if it was removed before.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s1, r1) = unbounded();
    ///     let (s2, r2) = unbounded();
    ///     s1.send(1).unwrap();
    ///     s2.send(2).unwrap();
    ///     let mut select = Select::new();
    ///     let first = select.recv(&r1);
    ///     let second = select.recv(&r2);
    ///     select.remove(first);
    ///     assert_eq!(select.ready(), second);
    /// })
    /// ```
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.next_index, "index out of bounds; {index} >= {}", self.next_index);
        let position = self.arms.iter().position(|arm| arm.index == index);
        self.arms.remove(position.expect("no operation with this index"));
        self.order.truncate(2 * self.arms.len());
    }

    fn run(&mut self, patience: Patience) -> Option<SelectedOperation<'a>> {
        let selected = run(&mut self.arms, &mut self.order, patience, self.biased)?;
        Some(SelectedOperation(Some(selected.bind())))
    }

    fn run_ready(&mut self, patience: Patience) -> Option<usize> {
        run_ready(&mut self.arms, &mut self.order, patience, self.biased)
    }

    fn assert_not_empty(&self) {
        assert!(!self.arms.is_empty(), "no operations have been added to `Select`");
    }

    /// Chooses an operation that is ready, without waiting.
    ///
    /// # Blocking
    ///
    /// G: no, with one exception: a receive on a channel of capacity zero may meet a `select!` or
    /// another `Select` that sends. Then this waits until that one has made its message. M: no. P:
    /// no.
    ///
    /// # Errors
    ///
    /// [`TrySelectError`] if no operation is ready.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     let mut select = Select::new();
    ///     select.recv(&r);
    ///     assert!(select.try_select().is_err());
    ///     s.send(1).unwrap();
    ///     assert_eq!(select.try_select().unwrap().recv(&r), Ok(1));
    /// })
    /// ```
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.run(Patience::None).ok_or(TrySelectError)
    }

    /// Waits until an operation is ready, and chooses it.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If there is no operation in the set.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, bounded};
    ///
    /// gort::run(|| {
    ///     let (s1, r1) = bounded(0);
    ///     let (_s2, r2) = bounded::<i32>(0);
    ///     gort::go(move || s1.send(1).unwrap());
    ///     let mut select = Select::new();
    ///     let first = select.recv(&r1);
    ///     select.recv(&r2);
    ///     let oper = select.select();
    ///     assert_eq!(oper.index(), first);
    ///     assert_eq!(oper.recv(&r1), Ok(1));
    /// })
    /// ```
    pub fn select(&mut self) -> SelectedOperation<'a> {
        self.assert_not_empty();
        self.run(Patience::Forever).expect("patience was endless")
    }

    /// Waits until an operation is ready, for at most `timeout`, and chooses it.
    ///
    /// With no operation in the set, it waits for all of `timeout` and fails.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SelectTimeoutError`] if no operation became ready in time.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     let mut select = Select::new();
    ///     select.recv(&r);
    ///     assert!(select.select_timeout(Duration::from_millis(1)).is_err());
    ///     s.send(1).unwrap();
    ///     let oper = select.select_timeout(Duration::from_millis(1)).unwrap();
    ///     assert_eq!(oper.recv(&r), Ok(1));
    /// })
    /// ```
    pub fn select_timeout(&mut self, timeout: Duration) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.run(Patience::lasting(timeout)).ok_or(SelectTimeoutError)
    }

    /// Waits until an operation is ready, until `deadline` at most, and chooses it.
    ///
    /// It is [`select_timeout`](Select::select_timeout) with a point in time.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SelectTimeoutError`] if no operation became ready in time.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, never};
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let r = never::<i32>();
    ///     let mut select = Select::new();
    ///     select.recv(&r);
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     assert!(select.select_deadline(deadline).is_err());
    ///     assert!(Instant::now() >= deadline);
    /// })
    /// ```
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.run(Patience::Until(deadline)).ok_or(SelectTimeoutError)
    }

    /// Returns the index of an operation that is ready now.
    ///
    /// Another goroutine may be faster, so the operation need not be ready any more when it is
    /// tried.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`TryReadyError`] if no operation is ready.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     let mut select = Select::new();
    ///     let index = select.recv(&r);
    ///     assert!(select.try_ready().is_err());
    ///     s.send(1).unwrap();
    ///     assert_eq!(select.try_ready(), Ok(index));
    ///     assert_eq!(r.try_recv(), Ok(1));
    /// })
    /// ```
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.run_ready(Patience::None).ok_or(TryReadyError)
    }

    /// Waits until an operation is ready, and returns its index.
    ///
    /// Another goroutine may be faster, so the operation need not be ready any more when it is
    /// tried.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If there is no operation in the set.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     gort::go(move || s.send(1).unwrap());
    ///     let mut select = Select::new();
    ///     let index = select.recv(&r);
    ///     assert_eq!(select.ready(), index);
    ///     assert_eq!(r.try_recv(), Ok(1));
    /// })
    /// ```
    pub fn ready(&mut self) -> usize {
        self.assert_not_empty();
        self.run_ready(Patience::Forever).expect("patience was endless")
    }

    /// Waits until an operation is ready, for at most `timeout`, and returns its index.
    ///
    /// With no operation in the set, it waits for all of `timeout` and fails.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`ReadyTimeoutError`] if no operation became ready in time.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     let mut select = Select::new();
    ///     let index = select.recv(&r);
    ///     assert!(select.ready_timeout(Duration::from_millis(1)).is_err());
    ///     s.send(1).unwrap();
    ///     assert_eq!(select.ready_timeout(Duration::from_millis(1)), Ok(index));
    /// })
    /// ```
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        self.run_ready(Patience::lasting(timeout)).ok_or(ReadyTimeoutError)
    }

    /// Waits until an operation is ready, until `deadline` at most, and returns its index.
    ///
    /// It is [`ready_timeout`](Select::ready_timeout) with a point in time.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`ReadyTimeoutError`] if no operation became ready in time.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, never};
    /// use std::time::{Duration, Instant};
    ///
    /// gort::run(|| {
    ///     let r = never::<i32>();
    ///     let mut select = Select::new();
    ///     select.recv(&r);
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     assert!(select.ready_deadline(deadline).is_err());
    ///     assert!(Instant::now() >= deadline);
    /// })
    /// ```
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.run_ready(Patience::Until(deadline)).ok_or(ReadyTimeoutError)
    }
}

impl<'a> Clone for Select<'a> {
    fn clone(&self) -> Select<'a> {
        let copy = |arm: &Arm<'a>| Arm { node: WaitNode::new(), ..*arm };
        Select {
            arms: self.arms.iter().map(copy).collect(),
            order: self.order.clone(),
            next_index: self.next_index,
            biased: self.biased,
        }
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Select::new()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}

/// An operation that a [`Select`] has chosen. It must be completed by
/// [`send`](SelectedOperation::send) or [`recv`](SelectedOperation::recv).
///
/// Complete it soon: until then, a message, a place in the channel or a waiting partner is kept for
/// it.
///
/// # Panics
///
/// If it is dropped without having been completed. What was kept for it is given back. During
/// unwinding there is no second panic.
///
/// # Examples
///
/// ```
/// use gort::chan::{Select, unbounded};
///
/// gort::run(|| {
///     let (s, r) = unbounded();
///     s.send("hello").unwrap();
///     let mut select = Select::new();
///     select.recv(&r);
///     let oper = select.select();
///     assert_eq!(oper.recv(&r), Ok("hello"));
/// })
/// ```
#[must_use = "a selected operation must be completed"]
pub struct SelectedOperation<'a>(Option<Committed<'a>>);

impl<'a> SelectedOperation<'a> {
    /// The index that [`Select::send`] or [`Select::recv`] has returned for this operation.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded();
    ///     s.send(1).unwrap();
    ///     let mut select = Select::new();
    ///     let index = select.recv(&r);
    ///     let oper = select.select();
    ///     assert_eq!(oper.index(), index);
    ///     oper.recv(&r).unwrap();
    /// })
    /// ```
    pub fn index(&self) -> usize {
        self.0.as_ref().expect("not yet completed").selected.index
    }

    fn take(&mut self) -> Committed<'a> {
        self.0.take().expect("not yet completed")
    }

    /// Completes the send with `message`.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the message, if all receivers are gone.
    ///
    /// # Panics
    ///
    /// If `s` is not the sender (the same reference) that was given to [`Select::send`].
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{Select, bounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = bounded(1);
    ///     let mut select = Select::new();
    ///     select.send(&s);
    ///     assert_eq!(select.select().send(&s, 1), Ok(()));
    ///     assert_eq!(r.recv(), Ok(1));
    /// })
    /// ```
    pub fn send<T>(mut self, s: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        self.take().send(s, message)
    }

    /// Completes the receive.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`RecvError`] if the channel is empty and all senders are gone.
    ///
    /// # Panics
    ///
    /// If `r` is not the receiver (the same reference) that was given to [`Select::recv`].
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::chan::{RecvError, Select, unbounded};
    ///
    /// gort::run(|| {
    ///     let (s, r) = unbounded::<i32>();
    ///     drop(s);
    ///     let mut select = Select::new();
    ///     select.recv(&r);
    ///     assert_eq!(select.select().recv(&r), Err(RecvError));
    /// })
    /// ```
    pub fn recv<T>(mut self, r: &Receiver<T>) -> Result<T, RecvError> {
        self.take().recv(r)
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        let forgotten = self.0.take().is_some();
        if forgotten && !std::thread::panicking() {
            panic!("dropped `SelectedOperation` without completing the operation");
        }
    }
}
