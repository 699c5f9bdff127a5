//! A goroutine's work: from the closure to the result that `join` gives.
//!
//! # The join word
//! ```text
//!   RUNNING ──join──▶ waiter ──the task ends──▶ DONE      (the joiner is selected)
//!      ▲                │  └────the task ends─▶ DONE ──▶ DONE_TOO_LATE   (the joiner's time was over; it waits for this)
//!      └──time is over──┘
//!      │  └───────────────────the task ends──▶ DONE
//!      └──handle dropped──▶ DETACHED ─the task ends─▶     (the result is dropped by the task, on its own stack)
//! ```
//! # Invariants
//! 1. The storage holds the closure until the task runs, the nodes of its waits while it does, then its result; DONE (Release) publishes the result to the handle.
//! 2. Of the task's swap to DONE and the handle's compare-and-swap to DETACHED one comes first: whoever sees that the
//!    other is gone drops the result.
//! 3. The joiner's waiter is alive until it is selected, by the task or by its deadline. After its deadline the joiner takes its waiter
//!    back by compare-and-swap, or, if the task has it already, stays until the task says that it has looked.
//! 4. `refs` of the descriptor: one for the runtime, until the stack is put away, one for the handle.
//!
//! User code (closure, destructors of results and goroutine-locals) always runs on a goroutine's or a caller's
//! stack, never on g0.

use super::{local, lock_thread};
use crate::sched::core::fixed::{fixed, require_started};
use crate::sched::core::g::TaskVTable;
use crate::sched::core::g::{G, Kind, STORAGE_WORDS};
use crate::sched::core::m::{self, Action};
use crate::sched::core::p;
use crate::sched::core::reason::WaitReason;
use crate::sched::core::wait_word::{FIRST_TOKEN, TIMED_OUT};
use crate::sched::core::waiter::{Lent, WaiterRef};
use crate::sched::preempt::checkpoint;
use crate::sched::ready::{self, pinned};
use crate::sched::run::direct;
use crate::sched::run::stacks::release;
use crate::sched::wait::park;
use crate::stack::slab;
use crate::sys::fork::refuse;
use crate::sys::sync::{AtomicU64, Ordering::*, is_child};
use std::any::Any;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};
use std::{fmt, io};

const RUNNING: usize = 0;
const DONE: usize = 1;
const DETACHED: usize = 2;
const DONE_TOO_LATE: usize = 3;

type Output<T> = std::thread::Result<T>;

/// The functions of a task `F` with the result `T`.
struct Task<F, T>(PhantomData<(F, T)>);

impl<F: FnOnce() -> T, T> Task<F, T> {
    const VTABLE: TaskVTable =
        TaskVTable { run: Self::run, drop_output: Self::drop_output, drop_task: Self::drop_task };

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
    unsafe fn drop_output(g: &G) {
        // SAFETY: the caller's promise.
        drop(unsafe { take::<Output<T>>(g) });
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
    let place = g.storage.get();
    // SAFETY: the caller's promise.
    unsafe {
        if is_inline::<V>() {
            place.cast::<V>().read()
        } else {
            *Box::from_raw(place.cast::<*mut V>().read())
        }
    }
}

/// Goroutines that were made, or ended, where no P was at hand.
static ELSEWHERE_CREATED: AtomicU64 = AtomicU64::new(0);

/// How many goroutines were ever made.
pub(crate) fn created() -> u64 {
    ELSEWHERE_CREATED.load(Acquire) + p::all_ever().map(|p| p.stats.created.get()).sum::<u64>()
}

/// How many goroutines there are: made, and not yet at their end. A goroutine whose `join` has returned is not
/// counted any more; those of the runtime itself never are.
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
/// What `f` borrows lives until the task has ended, and so does what its result borrows, until that is dropped.
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
/// What `f` and its result borrow lives until the task has ended and the result was dropped.
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
/// What `f` and its result borrow lives until the task has ended and the result was dropped.
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
/// Dropping the handle detaches it. A panic in `f` ends only this goroutine; `join` gives it.
///
/// # Blocking
///
/// G: a caller that starts a thousand without a break pauses for some microseconds (2 ms at most), so that those can run; not in shared
/// mode, nor under [`no_preempt`](crate::no_preempt). M: no. P: no.
///
/// # Panics
///
/// If the runtime was not started: call it inside [`run`](crate::run), or after [`start`](crate::start).
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let h = gort::go(|| 6 * 7);
///     assert_eq!(h.join().unwrap(), 42);
/// })
/// ```
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

/// A goroutine to be started with a name or a stack size of its own; as `std::thread::Builder`.
#[derive(Debug, Default, Clone)]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
}

impl Builder {
    /// Without a name, with the default stack.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The name, shown in dumps and in the report of a stack overflow.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// The bytes of the stack, rounded up to a power of two, at least 16 KiB. They are address
    /// space; memory is used as it is touched. The goroutine's thread-locals and a guard come on
    /// top. Default: 256 KiB, or `GORT_STACK`.
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
    ///     let h = gort::Builder::new().name("deep").stack_size(1 << 20).spawn(|| "done").unwrap();
    ///     assert_eq!(h.join().unwrap(), "done");
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
pub struct JoinHandle<T> {
    g: &'static G,
    _result: PhantomData<T>,
}

// SAFETY: the handle owns the result in the descriptor's storage, nothing else.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: by reference it only asks an atomic.
unsafe impl<T> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// Waits until the goroutine has ended and gives its result.
    ///
    /// If the goroutine still waits for its turn, and was the last to be queued on the caller's P, it runs next: who forks and joins in the
    /// opposite order goes down one branch at a time, instead of into all of them at once.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if it panicked or called [`goexit`](crate::goexit).
    pub fn join(self) -> Result<T, JoinError> {
        let this = ManuallyDrop::new(self);
        let g = this.g;
        if g.join.load(Acquire) == RUNNING {
            let me = WaiterRef::current();
            me.arm();
            let word = me.to_ptr().as_ptr() as usize;
            if g.join.compare_exchange(RUNNING, word, AcqRel, Acquire).is_ok() {
                crate::sched::ready::prefer(g);
                me.wait_swappable(WaitReason::Join, Lent::Nothing);
            }
        }
        debug_assert_eq!(g.join.load(Acquire), DONE);
        // SAFETY: DONE was seen, so the storage holds the result, and the handle owns it.
        let output = unsafe { take::<Output<T>>(g) };
        release(g);
        output.map_err(JoinError)
    }

    /// As [`join`](JoinHandle::join), until `timeout` at most; then the handle comes back.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// The handle, if the goroutine goes on.
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

    /// Waits for the task's end. False if `deadline` came first; then the task will not touch our waiter.
    fn wait_until(&self, deadline: Instant) -> bool {
        let word = &self.g.join;
        if word.load(Acquire) == DONE {
            return true;
        }
        let me = WaiterRef::current();
        me.arm();
        let ours = me.to_ptr().as_ptr() as usize;
        if word.compare_exchange(RUNNING, ours, AcqRel, Acquire).is_err() {
            return true;
        }
        if me.wait(WaitReason::Join, Some(deadline)) != TIMED_OUT {
            return true;
        }
        if word.compare_exchange(ours, RUNNING, AcqRel, Acquire).is_ok() {
            return false;
        }
        // The task has taken our waiter and is about to find that its wait has ended; until it has, we must not begin another.
        while word.load(Acquire) != DONE_TOO_LATE {
            yield_now();
        }
        word.store(DONE, Relaxed);
        true
    }

    /// Whether the goroutine has ended. Then `join` does not wait.
    pub fn is_finished(&self) -> bool {
        checkpoint(false);
        self.g.join.load(Acquire) == DONE
    }

    /// The goroutine's id, as dumps show it.
    pub fn id(&self) -> u64 {
        self.g.id()
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let g = self.g;
        if g.join.compare_exchange(RUNNING, DETACHED, AcqRel, Acquire).is_err() {
            let vtable = g.vtable.get().expect("set at its start");
            // SAFETY: the word was DONE: the result is there and the handle owns it.
            unsafe { (vtable.drop_output)(g) };
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
pub struct JoinError(Box<dyn Any + Send>);

impl JoinError {
    /// Whether it panicked.
    pub fn is_panic(&self) -> bool {
        !self.is_goexit()
    }

    /// Whether it called [`goexit`](crate::goexit).
    pub fn is_goexit(&self) -> bool {
        is_goexit(&*self.0)
    }

    /// What it panicked with, for [`resume_unwind`].
    ///
    /// # Panics
    ///
    /// If it did not panic.
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        assert!(self.is_panic(), "the goroutine called goexit, it did not panic");
        self.0
    }

    /// The error for what a goroutine unwound with.
    pub(crate) fn from_payload(payload: Box<dyn Any + Send>) -> JoinError {
        JoinError(payload)
    }

    fn message(&self) -> Option<&str> {
        self.0.downcast_ref::<&str>().copied().or_else(|| self.0.downcast_ref::<String>().map(String::as_str))
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

// SAFETY: by reference the payload is only asked for its type, and read if that is `&str`, `String` or
// `Goexit`, which may be read from several threads.
unsafe impl Sync for JoinError {}

/// So that `handle.join()??` works in a function that gives an `io::Result`.
impl From<JoinError> for io::Error {
    fn from(e: JoinError) -> io::Error {
        io::Error::other(e)
    }
}

/// The payload of `goexit`.
struct Goexit;

/// Whether `payload`, which `catch_unwind` gave, is a `goexit` on its way; who caught it must resume it.
pub(crate) fn is_goexit(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Goexit>()
}

/// Ends the calling goroutine: runs the destructors of its frames and lets nothing after this happen. `join` gives an
/// error that says so.
///
/// In the main goroutine of [`run`](crate::run), its caller goes on waiting.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Panics
///
/// If the caller is no goroutine. With `panic = "abort"` nothing can unwind: that is a fatal error.
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

/// Lets others run: the goroutine goes behind those that are runnable. On a plain thread, the kernel's `sched_yield`.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
pub fn yield_now() {
    if let Some(m) = m::current()
        && !m.in_blocking.load(Relaxed)
        && let Some(g) = m.g()
    {
        // SAFETY: `g` runs here; that is us.
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

/// Gives the result to who wants it. Out of line, so that nothing of it is on the stack for good.
#[inline(never)]
fn finish(g: &'static G, vtable: &TaskVTable) {
    if is_child() {
        goroutine_ended();
    }
    if g.has_name() {
        g.set_name(None);
    }
    if g.join.load(Acquire) == DETACHED {
        drop_detached(g, vtable);
        return count_finished(g);
    }
    count_finished(g);
    match g.join.swap(DONE, AcqRel) {
        RUNNING => {}
        DETACHED => drop_detached(g, vtable),
        waiter => {
            let waiter = std::ptr::NonNull::new(waiter as *mut ()).expect("a joiner");
            // SAFETY: the joiner stored its waiter and does not leave before we select it, or say that we came too late.
            let waiter = unsafe { WaiterRef::from_ptr(waiter) };
            match waiter.try_select(FIRST_TOKEN) {
                Some(wake) => wake.ready(),
                None => g.join.store(DONE_TOO_LATE, Release),
            }
        }
    }
}

/// A goroutine that was forked has nobody to come back to.
#[cold]
fn goroutine_ended() -> ! {
    crate::sys::fatal::throw(
        "fatal error: a goroutine has ended in a forked child\n\n\
         The goroutines and threads that could go on from here are the parent's.\n\
         Let the child call exec, _exit or std::process::exit.",
    );
}

fn count_finished(g: &G) {
    if !g.is_system() {
        pinned().expect("a goroutine that ends has a P").p.stats.finished.add(1);
    }
}

/// Drops a result that nobody wants. As in std, a panic of that destructor cannot be given to anybody.
fn drop_detached(g: &G, vtable: &TaskVTable) {
    // SAFETY: the handle is gone, so the result is ours.
    if catch_unwind(AssertUnwindSafe(|| unsafe { (vtable.drop_output)(g) })).is_err() {
        crate::sys::fatal::throw("fatal error: the result of a detached goroutine panicked on drop");
    }
}

/// Makes a goroutine that waits already: whoever selects its waiter starts it. It is the runtime's own until `f` calls
/// [`begin_counting`].
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
    g.join.store(DETACHED, Relaxed);
    g.set_reason(WaitReason::AfterFunc, crate::sched::shared::monitor::coarse_ns());
    g.begin_waiting();
    WaiterRef::of(g).arm();
    let parked = g.waiter.commit_park();
    debug_assert!(parked, "nobody knows it yet");
    g
}

/// The running goroutine, made by [`make_waiting`], is an ordinary one from here on.
pub(crate) fn begin_counting() {
    let g = m::current().and_then(|m| m.g()).expect("called by the goroutine");
    g.set_kind(Kind::Users);
    count_created();
}

/// Ends a goroutine of [`make_waiting`] that has not been selected: drops its closure.
///
/// # Safety
/// The caller is the one party, and nobody selects it any more.
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
    g.join.store(DETACHED, Relaxed);
    // SAFETY: made above, and nothing else has it.
    unsafe { ready::started(g) };
}

/// Starts a goroutine of the runtime's own on a stack of the caller's choice, which goes back to the system at its end.
#[track_caller]
pub(crate) fn spawn_on_cold_slot(slot: slab::Slot, f: impl FnOnce() + Send + 'static) {
    // SAFETY: nothing is borrowed.
    let g = unsafe { make(f, Options { name: None, class: Some(slot.class()) }, 1, Location::caller()) };
    g.set_kind(Kind::GivesUpSlot);
    g.join.store(DETACHED, Relaxed);
    // SAFETY: `g` is ours until it is queued.
    unsafe { *g.slot.get() = Some(slot) };
    // SAFETY: made above, and nothing else has it.
    unsafe { ready::started(g) };
}
