//! Starting the runtime: once per process, by the first call that needs it.

pub(crate) mod after;
mod at_fork;
mod lent_word;
mod on_caller;
mod panic_hook;

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

/// The runtime. There is one per process. Its settings are in [`Runtime::builder`].
#[derive(Debug)]
pub struct Runtime(());

impl Runtime {
    /// The settings for a runtime that does not run yet. What is not set here comes from the
    /// environment, or is the default.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder(Config::new())
    }
}

/// Settings for the start; see [`Runtime::builder`].
///
/// ```
/// let n = gort::Runtime::builder().gomaxprocs(2).run(gort::gomaxprocs).unwrap();
/// assert_eq!(n, 2);
/// ```
#[derive(Debug, Clone)]
#[must_use = "the settings do nothing before `run` or `start`"]
pub struct RuntimeBuilder(Config);

impl RuntimeBuilder {
    /// How many goroutines may run at once, 1 to 1024. Default: the environment's `GOMAXPROCS`,
    /// else the CPUs that affinity and cgroup quota allow.
    pub fn gomaxprocs(mut self, n: usize) -> RuntimeBuilder {
        self.0.gomaxprocs = Some(n);
        self
    }

    /// The bytes of a goroutine's stack, rounded up to a power of two, from 16 KiB to 1 GiB. They
    /// are address space; memory is used as it is touched. A guard and the goroutine's
    /// thread-locals, however large, come on top. Default: `GORT_STACK` (as in `64K` or `1M`), else
    /// 256 KiB.
    pub fn stack_size(mut self, bytes: usize) -> RuntimeBuilder {
        self.0.stack_bytes = Some(bytes);
        self
    }

    /// Reserves room for the thread-locals of libraries that are opened later and have
    /// *initial-exec* ones. At least so many bytes are reserved, of the 1.6 KB or so that libc has
    /// for all such libraries. Goroutines then see these thread-locals as threads do.
    ///
    /// A parked goroutine takes a page more then, and
    /// [`swap_idle_stacks`](RuntimeBuilder::swap_idle_stacks) does nothing. This setting does not
    /// concern libraries that the program is linked with, or that were opened before the start, nor
    /// other thread-locals.
    ///
    /// Default: `GORT_STATIC_TLS` (as in `512` or `1K`), else 0. With 0, `dlopen` of such a library
    /// fails with libc's message: "cannot allocate memory in static TLS block".
    pub fn reserve_static_tls(mut self, bytes: usize) -> RuntimeBuilder {
        self.0.static_tls_bytes = Some(bytes);
        self
    }

    /// The most OS threads. One more is a fatal error. Default: `GORT_THREAD_CAP`, else 10 000.
    pub fn thread_cap(mut self, n: usize) -> RuntimeBuilder {
        self.0.thread_cap = Some(n);
        self
    }

    /// How many goroutines may be inside [`blocking`](crate::blocking) at once; more of them park.
    /// Default: `GORT_BLOCKING_LIMIT`, else 0, which is no limit.
    /// [`set_blocking_limit`](crate::set_blocking_limit) changes it later.
    pub fn blocking_limit(mut self, n: usize) -> RuntimeBuilder {
        self.0.blocking_limit = Some(n);
        self
    }

    /// Goroutines use the thread-locals of the OS thread that they happen to be on. That takes less
    /// memory, and switches are faster.
    ///
    /// # Safety
    ///
    /// Nothing that is bound to a thread may live across a gort call that parks:
    /// - no borrow of a `thread_local!`, no `StdoutLock`, no `ThreadRng`;
    /// - no lock guard that must be unlocked by its thread;
    /// - no address of a thread-local that code keeps.
    pub unsafe fn shared_thread_locals(mut self) -> RuntimeBuilder {
        self.0.shares_thread_locals = true;
        self
    }

    /// Swaps out the stacks and thread-locals of goroutines that have been parked for `after`. What
    /// they hold is packed, and their pages go back to the system until they run again.
    ///
    /// A waiting goroutine takes 1.3 KB then instead of 5.3, page tables included; what is packed
    /// of it takes some 40 bytes where many wait in the same place. Swapping one out takes some
    /// 10 µs of CPU, and its first wake-up takes 6 µs of time. While goroutines run, the swapper
    /// looks every `after / 2`, between 1 ms and 1 s.
    ///
    /// Default: off, whatever `GORT_SWAP` says: only the program can make the promise below, not
    /// the people who run it. In a program that calls this, the environment's `GORT_SWAP` overrules
    /// `after`: `off`, or a duration as in `500us`, `500ms`, `5s` or `2m`.
    /// [`Duration::MAX`](std::time::Duration::MAX) is off, unless `GORT_SWAP` says otherwise.
    ///
    /// Goroutines are swapped out while they wait
    /// - for I/O (also with a deadline), and in `sleep`;
    /// - without a deadline, in `join`, in `send` and `recv` of channels, and in all of
    ///   [`sync`](crate::sync).
    ///
    /// They are not swapped out
    /// - in `select`, in `block_on`, at the channels of timers, at the limit of `blocking`, or
    ///   behind another goroutine's operation on the same socket;
    /// - with a [`scope`](crate::scope) open, or with an [`OsThreadLock`](crate::OsThreadLock);
    /// - with so much on the stack (64 KiB at most) that packing it saves little.
    ///
    /// This needs Linux 6.13. On an older one it says so and does nothing.
    ///
    /// # Safety
    ///
    /// While a goroutine is parked in a gort call, no code but gort's uses memory in its stack or
    /// its `thread_local!`s, unless the goroutine holds a [`StackLoan`](crate::StackLoan).
    ///
    /// Two kinds of code lend such memory to other threads: scopes of other libraries
    /// (`std::thread::scope`, `rayon::scope`) in which a goroutine parks; and global allocators
    /// that link the thread-locals of all threads, as jemalloc does, without
    /// [`OnThread`](crate::alloc::OnThread) around them.
    ///
    /// A thread that touches such memory gets a fault, which ends the process with a report. A
    /// system call gets EFAULT.
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

    /// Starts the runtime, runs `f` as a goroutine and waits for it, as [`run`] does.
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
    /// If `f` does: the panic goes on in the caller.
    pub fn run<F: FnOnce() -> R + Send, R: Send>(self, f: F) -> Result<R, StartError> {
        start_with(&self.0)?;
        Ok(run_started(f))
    }
}

/// Runs `f` as the main goroutine and returns what `f` returns. Starts the runtime if it does not
/// run yet.
///
/// Other goroutines go on after that, until the process ends. `run` may be called again, from
/// several threads at once, and from goroutines. `f` may borrow from the caller.
///
/// # Blocking
///
/// G: yes. M: no. P: no. A plain thread waits.
///
/// # Panics
///
/// If `f` does: the panic goes on in the caller. If the runtime cannot start (see [`StartError`]).
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

/// Starts the runtime, if it does not run yet, and leaves the calling thread a plain thread. For
/// programs whose main thread is not theirs to use (GUI loops, C hosts).
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

/// As [`run`], on the caller's thread-locals: what `#[gort::test]` expands to.
#[doc(hidden)]
#[track_caller]
pub fn run_test<F: FnOnce() -> R + Send, R: Send>(f: F) -> R {
    if let Err(e) = start() {
        panic!("{e}");
    }
    if !on_caller::is_possible() {
        return run_started(f);
    }
    deadlock::runner_begins();
    let (mut f, mut result) = (Some(f), None);
    on_caller::run(&mut || result = f.take().map(run_main));
    match result.expect("it has run") {
        Err(payload) if task::is_goexit(&*payload) => wait_for_ever(),
        Err(payload) => resume_unwind(payload),
        Ok(r) => r,
    }
}

/// The main goroutine's work, where a thread waits in `run` for it.
fn run_main<R>(f: impl FnOnce() -> R) -> std::thread::Result<R> {
    let result = catch_unwind(AssertUnwindSafe(f));
    // If it has called goexit, its caller waits on.
    if !result.as_ref().is_err_and(|payload| task::is_goexit(&**payload)) {
        deadlock::runner_ends();
    }
    result
}

fn run_started<F: FnOnce() -> R + Send, R: Send>(f: F) -> R {
    let thread = WaiterRef::current().is_thread();
    if thread {
        deadlock::runner_begins();
    }
    let main = move || {
        let result = if thread { run_main(f) } else { catch_unwind(AssertUnwindSafe(f)) };
        result.unwrap_or_else(|payload| resume_unwind(payload))
    };
    let _loan = swap::lend_stack(); // `f` may borrow from this stack
    // SAFETY: this waits for the goroutine below, whatever happens, and takes its result.
    let main = unsafe { task::spawn_unchecked(main, task::Builder::new()) }.expect("nothing is asked for");
    let result = main.join();
    let result = match result {
        Err(e) if e.is_goexit() => wait_for_ever(),
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
    // From here on nothing fails. So a start that has failed can be tried again.
    let fixed_cap = fixed.thread_cap.min(MOST_THREADS);
    fixed::settle(fixed);
    if let Some(limit) = config.limit() {
        syscall::limit::set_blocking_limit(limit);
    }
    clock::ns_of(std::time::Instant::now()); // relates the two clocks before any code asks
    overflow::install(fatal_report::judge_fault);
    signal::wrap_setxid(m::on_own_block_in_handler);
    shared::lock().reserve(fixed_cap);
    swap::begin(packer);
    p::make(count);
    procs::num_cpu(); // before a goroutine may change the affinity of its thread
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
    panic_hook::install();
    pending.begin();
    let mut s = shared::lock();
    p::set_procs(count);
    (0..count).rev().for_each(|id| s.put_idle_p(p::get(id)));
    Ok(())
}

/// The main goroutine has called `goexit`: its caller waits on, as in Go.
fn wait_for_ever() -> ! {
    loop {
        let me = WaiterRef::current();
        me.arm();
        me.wait(WaitReason::Run, None);
    }
}
