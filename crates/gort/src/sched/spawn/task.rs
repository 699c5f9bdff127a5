//! A goroutine's work: from the closure to the result that `join` or an `await` gives.
//!
//! # The storage and the result
//! The descriptor of a goroutine has a few words of storage. They hold one after the other:
//!
//! 1. the closure, until the goroutine runs;
//! 2. nodes of its waits, while it runs;
//! 3. its result.
//!
//! A closure or a result that is too large lies in a box, whose address is in the storage. Where
//! the goroutine runs a waker at its end, it moves the result into a box first: then nodes of waits
//! may be in the storage again.
//!
//! # The end
//! The goroutine and the holder of its handle meet in the join word: `core/join_word.rs` has the
//! states, the invariants and the proof that no wake-up is lost. What the goroutine does last:
//!
//! | the word was | what the goroutine does                                              |
//! | ------------ | -------------------------------------------------------------------- |
//! | RUNNING      | nothing: a later `join` or poll finds the result                     |
//! | JOINER       | selects the joiner's waiter; if its time was over, says that it has looked |
//! | WAKER        | wakes the waker, on its own stack, with no lock held                 |
//! | DETACHED     | drops the result, on its own stack                                   |
//!
//! # Invariants
//! 1. The result is published by the step to DONE (Release), and seen by a look at DONE (Acquire).
//! 2. `refs` of the descriptor counts the runtime, until the stack is put away, and the handle. So
//!    the word and the storage stay what they are while the handle exists, and while the goroutine
//!    runs its last steps.
//! 3. User code (closures, wakers, destructors of results and of goroutine-locals) runs on a
//!    goroutine's or a caller's stack, never on g0.

use super::{local, lock_thread};
use crate::sched::core::fixed::{fixed, require_started};
use crate::sched::core::g::{G, Kind, STORAGE_WORDS, TaskVTable};
use crate::sched::core::join_word::{Detached, Ended, Look, Place};
use crate::sched::core::m::{self, Action};
use crate::sched::core::p;
use crate::sched::core::reason::WaitReason;
use crate::sched::core::wait_word::{FIRST_TOKEN, TIMED_OUT};
use crate::sched::core::waiter::{Lent, WaiterRef};
use crate::sched::handoff;
use crate::sched::preempt::checkpoint;
use crate::sched::ready::{self, pinned};
use crate::sched::run::direct;
use crate::sched::run::stacks::release;
use crate::sched::wait::park;
use crate::stack::slab;
use crate::sys::fork::refuse;
use crate::sys::payload;
use crate::sys::sync::{AtomicU64, Ordering::*, is_child};
use std::any::Any;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{fmt, io};

type Output<T> = std::thread::Result<T>;

/// The functions of a task `F` with the result `T`.
struct Task<F, T>(PhantomData<(F, T)>);

impl<F: FnOnce() -> T, T> Task<F, T> {
    const VTABLE: TaskVTable = TaskVTable {
        run: Self::run,
        box_output: Self::box_output,
        drop_output: Self::drop_output,
        drop_task: Self::drop_task,
    };

    /// # Safety
    /// The caller is the goroutine `g`, whose storage holds an `F`; once.
    unsafe fn run(g: &G) {
        // SAFETY: the caller's promise.
        let f = unsafe { take::<F>(g) };
        let mut output: Output<T> = catch_unwind(AssertUnwindSafe(f));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| local::drop_all(g)))
            && output.is_ok()
        {
            output = Err(payload);
        }
        // SAFETY: the storage is empty now, and still ours.
        unsafe { put(g, output) };
    }

    /// # Safety
    /// The storage of `g` holds an `Output<T>` that the caller owns.
    unsafe fn box_output(g: &G) -> NonNull<()> {
        // The join word keeps its tag in the lowest three bits.
        const { assert!(align_of::<Output<T>>() >= 8) };
        // SAFETY: the caller's promise.
        NonNull::from(Box::leak(unsafe { take_boxed::<Output<T>>(g) })).cast()
    }

    /// # Safety
    /// At this place there is an `Output<T>` of `g` that the caller owns.
    unsafe fn drop_output(g: &G, place: Place) {
        // SAFETY: the caller's promise.
        drop(unsafe { take_output::<T>(g, place) });
    }

    /// # Safety
    /// The storage of `g` holds an `F` that the caller owns.
    unsafe fn drop_task(g: &G) {
        // SAFETY: the caller's promise.
        drop(unsafe { take::<F>(g) });
    }
}

const fn is_inline<V>() -> bool {
    size_of::<V>() <= STORAGE_WORDS * size_of::<usize>() && align_of::<V>() <= align_of::<usize>()
}

/// Stores `v`, in a box if it is large.
///
/// # Safety
/// The storage is empty and the caller's.
unsafe fn put<V>(g: &G, v: V) {
    let place = g.storage.get();
    // SAFETY: the storage has room and is aligned for an inline V or a pointer.
    unsafe {
        if is_inline::<V>() {
            place.cast::<V>().write(v);
        } else {
            place.cast::<*mut V>().write(Box::into_raw(Box::new(v)));
        }
    }
}

/// Takes the `V` out again.
///
/// # Safety
/// The storage holds a `V` that [`put`] stored, and is the caller's.
unsafe fn take<V>(g: &G) -> V {
    if is_inline::<V>() {
        // SAFETY: the caller's promise.
        unsafe { g.storage.get().cast::<V>().read() }
    } else {
        // SAFETY: the caller's promise.
        *unsafe { take_boxed(g) }
    }
}

/// As [`take`], into a box; for a large `V` that is the box of [`put`].
///
/// # Safety
/// As [`take`].
unsafe fn take_boxed<V>(g: &G) -> Box<V> {
    let place = g.storage.get();
    // SAFETY: the caller's promise.
    unsafe {
        if is_inline::<V>() {
            Box::new(place.cast::<V>().read())
        } else {
            Box::from_raw(place.cast::<*mut V>().read())
        }
    }
}

/// Takes the result of `g`.
///
/// # Safety
/// At this place there is an `Output<T>` of `g` that the caller owns.
unsafe fn take_output<T>(g: &G, place: Place) -> Output<T> {
    match place {
        // SAFETY: the caller's promise.
        Place::Storage => unsafe { take(g) },
        // SAFETY: the caller's promise; the box is from `Task::box_output`.
        Place::Box(output) => *unsafe { Box::from_raw(output.cast::<Output<T>>().as_ptr()) },
    }
}

/// Goroutines that were made, or ended, where no P was at hand.
static ELSEWHERE_CREATED: AtomicU64 = AtomicU64::new(0);

/// How many goroutines were ever made.
pub(crate) fn created() -> u64 {
    ELSEWHERE_CREATED.load(Acquire) + p::all_ever().map(|p| p.stats.created.get()).sum::<u64>()
}

/// How many goroutines there are: made, and not yet at their end.
///
/// A goroutine whose `join` has returned is not counted any more. Those of the runtime itself never
/// are.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let before = gort::num_goroutine();
///     let h = gort::go(|| gort::sleep(std::time::Duration::from_millis(1)));
///     assert_eq!(gort::num_goroutine(), before + 1);
///     h.join().unwrap();
///     assert_eq!(gort::num_goroutine(), before);
/// })
/// ```
pub fn num_goroutine() -> usize {
    // Ends first: one that begins and ends in between must not be counted as ended only.
    let finished: u64 = p::all_ever().map(|p| p.stats.finished.get()).sum();
    created().saturating_sub(finished) as usize
}

/// What `spawn` may be told.
#[derive(Default)]
struct Options {
    name: Option<String>,
    class: Option<u8>,
}

/// Takes a descriptor and puts `f` into it.
///
/// # Safety
/// What `f` borrows lives until the goroutine has ended. What its result borrows lives until the
/// result is dropped.
unsafe fn make<F: FnOnce() -> T, T>(
    f: F,
    options: Options,
    refs: u8,
    at: &'static Location<'static>,
) -> &'static G {
    // User code, which may panic: before anything is made.
    let locals = local::inherited();
    let class = options.class.unwrap_or(fixed().class);
    let (g, id, parent) = match pinned() {
        Some(here) => (here.p.take_g(), here.p.new_id(), here.m.g().map_or(0, G::id)),
        None => {
            refuse("the start of a goroutine");
            let mut one = Vec::with_capacity(1);
            crate::sched::core::g::allocate(1, &mut one);
            let parent = m::current().and_then(|m| m.g()).map_or(0, G::id);
            (one[0], p::fresh_id(), parent)
        }
    };
    // SAFETY: descriptors are never freed, and this one is dead and ours.
    let g: &'static G = unsafe { &*g };
    g.begin(id, parent, class, at, refs);
    // SAFETY: ours, and empty.
    unsafe { put(g, f) };
    g.vtable.set(Some(&Task::<F, T>::VTABLE));
    if let Some(name) = options.name {
        g.set_name(Some(name));
    }
    // SAFETY: ours until it is queued.
    unsafe { *g.locals.get() = locals };
    g
}

/// Counts a goroutine that begins.
fn count_created() {
    match pinned() {
        Some(here) => here.p.stats.created.add(1),
        None => {
            ELSEWHERE_CREATED.fetch_add(1, Release);
        }
    }
}

/// Starts a goroutine that may borrow.
///
/// # Safety
/// What `f` and its result borrow lives until the goroutine has ended and the result was dropped.
unsafe fn spawn_with<F, T>(f: F, options: Options, at: &'static Location<'static>) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    // SAFETY: the caller's promise.
    let g = unsafe { make(f, options, 2, at) };
    count_created();
    // SAFETY: made above, and nothing else has it.
    unsafe { ready::started(g) };
    let handle = JoinHandle { g, _result: PhantomData };
    crate::sched::preempt::checkpoint_of_spawner();
    handle
}

/// As [`go`], for closures that borrow: `scope` and `run` wait for them.
///
/// # Safety
/// What `f` and its result borrow lives until the goroutine has ended and the result was dropped.
#[track_caller]
pub(crate) unsafe fn spawn_unchecked<F: FnOnce() -> T + Send, T: Send>(
    f: F,
    builder: Builder,
) -> io::Result<JoinHandle<T>> {
    let options = builder.options()?;
    // SAFETY: the caller's promise.
    Ok(unsafe { spawn_with(f, options, Location::caller()) })
}

/// Starts a goroutine: `f` runs at the same time as the caller, on some thread.
///
/// Dropping the handle detaches the goroutine. A panic in `f` ends only this goroutine, and
/// [`join`](JoinHandle::join) returns it.
///
/// # Blocking
///
/// G: a caller that starts a thousand without a break pauses for some microseconds (2 ms at most),
/// so that those can run. It does not in shared mode, nor under [`no_preempt`](crate::no_preempt).
/// M: no. P: no.
///
/// # Panics
///
/// If the runtime was not started: call it inside [`run`](crate::run), or after
/// [`start`](crate::start). In a [forked child](crate#forks).
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let h = gort::go(|| 6 * 7);
///     assert_eq!(h.join().unwrap(), 42);
/// })
/// ```
#[doc(alias = "spawn")]
#[track_caller]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    require_started("go");
    // SAFETY: nothing is borrowed.
    unsafe { spawn_with(f, Options::default(), Location::caller()) }
}

/// Starts a goroutine, as [`go`] does.
///
/// This is the name that `std::thread` and other runtimes have for it: code that moves from there
/// changes the path alone.
///
/// # Blocking
///
/// As [`go`].
///
/// # Panics
///
/// As [`go`].
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let h = gort::spawn(|| 6 * 7);
///     assert_eq!(h.join().unwrap(), 42);
/// })
/// ```
#[doc(alias = "go")]
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    go(f)
}

/// A goroutine to be started with a name or a stack size of its own, as `std::thread::Builder`.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let deep = gort::Builder::new().name("deep".into()).stack_size(1 << 20);
///     assert_eq!(deep.spawn(|| "done").unwrap().join().unwrap(), "done");
/// })
/// ```
#[derive(Debug, Default, Clone)]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// Makes a builder for a goroutine without a name, with the default stack.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     assert_eq!(gort::Builder::new().spawn(|| 1).unwrap().join().unwrap(), 1);
    /// })
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Sets the name. Dumps show it, and so does the report of a stack overflow.
    ///
    /// It takes a `String`, as `std::thread::Builder` does.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let worker = gort::Builder::new().name("worker".into());
    ///     worker.spawn(|| ()).unwrap().join().unwrap();
    /// })
    /// ```
    pub fn name(mut self, name: String) -> Builder {
        self.name = Some(name);
        self
    }

    /// Sets the bytes of the stack: rounded up to a power of two, and at least 16 KiB.
    ///
    /// They are address space; memory is used as it is touched. The goroutine's thread-locals and a
    /// guard come on top. Default: 256 KiB, or `GORT_STACK`.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let small = gort::Builder::new().stack_size(32 << 10);
    ///     assert_eq!(small.spawn(|| 1).unwrap().join().unwrap(), 1);
    /// })
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts the goroutine.
    ///
    /// # Blocking
    ///
    /// As [`go`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the stack is larger than 1 GiB, `Other` if the runtime was not started.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let deep = gort::Builder::new().name("deep".into()).stack_size(1 << 20);
    ///     assert_eq!(deep.spawn(|| "done").unwrap().join().unwrap(), "done");
    /// })
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: nothing is borrowed.
        unsafe { spawn_unchecked(f, self) }
    }

    fn options(self) -> io::Result<Options> {
        if p::procs() == 0 {
            return Err(io::Error::other(crate::sched::core::fixed::not_started("Builder::spawn")));
        }
        let class = match self.stack_size {
            None => None,
            Some(bytes) => {
                let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
                Some(slab::class_for(bytes).map_err(invalid)?)
            }
        };
        Ok(Options { name: self.name, class })
    }
}

/// The right to wait for a goroutine and to have its result. Dropping it detaches the goroutine.
///
/// In a goroutine or on a thread, [`join`](JoinHandle::join) waits. In async code, the handle is a
/// future: see [awaiting a goroutine](#impl-Future-for-JoinHandle%3CT%3E).
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let h = gort::go(|| 6 * 7);
///     assert_eq!(h.join().unwrap(), 42);
///
///     let h = gort::go(|| 6 * 7);
///     assert_eq!(gort::future::block_on(h).unwrap(), 42);
/// })
/// ```
pub struct JoinHandle<T> {
    g: &'static G,
    _result: PhantomData<T>,
}

// SAFETY: what the handle owns is the result, which may be sent, and a boxed waker, which may too.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: by reference it only asks an atomic.
unsafe impl<T> Sync for JoinHandle<T> {}

/// The result is not in the handle, so nothing there is pinned.
impl<T> Unpin for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Waits until the goroutine has ended, and returns its result.
    ///
    /// If the goroutine still waits for its turn, and was the last to be queued on the caller's P,
    /// it runs next. So a caller that forks, and joins in the opposite order, goes down one branch
    /// at a time, instead of into all of them at once.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the goroutine panicked or called [`goexit`](crate::goexit).
    ///
    /// # Panics
    ///
    /// If the handle was awaited before, and has given its result. In a
    /// [forked child](crate#forks), if it has to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     assert_eq!(gort::go(|| 1).join().unwrap(), 1);
    ///     assert!(gort::go(|| panic!("no")).join().unwrap_err().is_panic());
    /// })
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        let g = self.g;
        let place = loop {
            match g.join.look() {
                Look::Done(place) => break place,
                Look::Running => {
                    let me = WaiterRef::current();
                    me.arm();
                    if g.join.enrol(me.to_ptr()) {
                        ready::prefer(g);
                        me.wait_swappable(WaitReason::Join, Lent::Nothing);
                    }
                }
                Look::Polled => self.drop_waker(),
                Look::Taken => already_taken(),
            }
        };
        let _this = ManuallyDrop::new(self);
        // SAFETY: DONE was seen, so the result is there, and the handle, which ends here, owned it.
        let output = unsafe { take_output::<T>(g, place) };
        release(g);
        output.map_err(JoinError)
    }

    /// As [`join`](JoinHandle::join), for `timeout` at most; then the handle comes back.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The handle, if the goroutine goes on.
    ///
    /// # Panics
    ///
    /// As [`join`](JoinHandle::join).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// gort::run(|| {
    ///     let (tx, rx) = gort::chan::bounded(0);
    ///     let h = gort::go(move || rx.recv());
    ///     let h = h.join_timeout(Duration::from_millis(1)).unwrap_err();
    ///     tx.send(7).unwrap();
    ///     assert_eq!(h.join().unwrap(), Ok(7));
    /// })
    /// ```
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, JoinHandle<T>> {
        let Some(deadline) = Instant::now().checked_add(timeout) else { return Ok(self.join()) };
        if self.wait_until(deadline) { Ok(self.join()) } else { Err(self) }
    }

    /// Waits for the goroutine's end. False if `deadline` came first. Either way the goroutine does
    /// not touch our waiter any more. Called by the holder.
    fn wait_until(&self, deadline: Instant) -> bool {
        let word = &self.g.join;
        match word.look() {
            Look::Done(_) | Look::Taken => return true,
            Look::Polled => self.drop_waker(),
            Look::Running => {}
        }
        let me = WaiterRef::current();
        me.arm();
        let ours = me.to_ptr();
        if !word.enrol(ours) {
            return true;
        }
        if me.wait(WaitReason::Join, Some(deadline)) != TIMED_OUT {
            return true;
        }
        if word.withdraw(ours) {
            return false;
        }
        // The goroutine has taken our waiter, and is about to find that its wait is over. Until it
        // has found that, we must not begin another wait.
        while !word.has_come_too_late() {
            yield_now();
        }
        true
    }

    /// Takes the waker of the last poll out of the word, unless the goroutine has it. Called by the
    /// holder.
    #[cold]
    fn drop_waker(&self) {
        if let Some(waker) = self.g.join.take_waker() {
            // SAFETY: `poll` has put it there, and the word gave it back.
            drop(unsafe { boxed_waker(waker) });
        }
    }

    /// Whether the goroutine has ended. Then [`join`](JoinHandle::join) does not wait.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (tx, rx) = gort::chan::bounded::<()>(0);
    ///     let h = gort::go(move || rx.recv());
    ///     assert!(!h.is_finished());
    ///     drop(tx);
    ///     while !h.is_finished() {
    ///         gort::yield_now();
    ///     }
    /// })
    /// ```
    pub fn is_finished(&self) -> bool {
        checkpoint(false);
        self.g.join.is_done()
    }

    /// The goroutine's id, as dumps show it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let (a, b) = (gort::go(|| ()), gort::go(|| ()));
    ///     assert_ne!(a.id(), b.id());
    /// })
    /// ```
    pub fn id(&self) -> u64 {
        self.g.id()
    }
}

/// Awaiting a goroutine, from any executor: gort's [`block_on`](crate::future::block_on), tokio's,
/// or another one, also on a plain thread.
///
/// - **The end of the goroutine wakes the waker of the last poll**, on the goroutine's own stack.
///   The wakers of earlier polls are dropped. A waker that panics is a fatal error.
/// - **A dropped handle detaches the goroutine**, as always: it goes on, and its result is dropped.
///   If it has not ended yet, its waker is not woken any more.
/// - **After a poll, the handle can still be joined** instead of being polled again, as long as it
///   has not given its result. [`join`](JoinHandle::join) and
///   [`join_timeout`](JoinHandle::join_timeout) then drop the waker.
///
/// # Blocking
///
/// A poll: G: no. M: no. P: no.
///
/// # Errors
///
/// [`JoinError`] if the goroutine panicked or called [`goexit`](crate::goexit).
///
/// # Panics
///
/// A poll panics if the handle has given its result already. In a [forked child](crate#forks), it
/// panics if the goroutine has not ended.
///
/// # Examples
///
/// ```
/// use gort::future::block_on;
///
/// async fn sum() -> Result<u32, gort::JoinError> {
///     let (a, b) = (gort::go(|| 1), gort::go(|| 2)); // they run from here on
///     Ok(a.await? + b.await?)
/// }
///
/// gort::run(|| assert_eq!(block_on(sum()).unwrap(), 3))
/// ```
impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        checkpoint(false);
        let word = &self.g.join;
        let mut look = word.look();
        if matches!(look, Look::Running | Look::Polled) {
            refuse("a wait");
            let waker = match word.take_waker() {
                Some(waker) => {
                    // SAFETY: `poll` has put it there, and the word gave it back.
                    let mut waker = unsafe { boxed_waker(waker) };
                    (*waker).clone_from(cx.waker());
                    waker
                }
                None => Box::new(cx.waker().clone()),
            };
            let waker = NonNull::from(Box::leak(waker)).cast();
            if word.enrol_waker(waker) {
                return Poll::Pending;
            }
            // SAFETY: it is from above, and the word has not taken it.
            drop(unsafe { boxed_waker(waker) });
            look = word.look();
        }
        let Look::Done(place) = look else { already_taken() };
        // Not for a second time, whatever comes.
        word.taken();
        // SAFETY: DONE was seen, so the result is there, and the handle owns it.
        let output = unsafe { take_output::<T>(self.g, place) };
        Poll::Ready(output.map_err(JoinError))
    }
}

/// # Safety
/// `waker` is the address of a boxed waker, and the caller owns it.
unsafe fn boxed_waker(waker: NonNull<()>) -> Box<Waker> {
    // SAFETY: the caller's promise.
    unsafe { Box::from_raw(waker.cast::<Waker>().as_ptr()) }
}

#[cold]
fn already_taken() -> ! {
    panic!("the result of this goroutine was already given to an await of its handle")
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let g = self.g;
        match g.join.detach() {
            Detached::Running(None) | Detached::Taken => {}
            // SAFETY: `poll` has put it there, and the word gave it back.
            Detached::Running(Some(waker)) => drop(unsafe { boxed_waker(waker) }),
            // SAFETY: the result is there, and the handle owned it.
            Detached::Done(place) => drop(unsafe { take_output::<T>(g, place) }),
        }
        release(g);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("goroutine", &self.id()).finish_non_exhaustive()
    }
}

/// Why a goroutine has no result: it panicked, or it called [`goexit`](crate::goexit).
///
/// It converts to [`io::Error`], so `handle.join()??` works in a function that returns an
/// `io::Result`.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let error = gort::go(|| panic!("no luck")).join().unwrap_err();
///     assert_eq!(error.to_string(), "the goroutine panicked: no luck");
/// })
/// ```
pub struct JoinError(Box<dyn Any + Send>);

impl JoinError {
    /// Whether the goroutine panicked.
    pub fn is_panic(&self) -> bool {
        !self.is_goexit()
    }

    /// Whether the goroutine called [`goexit`](crate::goexit).
    pub fn is_goexit(&self) -> bool {
        is_goexit(&*self.0)
    }

    /// Returns what the goroutine panicked with, for [`resume_unwind`].
    ///
    /// # Panics
    ///
    /// If the goroutine did not panic.
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        assert!(self.is_panic(), "the goroutine called goexit, it did not panic");
        self.0
    }

    /// The error for what a goroutine unwound with.
    pub(crate) fn from_payload(payload: Box<dyn Any + Send>) -> JoinError {
        JoinError(payload)
    }

    fn message(&self) -> Option<&str> {
        payload::text(&*self.0)
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_goexit() {
            true => f.write_str("JoinError::Goexit"),
            false => f.debug_tuple("JoinError::Panic").field(&self.message().unwrap_or("..")).finish(),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_goexit(), self.message()) {
            (true, _) => f.write_str("the goroutine called goexit"),
            (false, Some(message)) => write!(f, "the goroutine panicked: {message}"),
            (false, None) => f.write_str("the goroutine panicked"),
        }
    }
}

impl std::error::Error for JoinError {}

// SAFETY: by reference the payload is only asked for its type, and read if that is `&str`, `String`
// or `Goexit`. Those may be read from several threads.
unsafe impl Sync for JoinError {}

/// So that `handle.join()??` works in a function that returns an `io::Result`.
impl From<JoinError> for io::Error {
    fn from(e: JoinError) -> io::Error {
        io::Error::other(e)
    }
}

/// The payload of `goexit`.
struct Goexit;

/// Whether `payload`, which `catch_unwind` returned, is a `goexit` on its way. The code that caught
/// it must resume it.
pub(crate) fn is_goexit(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Goexit>()
}

/// Ends the calling goroutine.
///
/// The destructors of its frames run, and nothing after this call happens.
/// [`join`](JoinHandle::join) returns an error that says so. In the main goroutine of
/// [`run`](crate::run), the caller of `run` goes on waiting.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Panics
///
/// If the caller is not a goroutine. With `panic = "abort"` nothing can unwind, so the call is a
/// fatal error there.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let h = gort::go(|| gort::goexit());
///     assert!(h.join().unwrap_err().is_goexit());
/// })
/// ```
pub fn goexit() -> ! {
    if cfg!(panic = "abort") {
        crate::sys::fatal::throw(
            "fatal error: goexit needs unwinding, and this program was built with panic = \"abort\"",
        );
    }
    assert!(m::current().is_some_and(|m| m.g().is_some()), "goexit was called outside a goroutine");
    resume_unwind(Box::new(Goexit))
}

/// Lets others run: the goroutine goes behind those that are runnable.
///
/// On a plain thread, this is the kernel's `sched_yield`.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let h = gort::go(|| 1);
///     while !h.is_finished() {
///         gort::yield_now();
///     }
/// })
/// ```
pub fn yield_now() {
    if let Some(m) = m::current()
        && !m.in_blocking.load(Relaxed)
        && let Some(g) = m.g()
    {
        // SAFETY: `g` runs here: it is the caller.
        unsafe { park::leave(m, g, Action::Yield) };
    } else {
        refuse("yield_now");
        std::thread::yield_now();
    }
}

/// The first frame of every goroutine.
pub(crate) extern "sysv64" fn entry(arg: usize) -> ! {
    // SAFETY: `attach` passes the goroutine's descriptor.
    let g: &'static G = unsafe { &*(arg as *const G) };
    direct::arrive();
    fixed().blocks.begin();
    let vtable = g.vtable.get().expect("set at its start");
    // SAFETY: this is the goroutine, for the first time.
    unsafe { (vtable.run)(g) };
    finish(g, vtable);
    lock_thread::at_end(g);
    // SAFETY: this is `g`, and nothing is left here.
    unsafe { direct::end(g) }
}

/// Publishes the result, and wakes what waits for it. Out of line, so that its frame does not stay
/// on the stack.
#[inline(never)]
fn finish(g: &'static G, vtable: &TaskVTable) {
    if is_child() {
        goroutine_ended();
    }
    if g.has_name() {
        g.set_name(None);
    }
    if g.join.is_detached() {
        drop_detached(g, vtable, Place::Storage);
        return count_finished(g);
    }
    count_finished(g);
    // SAFETY: the result is in the storage, and ours until the word says that we are done.
    match g.join.end(|| unsafe { (vtable.box_output)(g) }) {
        Ended::Alone => {}
        Ended::Joiner(joiner) => {
            // SAFETY: the joiner has put its waiter there. It does not leave before we have
            // selected it, or have said that we came too late.
            let waiter = unsafe { WaiterRef::from_ptr(joiner) };
            match waiter.try_select(FIRST_TOKEN) {
                Some(wake) => wake.ready(),
                None => g.join.came_too_late(),
            }
        }
        Ended::Waker(waker) => wake(g, waker),
        Ended::Detached(place) => drop_detached(g, vtable, place),
    }
}

/// Wakes the waker that the last poll of the handle has left. It is user code, and may park.
#[cold]
fn wake(g: &G, waker: NonNull<()>) {
    let woken = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: a poll has put it there, and the word gave it to us.
        let waker = unsafe { boxed_waker(waker) };
        waker.wake();
        // It may have used some anew.
        local::drop_all(g);
    }));
    if woken.is_err() {
        crate::sys::fatal::throw(
            "fatal error: a waker panicked at the end of the goroutine that was awaited",
        );
    }
}

/// A goroutine that was forked has no scheduler to come back to.
#[cold]
pub(crate) fn goroutine_ended() -> ! {
    crate::sys::fatal::throw(
        "fatal error: a goroutine has ended in a forked child\n\n\
         The goroutines and threads that could go on from here are the parent's.\n\
         Let the child call exec, _exit or std::process::exit.",
    );
}

fn count_finished(g: &G) {
    if !g.is_system() {
        handoff::pinned_with_p().p.stats.finished.add(1);
    }
}

/// Drops the result of a goroutine whose handle is gone. As in std, there is no place where a panic
/// of that destructor could be seen.
fn drop_detached(g: &G, vtable: &TaskVTable, place: Place) {
    // SAFETY: the handle is gone, so the result is ours.
    if catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.drop_output)(g, place) })).is_err() {
        crate::sys::fatal::throw("fatal error: the result of a detached goroutine panicked on drop");
    }
}

/// Makes a goroutine that waits already: it starts when its waiter is selected. It is the runtime's
/// own until `f` calls [`begin_counting`].
///
/// # Safety
/// Exactly one party either selects it, once, or calls [`cancel`].
pub(crate) unsafe fn make_waiting<F: FnOnce() + Send + 'static>(
    f: F,
    at: &'static Location<'static>,
) -> &'static G {
    // SAFETY: nothing is borrowed.
    let g = unsafe { make(f, Options::default(), 1, at) };
    g.set_kind(Kind::System);
    g.join.begin_detached();
    g.set_reason(WaitReason::AfterFunc, crate::sched::shared::monitor::coarse_ns());
    g.begin_waiting();
    WaiterRef::of(g).arm();
    let parked = g.waiter.commit_park();
    debug_assert!(parked, "nothing knows it yet");
    g
}

/// Makes the running goroutine, which is from [`make_waiting`], an ordinary one from here on.
pub(crate) fn begin_counting() {
    let g = m::current().and_then(|m| m.g()).expect("called by the goroutine");
    g.set_kind(Kind::Users);
    count_created();
}

/// Ends a goroutine of [`make_waiting`] that has not been selected: drops its closure.
///
/// # Safety
/// The caller is the one party, and nothing selects the goroutine any more.
pub(crate) unsafe fn cancel(g: &'static G) {
    let vtable = g.vtable.get().expect("set at its start");
    g.end();
    // SAFETY: it has not run, so the storage holds the closure, which is the caller's.
    unsafe { (vtable.drop_task)(g) };
    local::drop_all(g);
    release(g);
}

/// Starts a goroutine of the runtime's own.
#[track_caller]
pub(crate) fn spawn_system(f: impl FnOnce() + Send + 'static) {
    // SAFETY: nothing is borrowed.
    let g = unsafe { make(f, Options::default(), 1, Location::caller()) };
    g.set_kind(Kind::System);
    g.join.begin_detached();
    // SAFETY: made above, and nothing else has it.
    unsafe { ready::started(g) };
}

/// Starts a goroutine of the runtime's own on a stack of the caller's choice. The stack goes back
/// to the system at the goroutine's end.
#[track_caller]
pub(crate) fn spawn_on_cold_slot(slot: slab::Slot, f: impl FnOnce() + Send + 'static) {
    // SAFETY: nothing is borrowed.
    let g = unsafe { make(f, Options { name: None, class: Some(slot.class()) }, 1, Location::caller()) };
    g.set_kind(Kind::GivesUpSlot);
    g.join.begin_detached();
    // SAFETY: `g` is ours until it is queued.
    unsafe { *g.slot.get() = Some(slot) };
    // SAFETY: made above, and nothing else has it.
    unsafe { ready::started(g) };
}
