//! Thread-locals that belong to a stack slot.
//!
//! # Role
//! To the language a goroutine is a thread: it has a thread descriptor and a block of thread-locals of its own,
//! at the top of its slot, where nptl puts them on a thread's stack, and the FS base points there while it runs.
//! [`Layout::discover`] finds out at start how this libc lays them; [`Layout::build`] makes one.
//!
//! ```text
//!   low                                                                 tp            end
//!   ┌───────┬──────────────── stack, grows down ◀──┬──────────────────┬──────────────────┐
//!   │ guard │                                      │ static TLS       │ struct pthread   │
//!   └───────┴──────────────────────────────────────┴──────────────────┴──────────────────┘
//!                                                  ◀──── used ────────▶
//! ```
//!
//! # How a block is made
//! glibc's own `_dl_allocate_tls` lays the initial images and the dtv, as `pthread_create` has it do. What
//! `pthread_create` and `start_thread` then write into a descriptor is learned from a **donor**: a real, detached thread
//! that copies its own block before it does anything else. Each word in which the donor differs from a bare block
//! is one [`Patch`]: a pointer into the donor's block is relocated, the stack bounds become the
//! slot's, the tid is the block's own, rseq is marked unregistered, and the rest (stack guard,
//! pointer guard, ctype tables) is copied. A block is that of a detached thread, which nobody can
//! join, on libc's list of threads (`listed.rs`), where it says that it is exiting: so `setuid` and
//! its family leave it alone.
//!
//! # The surplus
//! Static TLS ends with room for libraries that are opened later. If nobody can get it
//! (`surplus.rs`), the stack begins above it, right below what is used: so block and stack share a
//! page. `_dl_allocate_tls` writes the whole of static TLS; then it does so **aside**, in memory
//! that is kept for that, and what is used comes from there. If room was [wanted](Wanted::reserve),
//! it belongs to each block, and the stack begins below it.
//!
//! # malloc
//! glibc's malloc keeps a cache and an arena per thread. A million goroutines must not hoard a million caches,
//! so the words that point to them stay with the M: they are written into the block at switch-in and
//! read back at switch-out. Which words, a canary tells: those that the first `malloc` changes in a fresh
//! block. If that does not look as expected, nothing is carried, which is right but costs memory.

use super::end::End;
use super::exit_trap;
use super::listed::{self, List};
use super::surplus::{self, Sizes};
use crate::sys::fs;
use crate::sys::lock::Lock;
use crate::sys::map::{self, PAGE};
use crate::sys::map_vec::MapVec;
use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use thiserror::Error;

/// Why goroutines cannot own their thread-locals in this process.
#[derive(Debug, Clone, Error)]
pub(crate) enum LayoutError {
    #[error(
        "this libc is not laid out as gort needs it for goroutines that own their thread-locals: {0}; \
         use Runtime::builder().shared_thread_locals() (unsafe) to run without"
    )]
    Unknown(String),
    /// More is to be reserved than there is.
    #[error(
        "{asked} bytes of static thread-locals cannot be reserved for libraries that are opened later: \
         this libc has {possible} left (GLIBC_TUNABLES=glibc.rtld.optional_static_tls=N gives more)"
    )]
    Room { asked: usize, possible: usize },
}

impl LayoutError {
    pub(super) fn new(why: impl Into<String>) -> LayoutError {
        LayoutError::Unknown(why.into())
    }
}

/// What the program wants of its blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Bytes of static TLS for libraries that are opened later.
    pub(crate) reserve: usize,
    /// Whether the surplus may be taken, if nothing is reserved.
    pub(crate) take: bool,
    /// Called, on a stack of its own and on the block, where a goroutine has called `pthread_exit`.
    pub(crate) ended: extern "C" fn() -> !,
}

/// Linux never gives a thread an id at or above this; the blocks' own ids begin here.
const FIRST_TID: u32 = 0x2000_0000;
/// `FUTEX_TID_MASK` keeps 30 bits of a lock owner's id.
const LAST_TID: u32 = 0x3FFF_FFF0;

/// The bit of `cancelhandling` in a descriptor by which a thread says that it is about to end, in
/// every glibc.
const EXITING: u32 = 1 << 4;

type AllocateTls = unsafe extern "C" fn(*mut u8) -> *mut u8;
type DeallocateTls = unsafe extern "C" fn(*mut u8, bool);
type StaticInfo = unsafe extern "C" fn(*mut usize, *mut usize);

/// One word that a block needs beyond what `_dl_allocate_tls` writes. Offsets count from the thread pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patch {
    pub(crate) off: isize,
    pub(crate) value: PatchValue,
}

/// What a patched word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchValue {
    /// The same in every thread.
    Const(u64),
    /// The address `tp + this`.
    Own(isize),
    /// The low end of the stack, guard included.
    StackLow,
    /// The bytes of the stack, guard and block included.
    StackSize,
    /// The bytes of the guard.
    GuardSize,
    /// The block's tid, in the low half.
    Tid,
    /// rseq's two cpu words: 0 and "not registered".
    Rseq,
}

/// What there is to know about this libc's threads.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    static_size: usize,
    align: usize,
    pthread_size: usize,
    /// Bytes below the thread pointer that a block has.
    used: usize,
    /// What has become of the rest of static TLS.
    surplus: Surplus,
    list: Option<List>,
    tid_off: usize,
    cancel_off: usize,
    links_off: isize,
    patches: Vec<Patch>,
    /// Offsets of malloc's words.
    malloc_words: Vec<isize>,
    allocate: AllocateTls,
    deallocate: DeallocateTls,
    end: End,
    ctype_init: Option<unsafe extern "C" fn()>,
}

/// What has become of that part of static TLS which libc keeps free at a program's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Surplus {
    /// A library of ours, for good: a block ends above it.
    Taken,
    /// Libraries that are opened later; it is a part of each block.
    Reserved,
    /// As `Reserved`, since it could not be taken, for this reason.
    Left(String),
}

impl fmt::Display for Surplus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Surplus::Taken => f.write_str("what libc keeps free for later libraries is taken"),
            Surplus::Reserved => f.write_str("what libc keeps free for later libraries is reserved for them"),
            Surplus::Left(why) => {
                write!(f, "what libc keeps free for later libraries could not be taken ({why})")
            }
        }
    }
}

/// A thread pointer with its block, at the top of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// The thread pointer: the FS base while the block is in use.
    pub(crate) tp: usize,
    /// Where the stack begins, growing down.
    pub(crate) stack_top: usize,
}

/// The stack that a block describes to libc.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) low: usize,
    pub(crate) end: usize,
    pub(crate) guard: usize,
}

pub(super) fn symbol(name: &CStr) -> Result<usize, LayoutError> {
    // SAFETY: dlsym reads a NUL-terminated name.
    let p = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as usize;
    if p == 0 {
        Err(LayoutError::new(format!("symbol {} is missing", name.to_string_lossy())))
    } else {
        Ok(p)
    }
}

pub(super) fn require(ok: bool, what: &str) -> Result<(), LayoutError> {
    if ok { Ok(()) } else { Err(LayoutError::new(what)) }
}

/// The offset field of one of libthread_db's descriptors (`{ size in bits, count, offset }`).
pub(super) fn thread_db_offset(name: &CStr) -> Result<usize, LayoutError> {
    // SAFETY: `_thread_db_*` field descriptors are three 32-bit words; libthread_db of every glibc reads them.
    Ok(unsafe { *(symbol(name)? as *const u32).add(2) } as usize)
}

#[inline]
pub(super) fn word(tp: usize, off: isize) -> *mut u64 {
    tp.wrapping_add_signed(off) as *mut u64
}

impl Layout {
    /// Looks at this process's libc, and takes the surplus unless it is wanted. Starts some
    /// short-lived threads.
    pub(crate) fn discover(wanted: Wanted) -> Result<Layout, LayoutError> {
        let static_info = symbol(c"_dl_get_tls_static_info")?;
        // SAFETY: that is this function's type in every glibc; GLIBC_PRIVATE, so checked below by use.
        let static_info: StaticInfo = unsafe { std::mem::transmute(static_info) };
        let (mut static_size, mut align) = (0usize, 0usize);
        // SAFETY: two valid places.
        unsafe { static_info(&mut static_size, &mut align) };
        // SAFETY: `_thread_db_sizeof_pthread` is a 32-bit number.
        let pthread_size = unsafe { *(symbol(c"_thread_db_sizeof_pthread")? as *const u32) } as usize;
        let pthread_size = pthread_size.next_multiple_of(64);
        require(align.is_power_of_two() && align <= PAGE, "the alignment of static TLS is odd")?;
        require(pthread_size < static_size, "static TLS is smaller than a descriptor")?;
        // SAFETY: `fs:0x10` is the `self` field of every thread's header, readable like `fs:0`.
        let own_self = unsafe { *word(fs::read(), 0x10) } as usize;
        require(own_self == fs::read(), "the descriptor does not point to itself")?;
        let tid_off = thread_db_offset(c"_thread_db_pthread_tid")?;
        require(tid_off + 4 <= pthread_size && tid_off.is_multiple_of(8), "the tid's offset is odd")?;
        // SAFETY: the offset lies inside this thread's descriptor.
        let tid = unsafe { *((fs::read() + tid_off) as *const i32) };
        // SAFETY: gettid has no preconditions.
        require(tid == unsafe { libc::gettid() }, "the descriptor's tid is not where libthread_db says")?;
        let cancel_off = thread_db_offset(c"_thread_db_pthread_cancelhandling")?;
        require(
            cancel_off + 4 <= pthread_size && cancel_off.is_multiple_of(4),
            "cancelhandling's offset is odd",
        )?;
        let list_off = thread_db_offset(c"_thread_db_pthread_list")? as isize;
        let list = listed::find(symbol(c"_rtld_global")?);
        let (used, surplus) = share(Sizes { all: static_size, descriptor: pthread_size }, wanted)?;
        let used = used.next_multiple_of(64).min(static_size - pthread_size);
        if surplus != Surplus::Taken {
            list.as_ref().map_err(Clone::clone)?; // or blocks would not see later libraries
        }
        let mut layout = Layout {
            static_size,
            align,
            pthread_size,
            used,
            surplus,
            list: list.ok(),
            tid_off,
            cancel_off,
            links_off: list_off,
            patches: Vec::new(),
            malloc_words: Vec::new(),
            // SAFETY: these are the functions' types in every glibc since 2.34.
            allocate: unsafe { std::mem::transmute::<usize, AllocateTls>(symbol(c"_dl_allocate_tls")?) },
            // SAFETY: as above.
            deallocate: unsafe {
                std::mem::transmute::<usize, DeallocateTls>(symbol(c"_dl_deallocate_tls")?)
            },
            end: End::find()?,
            // SAFETY: as above.
            ctype_init: unsafe {
                symbol(c"__ctype_init").ok().map(|f| std::mem::transmute::<usize, unsafe extern "C" fn()>(f))
            },
        };
        layout.patches = layout.learn_from_donor(list_off, exit_trap::buffer(wanted.ended)?)?;
        layout.check_canary()?;
        layout.malloc_words = layout.find_malloc_words()?;
        let (mut end, begin) = (layout.end.clone(), layout.block_start());
        // SAFETY: the block is fresh, and nobody runs on it.
        layout.with_scratch_block(|tp| unsafe {
            end.find_strings(tp, begin);
            end.free(tp);
        })?;
        layout.end = end;
        Ok(layout)
    }

    /// Where static TLS begins, as an offset from the thread pointer (negative).
    fn tls_start(&self) -> isize {
        self.pthread_size as isize - self.static_size as isize
    }

    /// Where a block begins, and the stack below it, as an offset from the thread pointer
    /// (negative).
    pub(crate) fn block_start(&self) -> isize {
        -(self.used as isize)
    }

    /// From there to the end of a slot, which is that of a page.
    pub(crate) fn block_bytes(&self) -> usize {
        self.pthread_size.next_multiple_of(self.align.max(64)) + self.used
    }

    /// What has become of the rest of static TLS.
    pub(crate) fn surplus(&self) -> &Surplus {
        &self.surplus
    }

    /// Where the links of libc's list of threads are in a block.
    pub(crate) fn links(&self) -> [isize; 2] {
        [self.links_off, self.links_off + 8]
    }

    #[inline]
    pub(crate) fn malloc_words(&self) -> &[isize] {
        &self.malloc_words
    }

    /// Lays a block at the top of the slot `bounds`. `None`: no memory.
    ///
    /// # Safety
    /// The top `block_bytes()` of the slot are writable, zeroed and unused, and stay until the
    /// block is destroyed.
    pub(crate) unsafe fn build(&self, bounds: Bounds) -> Option<Block> {
        let tp = (bounds.end - self.pthread_size) & !(self.align.max(64) - 1);
        // SAFETY: the block is ours. All that libc's walks read of a descriptor that is exiting are
        // zeroes, which mean: nothing.
        unsafe {
            ((tp + self.cancel_off) as *mut u32).write(EXITING);
            // Before the images come: from here on libc sees to those of libraries that it opens.
            self.list(tp);
        }
        // SAFETY: `tp` has the descriptor above it and what is used of static TLS below, inside the
        // slot.
        let laid = unsafe {
            match self.surplus {
                // That is what `_dl_allocate_tls` gets from `pthread_create`. It returns null if
                // the dtv cannot be allocated.
                Surplus::Reserved | Surplus::Left(_) => !(self.allocate)(tp as *mut u8).is_null(),
                Surplus::Taken => self.lay_aside(tp),
            }
        };
        if !laid {
            // SAFETY: it was listed above.
            unsafe { self.unlist(tp) };
            return None;
        }
        // SAFETY: the block was just laid there, and nobody runs on it.
        unsafe { self.apply(tp, bounds) };
        Some(Block { tp, stack_top: tp - self.used })
    }

    /// Has libc lay a block elsewhere, and takes what is used of it. False: no memory.
    ///
    /// # Safety
    /// As [`build`](Layout::build).
    unsafe fn lay_aside(&self, tp: usize) -> bool {
        let from_free = ASIDE.lock().pop();
        let Some(aside) = from_free.or_else(|| map::reserve(self.aside_bytes()).ok()) else { return false };
        let from = (aside + self.aside_bytes() - self.pthread_size) & !(self.align.max(64) - 1);
        // SAFETY: the memory is ours alone, and has room for all of static TLS and a descriptor,
        // where `_dl_allocate_tls` wants them. (It writes the images and one word of the
        // descriptor; what was there before is written anew.) The target is as the caller promises.
        let laid = unsafe {
            let laid = !(self.allocate)(from as *mut u8).is_null();
            if laid {
                let to = (tp - self.used) as *mut u8;
                to.copy_from_nonoverlapping((from - self.used) as *const u8, self.used);
                let dtv = *word(from, DTV) as usize;
                word(tp, DTV).write(dtv as u64);
                let all = from.wrapping_add_signed(self.tls_start())..from;
                for entry in dtv_entries(dtv) {
                    if all.contains(&*entry) {
                        *entry = *entry + tp - from;
                    }
                }
            }
            laid
        };
        ASIDE.lock().push(aside);
        laid
    }

    fn aside_bytes(&self) -> usize {
        (self.static_size + self.align).next_multiple_of(PAGE)
    }

    /// Puts a block on libc's list of threads.
    ///
    /// # Safety
    /// It is not on it, nor will its memory go before it is taken off.
    pub(crate) unsafe fn list(&self, tp: usize) {
        if let Some(list) = &self.list {
            // SAFETY: the caller's promise.
            unsafe { list.add(tp) };
        }
    }

    /// Takes a block off the list.
    ///
    /// # Safety
    /// It is on it.
    unsafe fn unlist(&self, tp: usize) {
        if let Some(list) = &self.list {
            // SAFETY: the caller's promise.
            unsafe { list.remove(tp) };
        }
    }

    /// Takes a block off the list, if libc does nothing with that just now.
    ///
    /// # Safety
    /// It is on it.
    pub(crate) unsafe fn try_unlist(&self, tp: usize) -> bool {
        // SAFETY: the caller's promise.
        self.list.as_ref().is_none_or(|list| unsafe { list.try_remove(tp) })
    }

    /// # Safety
    /// `tp` is a block from `_dl_allocate_tls` that nobody uses.
    unsafe fn apply(&self, tp: usize, bounds: Bounds) {
        for patch in &self.patches {
            let value = match patch.value {
                PatchValue::Const(v) => v,
                PatchValue::Own(off) => tp.wrapping_add_signed(off) as u64,
                PatchValue::StackLow => bounds.low as u64,
                PatchValue::StackSize => (bounds.end - bounds.low) as u64,
                PatchValue::GuardSize => bounds.guard as u64,
                PatchValue::Tid => u64::from(fresh_tid()),
                PatchValue::Rseq => u64::from(u32::MAX) << 32,
            };
            // SAFETY: the offset came from the descriptor or the static TLS of a real block.
            unsafe { word(tp, patch.off).write(value) };
        }
    }

    /// The tid in a block.
    ///
    /// # Safety
    /// `tp` is a block that only the caller uses.
    pub(crate) unsafe fn tid(&self, tp: usize) -> u32 {
        // SAFETY: the tid's place was checked in `discover`.
        unsafe { *((tp + self.tid_off) as *const u32) }
    }

    /// Whether the descriptor `tp` is a block's that has its own id.
    ///
    /// # Safety
    /// It is a descriptor.
    pub(crate) unsafe fn is_block(&self, tp: usize) -> bool {
        // SAFETY: the tid's place was checked in `discover`.
        (FIRST_TID..LAST_TID).contains(&unsafe { *((tp + self.tid_off) as *const u32) })
    }

    /// Sets the tid by which owners of recursive locks are told apart.
    ///
    /// # Safety
    /// `tp` is a block that only the caller uses.
    pub(crate) unsafe fn set_tid(&self, tp: usize, tid: u32) {
        // SAFETY: the tid's place was checked in `discover`.
        unsafe { ((tp + self.tid_off) as *mut u32).write(tid) };
    }

    /// Runs the destructors of the thread-locals of the block that the FS base points to.
    ///
    /// # Safety
    /// The caller runs on that block, as the last user code to do so.
    pub(crate) unsafe fn run_destructors(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.end.run() };
    }

    /// A goroutine begins on the block that the FS base points to: like a thread, it sees the
    /// locale's character classes of today.
    #[inline]
    pub(crate) fn begin(&self) {
        if let Some(init) = self.ctype_init {
            // SAFETY: `start_thread` calls it on each thread's block; it sets three pointers from
            // the locale's.
            unsafe { init() };
        }
    }

    /// Gives back what libc allocated for a block (the dtv and dynamic blocks). The slot's memory is the caller's.
    ///
    /// # Safety
    /// The block came from [`build`](Self::build), its destructors ran, and nobody uses it again.
    pub(crate) unsafe fn destroy(&self, tp: usize) {
        // SAFETY: every block is on the list, and nobody runs on this one.
        unsafe {
            self.unlist(tp);
            self.end.free(tp);
        }
        for &off in &self.malloc_words {
            // SAFETY: inside the block; the words belong to an M, which has its own copy.
            unsafe { word(tp, off).write(0) };
        }
        // SAFETY: the caller's promise; `false`: the block itself is not libc's memory.
        unsafe { (self.deallocate)(tp as *mut u8, false) };
    }

    /// Compares a donor with a bare block; see the module header.
    fn learn_from_donor(&self, list_off: isize, exit_trap: usize) -> Result<Vec<Patch>, LayoutError> {
        let donor = Snapshot::take(self)?;
        let rseq = symbol(c"__rseq_offset").ok().zip(symbol(c"__rseq_size").ok()).and_then(|(off, size)| {
            // SAFETY: public variables of glibc since 2.35: a ptrdiff_t and an unsigned int.
            unsafe { (*(size as *const u32) != 0).then_some(*(off as *const isize)) }
        });
        // SAFETY: null asks for memory of libc's own.
        let bare = unsafe { (self.allocate)(std::ptr::null_mut()) } as usize;
        require(bare != 0, "no memory for a TLS block")?;
        let block = donor.tp.wrapping_add_signed(self.tls_start())..donor.tp + self.pthread_size;
        let stack = donor.bounds.low..donor.bounds.end;
        let own = fs::read();
        let of_libraries = own.wrapping_add_signed(self.block_start())..own;
        let places = modules().into_iter().map(|(_, data)| data).filter(|data| of_libraries.contains(data));
        let lowest = places.map(|data| data.wrapping_sub(own) as isize).chain(rseq).min().unwrap_or(0);
        let values = self.values_of_keys(&donor);
        let mut patches = Vec::new();
        for i in 0..self.static_size / 8 {
            let off = self.tls_start() + 8 * i as isize;
            // SAFETY: inside the bare block.
            let plain = unsafe { *word(bare, off) };
            let seen = donor.words[i];
            let value = seen as usize;
            let in_rseq = rseq.is_some_and(|r| (r..r + 32).contains(&off));
            // What is nobody's yet holds anything; it may be that of a library that comes later. So
            // do keys without a value: a thread that sets one to null leaves its mark on its stack,
            // which another thread gets. And a thread that changes the list writes to this one's
            // links.
            if off < lowest || off == list_off || off == list_off + 8 || values.contains(&off) {
                continue;
            }
            let what = if off == self.tid_off as isize {
                PatchValue::Tid
            } else if in_rseq {
                if rseq == Some(off) { PatchValue::Rseq } else { continue }
            } else if seen == plain || off == 8 {
                continue; // equal, or the dtv, which is each block's own
            } else if block.contains(&value) {
                PatchValue::Own(value.wrapping_sub(donor.tp) as isize)
            } else if value == donor.bounds.low {
                PatchValue::StackLow
            } else if value == donor.bounds.end - donor.bounds.low {
                PatchValue::StackSize
            } else if value == donor.bounds.guard {
                PatchValue::GuardSize
            } else if stack.contains(&value) {
                PatchValue::Const(exit_trap as u64) // where pthread_exit would jump to, in the thread's first frame
            } else if value == donor.start || value == donor.arg {
                continue;
            } else {
                PatchValue::Const(seen)
            };
            patches.push(Patch { off, value: what });
        }
        // SAFETY: nobody used the block; `true`: its memory is libc's own.
        unsafe { (self.deallocate)(bare as *mut u8, true) };
        let trapped = patches.iter().filter(|p| p.value == PatchValue::Const(exit_trap as u64)).count();
        require(trapped == 1, "where pthread_exit would jump to was not found")?;
        let has = |v: PatchValue| patches.iter().any(|p| p.value == v);
        require(has(PatchValue::Own(0)), "a thread's descriptor does not point to itself")?;
        require(
            has(PatchValue::StackLow) && has(PatchValue::StackSize),
            "a thread's stack bounds were not found",
        )?;
        Ok(patches)
    }

    /// The offsets of the values of the first pthread keys.
    fn values_of_keys(&self, donor: &Snapshot) -> std::ops::Range<isize> {
        let pointer = (self.end.first_values() - self.tls_start()) / 8;
        let first = donor.words[pointer as usize].wrapping_sub(donor.tp as u64) as isize;
        first..first.saturating_add_unsigned(self.end.values_bytes())
    }

    /// A fresh block must hold this crate's own thread-locals at their initial value, at the offset they have in
    /// a real thread.
    fn check_canary(&self) -> Result<(), LayoutError> {
        const EXPECTED: u64 = 0x676f_7274_2d6f_6b21;
        thread_local!(static CANARY: Cell<u64> = const { Cell::new(EXPECTED) });
        let off = CANARY.with(|c| std::ptr::from_ref(c) as usize).wrapping_sub(fs::read()) as isize;
        require(
            (self.block_start()..0).contains(&off),
            "gort's thread-locals are not in static TLS (is it in a library loaded by dlopen?)",
        )?;
        self.with_scratch_block(|tp| {
            // SAFETY: inside the block.
            let seen = unsafe { *word(tp, off) };
            // SAFETY: the block is fresh and ours; `CANARY.with` is all that runs on it.
            let through_fs = unsafe {
                let own = fs::read();
                CANARY.with(|c| c.set(EXPECTED ^ 1));
                fs::write(tp);
                let v = read_canary(&CANARY);
                fs::write(own);
                CANARY.with(|c| c.set(EXPECTED));
                v
            };
            require(
                seen == EXPECTED && through_fs == EXPECTED,
                "a fresh block does not hold initial values",
            )?;
            self.check_dtv(tp)
        })?
    }

    /// A fresh block's dtv must have each module's thread-locals where this thread has them, or
    /// nowhere yet.
    fn check_dtv(&self, tp: usize) -> Result<(), LayoutError> {
        let own = fs::read();
        let in_block = own - self.used..own;
        // SAFETY: the block is ours; if a dtv looks otherwise here, this reads some words of the
        // heap.
        let places: Vec<usize> =
            unsafe { dtv_entries(*word(tp, DTV) as usize) }.map(|place| *place).collect();
        let is_right = |&(id, data): &(usize, usize)| places.get(id - 1) == Some(&(data + tp - own));
        let modules = modules();
        let mut seen = modules.iter().filter(|(id, data)| *id != 0 && in_block.contains(data)).peekable();
        require(seen.peek().is_some() && seen.all(is_right), "a fresh block's dtv is odd")
    }

    /// The words that glibc's first `malloc` changes in a fresh block; none if malloc is not glibc's.
    fn find_malloc_words(&self) -> Result<Vec<isize>, LayoutError> {
        let ours = symbol(c"__libc_malloc").is_ok_and(|m| symbol(c"malloc").is_ok_and(|p| p == m));
        if !ours {
            return Ok(Vec::new());
        }
        self.with_scratch_block(|tp| {
            let count = (-self.block_start() / 8) as usize;
            let mut before = vec![0u64; count];
            let at = |i: usize| self.block_start() + 8 * i as isize;
            // SAFETY: static TLS of the fresh block.
            before.iter_mut().enumerate().for_each(|(i, w)| *w = unsafe { *word(tp, at(i)) });
            // SAFETY: the block is fresh and ours, and only malloc and free run on it.
            unsafe {
                let own = fs::read();
                fs::write(tp);
                let p = std::hint::black_box(libc::malloc(40));
                libc::free(p);
                fs::write(own);
            }
            let words: Vec<isize> = (0..count)
                // SAFETY: as above.
                .filter(|&i| unsafe { *word(tp, at(i)) } != before[i])
                .map(at)
                .collect();
            // The cache and the arena: two words that point elsewhere now, here as in this thread.
            // (Before, they are null, or the cache is one that is never filled, since 2.42.)
            let plausible = words.len() == 2
                && words.iter().all(|&off| {
                    let i = ((off - self.block_start()) / 8) as usize;
                    // SAFETY: static TLS of this thread, which has allocated before.
                    let own = unsafe { *word(fs::read(), off) };
                    own != 0 && own != before[i]
                });
            if plausible { words } else { Vec::new() }
        })
    }

    fn with_scratch_block<R>(&self, f: impl FnOnce(usize) -> R) -> Result<R, LayoutError> {
        let bytes = self.block_bytes().next_multiple_of(PAGE);
        let no_memory = || LayoutError::new("no memory for a TLS block");
        let low = map::reserve(bytes).map_err(|_| no_memory())?;
        // SAFETY: fresh memory of ours, which stays until the block is destroyed; nobody but `f`
        // runs on it. (The cache of a canary's malloc, 600 bytes, once, stays behind.)
        unsafe {
            let block = self.build(Bounds { low, end: low + bytes, guard: 0 });
            let r = block.map(|block| {
                let r = f(block.tp);
                self.destroy(block.tp);
                r
            });
            map::release(low, bytes);
            r.ok_or_else(no_memory)
        }
    }
}

/// How many bytes below the thread pointer a block has, and what becomes of the rest of static TLS.
fn share(sizes: Sizes, wanted: Wanted) -> Result<(usize, Surplus), LayoutError> {
    let all = sizes.all - sizes.descriptor;
    if wanted.reserve != 0 {
        // Where that cannot be found out, libc will say it when such a library is opened.
        if let Ok(used) = surplus::used(sizes)
            && all - used < wanted.reserve
        {
            return Err(LayoutError::Room { asked: wanted.reserve, possible: all - used });
        }
        return Ok((all, Surplus::Reserved));
    }
    if !wanted.take {
        return Ok((all, Surplus::Left("it was asked for".into())));
    }
    Ok(match surplus::take(sizes) {
        Ok(used) => (used, Surplus::Taken),
        Err(why) => (all, Surplus::Left(why)),
    })
}

/// Where a descriptor points to its dtv.
const DTV: isize = 8;

/// Memory to have blocks laid in, which nobody uses just now.
static ASIDE: Lock<MapVec<usize>> = Lock::new(MapVec::new());

/// The places of a dtv that point to modules' thread-locals: a count lies before the dtv, and the
/// first of its pairs of words is no place.
///
/// # Safety
/// `dtv` is one, and the caller's.
unsafe fn dtv_entries(dtv: usize) -> impl Iterator<Item = &'static mut usize> {
    // SAFETY: the caller's promise; `check_canary` sees whether that is how a dtv looks here.
    unsafe {
        let count = *((dtv - 16) as *const usize);
        (1..=count).map(move |i| &mut *((dtv + 16 * i) as *mut usize))
    }
}

/// Each library's number among those that have thread-locals (0: it has none), and where this
/// thread has them (0: nowhere yet).
fn modules() -> Vec<(usize, usize)> {
    extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, modules: *mut libc::c_void) -> libc::c_int {
        // SAFETY: libc passes a valid description, and what `dl_iterate_phdr` got below.
        let (info, modules) = unsafe { (&*info, &mut *modules.cast::<Vec<(usize, usize)>>()) };
        modules.push((info.dlpi_tls_modid, info.dlpi_tls_data as usize));
        0
    }
    let mut modules: Vec<(usize, usize)> = Vec::new();
    // SAFETY: the callback fits, and its argument lives through the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut modules).cast()) };
    modules
}

/// Reads through the FS base in a function of its own, so that no address computed before is used.
#[inline(never)]
fn read_canary(key: &'static std::thread::LocalKey<Cell<u64>>) -> u64 {
    std::hint::black_box(key).with(Cell::get)
}

/// A tid that no thread and no other living block has (they wrap after half a billion).
fn fresh_tid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    FIRST_TID + NEXT.fetch_add(1, Relaxed) % (LAST_TID - FIRST_TID)
}

/// What a fresh thread's block held.
pub(crate) struct Snapshot {
    pub(crate) tp: usize,
    pub(crate) bounds: Bounds,
    /// The address of the donor's start routine, which its descriptor keeps.
    pub(crate) start: usize,
    /// And its argument.
    pub(crate) arg: usize,
    /// From `tls_start()` to the end of the descriptor.
    pub(crate) words: Vec<u64>,
}

/// What goes to the donor and back.
#[repr(C)]
struct Errand {
    tls_start: isize,
    count: usize,
    words: *mut u64,
    tp: usize,
    stack_low: usize,
    stack_size: usize,
    guard: usize,
    done: Option<mpsc::Sender<()>>,
}

/// The donor's body: copies its block word by word before anything else runs on it.
extern "C" fn donate(errand: *mut libc::c_void) -> *mut libc::c_void {
    let errand = errand.cast::<Errand>();
    // SAFETY: the starter keeps the errand until it is told; `words` has `count` places, and the block
    // lies where every thread of this libc has it. Nothing here uses a thread-local before the copy is done.
    let done = unsafe {
        let tp = fs::read();
        let from = tp.wrapping_add_signed((*errand).tls_start) as *const u64;
        let mut i = 0;
        while i < (*errand).count {
            (*errand).words.add(i).write_volatile(from.add(i).read_volatile());
            i += 1;
        }
        (*errand).tp = tp;
        let mut attr: libc::pthread_attr_t = std::mem::zeroed();
        let (mut addr, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attr) == 0 {
            libc::pthread_attr_getstack(&attr, &mut addr, &mut size);
            libc::pthread_attr_getguardsize(&attr, &mut guard);
            libc::pthread_attr_destroy(&mut attr);
        }
        // The attributes leave the guard out; the descriptor counts it in.
        (*errand).stack_low = addr as usize - guard;
        (*errand).stack_size = size + guard;
        (*errand).guard = guard;
        (*errand).done.take()
    };
    // The starter is there; if it could not be told, it would see that the sender is gone.
    let _ = done.map(|done| done.send(()));
    std::ptr::null_mut()
}

impl Snapshot {
    /// As the guard's, a size that occurs nowhere else, so that the words that hold it are
    /// recognised.
    fn stack_bytes(layout: &Layout) -> usize {
        57 * PAGE + layout.static_size.next_multiple_of(PAGE)
    }

    /// Runs a donor and returns what it saw of itself.
    pub(crate) fn take(layout: &Layout) -> Result<Snapshot, LayoutError> {
        const GUARD: usize = 3 * PAGE;
        let count = layout.static_size / 8;
        let mut words = vec![0u64; count];
        let (done, is_done) = mpsc::channel();
        let mut errand = Errand {
            tls_start: layout.tls_start(),
            count,
            words: words.as_mut_ptr(),
            tp: 0,
            stack_low: 0,
            stack_size: 0,
            guard: 0,
            done: Some(done),
        };
        let stack = Snapshot::stack_bytes(layout);
        // SAFETY: plain use of pthreads; the errand outlives the thread's use of it, which is waited
        // for. The thread is detached, as blocks are: how a descriptor says so, each libc knows.
        let rc = unsafe {
            let mut attr: libc::pthread_attr_t = std::mem::zeroed();
            libc::pthread_attr_init(&mut attr);
            libc::pthread_attr_setstacksize(&mut attr, stack);
            libc::pthread_attr_setguardsize(&mut attr, GUARD);
            libc::pthread_attr_setdetachstate(&mut attr, libc::PTHREAD_CREATE_DETACHED);
            let mut thread: libc::pthread_t = 0;
            let rc = libc::pthread_create(&mut thread, &attr, donate, (&raw mut errand).cast());
            if rc == 0 {
                let _ = is_done.recv();
            }
            libc::pthread_attr_destroy(&mut attr);
            rc
        };
        if rc != 0 {
            let e = std::io::Error::from_raw_os_error(rc);
            return Err(LayoutError::new(format!("a thread could not be started to look at: {e}")));
        }
        let bounds =
            Bounds { low: errand.stack_low, end: errand.stack_low + errand.stack_size, guard: errand.guard };
        let arg = (&raw const errand) as usize;
        Ok(Snapshot { tp: errand.tp, bounds, start: donate as *const () as usize, arg, words })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::OnceLock;

    /// This process's, with room for its blocks in every slot.
    pub(in crate::stack) fn layout() -> &'static Layout {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        LAYOUT.get_or_init(|| {
            extern "C" fn ended() -> ! {
                std::process::abort()
            }
            let wanted = Wanted { reserve: 0, take: true, ended };
            let layout = Layout::discover(wanted).expect("this libc is supported");
            super::super::slab::make_room(layout.block_bytes());
            layout
        })
    }

    /// Ends a thread whose stack the next one gets, with keys in it that were set to null.
    fn leave_marks_of_keys(layout: &Layout) {
        let stack = Snapshot::stack_bytes(layout);
        let marks = std::thread::Builder::new().stack_size(stack).spawn(|| {
            let mut key = 0;
            // SAFETY: a key of ours, without a destructor.
            unsafe {
                assert_eq!(libc::pthread_key_create(&mut key, None), 0);
                assert_eq!(libc::pthread_setspecific(key, std::ptr::null()), 0);
                assert_eq!(libc::pthread_key_delete(key), 0);
            }
        });
        marks.expect("a thread starts").join().expect("no panic");
    }

    /// The general answer: a fresh block, word by word beside the block of a fresh real thread. After
    /// relocation only what is explained here may differ.
    #[test]
    fn fresh_block_equals_fresh_thread() {
        let layout = layout();
        let donor = Snapshot::take(layout).expect("a thread starts");
        let values = layout.values_of_keys(&donor);
        assert!(values.start > 0 && values.len() == 512, "{values:?}");
        let memory = crate::sys::map::reserve(64 * PAGE).expect("memory");
        let bounds = Bounds { low: memory, end: memory + 64 * PAGE, guard: PAGE };
        // SAFETY: fresh memory of ours.
        let block = unsafe { layout.build(bounds) }.expect("a block");
        assert_eq!(layout.surplus, Surplus::Taken);
        assert!(layout.used < layout.static_size - layout.pthread_size, "nothing was taken");
        let range = donor.tp.wrapping_add_signed(layout.tls_start())..donor.tp + layout.pthread_size;
        let rseq = symbol(c"__rseq_offset").map_or(isize::MAX - 64, |p| {
            // SAFETY: a ptrdiff_t of glibc's.
            unsafe { *(p as *const isize) }
        });
        let mut unexplained = Vec::new();
        for (i, &theirs) in donor.words.iter().enumerate() {
            let off = layout.tls_start() + 8 * i as isize;
            if off < layout.block_start() {
                assert_eq!(theirs, 0, "tp{off:+} was nobody's");
                continue;
            }
            // SAFETY: inside the block.
            let ours = unsafe { *word(block.tp, off) };
            let v = theirs as usize;
            let same = ours == theirs
                || (range.contains(&v) && ours as usize == v.wrapping_sub(donor.tp).wrapping_add(block.tp))
                || (v == donor.bounds.low && ours as usize == bounds.low)
                || (v == donor.bounds.end - donor.bounds.low && ours as usize == bounds.end - bounds.low)
                || (v == donor.bounds.guard && ours as usize == bounds.guard);
            let list = thread_db_offset(c"_thread_db_pthread_list").expect("there") as isize;
            let explained = off == 8 // the dtv is each block's own
                || off == layout.tid_off as isize
                || off == list || off == list + 8 // its place on the list
                || off == layout.cancel_off as isize / 8 * 8 // says that it is exiting
                || (rseq..rseq + 32).contains(&off) // not registered with the kernel
                || values.contains(&off) && theirs <= u64::from(u32::MAX) // a mark of an earlier thread
                || v == donor.start || v == donor.arg // no start routine
                || (donor.bounds.low..donor.bounds.end).contains(&v); // pthread_exit's jump buffer
            if !same && !explained {
                unexplained.push(format!("tp{off:+}: thread {theirs:#x}, block {ours:#x}"));
            }
        }
        assert!(unexplained.is_empty(), "{unexplained:#?}");
        // SAFETY: built above, never run on.
        unsafe {
            layout.destroy(block.tp);
            crate::sys::map::release(memory, 64 * PAGE);
        }
    }

    /// What an earlier thread has left on the donor's stack is not taken for what threads have.
    #[test]
    fn marks_of_keys_are_not_learned() {
        let layout = layout();
        let is_marked = (0..20).any(|_| {
            leave_marks_of_keys(layout);
            let patches = layout.learn_from_donor(layout.links_off, 0x7472_6170).expect("as at the start");
            let donor = Snapshot::take(layout).expect("a thread starts");
            let values = layout.values_of_keys(&donor);
            assert!(!patches.iter().any(|patch| values.contains(&patch.off)), "{patches:?}");
            values.step_by(8).any(|off| donor.words[((off - layout.tls_start()) / 8) as usize] != 0)
        });
        assert!(is_marked, "no donor had such a stack: this shows nothing");
    }

    /// On glibc's own malloc the two words are found; without them each goroutine would keep a cache.
    #[test]
    fn malloc_words_are_found() {
        let layout = layout();
        assert_eq!(layout.malloc_words().len(), 2, "{:?}", layout.malloc_words());
    }
}
