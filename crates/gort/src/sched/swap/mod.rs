//! Swapping out: a goroutine that has been parked for a while gives its pages back, and keeps what they held in packed form.
//!
//! # How
//! ```text
//!   gort-swapper, every so often                                     whoever makes it run (or reaches into its stack)
//!   ─────────────────────────────                                     ────────────────────────────────────────────────
//!   looks at all who wait; marks who has for long enough, 256 at a time
//!   heavy fence
//!   each, under its shard's lock: still marked, still waiting?        state := Running; light fence; stack at home? go on
//!     packs [sp, end of the slot) (`stack/image.rs`)                  else, under the shard's lock:
//!     guards the whole slot, which frees its pages                      takes the guards away, unpacks
//! ```
//! Without being asked, the same thread gives back what lies *below* the live stack of a goroutine
//! that has been parked for longer than [`TRIM_AFTER`], and at most half as long again: one that was
//! once deep would keep those pages. It looks at each wait once, and marks as before; nothing is packed, as nothing there is
//! alive.
//!
//! `word.rs` has the states and the proof. A parked goroutine is then a descriptor (256 bytes), its
//! part of a page table (650 at 256 KiB a slot), libc's own allocation for a block (some 320), and
//! what makes it differ from others that wait in the same place: some 40 bytes here.
//!
//! # Pointers into a stack that is not there
//! | who has one | so |
//! | --- | --- |
//! | wait queues of `chan` and `sync`, timers of `sleep` and of calls on sockets | the node lies in the descriptor ([`WaiterRef::place_node`](crate::sched::core::waiter::WaiterRef::place_node)) |
//! | who sends to, or receives from, a goroutine parked in `send` or `recv`: the message's place | under the channel's lock, which the park names; the swapper takes that too, and whoever uses the place [fetches](fetch) the stack before |
//! | `select`, waits with a deadline in `chan` and `sync`, waits for another's operation on the same socket | such parks are not swapped |
//! | goroutines of a `scope`, `run` inside a goroutine, what a future of `block_on` is linked into | [`StackLoan`] |
//! | a buffer lent to the kernel | a goroutine that waits for I/O is in no system call |
//! | scopes of others (`std::thread::scope`, `rayon::scope`), a thread-local's address given away, allocators that link their thread-locals | the program's promise; [`lend_stack`], [`OnThread`](crate::alloc::OnThread) |
//!
//! A touch from outside ends the process with a report that names the goroutine; inside a system call it is EFAULT. That is why the knob is unsafe.
//!
//! # Invariants
//! 1. The word of a goroutine leaves MARKED and OUT under its shard's lock alone, but for a goroutine that overwrites MARKED as it runs.
//! 2. Locks: a channel's, then a shard's. The swapper, who has the shard's, only tries the channel's.
//! 3. Nothing here asks the program's allocator: who holds a shard's lock waits for nobody but the kernel.
//! 4. An idle process makes no wake-ups: when sysmon has not looked since the swapper has, nobody has run, and the swapper sleeps until the
//!    next one has waited for long enough, or for good. sysmon wakes it.
//!
//! # Rejected
//! *Bringing a stack back at a touch*, by the fault handler: between packing and guarding another thread could write, and the write would
//! be lost, unless each swap also changed the mapping's protection, which splits it and costs more than all the rest. *userfaultfd*: every
//! first touch of any stack would go through a thread of ours. *Moving the node to the packed form*: its neighbours would have to be
//! relinked, under a lock that the swapper would have to know for each kind of queue.

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

pub use loan::{StackLoan, lend_stack};

/// Marked at once, for one fence.
const BATCH: usize = 256;
/// More bytes than this are not looked through.
const LARGE: usize = 64 << 10;
/// How long the swapper waits for those who want a lock that it had.
const STAND_ASIDE: Duration = Duration::from_micros(100);
/// Bytes before a packed stack: its length.
const HEAD: usize = size_of::<u16>();

/// Packed stacks, and what became of them.
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

/// Set once, by [`start`].
static PACKER: OnceLock<Packer> = OnceLock::new();

/// Whether stacks are swapped out in this process.
static ON: Line<AtomicBool> = Line::new(AtomicBool::new(false));

/// See [`ON`].
#[inline]
fn is_on() -> bool {
    ON.load(Relaxed)
}

/// Whether the thread is there.
static LOOKING: Line<AtomicBool> = Line::new(AtomicBool::new(false));

/// How often sysmon has looked: it does, more than once, whenever goroutines have run.
static LOOKS: AtomicU64 = AtomicU64::new(0);
/// 1: the swapper sleeps until that changes.
static ASLEEP: AtomicU32 = AtomicU32::new(0);

/// Goroutines may have run since the swapper has looked. sysmon calls this at each look of its own.
#[inline]
pub(crate) fn look_again() {
    if !LOOKING.load(Relaxed) {
        return;
    }
    // One of us sees the other: the swapper writes ASLEEP, and then reads LOOKS.
    LOOKS.fetch_add(1, SeqCst);
    if ASLEEP.load(SeqCst) != 0 && ASLEEP.swap(0, SeqCst) != 0 {
        futex::wake(&ASLEEP, 1);
    }
}

/// What lies below the live stack goes back when its goroutine has been parked for so long.
/// `GORT_DEBUG=trimms=N` sets it in milliseconds.
const TRIM_AFTER: Duration = Duration::from_secs(20);
/// So many times as long as a look at all took passes until the next one, where nobody is swapped
/// out.
const REST: u32 = 100;

/// Makes the thread that looks at parked goroutines, which swaps out each that has been parked for
/// `after`, if that is asked for; [`begin`] is the rest. Where the kernel cannot do that, says so
/// and goes on without: `None`.
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
        // Here, since that may take the kernel some milliseconds. (The second time it is nothing.)
        if membarrier::register().is_err() {
            return LOOKING.store(false, Relaxed);
        }
        let marked = Vec::with_capacity(BATCH);
        Swapper { after_ns, trim_ns, looked_ns: 0, marked, scratch: [0; MAX_BLOCK] }.work()
    })?;
    Ok(packer)
}

/// What swapping out needs, where the kernel and libc allow it.
fn make_packer(fixed: &Fixed) -> io::Result<Option<Packer>> {
    if let Err(e) = membarrier::register() {
        say(format_args!("idle stacks are not swapped out: this kernel has no membarrier for them ({e})"));
        return Ok(None);
    }
    if slab::guards() != GuardKind::Install {
        say(format_args!(
            "idle stacks are not swapped out: this kernel has no MADV_GUARD_INSTALL (Linux 6.13 or newer has)"
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

/// The runtime starts.
pub(crate) fn begin(packer: Option<Packer>) {
    LOOKING.store(true, Relaxed);
    if let Some(packer) = packer {
        PACKER.set(packer).unwrap_or_else(|_| unreachable!("the runtime starts once"));
        ON.store(true, Relaxed);
    }
}

/// How many threads are for this.
pub(crate) fn threads() -> usize {
    usize::from(LOOKING.load(Relaxed))
}

/// Whether somebody may be out: also when the swapper has had to give up.
fn was_on() -> bool {
    PACKER.get().is_some()
}

fn packer() -> &'static Packer {
    PACKER.get().expect("somebody was swapped out")
}

/// The thread's own.
struct Swapper {
    after_ns: u64,
    trim_ns: u64,
    /// When it looked last.
    looked_ns: u64,
    marked: Vec<(&'static G, Aim)>,
    scratch: [u8; MAX_BLOCK],
}

/// What a goroutine was marked for.
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

    /// Deals with the goroutines that have waited for long enough; says when the next one will
    /// have, if nobody runs.
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
                // Many that are due one after the other are trimmed together.
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

    /// False if somebody could not go just now.
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

/// Gives back what is below the live stack of `g`, which is marked.
fn trim(g: &'static G) {
    let _shard = shard(g).lock();
    if !g.swap.claim_below(|| g.state() == State::Waiting && !frozen::is_frozen()) {
        return;
    }
    // SAFETY: `g` waits, and the M that resumes it waits for the shard's lock: so nobody changes
    // its slot, or is on its stack; below where that was suspended nothing is alive.
    unsafe {
        if let Some(slot) = (*g.slot.get()).as_ref() {
            slot.decommit_below(g.sp.load(Relaxed));
        }
    }
    g.swap.unmark();
}

/// Swaps `g` out, which is marked. False: the channel that it waits at is in use; another time.
fn try_swap_out(g: &'static G, scratch: &mut [u8; MAX_BLOCK]) -> bool {
    let mut shard = shard(g).lock();
    let waits = || g.state() == State::Waiting && g.bound_m.load(Relaxed).is_null() && !frozen::is_frozen();
    let Some(lock) = g.swap.claim(waits) else { return true };
    // SAFETY: `g` waits, and the M that resumes it waits for the shard's lock: so nobody changes
    // its slot, and it does not leave the channel whose lock it has named.
    let (slot, lock) = unsafe {
        (
            (*g.slot.get()).as_ref().expect("who waits has a stack"),
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
    // SAFETY: as above; the message's place in it is used under the lock that we have (`fetch`).
    let packed = most_packed(slot, sp)
        .and_then(|most| unsafe { packer().pack(&place(g, slot), sp, &mut scratch[..most]) });
    let block = packed.and_then(|len| Some((shard.pool.take(HEAD + len)?, len)));
    let Some((block, len)) = block else {
        g.swap.stay();
        return true;
    };
    // SAFETY: all blocks are on the list, but for those that are out; the packed one is ours, and
    // unused.
    unsafe {
        if !fixed().blocks.try_unlist(slot) {
            shard.pool.put(block, HEAD + len);
            g.swap.unmark();
            return false;
        }
    }
    // SAFETY: the block is ours and has room; the stack is as for `pack`, and what it held is in the block from here on.
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
        // The next one may wait at the same channel, and who sleeps for its lock takes longer to come than we to take it again.
        std::thread::sleep(STAND_ASIDE);
    }
    true
}

/// The slot of `g` and its descriptor.
fn place(g: &G, slot: &slab::Slot) -> Place {
    let descriptor = std::ptr::from_ref(g).addr();
    Place { slot: slot.range(), descriptor: descriptor..descriptor + size_of::<G>() }
}

/// The most bytes that the stack suspended at `sp` may take when packed: if that saves less than a quarter of its pages it stays. So does
/// a large one: looking through it would hold others up.
fn most_packed(slot: &slab::Slot, sp: usize) -> Option<usize> {
    let pages = slot.range().end - (sp & !(PAGE - 1));
    (pages <= LARGE).then_some((pages - pages / 4).min(MAX_BLOCK) - HEAD)
}

/// Brings back what a slot held.
///
/// # Safety
/// It was closed, in part or altogether, and its block taken off libc's list; `from` was packed
/// from it.
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

/// Brings the stack of `g` back, if it is out, and keeps the swapper from taking it as long as `g` does not wait.
///
/// The caller is who resumes `g` (its state says Running), or holds the lock that it has named, or has frozen all.
#[cold]
pub(crate) fn bring_back(g: &'static G) {
    let mut shard = shard(g).lock();
    let Some(block) = g.swap.out() else {
        g.swap.unmark();
        return;
    };
    // SAFETY: `g` does not run, and the word that says so changes under our lock alone; the block holds what `try_swap_out` has written.
    unsafe {
        let slot = (*g.slot.get()).as_ref().expect("it had one when it went");
        let len = usize::from((block as *const u16).read());
        reopen(g, slot, std::slice::from_raw_parts((block + HEAD) as *const u8, len));
        shard.pool.put(block, HEAD + len);
    }
    shard.ins += 1;
    g.swap.stay();
}

/// Called by the goroutine `g` before it parks. Its stack may be swapped out, if the program wants
/// that and `g` has lent nobody more than `lent` of it. Returns true if so: then `g` calls
/// [`stay`] after the park.
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

/// Makes sure that the stack of `g`, which waits or is about to, is there as long as the caller holds the lock that `g` has named.
#[inline]
pub(crate) fn fetch(g: &'static G) {
    if g.swap.is_out() {
        bring_back(g);
    }
}

/// When all are frozen: brings the stack of `g` back, to be looked at. True if it was out.
pub(crate) fn keep(g: &'static G) -> bool {
    let was_out = g.swap.is_out();
    // Also where it is not out yet: behind the lock the swapper is done with it, or will see that all are frozen.
    if was_on() {
        bring_back(g);
    }
    was_out
}

/// The goroutine whose stack was swapped out and has been touched at `addr`, if there is one. For the report of a fault.
pub(crate) fn whose(addr: usize) -> Option<u64> {
    let mut whose = None;
    let mut goes_on = was_on();
    if goes_on {
        g::for_each_in_handler(|g| {
            if g.swap.is_home() || !goes_on {
                return;
            }
            let Some(_shard) = shard(g).lock_in_handler() else {
                goes_on = false; // the fault is ours, and no touch from outside
                return;
            };
            // SAFETY: while it is out, which we have the lock for, its slot does not change.
            let slot = g.swap.out().and_then(|_| unsafe { (*g.slot.get()).as_ref() });
            if slot.is_some_and(|slot| slot.range().contains(&addr)) {
                whose = Some(g.id());
            }
        });
    }
    whose
}

/// What the shards count, in all.
#[derive(Default)]
pub(crate) struct Counts {
    /// Swapped out, and back, ever.
    pub(crate) outs: u64,
    pub(crate) ins: u64,
    /// The bytes of those that are out.
    pub(crate) bytes: usize,
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
