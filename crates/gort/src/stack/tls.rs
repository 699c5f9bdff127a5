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
//!                                                  ◀── static_size ──────────────────────▶
//! ```
//!
//! # How a block is made
//! glibc's own `_dl_allocate_tls` lays the initial images and the dtv, as `pthread_create` has it do. What
//! `pthread_create` and `start_thread` then write into a descriptor is learned from a **donor**: a real thread
//! that copies its own block before it does anything else. Each word in which the donor differs from a bare block
//! is one [`Patch`]: a pointer into the donor's block is relocated, the stack bounds become the slot's, the
//! list node points to itself (a `fork` unlinks it), the tid is the block's own, rseq is marked unregistered, and
//! the rest (stack guard, pointer guard, ctype tables) is copied.
//!
//! # malloc
//! glibc's malloc keeps a cache and an arena per thread. A million goroutines must not hoard a million caches,
//! so the words that point to them stay with the M: they are written into the block at switch-in and
//! read back at switch-out. Which words, a canary tells: those that the first `malloc` changes in a fresh
//! block. If that does not look as expected, nothing is carried, which is right but costs memory.

use crate::sys::{fs, map::PAGE};
use std::cell::Cell;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use thiserror::Error;

/// Why goroutines cannot own their thread-locals in this process.
#[derive(Debug, Clone, Error)]
#[error(
    "this libc is not laid out as gort needs it for goroutines that own their thread-locals: {0}; \
         use Runtime::builder().shared_thread_locals() (unsafe) to run without"
)]
pub(crate) struct LayoutError(String);

/// Linux never gives a thread an id at or above this; the blocks' own ids begin here.
const FIRST_TID: u32 = 0x2000_0000;
/// `FUTEX_TID_MASK` keeps 30 bits of a lock owner's id.
const LAST_TID: u32 = 0x3FFF_FFF0;

/// Room for the descriptor and the static TLS of the donor.
const SNAPSHOT_WORDS: usize = 16 * 1024;

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
    tid_off: usize,
    patches: Vec<Patch>,
    /// Offsets of malloc's words.
    malloc_words: Vec<isize>,
    allocate: AllocateTls,
    deallocate: DeallocateTls,
    call_dtors: unsafe extern "C" fn(),
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

fn symbol(name: &CStr) -> Result<usize, LayoutError> {
    // SAFETY: dlsym reads a NUL-terminated name.
    let p = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as usize;
    if p == 0 { Err(LayoutError(format!("symbol {} is missing", name.to_string_lossy()))) } else { Ok(p) }
}

fn require(ok: bool, what: &str) -> Result<(), LayoutError> {
    if ok { Ok(()) } else { Err(LayoutError(what.to_string())) }
}

/// The offset field of one of libthread_db's descriptors (`{ size in bits, count, offset }`).
fn thread_db_offset(name: &CStr) -> Result<usize, LayoutError> {
    // SAFETY: `_thread_db_*` field descriptors are three 32-bit words; libthread_db of every glibc reads them.
    Ok(unsafe { *(symbol(name)? as *const u32).add(2) } as usize)
}

#[inline]
fn word(tp: usize, off: isize) -> *mut u64 {
    tp.wrapping_add_signed(off) as *mut u64
}

impl Layout {
    /// Looks at this process's libc. Starts one short-lived thread.
    pub(crate) fn discover() -> Result<Layout, LayoutError> {
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
        require(static_size <= SNAPSHOT_WORDS * 8, "static TLS is larger than 128 KiB")?;
        // SAFETY: `fs:0x10` is the `self` field of every thread's header, readable like `fs:0`.
        let own_self = unsafe { *word(fs::read(), 0x10) } as usize;
        require(own_self == fs::read(), "the descriptor does not point to itself")?;
        let tid_off = thread_db_offset(c"_thread_db_pthread_tid")?;
        require(tid_off + 4 <= pthread_size && tid_off.is_multiple_of(8), "the tid's offset is odd")?;
        // SAFETY: the offset lies inside this thread's descriptor.
        let tid = unsafe { *((fs::read() + tid_off) as *const i32) };
        // SAFETY: gettid has no preconditions.
        require(tid == unsafe { libc::gettid() }, "the descriptor's tid is not where libthread_db says")?;
        let list_off = thread_db_offset(c"_thread_db_pthread_list")? as isize;
        let mut layout = Layout {
            static_size,
            align,
            pthread_size,
            tid_off,
            patches: Vec::new(),
            malloc_words: Vec::new(),
            // SAFETY: these (three) are the functions' types in every glibc since 2.34.
            allocate: unsafe { std::mem::transmute::<usize, AllocateTls>(symbol(c"_dl_allocate_tls")?) },
            // SAFETY: as above.
            deallocate: unsafe {
                std::mem::transmute::<usize, DeallocateTls>(symbol(c"_dl_deallocate_tls")?)
            },
            // SAFETY: as above.
            call_dtors: unsafe {
                std::mem::transmute::<usize, unsafe extern "C" fn()>(symbol(c"__call_tls_dtors")?)
            },
        };
        layout.patches = layout.learn_from_donor(list_off)?;
        layout.check_canary()?;
        layout.malloc_words = layout.find_malloc_words()?;
        Ok(layout)
    }

    /// Where static TLS begins, as an offset from the thread pointer (negative).
    pub(crate) fn tls_start(&self) -> isize {
        self.pthread_size as isize - self.static_size as isize
    }

    #[inline]
    pub(crate) fn malloc_words(&self) -> &[isize] {
        &self.malloc_words
    }

    /// Lays a block at the top of the slot `bounds`.
    ///
    /// # Safety
    /// The top `block_bytes()` of the slot are writable, zeroed and unused.
    pub(crate) unsafe fn build(&self, bounds: Bounds) -> Option<Block> {
        let tp = (bounds.end - self.pthread_size) & !(self.align.max(64) - 1);
        // SAFETY: `tp` has the descriptor above it and static TLS below, inside the slot; that is what
        // `_dl_allocate_tls` gets from `pthread_create`. It returns null if the dtv cannot be allocated.
        if unsafe { (self.allocate)(tp as *mut u8) }.is_null() {
            return None;
        }
        // SAFETY: the block was just laid there, and nobody runs on it.
        unsafe { self.apply(tp, bounds) };
        let stack_top = tp.wrapping_add_signed(self.tls_start()) & !63;
        Some(Block { tp, stack_top })
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
        // SAFETY: this is what `start_thread` calls at a thread's end, on its block.
        unsafe { (self.call_dtors)() };
    }

    /// Gives back what libc allocated for a block (the dtv and dynamic blocks). The slot's memory is the caller's.
    ///
    /// # Safety
    /// The block came from [`build`](Self::build), its destructors ran, and nobody uses it again.
    pub(crate) unsafe fn destroy(&self, tp: usize) {
        for &off in &self.malloc_words {
            // SAFETY: inside the block; the words belong to an M, which has its own copy.
            unsafe { word(tp, off).write(0) };
        }
        // SAFETY: the caller's promise; `false`: the block itself is not libc's memory.
        unsafe { (self.deallocate)(tp as *mut u8, false) };
    }

    /// Compares a donor with a bare block; see the module header.
    fn learn_from_donor(&self, list_off: isize) -> Result<Vec<Patch>, LayoutError> {
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
        let mut patches = Vec::new();
        for i in 0..self.static_size / 8 {
            let off = self.tls_start() + 8 * i as isize;
            // SAFETY: inside the bare block.
            let plain = unsafe { *word(bare, off) };
            let seen = donor.words[i];
            let value = seen as usize;
            let in_rseq = rseq.is_some_and(|r| (r..r + 32).contains(&off));
            let what = if off == list_off || off == list_off + 8 {
                PatchValue::Own(list_off)
            } else if off == self.tid_off as isize {
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
            } else if stack.contains(&value) || value == donor.start || value == donor.arg {
                continue; // its start routine and argument, and where pthread_exit would jump to on its stack
            } else {
                PatchValue::Const(seen)
            };
            patches.push(Patch { off, value: what });
        }
        // SAFETY: nobody used the block; `true`: its memory is libc's own.
        unsafe { (self.deallocate)(bare as *mut u8, true) };
        let has = |v: PatchValue| patches.iter().any(|p| p.value == v);
        require(has(PatchValue::Own(0)), "a thread's descriptor does not point to itself")?;
        require(
            has(PatchValue::StackLow) && has(PatchValue::StackSize),
            "a thread's stack bounds were not found",
        )?;
        Ok(patches)
    }

    /// A fresh block must hold this crate's own thread-locals at their initial value, at the offset they have in
    /// a real thread.
    fn check_canary(&self) -> Result<(), LayoutError> {
        const EXPECTED: u64 = 0x676f_7274_2d6f_6b21;
        thread_local!(static CANARY: Cell<u64> = const { Cell::new(EXPECTED) });
        let off = CANARY.with(|c| std::ptr::from_ref(c) as usize).wrapping_sub(fs::read()) as isize;
        require(
            (self.tls_start()..0).contains(&off),
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
            require(seen == EXPECTED && through_fs == EXPECTED, "a fresh block does not hold initial values")
        })?
    }

    /// The words that glibc's first `malloc` changes in a fresh block; none if malloc is not glibc's.
    fn find_malloc_words(&self) -> Result<Vec<isize>, LayoutError> {
        let ours = symbol(c"__libc_malloc").is_ok_and(|m| symbol(c"malloc").is_ok_and(|p| p == m));
        if !ours {
            return Ok(Vec::new());
        }
        self.with_scratch_block(|tp| {
            let count = (-self.tls_start() / 8) as usize;
            let mut before = vec![0u64; count];
            let at = |i: usize| self.tls_start() + 8 * i as isize;
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
            // The cache and the arena: two words that were null and point somewhere now, here as in this thread.
            let plausible = words.len() == 2
                && words.iter().all(|&off| {
                    let i = ((off - self.tls_start()) / 8) as usize;
                    // SAFETY: static TLS of this thread, which has allocated before.
                    before[i] == 0 && unsafe { *word(fs::read(), off) } != 0
                });
            if plausible { words } else { Vec::new() }
        })
    }

    fn with_scratch_block<R>(&self, f: impl FnOnce(usize) -> R) -> Result<R, LayoutError> {
        // SAFETY: null asks for memory of libc's own.
        let tp = unsafe { (self.allocate)(std::ptr::null_mut()) } as usize;
        require(tp != 0, "no memory for a TLS block")?;
        let end = tp + self.pthread_size;
        // SAFETY: fresh, and nobody runs on it.
        unsafe { self.apply(tp, Bounds { low: end - self.static_size, end, guard: 0 }) };
        let r = f(tp);
        // SAFETY: nobody uses it any more. The cache of a canary's malloc (600 bytes, once) stays behind.
        unsafe { (self.deallocate)(tp as *mut u8, true) };
        Ok(r)
    }
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
}

/// The donor's body: copies its block word by word before anything else runs on it.
extern "C" fn donate(errand: *mut libc::c_void) -> *mut libc::c_void {
    let errand = errand.cast::<Errand>();
    // SAFETY: the starter waits for this thread and keeps the errand; `words` has `count` places, and the block
    // lies where every thread of this libc has it. Nothing here uses a thread-local before the copy is done.
    unsafe {
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
    }
    std::ptr::null_mut()
}

impl Snapshot {
    /// Runs a donor and returns what it saw of itself.
    pub(crate) fn take(layout: &Layout) -> Result<Snapshot, LayoutError> {
        // Sizes that occur nowhere else, so that the words that hold them are recognised.
        const STACK: usize = 57 * PAGE;
        const GUARD: usize = 3 * PAGE;
        let count = layout.static_size / 8;
        let mut words = vec![0u64; count];
        let mut errand = Errand {
            tls_start: layout.tls_start(),
            count,
            words: words.as_mut_ptr(),
            tp: 0,
            stack_low: 0,
            stack_size: 0,
            guard: 0,
        };
        let stack = STACK + layout.static_size.next_multiple_of(PAGE);
        // SAFETY: plain use of pthreads; the errand outlives the thread, which is joined.
        let rc = unsafe {
            let mut attr: libc::pthread_attr_t = std::mem::zeroed();
            libc::pthread_attr_init(&mut attr);
            libc::pthread_attr_setstacksize(&mut attr, stack);
            libc::pthread_attr_setguardsize(&mut attr, GUARD);
            let mut thread: libc::pthread_t = 0;
            let rc = libc::pthread_create(&mut thread, &attr, donate, (&raw mut errand).cast());
            if rc == 0 {
                libc::pthread_join(thread, std::ptr::null_mut());
            }
            libc::pthread_attr_destroy(&mut attr);
            rc
        };
        if rc != 0 {
            let e = std::io::Error::from_raw_os_error(rc);
            return Err(LayoutError(format!("a thread could not be started to look at: {e}")));
        }
        let bounds =
            Bounds { low: errand.stack_low, end: errand.stack_low + errand.stack_size, guard: errand.guard };
        let arg = (&raw const errand) as usize;
        Ok(Snapshot { tp: errand.tp, bounds, start: donate as *const () as usize, arg, words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The general answer: a fresh block, word by word beside the block of a fresh real thread. After
    /// relocation only what is explained here may differ.
    #[test]
    fn fresh_block_equals_fresh_thread() {
        let layout = Layout::discover().expect("this libc is supported");
        let donor = Snapshot::take(&layout).expect("a thread starts");
        let memory = crate::sys::map::reserve(64 * PAGE).expect("memory");
        let bounds = Bounds { low: memory, end: memory + 64 * PAGE, guard: PAGE };
        // SAFETY: fresh memory of ours.
        let block = unsafe { layout.build(bounds) }.expect("a block");
        let range = donor.tp.wrapping_add_signed(layout.tls_start())..donor.tp + layout.pthread_size;
        let rseq = symbol(c"__rseq_offset").map_or(isize::MAX - 64, |p| {
            // SAFETY: a ptrdiff_t of glibc's.
            unsafe { *(p as *const isize) }
        });
        let mut unexplained = Vec::new();
        for (i, &theirs) in donor.words.iter().enumerate() {
            let off = layout.tls_start() + 8 * i as isize;
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
                || off == list || off == list + 8 // points to itself, so that fork may unlink it
                || (rseq..rseq + 32).contains(&off) // not registered with the kernel
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

    /// On glibc's own malloc the two words are found; without them each goroutine would keep a cache.
    #[test]
    fn malloc_words_are_found() {
        let layout = Layout::discover().expect("this libc is supported");
        assert_eq!(layout.malloc_words().len(), 2, "{:?}", layout.malloc_words());
    }
}
