//! Thread-locals that belong to a stack slot.
//!
//! # Role
//! To Rust and to libc a goroutine is a thread. It has a thread descriptor and a block of
//! thread-locals of its own at the top of its slot, where nptl puts them on a thread's stack. The
//! FS base points there while the goroutine runs. [`Layout::discover`] finds out at start how this
//! libc lays out a block; [`Layout::build`] makes one.
//!
//! ```text
//!   low                                                           tp               end
//!   ┌───────┬───────────── stack, grows down ◀──┬─────────────────┬─────────────────┐
//!   │ guard │                                   │ static TLS      │ struct pthread  │
//!   └───────┴───────────────────────────────────┴─────────────────┴─────────────────┘
//!                                               ◀───── used ──────▶
//! ```
//!
//! # How a block is made
//! glibc's own `_dl_allocate_tls` writes the initial images and the dtv, as it does for
//! `pthread_create`. What `pthread_create` and `start_thread` then write into a descriptor is
//! learned from a **donor**: a real, detached thread that copies its own block before it does
//! anything else. Each word in which the donor differs from a bare block becomes a [`Patch`]:
//!
//! - A pointer into the donor's block is relocated.
//! - The stack bounds become the slot's.
//! - The tid becomes the block's own.
//! - rseq is marked as not registered.
//! - Everything else (stack guard, pointer guard, ctype tables) is copied.
//!
//! A block is that of a detached thread, which cannot be joined. It is on libc's list of threads
//! (`listed.rs`) and says there that it is exiting, so `setuid` and its family leave it alone.
//!
//! # The surplus
//! Static TLS ends with room for libraries that are opened later.
//!
//! - If no library can get it (`surplus.rs`), the stack begins above it, directly below what is
//!   used, so block and stack share a page. But `_dl_allocate_tls` writes the whole of static TLS.
//!   So it writes into a **buffer** kept for that, and the used part is copied from there.
//! - If room was [wanted](Wanted::reserve), it belongs to each block, and the stack begins below
//!   it.
//!
//! # malloc
//! glibc's malloc keeps a cache and an arena per thread. A million goroutines must not keep a
//! million caches, so the words that point to them stay with the M. They are written into the block
//! at switch-in and read back at switch-out. The words are found by a test: the first `malloc` in a
//! fresh block changes them. If the result is not as expected, no words are moved; that is correct
//! but costs memory.

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
    /// The program wants to reserve more than there is.
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
    /// Bytes of static TLS to reserve for libraries that are opened later.
    pub(crate) reserve: usize,
    /// Whether the surplus may be taken if nothing is reserved.
    pub(crate) take: bool,
    /// Called when a goroutine has called `pthread_exit`: on the goroutine's block, but on a
    /// separate stack.
    pub(crate) ended: extern "C" fn() -> !,
}

/// Linux never gives a thread an id at or above this; the ids of blocks begin here.
const FIRST_TID: u32 = 0x2000_0000;
/// `FUTEX_TID_MASK` keeps 30 bits of a lock owner's id.
const LAST_TID: u32 = 0x3FFF_FFF0;

/// The bit of `cancelhandling` in a descriptor that says that the thread is about to end; the same
/// in every glibc.
const EXITING: u32 = 1 << 4;

type AllocateTls = unsafe extern "C" fn(*mut u8) -> *mut u8;
type DeallocateTls = unsafe extern "C" fn(*mut u8, bool);
type StaticInfo = unsafe extern "C" fn(*mut usize, *mut usize);

/// rseq's two cpu words: 0 and "not registered".
const NO_CPU: u64 = (u32::MAX as u64) << 32;

/// A word that a block needs in addition to what `_dl_allocate_tls` writes. Offsets count from the
/// thread pointer.
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

/// What gort knows about threads in this libc.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    static_size: usize,
    align: usize,
    pthread_size: usize,
    /// The bytes below the thread pointer that a block has.
    used: usize,
    /// What the rest of static TLS is used for.
    surplus: Surplus,
    list: Option<List>,
    tid_off: usize,
    cancel_off: usize,
    links_off: isize,
    patches: Vec<Patch>,
    /// Offsets of the words that point to malloc's cache and arena.
    malloc_words: Vec<isize>,
    allocate: AllocateTls,
    deallocate: DeallocateTls,
    end: End,
    ctype_init: Option<unsafe extern "C" fn()>,
}

/// What the part of static TLS that libc keeps free at the start of a program is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Surplus {
    /// A library made by gort has it permanently: a block ends above it.
    Taken,
    /// It stays for libraries that are opened later, and is a part of each block.
    Reserved,
    /// As `Reserved`, because it was not taken, for this reason.
    Left(String),
}

impl fmt::Display for Surplus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Surplus::Taken => f.write_str("the room that libc keeps for later libraries is taken"),
            Surplus::Reserved => {
                f.write_str("the room that libc keeps for later libraries is reserved for them")
            }
            Surplus::Left(why) => {
                write!(f, "the room that libc keeps for later libraries was not taken ({why})")
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
    // SAFETY: `_thread_db_*` field descriptors are three 32-bit words; libthread_db of every glibc
    // reads them.
    Ok(unsafe { *(symbol(name)? as *const u32).add(2) } as usize)
}

#[inline]
pub(super) fn word(tp: usize, off: isize) -> *mut u64 {
    tp.wrapping_add_signed(off) as *mut u64
}

impl Layout {
    /// Examines this process's libc, and takes the surplus unless it is wanted. Starts some
    /// short-lived threads.
    pub(crate) fn discover(wanted: Wanted) -> Result<Layout, LayoutError> {
        let static_info = symbol(c"_dl_get_tls_static_info")?;
        // SAFETY: the function has this type in every glibc. It is GLIBC_PRIVATE, so the results
        // are checked below.
        let static_info: StaticInfo = unsafe { std::mem::transmute(static_info) };
        let (mut static_size, mut align) = (0usize, 0usize);
        // SAFETY: both pointers are valid.
        unsafe { static_info(&mut static_size, &mut align) };
        // SAFETY: `_thread_db_sizeof_pthread` is a 32-bit number.
        let pthread_size = unsafe { *(symbol(c"_thread_db_sizeof_pthread")? as *const u32) } as usize;
        let pthread_size = pthread_size.next_multiple_of(64);
        require(align.is_power_of_two() && align <= PAGE, "the alignment of static TLS is not as expected")?;
        require(pthread_size < static_size, "static TLS is smaller than a descriptor")?;
        // SAFETY: `fs:0x10` is the `self` field of every thread's header, readable like `fs:0`.
        let own_self = unsafe { *word(fs::read(), 0x10) } as usize;
        require(own_self == fs::read(), "the descriptor does not point to itself")?;
        let tid_off = thread_db_offset(c"_thread_db_pthread_tid")?;
        require(
            tid_off + 4 <= pthread_size && tid_off.is_multiple_of(8),
            "the tid's offset is not as expected",
        )?;
        // SAFETY: the offset lies inside this thread's descriptor.
        let tid = unsafe { *((fs::read() + tid_off) as *const i32) };
        // SAFETY: gettid has no preconditions.
        require(tid == unsafe { libc::gettid() }, "the descriptor's tid is not where libthread_db says")?;
        let cancel_off = thread_db_offset(c"_thread_db_pthread_cancelhandling")?;
        require(
            cancel_off + 4 <= pthread_size && cancel_off.is_multiple_of(4),
            "cancelhandling's offset is not as expected",
        )?;
        let list_off = thread_db_offset(c"_thread_db_pthread_list")? as isize;
        let list = listed::find(symbol(c"_rtld_global")?);
        let (used, surplus) =
            divide_static_tls(Sizes { all: static_size, descriptor: pthread_size }, wanted)?;
        let used = used.next_multiple_of(64).min(static_size - pthread_size);
        if surplus != Surplus::Taken {
            list.as_ref().map_err(Clone::clone)?; // else blocks would not see later libraries
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
            // SAFETY: the functions have these types in every glibc since 2.34.
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
        // SAFETY: the block is fresh, and no thread runs on it.
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

    /// Where a block begins and the stack below it ends, as an offset from the thread pointer
    /// (negative).
    pub(crate) fn block_start(&self) -> isize {
        -(self.used as isize)
    }

    /// The bytes from there to the end of a slot, which is page-aligned.
    pub(crate) fn block_bytes(&self) -> usize {
        self.pthread_size.next_multiple_of(self.align.max(64)) + self.used
    }

    /// What the rest of static TLS is used for.
    pub(crate) fn surplus(&self) -> &Surplus {
        &self.surplus
    }

    /// Offsets of the links of libc's list of threads in a block.
    pub(crate) fn links(&self) -> [isize; 2] {
        [self.links_off, self.links_off + 8]
    }

    #[inline]
    pub(crate) fn malloc_words(&self) -> &[isize] {
        &self.malloc_words
    }

    /// Makes a block at the top of the slot `bounds`. `None`: no memory.
    ///
    /// # Safety
    /// The top `block_bytes()` of the slot are writable, zeroed and unused, and stay until the
    /// block is destroyed.
    pub(crate) unsafe fn build(&self, bounds: Bounds) -> Option<Block> {
        let tp = (bounds.end - self.pthread_size) & !(self.align.max(64) - 1);
        // SAFETY: the block belongs to the caller. The fields that libc's walks read in an exiting
        // descriptor are zero, which means "nothing" to them.
        unsafe {
            ((tp + self.cancel_off) as *mut u32).write(EXITING);
            // Before the images are written: from here on libc writes those of libraries that it
            // opens.
            self.list(tp);
        }
        // SAFETY: above `tp` there is room for the descriptor, and below it for the used part of
        // static TLS, inside the slot.
        let laid = unsafe {
            match self.surplus {
                // `pthread_create` calls `_dl_allocate_tls` the same way. It returns null if the
                // dtv cannot be allocated.
                Surplus::Reserved | Surplus::Left(_) => !(self.allocate)(tp as *mut u8).is_null(),
                Surplus::Taken => self.build_in_buffer(tp),
            }
        };
        if !laid {
            // SAFETY: it was listed above.
            unsafe { self.unlist(tp) };
            return None;
        }
        // SAFETY: the block was just written there, and no thread runs on it.
        unsafe { self.apply(tp, bounds) };
        Some(Block { tp, stack_top: tp - self.used })
    }

    /// Makes libc write a block into a buffer, and copies the used part. False: no memory.
    ///
    /// # Safety
    /// As [`build`](Layout::build).
    unsafe fn build_in_buffer(&self, tp: usize) -> bool {
        let from_free = BUFFERS.lock().pop();
        let Some(buffer) = from_free.or_else(|| map::reserve(self.buffer_bytes()).ok()) else { return false };
        let from = (buffer + self.buffer_bytes() - self.pthread_size) & !(self.align.max(64) - 1);
        // SAFETY: the buffer has no other user, and it has room for all of static TLS and a
        // descriptor, where `_dl_allocate_tls` wants them. (It writes the images and one word of
        // the descriptor, over what an earlier use left.) For the target, see the caller's promise.
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
        BUFFERS.lock().push(buffer);
        laid
    }

    fn buffer_bytes(&self) -> usize {
        (self.static_size + self.align).next_multiple_of(PAGE)
    }

    /// Puts a block on libc's list of threads.
    ///
    /// # Safety
    /// It is not on the list, and its memory stays until it is taken off.
    pub(crate) unsafe fn list(&self, tp: usize) {
        if let Some(list) = &self.list {
            // SAFETY: the caller's promise.
            unsafe { list.add(tp) };
        }
    }

    /// Takes a block off the list.
    ///
    /// # Safety
    /// It is on the list.
    unsafe fn unlist(&self, tp: usize) {
        if let Some(list) = &self.list {
            // SAFETY: the caller's promise.
            unsafe { list.remove(tp) };
        }
    }

    /// Takes a block off the list, if libc does not use the list at the moment.
    ///
    /// # Safety
    /// It is on the list.
    pub(crate) unsafe fn try_unlist(&self, tp: usize) -> bool {
        // SAFETY: the caller's promise.
        self.list.as_ref().is_none_or(|list| unsafe { list.try_remove(tp) })
    }

    /// # Safety
    /// `tp` is a block from `_dl_allocate_tls` that is not in use.
    unsafe fn apply(&self, tp: usize, bounds: Bounds) {
        for patch in &self.patches {
            let value = match patch.value {
                PatchValue::Const(v) => v,
                PatchValue::Own(off) => tp.wrapping_add_signed(off) as u64,
                PatchValue::StackLow => bounds.low as u64,
                PatchValue::StackSize => (bounds.end - bounds.low) as u64,
                PatchValue::GuardSize => bounds.guard as u64,
                PatchValue::Tid => u64::from(fresh_tid()),
                PatchValue::Rseq => NO_CPU,
            };
            // SAFETY: the offset comes from the descriptor or the static TLS of a real block.
            unsafe { word(tp, patch.off).write(value) };
        }
    }

    /// Makes a thread's block describe the stack `bounds`, and no CPU. Returns the words that were
    /// there. The descriptor of the process's first thread has no stack, and gets none.
    ///
    /// # Safety
    /// `tp` is a descriptor that only the caller uses.
    pub(super) unsafe fn describe(&self, tp: usize, bounds: Bounds) -> Vec<(isize, u64)> {
        let value = |patch: &Patch, now: u64| match patch.value {
            PatchValue::StackLow if now != 0 => Some(bounds.low as u64),
            PatchValue::StackSize if now != 0 => Some((bounds.end - bounds.low) as u64),
            PatchValue::GuardSize if now != 0 => Some(bounds.guard as u64),
            PatchValue::Rseq => Some(NO_CPU),
            _ => None,
        };
        let mut before = Vec::new();
        for patch in &self.patches {
            // SAFETY: as in `apply`.
            unsafe {
                let word = word(tp, patch.off);
                if let Some(value) = value(patch, *word) {
                    before.push((patch.off, word.replace(value)));
                }
            }
        }
        before
    }

    /// The tid in a block.
    ///
    /// # Safety
    /// `tp` is a block that only the caller uses.
    pub(crate) unsafe fn tid(&self, tp: usize) -> u32 {
        // SAFETY: `discover` has checked the tid's place.
        unsafe { *((tp + self.tid_off) as *const u32) }
    }

    /// Whether the descriptor `tp` is a block with an id of its own.
    ///
    /// # Safety
    /// `tp` is a descriptor.
    pub(crate) unsafe fn is_block(&self, tp: usize) -> bool {
        // SAFETY: `discover` has checked the tid's place.
        (FIRST_TID..LAST_TID).contains(&unsafe { *((tp + self.tid_off) as *const u32) })
    }

    /// Sets the tid, which identifies the owners of recursive locks.
    ///
    /// # Safety
    /// `tp` is a block that only the caller uses.
    pub(crate) unsafe fn set_tid(&self, tp: usize, tid: u32) {
        // SAFETY: `discover` has checked the tid's place.
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

    /// Called when a goroutine begins on the block that the FS base points to. Like a thread, it
    /// then sees the character classes of the current locale.
    #[inline]
    pub(crate) fn begin(&self) {
        if let Some(init) = self.ctype_init {
            // SAFETY: `start_thread` calls it on each thread's block; it sets three pointers from
            // the locale's.
            unsafe { init() };
        }
    }

    /// Frees what libc allocated for a block (the dtv and dynamic blocks). The slot's memory
    /// belongs to the caller.
    ///
    /// # Safety
    /// The block came from [`build`](Self::build), its destructors ran, and it is not used again.
    pub(crate) unsafe fn destroy(&self, tp: usize) {
        // SAFETY: every block is on the list, and no thread runs on this one.
        unsafe {
            self.unlist(tp);
            self.end.free(tp);
        }
        for &off in &self.malloc_words {
            // SAFETY: the words are inside the block. They belong to an M, which has its own copy.
            unsafe { word(tp, off).write(0) };
        }
        // SAFETY: the caller's promise. `false`: libc does not own the memory of the block itself.
        unsafe { (self.deallocate)(tp as *mut u8, false) };
    }

    /// Compares a donor with a bare block; see the head of this file.
    fn learn_from_donor(&self, list_off: isize, exit_trap: usize) -> Result<Vec<Patch>, LayoutError> {
        let donor = Snapshot::take(self)?;
        let rseq = symbol(c"__rseq_offset").ok().zip(symbol(c"__rseq_size").ok()).and_then(|(off, size)| {
            // SAFETY: public variables of glibc since 2.35: a ptrdiff_t and an unsigned int.
            unsafe { (*(size as *const u32) != 0).then_some(*(off as *const isize)) }
        });
        // SAFETY: null makes libc use memory of its own.
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
            // Three kinds of words are skipped:
            // - Words that no library has yet: they hold anything, and may belong to a later
            //   library.
            // - Keys without a value: a thread that sets one to null leaves a mark on its stack,
            //   which another thread gets.
            // - The links: a thread that changes the list writes to them.
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
                // Where pthread_exit would jump to, in the thread's first frame.
                PatchValue::Const(exit_trap as u64)
            } else if value == donor.start || value == donor.arg {
                continue;
            } else {
                PatchValue::Const(seen)
            };
            patches.push(Patch { off, value: what });
        }
        // SAFETY: the block was not used. `true`: libc owns its memory.
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

    /// A fresh block must hold this crate's own thread-locals at their initial value, at the offset
    /// that they have in a real thread.
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
            // SAFETY: the block is fresh and belongs to this function; only `CANARY.with` runs on
            // it.
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
        // SAFETY: the block belongs to the caller. If a dtv has another layout here, this reads
        // some words of the heap.
        let places: Vec<usize> =
            unsafe { dtv_entries(*word(tp, DTV) as usize) }.map(|place| *place).collect();
        let is_right = |&(id, data): &(usize, usize)| places.get(id - 1) == Some(&(data + tp - own));
        let modules = modules();
        let mut seen = modules.iter().filter(|(id, data)| *id != 0 && in_block.contains(data)).peekable();
        require(seen.peek().is_some() && seen.all(is_right), "a fresh block's dtv is not as expected")
    }

    /// The words that glibc's first `malloc` changes in a fresh block; none if malloc is not
    /// glibc's.
    fn find_malloc_words(&self) -> Result<Vec<isize>, LayoutError> {
        let ours = symbol(c"__libc_malloc").is_ok_and(|m| symbol(c"malloc").is_ok_and(|p| p == m));
        if !ours {
            return Ok(Vec::new());
        }
        self.with_scratch_block(|tp| {
            let count = (-self.block_start() / 8) as usize;
            let mut before = vec![0u64; count];
            let at = |i: usize| self.block_start() + 8 * i as isize;
            // SAFETY: the words are in the static TLS of the fresh block.
            before.iter_mut().enumerate().for_each(|(i, w)| *w = unsafe { *word(tp, at(i)) });
            // SAFETY: the block is fresh and belongs to this function; only malloc and free run on
            // it.
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
            // The cache and the arena: two words that now have other values than before, in the
            // block and in this thread. (Before, they are null, or since 2.42 the cache is one that
            // is never filled.)
            let plausible = words.len() == 2
                && words.iter().all(|&off| {
                    let i = ((off - self.block_start()) / 8) as usize;
                    // SAFETY: the word is in the static TLS of this thread, which has allocated
                    // before.
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
        // SAFETY: the memory was just mapped and stays until the block is destroyed; only `f` runs
        // on the block. (600 bytes remain allocated, once: the cache of the `malloc` in
        // `find_malloc_words`.)
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

/// Decides how many bytes below the thread pointer a block has, and what the rest of static TLS is
/// used for.
fn divide_static_tls(sizes: Sizes, wanted: Wanted) -> Result<(usize, Surplus), LayoutError> {
    let all = sizes.all - sizes.descriptor;
    if wanted.reserve != 0 {
        // If this cannot be found out, libc reports it when such a library is opened.
        if let Ok(used) = surplus::used(sizes)
            && all - used < wanted.reserve
        {
            return Err(LayoutError::Room { asked: wanted.reserve, possible: all - used });
        }
        return Ok((all, Surplus::Reserved));
    }
    if !wanted.take {
        return Ok((all, Surplus::Left("GORT_DEBUG=tlssurplus=0 is set".into())));
    }
    Ok(match surplus::take(sizes) {
        Ok(used) => (used, Surplus::Taken),
        Err(why) => (all, Surplus::Left(why)),
    })
}

/// Offset of the pointer to the dtv in a descriptor.
const DTV: isize = 8;

/// Buffers in which libc writes blocks; those in this list are not in use.
static BUFFERS: Lock<MapVec<usize>> = Lock::new(MapVec::new());

/// The entries of a dtv that point to the thread-locals of modules. A count lies before the dtv,
/// and the first of its pairs of words is not an entry.
///
/// # Safety
/// `dtv` is a dtv that only the caller uses.
unsafe fn dtv_entries(dtv: usize) -> impl Iterator<Item = &'static mut usize> {
    // SAFETY: the caller's promise. `check_dtv` checks that a dtv has this layout here.
    unsafe {
        let count = *((dtv - 16) as *const usize);
        (1..=count).map(move |i| &mut *((dtv + 16 * i) as *mut usize))
    }
}

/// For each library, its number among those that have thread-locals (0: it has none), and where
/// this thread has them (0: nowhere yet).
fn modules() -> Vec<(usize, usize)> {
    extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, modules: *mut libc::c_void) -> libc::c_int {
        // SAFETY: libc passes a valid description, and the argument that `dl_iterate_phdr` got
        // below.
        let (info, modules) = unsafe { (&*info, &mut *modules.cast::<Vec<(usize, usize)>>()) };
        modules.push((info.dlpi_tls_modid, info.dlpi_tls_data as usize));
        0
    }
    let mut modules: Vec<(usize, usize)> = Vec::new();
    // SAFETY: the callback has the right type, and its argument outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut modules).cast()) };
    modules
}

/// Reads through the FS base in a separate function, so that no address computed before is used.
#[inline(never)]
fn read_canary(key: &'static std::thread::LocalKey<Cell<u64>>) -> u64 {
    std::hint::black_box(key).with(Cell::get)
}

/// A tid that no thread and no other living block has (they repeat after half a billion).
fn fresh_tid() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    FIRST_TID + NEXT.fetch_add(1, Relaxed) % (LAST_TID - FIRST_TID)
}

/// What the block of a fresh thread held.
pub(crate) struct Snapshot {
    pub(crate) tp: usize,
    pub(crate) bounds: Bounds,
    /// The address of the donor's start routine, which its descriptor keeps.
    pub(crate) start: usize,
    /// The argument of the start routine.
    pub(crate) arg: usize,
    /// From `tls_start()` to the end of the descriptor.
    pub(crate) words: Vec<u64>,
}

/// What is passed to the donor and back.
#[repr(C)]
struct DonorData {
    tls_start: isize,
    count: usize,
    words: *mut u64,
    tp: usize,
    stack_low: usize,
    stack_size: usize,
    guard: usize,
    done: Option<mpsc::Sender<()>>,
}

/// The main function of the donor: copies its block word by word before anything else runs on it.
extern "C" fn donor_main(data: *mut libc::c_void) -> *mut libc::c_void {
    let data = data.cast::<DonorData>();
    // SAFETY: the thread that started the donor keeps the data until it is told. `words` has room
    // for `count` words, and the block lies where every thread of this libc has it. Nothing here
    // uses a thread-local before the copy is done.
    let done = unsafe {
        let tp = fs::read();
        let from = tp.wrapping_add_signed((*data).tls_start) as *const u64;
        let mut i = 0;
        while i < (*data).count {
            (*data).words.add(i).write_volatile(from.add(i).read_volatile());
            i += 1;
        }
        (*data).tp = tp;
        let mut attr: libc::pthread_attr_t = std::mem::zeroed();
        let (mut addr, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attr) == 0 {
            libc::pthread_attr_getstack(&attr, &mut addr, &mut size);
            libc::pthread_attr_getguardsize(&attr, &mut guard);
            libc::pthread_attr_destroy(&mut attr);
        }
        // The attributes leave the guard out; the descriptor includes it.
        (*data).stack_low = addr as usize - guard;
        (*data).stack_size = size + guard;
        (*data).guard = guard;
        (*data).done.take()
    };
    // The other thread waits. If it could not be told, it would see that the sender is gone.
    let _ = done.map(|done| done.send(()));
    std::ptr::null_mut()
}

impl Snapshot {
    /// A size that occurs nowhere else, see [`stack_bytes`](Snapshot::stack_bytes).
    const GUARD: usize = 3 * PAGE;

    /// Like the guard's, a size that occurs nowhere else, so that the words that hold it are
    /// recognised.
    fn stack_bytes(layout: &Layout) -> usize {
        57 * PAGE + layout.static_size.next_multiple_of(PAGE)
    }

    /// Runs a donor and returns the copy of its block.
    pub(crate) fn take(layout: &Layout) -> Result<Snapshot, LayoutError> {
        let count = layout.static_size / 8;
        let mut words = vec![0u64; count];
        let (done, is_done) = mpsc::channel();
        let mut data = DonorData {
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
        // SAFETY: ordinary use of pthreads. The data outlives the thread's use of it, which is
        // waited for. The thread is detached, as blocks are; how a descriptor says so depends on
        // the libc.
        let rc = unsafe {
            let mut attr: libc::pthread_attr_t = std::mem::zeroed();
            libc::pthread_attr_init(&mut attr);
            libc::pthread_attr_setstacksize(&mut attr, stack);
            libc::pthread_attr_setguardsize(&mut attr, Snapshot::GUARD);
            libc::pthread_attr_setdetachstate(&mut attr, libc::PTHREAD_CREATE_DETACHED);
            let mut thread: libc::pthread_t = 0;
            let rc = libc::pthread_create(&mut thread, &attr, donor_main, (&raw mut data).cast());
            if rc == 0 {
                let _ = is_done.recv();
            }
            libc::pthread_attr_destroy(&mut attr);
            rc
        };
        if rc != 0 {
            let e = std::io::Error::from_raw_os_error(rc);
            return Err(LayoutError::new(format!("the donor thread could not be started: {e}")));
        }
        let bounds = Bounds { low: data.stack_low, end: data.stack_low + data.stack_size, guard: data.guard };
        let arg = (&raw const data) as usize;
        Ok(Snapshot { tp: data.tp, bounds, start: donor_main as *const () as usize, arg, words })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::OnceLock;

    /// This process's layout, with room for its blocks in every slot.
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

    /// Runs and ends a thread with keys that were set to null. The next thread gets its stack.
    fn leave_marks_of_keys(layout: &Layout) {
        extern "C" fn mark(_: *mut libc::c_void) -> *mut libc::c_void {
            let mut key = 0;
            // SAFETY: the key was created here, without a destructor.
            unsafe {
                assert_eq!(libc::pthread_key_create(&mut key, None), 0);
                assert_eq!(libc::pthread_setspecific(key, std::ptr::null()), 0);
                assert_eq!(libc::pthread_key_delete(key), 0);
            }
            std::ptr::null_mut()
        }
        // A stack like the donor's, guard included: otherwise libc may give each its own.
        // SAFETY: ordinary use of pthreads.
        unsafe {
            let mut attr: libc::pthread_attr_t = std::mem::zeroed();
            libc::pthread_attr_init(&mut attr);
            libc::pthread_attr_setstacksize(&mut attr, Snapshot::stack_bytes(layout));
            libc::pthread_attr_setguardsize(&mut attr, Snapshot::GUARD);
            let mut thread: libc::pthread_t = 0;
            assert_eq!(libc::pthread_create(&mut thread, &attr, mark, std::ptr::null_mut()), 0);
            assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
            libc::pthread_attr_destroy(&mut attr);
        }
    }

    /// Compares a fresh block with the block of a fresh thread, word by word. After relocation only
    /// what is explained here may differ.
    #[test]
    fn fresh_block_equals_fresh_thread() {
        let layout = layout();
        let donor = Snapshot::take(layout).expect("a thread starts");
        let values = layout.values_of_keys(&donor);
        assert!(values.start > 0 && values.len() == 512, "{values:?}");
        let memory = crate::sys::map::reserve(64 * PAGE).expect("memory");
        let bounds = Bounds { low: memory, end: memory + 64 * PAGE, guard: PAGE };
        // SAFETY: the memory was just mapped.
        let block = unsafe { layout.build(bounds) }.expect("a block");
        assert_eq!(layout.surplus, Surplus::Taken);
        assert!(layout.used < layout.static_size - layout.pthread_size, "nothing was taken");
        let range = donor.tp.wrapping_add_signed(layout.tls_start())..donor.tp + layout.pthread_size;
        let rseq = symbol(c"__rseq_offset").map_or(isize::MAX - 64, |p| {
            // SAFETY: the symbol is glibc's, a ptrdiff_t.
            unsafe { *(p as *const isize) }
        });
        let mut unexplained = Vec::new();
        for (i, &theirs) in donor.words.iter().enumerate() {
            let off = layout.tls_start() + 8 * i as isize;
            if off < layout.block_start() {
                assert_eq!(theirs, 0, "tp{off:+} belongs to no library");
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
                || values.contains(&off) && theirs <= u64::from(u32::MAX) // an earlier thread's
                || v == donor.start || v == donor.arg // no start routine
                || (donor.bounds.low..donor.bounds.end).contains(&v); // pthread_exit's jump buffer
            if !same && !explained {
                unexplained.push(format!("tp{off:+}: thread {theirs:#x}, block {ours:#x}"));
            }
        }
        assert!(unexplained.is_empty(), "{unexplained:#?}");
        // SAFETY: built above; no thread has run on it.
        unsafe {
            layout.destroy(block.tp);
            crate::sys::map::release(memory, 64 * PAGE);
        }
    }

    /// What an earlier thread left on the donor's stack is not learned as something that threads
    /// have.
    #[test]
    fn marks_of_keys_are_not_learned() {
        let layout = layout();
        // A donor gets such a stack once the thread that had it before has ended altogether.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            assert!(std::time::Instant::now() < limit, "no donor had such a stack: this shows nothing");
            leave_marks_of_keys(layout);
            let patches = layout.learn_from_donor(layout.links_off, 0x7472_6170).expect("as at the start");
            let donor = Snapshot::take(layout).expect("a thread starts");
            let values = layout.values_of_keys(&donor);
            assert!(!patches.iter().any(|patch| values.contains(&patch.off)), "{patches:?}");
            let word = |off: isize| donor.words[((off - layout.tls_start()) / 8) as usize];
            if values.step_by(8).any(|off| word(off) != 0) {
                return;
            }
        }
    }

    /// With glibc's own malloc the two words are found; without them each goroutine would keep a
    /// cache.
    #[test]
    fn malloc_words_are_found() {
        let layout = layout();
        assert_eq!(layout.malloc_words().len(), 2, "{:?}", layout.malloc_words());
    }
}
