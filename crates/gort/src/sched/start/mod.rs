//! Starting the runtime: once per process, by whoever comes first.

pub(crate) mod after;
mod at_fork;

use crate::sched::core::config::{self, Config, Limits};
use crate::sched::core::fixed::{self, Fixed};
use crate::sched::core::reason::WaitReason;
use crate::sched::core::start_error::StartError;
use crate::sched::core::waiter::WaiterRef;
use crate::sched::core::{m, p};
use crate::sched::handoff;
use crate::sched::io::netpoll;
use crate::sched::run::schedule;
use crate::sched::spawn::own_attr;
use crate::sched::spawn::task;
use crate::sched::spawn::trim;
use crate::sched::threads::pool;
use crate::sched::threads::pool::Duties;
use crate::sched::threads::service::PendingThreads;
use crate::sched::watch::deadlock;
use crate::sched::watch::{fatal_report, sysmon};
use crate::sched::world::procs;
use crate::sched::{preempt, shared, swap, syscall};
use crate::stack::blocks::Blocks;
use crate::stack::switch::FsMode;
use crate::stack::tls::Layout;
use crate::stack::{overflow, slab};
use crate::sys::fatal::say;
use crate::sys::sync::is_child;
use crate::sys::{clock, signal};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// More threads than Linux can have.
const MOST_THREADS: usize = 1 << 22;

/// The runtime; there is one a process. Its knobs are in [`Runtime::builder`].
#[derive(Debug)]
pub struct Runtime(());

impl Runtime {
    /// The settings for a runtime that does not run yet; what is not set comes from the environment, or is the default.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder(Config::new())
    }
}

/// Settings for the start, see [`Runtime::builder`].
///
/// ```
/// let n = gort::Runtime::builder().gomaxprocs(2).run(gort::gomaxprocs).unwrap();
/// assert_eq!(n, 2);
/// ```
#[derive(Debug, Clone)]
#[must_use = "the settings do nothing before `run` or `start`"]
pub struct RuntimeBuilder(Config);

impl RuntimeBuilder {
    /// How many goroutines may run at once, 1 to 1024. Default: the environment's `GOMAXPROCS`, else the CPUs that affinity
    /// and cgroup quota allow.
    pub fn gomaxprocs(mut self, n: usize) -> RuntimeBuilder {
        self.0.gomaxprocs = Some(n);
        self
    }

    /// The bytes of a goroutine's stack, rounded up to a power of two, from 16 KiB to 1 GiB. They
    /// are address space; memory is used as it is touched. The goroutine's thread-locals, however
    /// large, and a guard come on top. Default: `GORT_STACK` (as in `64K` or `1M`), else 256 KiB.
    pub fn stack_size(mut self, bytes: usize) -> RuntimeBuilder {
        self.0.stack_bytes = Some(bytes);
        self
    }

    /// Keeps room for the thread-locals of libraries that are opened later and have *initial-exec*
    /// ones: so many bytes at least, of the 1.6 KB or so that libc has for all of them. Goroutines
    /// see them as threads do. A parked goroutine takes a page more then, and
    /// [`swap_idle_stacks`](RuntimeBuilder::swap_idle_stacks) does nothing. Default:
    /// `GORT_STATIC_TLS` (as in `512` or `1K`), else 0: `dlopen` of such a library fails, as libc
    /// says it: "cannot allocate memory in static TLS block". Libraries that the program is linked
    /// with, or that were opened before the start, are not concerned, nor are other thread-locals.
    pub fn reserve_static_tls(mut self, bytes: usize) -> RuntimeBuilder {
        self.0.static_tls_bytes = Some(bytes);
        self
    }

    /// The most OS threads; one more is a fatal error. Default: `GORT_THREAD_CAP`, else 10 000.
    pub fn thread_cap(mut self, n: usize) -> RuntimeBuilder {
        self.0.thread_cap = Some(n);
        self
    }

    /// How many goroutines may be inside [`blocking`](crate::blocking) at once; more of them park. Default: `GORT_BLOCKING_LIMIT`, else 0,
    /// which is no limit. [`set_blocking_limit`](crate::set_blocking_limit) changes it later.
    pub fn blocking_limit(mut self, n: usize) -> RuntimeBuilder {
        self.0.blocking_limit = Some(n);
        self
    }

    /// Goroutines use the thread-locals of the OS thread they happen to be on: less memory, faster switches.
    ///
    /// # Safety
    ///
    /// Nothing that is bound to a thread may live across a gort call that parks: no borrow of a `thread_local!`, no
    /// `StdoutLock`, no `ThreadRng`, no lock guard that must be unlocked by its thread; and no code may keep a
    /// thread-local's address across one.
    pub unsafe fn shared_thread_locals(mut self) -> RuntimeBuilder {
        self.0.shares_thread_locals = true;
        self
    }

    /// Swaps out the stacks and thread-locals of goroutines that have been parked for `after`: what they hold is packed, to some 40
    /// bytes where many wait in the same place, and their pages go back to the system, until they run again. That takes some 10 µs of CPU out, and 6 of time for the first wake-up; a goroutine that
    /// waits takes 1.3 KB then instead of 5.3, page tables included. While goroutines run, the
    /// swapper looks every `after / 2`, between 1 ms and 1 s. The environment's `GORT_SWAP`
    /// overrules this: `off`, or a duration as in `500us`, `500ms`, `5s` or `2m`. [`Duration::MAX`]
    /// is off unless that says so. Default: off, whatever `GORT_SWAP` says: the promise below is
    /// the program's, not of those who run it.
    ///
    /// Swapped out are those who wait for I/O, in `sleep`, in `join`, in `send` and `recv` of channels, and in all of [`sync`](crate::sync); without a deadline, but for
    /// I/O. Not those in `select`, behind another's operation on the same socket, at the limit of `blocking`, at the channels of timers, in `block_on`, with a [`scope`](crate::scope) open, with an
    /// [`OsThreadLock`](crate::OsThreadLock), or with so much on the stack (64 KiB at most) that packing it saves little. Needs Linux 6.13; with an older one it says so and does nothing.
    ///
    /// # Safety
    ///
    /// While a goroutine is parked in a gort call, nobody but gort uses memory in its stack or its `thread_local!`s, unless it holds a
    /// [`StackLoan`](crate::StackLoan). Scopes of other libraries (`std::thread::scope`, `rayon::scope`) in which a goroutine parks lend them
    /// to other threads; so do global allocators that link the thread-locals of all threads, as jemalloc does, without
    /// [`OnThread`](crate::alloc::OnThread) around them. Who touches such memory gets a fault, which ends the process with a report; a system call gets EFAULT.
    #[cfg(feature = "swap")]
    pub unsafe fn swap_idle_stacks(mut self, after: std::time::Duration) -> RuntimeBuilder {
        self.0.swap_after = Some(after);
        self
    }

    /// Starts the runtime and leaves the calling thread a plain thread.
    ///
    /// # Blocking
    ///
    /// G: no. M: yes, until the runtime runs. P: no.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(self) -> Result<(), StartError> {
        start_with(&self.0)
    }

    /// Starts the runtime, runs `f` as a goroutine and waits for it, as [`run`].
    ///
    /// # Blocking
    ///
    /// As [`run`].
    ///
    /// # Errors
    ///
    /// [`StartError`]; then `f` was not called.
    ///
    /// # Panics
    ///
    /// If `f` does: the panic goes on here.
    pub fn run<F: FnOnce() -> R + Send, R: Send>(self, f: F) -> Result<R, StartError> {
        start_with(&self.0)?;
        Ok(run_started(f))
    }
}

/// Runs `f` as the main goroutine, starting the runtime if it does not run yet, and gives what `f` returns.
///
/// Other goroutines go on after that, until the process ends. It may be called again, from several threads at once, and from
/// goroutines. `f` may borrow from the caller.
///
/// # Blocking
///
/// G: yes. M: no. P: no. A plain thread waits.
///
/// # Panics
///
/// If `f` does: the panic goes on here. If the runtime cannot start (see [`StartError`]).
///
/// # Examples
///
/// ```
/// let words = ["one", "two"];
/// let n = gort::run(|| words.len());
/// assert_eq!(n, 2);
/// ```
#[track_caller]
pub fn run<F: FnOnce() -> R + Send, R: Send>(f: F) -> R {
    match Runtime::builder().run(f) {
        Ok(r) => r,
        Err(e) => panic!("{e}"),
    }
}

/// Starts the runtime, if it does not run yet, and leaves the calling thread a plain thread: for programs whose main thread
/// belongs to somebody else (GUI loops, C hosts).
///
/// # Blocking
///
/// G: no. M: yes, until the runtime runs. P: no.
///
/// # Errors
///
/// [`StartError`].
///
/// # Examples
///
/// ```
/// gort::start().unwrap();
/// let h = gort::go(|| "from a goroutine");
/// assert_eq!(h.join().unwrap(), "from a goroutine");
/// ```
pub fn start() -> Result<(), StartError> {
    start_with(&Config::new())
}

fn run_started<F: FnOnce() -> R + Send, R: Send>(f: F) -> R {
    let thread = WaiterRef::current().is_thread();
    if thread {
        deadlock::runner_begins();
    }
    let main = move || {
        let result = catch_unwind(AssertUnwindSafe(f));
        // For one that has called goexit its caller waits on.
        if thread && !result.as_ref().is_err_and(|payload| task::is_goexit(&**payload)) {
            deadlock::runner_ends();
        }
        result.unwrap_or_else(|payload| resume_unwind(payload))
    };
    let _loan = swap::lend_stack(); // `f` may borrow
    // SAFETY: we wait for the goroutine below, whatever happens, and take its result.
    let main = unsafe { task::spawn_unchecked(main, task::Builder::new()) }.expect("nothing is asked for");
    let result = main.join();
    let result = match result {
        Err(e) if e.is_goexit() => loop {
            let me = WaiterRef::current();
            me.arm();
            me.wait(WaitReason::Run, None);
        },
        Err(e) => Err(e.into_panic()),
        Ok(r) => Ok(r),
    };
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Held while the runtime starts.
static STARTING: Mutex<()> = Mutex::new(());

fn start_with(config: &Config) -> Result<(), StartError> {
    if is_child() {
        return Err(StartError::Forked);
    }
    if p::procs() != 0 && config.is_default() {
        return Ok(());
    }
    let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if p::procs() != 0 {
        return if config.is_default() { Ok(()) } else { Err(StartError::TooLate) };
    }
    let count = config.procs()?;
    if config::debug_knob("guards").is_some_and(|kind| kind == "mprotect") {
        slab::force_mprotect_guards();
    }
    let bytes = config.stack();
    let class = slab::class_for(bytes).map_err(StartError::Invalid)?;
    let blocks = match config.shares_thread_locals {
        false => Blocks::Own(Layout::discover(config.static_tls(own_attr::thread_ended))?),
        true => Blocks::Shared,
    };
    if let Some(layout) = blocks.layout() {
        slab::make_room(layout.block_bytes());
    }
    let mode = blocks.fs_mode();
    if mode == FsMode::ArchPrctl {
        say(format_args!("this machine has no FSGSBASE; each switch of goroutines costs two system calls"));
    }
    at_fork::watch()?;
    netpoll::start()?;
    let mut pending = PendingThreads::default();
    let duties = Duties {
        schedule,
        go_on_without: handoff::resume_preempted_on_unused,
        trim: trim::trim,
        look_at_limits: procs::look_at_limits,
        throw_with_dump: fatal_report::throw_with_dump,
        dump_and_exit: fatal_report::dump_and_exit,
    };
    pool::make_template(&mut pending, duties)?;
    sysmon::make(&mut pending)?;
    let fixed = Fixed {
        mode,
        malloc_words: blocks.malloc_words(),
        blocks,
        current_offset: m::current_offset(),
        class,
        thread_cap: config.cap(),
        entry: task::entry,
    };
    let packer = swap::prepare(config.swap_after(), &fixed, &mut pending)?;
    // From here on nothing fails: a start that has failed can be tried again.
    let fixed_cap = fixed.thread_cap.min(MOST_THREADS);
    fixed::settle(fixed);
    if let Some(limit) = config.limit() {
        syscall::limit::set_blocking_limit(limit);
    }
    clock::ns_of(std::time::Instant::now()); // the two clocks meet before anybody asks
    overflow::install(fatal_report::judge_fault);
    signal::wrap_setxid(m::on_own_block);
    shared::lock().reserve(fixed_cap);
    swap::begin(packer);
    p::make(count);
    procs::num_cpu(); // before a goroutine may bind its thread
    procs::follow_limits(config.gomaxprocs.is_none() && Config::env_procs().is_none());
    if config::debug_knob("logtls").is_some_and(|v| v == "1")
        && let Some(layout) = fixed::layout()
    {
        let (bytes, surplus) = (layout.block_bytes(), layout.surplus());
        say(format_args!("a goroutine's block of thread-locals has {bytes} bytes; {surplus}"));
    }
    if config::debug_knob("logprocs").is_some_and(|v| v == "1") {
        let limits = Limits::now();
        let cgroup = limits.cgroup.map_or("none".to_string(), |limit| format!("{limit} CPUs"));
        say(format_args!("GOMAXPROCS={count} (affinity {} CPUs, cgroup limit {cgroup})", limits.cpus));
    }
    if config::debug_knob("asyncpreemptoff").is_none_or(|v| v != "1") {
        preempt::handler::install();
    }
    pending.begin();
    let mut s = shared::lock();
    p::set_procs(count);
    (0..count).rev().for_each(|id| s.put_idle_p(p::get(id)));
    Ok(())
}
