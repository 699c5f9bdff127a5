//! G: a goroutine's descriptor.
//!
//! # States
//! ```text
//!   Dead ──spawn──▶ Runnable ──execute──▶ Running ──exit──▶ Dead
//!   Running ──yield──▶ Runnable
//!   Running ──park──▶ Waiting ──ready──▶ Runnable
//!   Running ──enter `blocking`──▶ Blocked ──exit──▶ Runnable   (with a P at hand: to Running)
//!   Running ──stopped──▶ Runnable                              (its M waits with it)
//!   Running ──blocks its thread──▶ Outside ──calls gort, or is stopped──▶ Runnable, Running
//! ```
//! | state         | the stack belongs to | on a run queue   | has a P     | moved on by          |
//! | ------------- | -------------------- | ---------------- | ----------- | -------------------- |
//! | Runnable      | nothing              | yes, exactly one | no          | the P that takes it  |
//! | Runnable, its | the G, on that M     | yes, exactly one | no          | the P that takes it, |
//! | M waits       |                      |                  |             | by that M            |
//! | Running       | the G                | no               | yes         | the G itself         |
//! | Blocked       | the G                | no               | may lose it | the G; sysmon takes  |
//! |               |                      |                  |             | only the P           |
//! | Outside       | the G                | no               | no          | the G itself         |
//! | Waiting       | nothing (saved), or  | no: a wait queue | no          | the one waker that   |
//! |               | the swapper          |                  |             | wins its wait        |
//! |               | (`swap_word.rs`)     |                  |             |                      |
//! | Dead          | nothing              | no               | no          | spawn                |
//!
//! The M of a runnable goroutine waits with it if the goroutine comes out of `blocking`, or was
//! stopped (`preempt/`). A goroutine that never ran has no stack: one is attached when it first
//! runs.
//!
//! # Invariants
//! 1. A G is on at most one run queue, and then it is Runnable; `link` belongs to that queue.
//! 2. `state` is for observers and for the owner named in the table. The protocols run on the wait
//!    word, the run queues and the M's syscall word.
//! 3. Descriptors are never freed and never move: an observer may read the atomic fields of any of
//!    them at any time. The other fields belong to the table's owner.
//! 4. `refs` counts the runtime (until the stack is put away) and the join handle. The one that
//!    takes it to zero recycles the descriptor.

use super::fixed::fixed;
use super::join_word::{JoinWord, Place};
use super::locals::Locals;
use super::m::M;
use super::reason::WaitReason;
use super::swap_word::{Loans, SwapWord};
use super::waiter::Waiter;
use crate::sched::policy::CHARGED_TWICE_NS;
use crate::sched::queue::list::{Linked, List};
use crate::sched::queue::ring::Handle;
use crate::stack::slab::Slot;
use crate::sys::lock::{Guard, Lock};
use crate::sys::map;
use crate::sys::map_vec::MapVec;
use crate::sys::prefetch::prefetch;
use crate::sys::sync::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::*, is_child,
};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::Location;
use std::ptr::{NonNull, null_mut};

/// What a G is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Dead = 0,
    Runnable = 1,
    Running = 2,
    Blocked = 3,
    Waiting = 4,
    /// Running, on a thread that has blocked outside `blocking` and has no P any more.
    Outside = 5,
}

/// What the runtime knows of a task's types.
pub(crate) struct TaskVTable {
    /// Runs the closure in the storage and leaves the result there.
    pub(crate) run: unsafe fn(&G),
    /// Moves the result from the storage into a box.
    pub(crate) box_output: unsafe fn(&G) -> NonNull<()>,
    /// Drops the result, which lies there.
    pub(crate) drop_output: unsafe fn(&G, Place),
    /// Drops a closure that will not run.
    pub(crate) drop_task: unsafe fn(&G),
}

/// What the goroutine was made for.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Kind {
    Users,
    /// Made by the runtime for itself: not counted and not shown.
    System,
    /// As `System`, and its slot goes back to the system at its end.
    GivesUpSlot,
}

/// See [`G::charge`].
const CHARGE_UNIT_NS: u64 = 1 << 23;

/// Words of a descriptor that hold first a small closure, then the nodes of waits, then the result.
pub(crate) const STORAGE_WORDS: usize = 8;

/// A goroutine. `waiter` comes first: the address of a waiter is the address of its goroutine.
#[repr(C, align(64))]
pub(crate) struct G {
    pub(crate) waiter: Waiter,
    pub(crate) link: Cell<*mut G>,
    /// The suspended stack, see `stack/switch.rs`; 0 before the first run. It belongs to the owner,
    /// but others may read it to warm a cache.
    pub(crate) sp: AtomicUsize,
    /// The thread pointer of its block, 0 for none. A copy of what `slot` has, for others to read.
    pub(crate) tp: AtomicUsize,
    /// Whether the stack is in its slot, see `swap_word.rs`.
    pub(crate) swap: SwapWord,
    /// The M that must run this G, null for any.
    pub(crate) bound_m: AtomicPtr<M>,
    pub(crate) class: Cell<u8>,
    state: AtomicU8,
    reason: AtomicU8,
    kind: AtomicU8,
    /// It joins the expired when it next becomes runnable, see `policy/`.
    expires: AtomicBool,
    pub(crate) refs: AtomicU8,
    /// When it last began to wait as a slice ended, in units of [`CHARGE_UNIT_NS`]. Only the
    /// goroutine itself uses this.
    charged: Cell<u16>,
    // A switch needs only the fields up to here, which are in one cache line.
    /// Its sequence number in the scheduler's list that it is in (`Shared::next_seq`): the lower
    /// one came first. Under the scheduler's lock.
    pub(crate) seq: Cell<u64>,
    /// How many `lock_os_thread` guards are alive (those that never come back included).
    pub(crate) thread_locks: AtomicU32,
    /// How many `no_preempt` guards are alive. Only the goroutine itself changes this.
    pub(crate) no_preempt: AtomicU32,
    /// How many `lend_stack` guards are alive. Only the goroutine itself uses this.
    pub(crate) loans: Loans,
    /// The tid that belongs in the goroutine's block, while `lock_os_thread` has put the thread's
    /// own there.
    pub(crate) own_tid: Cell<u32>,
    pub(crate) slot: UnsafeCell<Option<Slot>>,
    /// How its end meets what waits for its result, see `join_word.rs`.
    pub(crate) join: JoinWord,
    /// First the closure, until the goroutine runs; then the node of its wait
    /// (`WaiterRef::place_node`); then its result.
    pub(crate) storage: UnsafeCell<[MaybeUninit<usize>; STORAGE_WORDS]>,
    pub(crate) vtable: Cell<Option<&'static TaskVTable>>,
    id: AtomicU64,
    parent: AtomicU64,
    since_ns: AtomicU64,
    created_at: AtomicPtr<Location<'static>>,
    /// Observers read it under [`NAMES`].
    name: UnsafeCell<Option<Box<str>>>,
    /// The values of `goroutine_local!`, used by the goroutine itself or its maker.
    pub(crate) locals: UnsafeCell<Option<Box<Locals>>>,
}

/// A list of runnable goroutines.
pub(crate) type GList = List<Runnable>;

/// A runnable goroutine, and the right to queue it or to run it. There is one of these at a time.
#[must_use = "a runnable goroutine that is on no queue never runs"]
pub(crate) struct Runnable(&'static G);

impl Runnable {
    /// The descriptor, to look at.
    #[inline]
    pub(crate) fn g(&self) -> &'static G {
        self.0
    }

    /// The goroutine is to run on the caller's M, which says so by
    /// [`begin_running`](G::begin_running).
    #[inline]
    pub(crate) fn claim(self) -> &'static G {
        self.0
    }

    /// The M that the goroutine is bound to. The caller gives it a P, and it goes on with the
    /// goroutine.
    pub(crate) fn run_on_its_m(self) -> &'static M {
        // SAFETY: descriptors of Ms are never freed, and a bound goroutine has its M.
        unsafe { self.0.bound_m.load(Acquire).as_ref() }.expect("it is bound")
    }
}

impl Handle for Runnable {
    type Target = G;

    #[inline]
    fn into_ptr(self) -> *mut G {
        std::ptr::from_ref(self.0).cast_mut()
    }

    #[inline]
    unsafe fn from_ptr(ptr: *mut G) -> Runnable {
        // SAFETY: descriptors are never freed.
        Runnable(unsafe { &*ptr })
    }
}

impl Linked for G {
    #[inline]
    fn link(&self) -> &Cell<*mut G> {
        &self.link
    }
}

/// Held while a name is set, taken away, or read by an observer.
static NAMES: Lock<()> = Lock::new(());

// SAFETY: all threads may use the atomic fields. Each other field belongs to the owner that the
// table names, and it goes from owner to owner through a queue or a word, with Release and Acquire.
unsafe impl Sync for G {}

impl G {
    /// Whether the user has started it and it has not run yet. (What the runtime starts at some
    /// time, as for `after_func`, is no newcomer.) A guess, unless the caller owns it.
    #[inline]
    pub(crate) fn is_newcomer(&self) -> bool {
        self.sp.load(Relaxed) == 0 && !self.is_system()
    }

    fn init(this: *mut G) {
        // SAFETY: the place is zeroed memory of a chunk, and not in use yet.
        unsafe {
            this.write(G {
                waiter: Waiter::of_goroutine(),
                link: Cell::new(null_mut()),
                seq: Cell::new(0),
                expires: AtomicBool::new(false),
                charged: Cell::new(0),
                sp: AtomicUsize::new(0),
                tp: AtomicUsize::new(0),
                swap: SwapWord::new(),
                slot: UnsafeCell::new(None),
                class: Cell::new(0),
                state: AtomicU8::new(State::Dead as u8),
                reason: AtomicU8::new(0),
                kind: AtomicU8::new(Kind::Users as u8),
                thread_locks: AtomicU32::new(0),
                no_preempt: AtomicU32::new(0),
                refs: AtomicU8::new(0),
                loans: Loans::new(),
                own_tid: Cell::new(0),
                bound_m: AtomicPtr::new(null_mut()),
                join: JoinWord::new(),
                vtable: Cell::new(None),
                storage: UnsafeCell::new([MaybeUninit::uninit(); STORAGE_WORDS]),
                id: AtomicU64::new(0),
                parent: AtomicU64::new(0),
                since_ns: AtomicU64::new(0),
                created_at: AtomicPtr::new(null_mut()),
                name: UnsafeCell::new(None),
                locals: UnsafeCell::new(None),
            });
        }
    }

    /// Sets the fields of a goroutine that is made. The caller owns the dead descriptor.
    pub(crate) fn begin(&self, id: u64, parent: u64, class: u8, at: &'static Location<'static>, refs: u8) {
        self.id.store(id, Relaxed);
        self.parent.store(parent, Relaxed);
        self.created_at.store(std::ptr::from_ref(at).cast_mut(), Relaxed);
        self.class.set(class);
        self.sp.store(0, Relaxed);
        self.tp.store(0, Relaxed);
        self.swap.stay();
        self.loans.reset();
        self.refs.store(refs, Relaxed);
        self.join.begin();
        self.set_kind(Kind::Users);
        self.thread_locks.store(0, Relaxed);
        self.expires.store(false, Relaxed);
        self.charged.set(0);
        self.no_preempt.store(0, Relaxed);
        self.bound_m.store(null_mut(), Relaxed);
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.load(Relaxed)
    }

    pub(crate) fn parent(&self) -> u64 {
        self.parent.load(Relaxed)
    }

    /// Called by the goroutine itself, which begins to wait as a slice ends: charges the slice to
    /// it. If it was charged a short time before, too, it [expires](G::take_expires).
    pub(crate) fn charge(&self, now: u64) {
        let now = (now / CHARGE_UNIT_NS) as u16;
        let before = self.charged.replace(now);
        let recently = u64::from(now.wrapping_sub(before)) < CHARGED_TWICE_NS / CHARGE_UNIT_NS;
        self.expires.store(before != 0 && recently, Relaxed);
    }

    /// Whether it is to join the expired, now that it has become runnable. To be asked once.
    #[inline]
    pub(crate) fn take_expires(&self) -> bool {
        let expires = self.expires.load(Relaxed);
        if expires {
            self.expires.store(false, Relaxed);
        }
        expires
    }

    pub(crate) fn created_at(&self) -> Option<&'static Location<'static>> {
        // SAFETY: only `'static` references are stored.
        unsafe { self.created_at.load(Relaxed).as_ref() }
    }

    #[inline]
    fn set_state(&self, state: State) {
        self.state.store(state as u8, Release);
    }

    /// It becomes runnable: its wait was ended, it was started, yields, is preempted, or comes out
    /// of `blocking` without a P.
    ///
    /// # Safety
    /// The caller owns it, as the table says, so it is on no queue.
    #[inline]
    pub(crate) unsafe fn become_runnable(&'static self) -> Runnable {
        self.set_state(State::Runnable);
        Runnable(self)
    }

    /// It has left its stack, or is about to; its park is not committed yet. Called by its M, or
    /// its maker.
    #[inline]
    pub(crate) fn begin_waiting(&self) {
        self.set_state(State::Waiting);
    }

    /// It enters `blocking`. Called by the goroutine itself.
    #[inline]
    pub(crate) fn begin_blocking(&self) {
        self.set_state(State::Blocked);
    }

    /// It is about to be resumed. The M that has claimed it calls this before it looks at the
    /// stack, see `swap_word.rs`.
    #[inline]
    pub(crate) fn begin_running(&self) {
        self.set_state(State::Running);
    }

    /// It goes on, on the thread that it has kept: its M has a P again. Called by the goroutine
    /// itself.
    #[inline]
    pub(crate) fn go_on(&self) {
        self.set_state(State::Running);
    }

    /// For observers: its thread sleeps in the kernel, and sysmon is about to take the P. Called by
    /// sysmon, so the goroutine may be doing something else by now, and then has its own say.
    pub(crate) fn seems_outside(&self, since_ns: u64) {
        self.since_ns.store(since_ns, Relaxed);
        _ = self.state.compare_exchange(State::Running as u8, State::Outside as u8, Relaxed, Relaxed);
    }

    /// Takes [`seems_outside`](G::seems_outside) back: sysmon could not take the P.
    pub(crate) fn seems_inside(&self) {
        _ = self.state.compare_exchange(State::Outside as u8, State::Running as u8, Relaxed, Relaxed);
    }

    /// It has ended. Called where its descriptor is put away.
    #[inline]
    pub(crate) fn end(&self) {
        self.set_state(State::Dead);
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Acquire) {
            1 => State::Runnable,
            2 => State::Running,
            3 => State::Blocked,
            4 => State::Waiting,
            5 => State::Outside,
            _ => State::Dead,
        }
    }

    /// Notes why and since when the goroutine waits. Called before the park.
    #[inline]
    pub(crate) fn set_reason(&self, reason: WaitReason, since_ns: u64) {
        self.reason.store(reason as u8, Relaxed);
        self.since_ns.store(since_ns, Relaxed);
    }

    pub(crate) fn reason(&self) -> WaitReason {
        WaitReason::from_u8(self.reason.load(Relaxed))
    }

    /// Whether the runtime made it for itself.
    pub(crate) fn is_system(&self) -> bool {
        self.kind.load(Relaxed) != Kind::Users as u8
    }

    /// Whether its slot goes back to the system at its end.
    pub(crate) fn gives_up_slot(&self) -> bool {
        self.kind.load(Relaxed) == Kind::GivesUpSlot as u8
    }

    pub(crate) fn set_kind(&self, kind: Kind) {
        self.kind.store(kind as u8, Relaxed);
    }

    pub(crate) fn is_locked_to_thread(&self) -> bool {
        self.thread_locks.load(Relaxed) != 0
    }

    pub(crate) fn since_ns(&self) -> u64 {
        self.since_ns.load(Relaxed)
    }

    /// Sets the name. Only for the goroutine itself, or its maker.
    pub(crate) fn set_name(&self, name: Option<String>) {
        let old = {
            let _lock = NAMES.lock();
            // SAFETY: we hold NAMES.
            std::mem::replace(unsafe { &mut *self.name.get() }, name.map(String::into_boxed_str))
        };
        drop(old);
    }

    /// Whether it has a name. Only for the goroutine itself, or its maker.
    #[inline]
    pub(crate) fn has_name(&self) -> bool {
        // SAFETY: only the goroutine itself changes the name, and it is the caller.
        unsafe { (*self.name.get()).is_some() }
    }

    /// The name, for observers.
    pub(crate) fn name(&self) -> Option<String> {
        let _lock = NAMES.lock();
        // SAFETY: we hold NAMES.
        unsafe { (*self.name.get()).as_ref().map(|name| name.to_string()) }
    }

    /// Calls `f` with the name, if it has one. For the handler of a fault.
    pub(crate) fn with_name_in_handler(&self, f: impl FnOnce(&str)) {
        let Some(_lock) = NAMES.lock_in_handler() else { return };
        // SAFETY: we hold NAMES.
        if let Some(name) = unsafe { (*self.name.get()).as_deref() } {
            f(name);
        }
    }
}

/// Prefetches the lines of a descriptor that a switch touches. `g` may be null.
#[inline]
pub(crate) fn prefetch_descriptor(g: *const G) {
    prefetch(g);
    prefetch(g.wrapping_byte_add(LINE));
    prefetch(g.wrapping_byte_add(3 * LINE));
}

/// Prefetches the top of a suspended stack, and the thread-locals that a switch touches.
#[inline]
pub(crate) fn prefetch_stack(g: &G) {
    let (sp, tp) = (g.sp.load(Relaxed), g.tp.load(Relaxed));
    if sp != 0 {
        (0..4).for_each(|i| prefetch((sp + i * LINE) as *const u8));
    }
    if tp != 0 {
        let fixed = fixed();
        let words = fixed.malloc_words.map_or(0, |[first, _]| first);
        prefetch(tp.wrapping_add_signed(fixed.current_offset) as *const u8);
        prefetch(tp.wrapping_add_signed(words) as *const u8);
    }
}

/// The bytes of a cache line.
const LINE: usize = 64;

/// Descriptors per chunk.
const CHUNK: usize = 256;

/// All descriptors. They lie in chunks that are never unmapped, so that any goroutine can be looked
/// at at any time.
struct Heap {
    chunks: MapVec<usize>,
    /// Descriptors used in the newest chunk.
    used: usize,
    free: MapVec<usize>,
}

static HEAP: Lock<Heap> = Lock::new(Heap { chunks: MapVec::new(), used: CHUNK, free: MapVec::new() });

/// Adds `n` dead descriptors to `to`.
pub(crate) fn allocate(n: usize, to: &mut Vec<*mut G>) {
    let mut heap = HEAP.lock();
    for _ in 0..n {
        if let Some(g) = heap.free.pop() {
            to.push(g as *mut G);
            continue;
        }
        if heap.used == CHUNK {
            let chunk = map::reserve(CHUNK * size_of::<G>()).unwrap_or_else(|e| {
                crate::sys::fatal::throw(&format!("fatal error: cannot allocate goroutine descriptors: {e}"))
            });
            heap.chunks.push(chunk);
            heap.used = 0;
        }
        let g = (heap.chunks[heap.chunks.len() - 1] as *mut G).wrapping_add(heap.used);
        G::init(g);
        heap.used += 1;
        to.push(g);
    }
}

/// Takes dead descriptors back, for others to use.
pub(crate) fn free(gs: impl Iterator<Item = *mut G>) {
    if is_child() {
        return; // no goroutines are made any more
    }
    let mut heap = HEAP.lock();
    gs.for_each(|g| heap.free.push(g as usize));
}

/// Calls `f` for every descriptor in use. A moment's view: goroutines come and go meanwhile.
/// Allocates nothing.
pub(crate) fn for_each(f: impl FnMut(&'static G)) {
    for_each_of(HEAP.lock(), f);
}

/// As [`for_each`], for the handler of a fault.
pub(crate) fn for_each_in_handler(f: impl FnMut(&'static G)) {
    if let Some(heap) = HEAP.lock_in_handler() {
        for_each_of(heap, f);
    }
}

fn for_each_of(heap: Guard<'_, Heap>, mut f: impl FnMut(&'static G)) {
    let mut chunks = MapVec::new();
    heap.chunks.iter().for_each(|&chunk| chunks.push(chunk));
    let used = heap.used;
    drop(heap);
    for (i, &chunk) in chunks.iter().enumerate() {
        let n = if i + 1 == chunks.len() { used } else { CHUNK };
        for k in 0..n {
            // SAFETY: the first `n` descriptors of a chunk are initialised and never freed.
            let g = unsafe { &*(chunk as *const G).add(k) };
            if g.state() != State::Dead {
                f(g);
            }
        }
    }
}

const _: () = assert!(size_of::<G>() == 256);
