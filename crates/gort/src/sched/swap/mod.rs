//! Swapping out: a goroutine that has been parked for a while gives its pages back to the system.
//! What they held is kept in packed form.
//!
//! # How
//! ```text
//!   gort-swapper, every so often                the M that resumes the goroutine,
//!                                               or code that reaches into its stack
//!   ────────────────────────────                ──────────────────────────────────────────────
//!   looks at all that wait; marks those that
//!   have waited for long enough, 256 at a time
//!   heavy fence
//!   for each, under its shard's lock:           state := Running; light fence
//!     still marked? still waiting?              stack at home? go on
//!     packs [sp, end of the slot)               else, under the shard's lock:
//!       (`stack/image.rs`)                        takes the guards away, unpacks
//!     guards the whole slot, which frees
//!       its pages
//! ```
//! `core/swap_word.rs` has the states and the proof. A goroutine that is swapped out is then:
//! - a descriptor (256 bytes),
//! - its part of a page table (650 bytes at 256 KiB a slot),
//! - libc's own allocation for a block (some 320 bytes),
//! - what makes it differ from others that wait in the same place: some 40 bytes here.
//!
//! # Trimming
//! Also where no swapping is asked for, the same thread gives back what lies *below* the live stack
//! of a goroutine that has been parked for longer than [`TRIM_AFTER`], and at most half as long
//! again. Otherwise a goroutine that was deep in calls once would keep those pages. The thread
//! looks at each wait once, and marks as above. It packs nothing, since nothing below the live
//! stack is alive.
//!
//! # Pointers into a stack that is not there
//! | what has one | so |
//! | --- | --- |
//! | wait queues of `chan` and `sync`, timers (1) | the node lies in the descriptor (2) |
//! | the other party of a parked `send` or `recv` | the message's place is used under a lock (3) |
//! | `select`, and some other waits (4) | such parks are not swapped |
//! | a `scope`, a `run`, a `block_on` (5) | [`StackLoan`] |
//! | the kernel, of a buffer lent to it | no goroutine that waits for I/O is in a system call |
//! | other libraries (6) | the program's promise; [`lend_stack`], [`OnThread`] |
//!
//! 1. Timers of `sleep`, and of calls on sockets.
//! 2. See [`WaiterRef::place_node`].
//! 3. It is the channel's lock. The park names it, and the swapper takes it too. Code that uses the
//!    place [fetches](fetch) the stack before.
//! 4. Waits with a deadline in `chan` and `sync`, and waits for another's operation on the same
//!    socket.
//! 5. Goroutines of a `scope`, `run` inside a goroutine, and what a future of `block_on` is linked
//!    into.
//! 6. Their scopes (`std::thread::scope`, `rayon::scope`), a thread-local's address given away, and
//!    allocators that link their thread-locals.
//!
//! A touch of such a stack from outside ends the process, with a report that names the goroutine.
//! Inside a system call it is EFAULT. That is why the knob is unsafe.
//!
//! # Invariants
//! 1. The word of a goroutine leaves MARKED and OUT under its shard's lock alone. The one exception
//!    is a goroutine that overwrites MARKED as it runs.
//! 2. Order of locks: a channel's, then a shard's. The swapper holds the shard's already, so it
//!    only tries the channel's.
//! 3. Nothing here asks the program's allocator: code that holds a shard's lock waits for nothing
//!    but the kernel.
//! 4. An idle process makes no wake-ups. When sysmon has not looked since the swapper has, no
//!    goroutine has run. Then the swapper sleeps until the next goroutine has waited for long
//!    enough, or for good if there is none. Sysmon wakes it.
//!
//! # Rejected
//! - *Bringing a stack back at a touch*, by the fault handler. Another thread could write between
//!   packing and guarding, and the write would be lost, unless each swap also changed the mapping's
//!   protection. That splits the mapping, and costs more than all the rest.
//! - *userfaultfd*. Every first touch of any stack would go through a thread of the runtime's.
//! - *Moving the node to the packed form*. Its neighbours would have to be relinked, under a lock
//!   that the swapper would have to know for each kind of queue.
//!
//! [`WaiterRef::place_node`]: crate::sched::core::waiter::WaiterRef::place_node
//! [`OnThread`]: crate::alloc::OnThread

mod counts;
mod loan;

use crate::sched::core::fixed::{Fixed, fixed};
use crate::sched::core::g::{self, G, State};
use crate::sched::core::timers::NEVER;
use crate::sched::core::waiter::Lent;
use crate::sched::core::{config, frozen};
use crate::sched::threads::service::PendingThreads;
use crate::stack::image::{Packer, Place};
use crate::stack::slab;
use crate::stack::tls::Surplus;
use crate::sys::block_pool::{MAX_BLOCK, Pool};
use crate::sys::fatal::{self, say};
use crate::sys::line::Line;
use crate::sys::lock::{Guard, Lock};
use crate::sys::map::{GuardKind, PAGE};
use crate::sys::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use crate::sys::{clock, futex, membarrier};
use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) use counts::Counts;
pub use loan::{StackLoan, lend_stack};

/// How many goroutines are marked for one fence.
const BATCH: usize = 256;
/// A stack of more bytes than this is not looked through.
const LARGE: usize = 64 << 10;
/// How long the swapper lets others have a lock that they waited for while it held it.
const STAND_ASIDE: Duration = Duration::from_micros(100);
/// A packed stack begins with its length, in so many bytes.
const HEAD: usize = size_of::<u16>();

/// Packed stacks, and how many went and came back.
struct Shard {
    pool: Pool,
    outs: u64,
    ins: u64,
}

const SHARDS: usize = 16;

static SHARD: [Line<Lock<Shard>>; SHARDS] =
    [const { Line::new(Lock::new(Shard { pool: Pool::new(), outs: 0, ins: 0 })) }; SHARDS];

fn shard(g: &G) -> &'static Lock<Shard> {
    &SHARD[std::ptr::from_ref(g).addr() / size_of::<G>() % SHARDS]
}

/// Set once, by [`begin`].
static PACKER: OnceLock<Packer> = OnceLock::new();

/// Whether stacks are swapped out in this process.
static ON: Line<AtomicBool> = Line::new(AtomicBool::new(false));

/// See [`ON`].
#[inline]
fn is_on() -> bool {
    ON.load(Relaxed)
}

/// Whether the swapper's thread is there.
static LOOKING: Line<AtomicBool> = Line::new(AtomicBool::new(false));

/// How often sysmon has looked. Whenever goroutines have run, it looks more than once.
static LOOKS: AtomicU64 = AtomicU64::new(0);
/// 1 means that the swapper sleeps until this changes.
static ASLEEP: AtomicU32 = AtomicU32::new(0);

/// Tells the swapper that goroutines may have run since it looked. Sysmon calls this at each look
/// of its own.
#[inline]
pub(crate) fn look_again() {
    if !LOOKING.load(Relaxed) {
        return;
    }
    // One of the two sees the other: the swapper writes ASLEEP, and then reads LOOKS.
    LOOKS.fetch_add(1, SeqCst);
    if ASLEEP.load(SeqCst) != 0 && ASLEEP.swap(0, SeqCst) != 0 {
        futex::wake(&ASLEEP, 1);
    }
}

/// When a goroutine has been parked for so long, what lies below its live stack is given back.
/// `GORT_DEBUG=trimms=N` sets it in milliseconds.
const TRIM_AFTER: Duration = Duration::from_secs(20);
/// Where nothing is swapped out, the swapper rests after a look at all goroutines for so many times
/// as long as that look took.
const REST: u32 = 100;

/// Makes the thread that looks at parked goroutines. If `after` is given, the thread also swaps out
/// each goroutine that has been parked for that long. Where the kernel cannot do that, this says so
/// and returns `None`. [`begin`] does the rest.
pub(crate) fn prepare(
    after: Option<Duration>,
    fixed: &Fixed,
    pending: &mut PendingThreads,
) -> io::Result<Option<Packer>> {
    let packer = match after {
        Some(_) => make_packer(fixed)?,
        None => None,
    };
    let trim_ms = config::debug_knob("trimms").and_then(|ms| ms.parse().ok());
    let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(NEVER);
    let after_ns = after.filter(|_| packer.is_some()).map_or(NEVER, ns);
    let trim_ns = ns(trim_ms.map_or(TRIM_AFTER, Duration::from_millis));
    pending.add("gort-swapper", 256 << 10, move || {
        // Done on this thread, since it may take the kernel some milliseconds. (The second time it
        // takes next to none.)
        if membarrier::register().is_err() {
            return LOOKING.store(false, Relaxed);
        }
        let marked = Vec::with_capacity(BATCH);
        Swapper { after_ns, trim_ns, looked_ns: 0, marked, scratch: [0; MAX_BLOCK] }.work()
    })?;
    Ok(packer)
}

/// What swapping out needs, or `None`, with a message, where the kernel or libc does not allow it.
fn make_packer(fixed: &Fixed) -> io::Result<Option<Packer>> {
    if let Err(e) = membarrier::register() {
        say(format_args!("idle stacks are not swapped out: this kernel has no membarrier for them ({e})"));
        return Ok(None);
    }
    if slab::guards() != GuardKind::Install {
        say(format_args!(
            "idle stacks are not swapped out: this kernel has no MADV_GUARD_INSTALL (Linux 6.13 or newer has it)"
        ));
        return Ok(None);
    }
    if let Some(layout) = fixed.blocks.layout()
        && *layout.surplus() != Surplus::Taken
    {
        say(format_args!(
            "idle stacks are not swapped out, as libraries may write to the blocks of all threads: {}",
            layout.surplus()
        ));
        return Ok(None);
    }
    let mut rewritten = vec![fixed.current_offset];
    rewritten.extend(fixed.malloc_words.iter().flatten());
    match Packer::new(fixed.blocks.layout(), &rewritten) {
        Some(packer) => Ok(Some(packer)),
        None => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

/// Called when the runtime starts: switches on what [`prepare`] has made.
pub(crate) fn begin(packer: Option<Packer>) {
    LOOKING.store(true, Relaxed);
    if let Some(packer) = packer {
        PACKER.set(packer).unwrap_or_else(|_| unreachable!("the runtime starts once"));
        ON.store(true, Relaxed);
    }
}

/// How many threads there are for this: one or none.
pub(crate) fn threads() -> usize {
    usize::from(LOOKING.load(Relaxed))
}

/// Whether a stack may be out. True also after the swapper has had to give up.
fn was_on() -> bool {
    PACKER.get().is_some()
}

fn packer() -> &'static Packer {
    PACKER.get().expect("a stack was swapped out")
}

/// What belongs to the swapper's thread.
struct Swapper {
    after_ns: u64,
    trim_ns: u64,
    /// When it looked last.
    looked_ns: u64,
    marked: Vec<(&'static G, Aim)>,
    scratch: [u8; MAX_BLOCK],
}

/// What a goroutine is marked for.
#[derive(Clone, Copy)]
enum Aim {
    SwapOut,
    /// To give back what is below the live stack.
    Trim,
}

impl Swapper {
    fn work(mut self) {
        let pause =
            Duration::from_nanos((self.after_ns.min(self.trim_ns) / 2).clamp(1_000_000, 1_000_000_000));
        loop {
            let begin = Instant::now();
            let looks = LOOKS.load(SeqCst);
            let next_ns = match self.look_at_all() {
                Ok(next_ns) => next_ns,
                Err(e) => {
                    say(format_args!(
                        "no more idle stacks are swapped out: the kernel refuses the fence that this needs ({e})"
                    ));
                    LOOKING.store(false, Relaxed);
                    return ON.store(false, Relaxed);
                }
            };
            // A program that has asked for swapping wants it soon.
            let rest = if self.after_ns == NEVER { begin.elapsed() * REST } else { Duration::ZERO };
            std::thread::sleep(pause.max(rest));
            ASLEEP.store(1, SeqCst);
            if LOOKS.load(SeqCst) != looks {
                ASLEEP.store(0, SeqCst);
            }
            let deadline_ns = (next_ns != NEVER).then_some(next_ns);
            while ASLEEP.load(SeqCst) != 0 && deadline_ns.is_none_or(|d| clock::now_ns() < d) {
                futex::wait(&ASLEEP, 1, deadline_ns);
            }
            ASLEEP.store(0, SeqCst);
        }
    }

    /// Deals with the goroutines that have waited for long enough. Returns when the next one will
    /// have waited for long enough, if no goroutine runs meanwhile.
    fn look_at_all(&mut self) -> io::Result<u64> {
        let mut next_ns = NEVER;
        let mut result = Ok(());
        let now = clock::now_ns();
        let looked_ns = std::mem::replace(&mut self.looked_ns, now);
        g::for_each(|g| {
            if g.state() != State::Waiting || g.swap.is_out() {
                return;
            }
            let since_ns = g.since_ns();
            let trim_ns = since_ns.saturating_add(self.trim_ns);
            let out_ns = if g.swap.may_go() { since_ns.saturating_add(self.after_ns) } else { NEVER };
            let aim = if out_ns <= now {
                Some(Aim::SwapOut)
            } else {
                Some(Aim::Trim).filter(|_| (looked_ns..=now).contains(&trim_ns))
            };
            if out_ns > now {
                // Goroutines that become due one after the other are trimmed together.
                let trim_ns = if trim_ns > now { trim_ns.saturating_add(self.trim_ns / 2) } else { NEVER };
                next_ns = next_ns.min(out_ns).min(trim_ns);
            }
            let Some(aim) = aim.filter(|_| result.is_ok()) else { return };
            let marked = match aim {
                Aim::SwapOut => g.swap.mark(),
                Aim::Trim => g.swap.mark_below(),
            };
            if marked {
                self.marked.push((g, aim));
                if self.marked.len() == BATCH {
                    result = self.swap_out_marked().map(|all| {
                        if !all {
                            next_ns = now
                        }
                    });
                }
            }
        });
        result?;
        let all = self.swap_out_marked()?;
        Ok(if all { next_ns } else { now })
    }

    /// Does to the marked goroutines what they were marked for. False if one of them could not be
    /// swapped out just now.
    fn swap_out_marked(&mut self) -> io::Result<bool> {
        if self.marked.is_empty() {
            return Ok(true);
        }
        if let Err(e) = membarrier::fence_heavy() {
            self.marked.drain(..).for_each(|(g, _)| {
                let _shard = shard(g).lock();
                g.swap.unmark();
            });
            return Err(e);
        }
        let scratch = &mut self.scratch;
        Ok(self.marked.drain(..).fold(true, |all, (g, aim)| match aim {
            Aim::SwapOut => try_swap_out(g, scratch) & all,
            Aim::Trim => {
                trim(g);
                all
            }
        }))
    }
}

/// Gives back what lies below the live stack of `g`, which is marked.
fn trim(g: &'static G) {
    let _shard = shard(g).lock();
    if !g.swap.claim_below(|| g.state() == State::Waiting && !frozen::is_frozen()) {
        return;
    }
    // SAFETY: `g` waits, and the M that resumes it waits for the shard's lock. So no code changes
    // its slot or runs on its stack. Below the place where the stack was suspended nothing is
    // alive.
    unsafe {
        if let Some(slot) = (*g.slot.get()).as_ref() {
            slot.decommit_below(g.sp.load(Relaxed));
        }
    }
    g.swap.unmark();
}

/// Swaps out `g`, which is marked. False means that the channel where it waits, or libc's list of
/// blocks, is in use: the swapper tries again later.
fn try_swap_out(g: &'static G, scratch: &mut [u8; MAX_BLOCK]) -> bool {
    let mut shard = shard(g).lock();
    let waits = || g.state() == State::Waiting && g.bound_m.load(Relaxed).is_null() && !frozen::is_frozen();
    let Some(lock) = g.swap.claim(waits) else { return true };
    // SAFETY: `g` waits, and the M that resumes it waits for the shard's lock. So no code changes
    // its slot, and `g` does not leave the channel whose lock it has named.
    let (slot, lock) = unsafe {
        (
            (*g.slot.get()).as_ref().expect("a goroutine that waits has a stack"),
            std::ptr::with_exposed_provenance::<Lock<()>>(lock).as_ref(),
        )
    };
    let lent = match lock.map(Lock::try_lock) {
        Some(None) => {
            g.swap.unmark();
            return false;
        }
        other => other.flatten(),
    };
    let sp = g.sp.load(Relaxed);
    // SAFETY: as above. The message's place in the stack is used under the channel's lock, which
    // this holds (`fetch`).
    let packed = most_packed(slot, sp)
        .and_then(|most| unsafe { packer().pack(&place(g, slot), sp, &mut scratch[..most]) });
    let block = packed.and_then(|len| Some((shard.pool.take(HEAD + len)?, len)));
    let Some((block, len)) = block else {
        g.swap.stay();
        return true;
    };
    // SAFETY: all blocks are on libc's list, except those that are out. The packed one is this
    // function's own, and unused.
    unsafe {
        if !fixed().blocks.try_unlist(slot) {
            shard.pool.put(block, HEAD + len);
            g.swap.unmark();
            return false;
        }
    }
    // SAFETY: the block belongs to this function and has room. The stack is as for `pack`, and what
    // it held is in the block from here on.
    unsafe {
        (block as *mut u16).write(len as u16);
        std::slice::from_raw_parts_mut((block + HEAD) as *mut u8, len).copy_from_slice(&scratch[..len]);
        if slot.close().is_err() {
            reopen(g, slot, &scratch[..len]);
            shard.pool.put(block, HEAD + len);
            g.swap.stay();
            return true;
        }
    }
    shard.outs += 1;
    g.swap.set_out(block);
    let wanted = lent.as_ref().is_some_and(Guard::is_wanted);
    drop(lent);
    drop(shard);
    if wanted {
        // The next goroutine may wait at the same channel. A thread that sleeps for its lock takes
        // longer to come than this one takes to lock it again.
        std::thread::sleep(STAND_ASIDE);
    }
    true
}

/// Where the slot of `g` and its descriptor lie.
fn place(g: &G, slot: &slab::Slot) -> Place {
    let descriptor = std::ptr::from_ref(g).addr();
    Place { slot: slot.range(), descriptor: descriptor..descriptor + size_of::<G>() }
}

/// The most bytes that the stack suspended at `sp` may take when packed. If packing saves less than
/// a quarter of the stack's pages, the stack stays. So does a large stack: looking through it would
/// hold others up.
fn most_packed(slot: &slab::Slot, sp: usize) -> Option<usize> {
    let pages = slot.range().end - (sp & !(PAGE - 1));
    (pages <= LARGE).then_some((pages - pages / 4).min(MAX_BLOCK) - HEAD)
}

/// Opens the slot of `g` and unpacks `from` into it.
///
/// # Safety
/// The slot was closed, in part or altogether, and its block was taken off libc's list. `from` was
/// packed from this slot.
unsafe fn reopen(g: &G, slot: &slab::Slot, from: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Err(e) = slot.open() {
            fatal::throw(&format!("fatal error: cannot bring the stack of goroutine {} back: {e}", g.id()));
        }
        packer().unpack(from, &place(g, slot), g.sp.load(Relaxed));
        fixed().blocks.list(slot);
    }
}

/// Brings the stack of `g` back if it is out. Keeps the swapper from taking it until `g` waits
/// again.
///
/// The caller resumes `g` (whose state says Running), or holds the lock that `g` has named, or has
/// frozen all goroutines.
#[cold]
pub(crate) fn bring_back(g: &'static G) {
    let mut shard = shard(g).lock();
    let Some(block) = g.swap.out() else {
        g.swap.unmark();
        return;
    };
    // SAFETY: `g` does not run, and the word that says so changes under the shard's lock alone,
    // which is held. The block holds what `try_swap_out` has written.
    unsafe {
        let slot = (*g.slot.get()).as_ref().expect("it had one when it went");
        let len = usize::from((block as *const u16).read());
        reopen(g, slot, std::slice::from_raw_parts((block + HEAD) as *const u8, len));
        shard.pool.put(block, HEAD + len);
    }
    shard.ins += 1;
    g.swap.stay();
}

/// Called by the goroutine `g` before it parks. Lets its stack go, if swapping is on and `g` has
/// lent no more than `lent` of the stack. If this returns true, `g` calls [`stay`] after the park.
#[inline]
pub(crate) fn let_go(g: &G, lent: Lent) -> bool {
    let may_go = is_on() && !g.loans.any() && g.bound_m.load(Relaxed).is_null();
    if may_go {
        g.swap.let_go(match lent {
            Lent::Nothing => 0,
            Lent::Under(lock) => lock.expose_provenance(),
        });
    }
    may_go
}

/// Called by `g` after a park before which [`let_go`] returned true.
#[inline]
pub(crate) fn stay(g: &G) {
    g.swap.stay();
}

/// Makes sure that the stack of `g`, which waits or is about to, is there as long as the caller
/// holds the lock that `g` has named.
#[inline]
pub(crate) fn fetch(g: &'static G) {
    if g.swap.is_out() {
        bring_back(g);
    }
}

/// When all goroutines are frozen: brings the stack of `g` back, to be looked at. True if it was
/// out.
pub(crate) fn keep(g: &'static G) -> bool {
    let was_out = g.swap.is_out();
    // Also where the stack is not out yet: once this has the lock, the swapper is done with it, or
    // will see that all are frozen.
    if was_on() {
        bring_back(g);
    }
    was_out
}

/// The goroutine whose stack is swapped out and holds `addr`, if there is one. For the report of a
/// fault.
pub(crate) fn whose(addr: usize) -> Option<u64> {
    let mut whose = None;
    let mut goes_on = was_on();
    if goes_on {
        g::for_each_in_handler(|g| {
            if g.swap.is_home() || !goes_on {
                return;
            }
            let Some(_shard) = shard(g).lock_in_handler() else {
                goes_on = false; // the runtime's own fault, not a touch from outside
                return;
            };
            // SAFETY: while the stack is out, its slot does not change, and the lock keeps it out.
            let slot = g.swap.out().and_then(|_| unsafe { (*g.slot.get()).as_ref() });
            if slot.is_some_and(|slot| slot.range().contains(&addr)) {
                whose = Some(g.id());
            }
        });
    }
    whose
}

/// See [`Counts`].
pub(crate) fn counts() -> Counts {
    SHARD.iter().fold(Counts::default(), |sum, shard| {
        let shard = shard.lock();
        Counts {
            outs: sum.outs + shard.outs,
            ins: sum.ins + shard.ins,
            bytes: sum.bytes + shard.pool.in_use(),
        }
    })
}
