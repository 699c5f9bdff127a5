//! Signals of the process: as messages of a channel, or as the end of a context.
//!
//! - [`channel`] is Go's `signal.Notify`: the signals come out of a [`Receiver`].
//! - [`shutdown`] is Go's `signal.NotifyContext`: a [`Context`] that SIGINT or SIGTERM ends.
//!
//! While a signal is caught here, it does not do what it would do to the process otherwise. When
//! nothing catches it any more, it does that again.
//!
//! A thread of its own passes the signals on: neither a goroutine nor a P is needed for it. While
//! there is such a thread, gort reports no deadlocks, since a signal may always come. In a [forked
//! child](crate#forks) all signals have their default action again.
//!
//! This module is the feature `signal`, which is on by default.
//!
//! # Blocking
//!
//! A function that may wait has a section of this name. The [crate's documentation](crate) explains
//! its letters. All other functions: G: no. M: no. P: no.
//!
//! # Examples
//!
//! A program that goes on until it is asked to end:
//!
//! ```no_run
//! use gort::signal;
//!
//! gort::run(|| -> std::io::Result<()> {
//!     let ctx = signal::shutdown()?;
//!     // … start what serves, with clones of `ctx`
//!     let _ = ctx.done().recv();
//!     println!("{}, closing", ctx.cause().expect("it is done"));
//!     Ok(())
//! })
//! # .unwrap();
//! ```

// # Protocol
// The handler may run on any thread, between any two instructions: it changes atomic words and
// wakes a futex, no more.
//
//   WANTED[n]   how many channels and contexts want signal n. Zero: the handler does what the
//               signal would do without it.
//   SHUTDOWN    OFF ─▶ ARMED (`shutdown` was called) ─▶ FIRED (by the first signal, in the
//               handler). With FIRED a signal has its default action: so the second one ends the
//               process, also if the thread below is stuck or dead.
//   PENDING     bit n: signal n has come, and the thread has not taken it yet. The thread sleeps
//               while there is none: the calls of `sched/threads/call.rs`, whose model is
//               `crates/gort-models/tests/m_pool.rs`.
//
// The thread takes all of PENDING and gives each signal to the channels under the lock of STATE. If
// the last one that wanted it was dropped meanwhile, it does what the handler would have done.
//
// # Why a channel loses no signal
// Only the thread sends, to a channel with room for each kind once. It remembers what it has sent,
// so by the length of the queue it knows what is in there: the last ones. A signal of a kind that
// is still queued is left out: the message there is received after this signal has come. Otherwise
// there is room.

use crate::chan::{self, Receiver, Sender};
use crate::context::{Cancel, Context};
use crate::sched::{self, Calls};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::sys::fork;
use crate::sys::futex;
use crate::sys::signal as system;
use crate::sys::sync::{AtomicU32, Ordering::*, is_child};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Deref;

/// A signal that can be caught.
///
/// # Examples
///
/// ```
/// use gort::signal::{SIGTERM, Signal};
/// use std::io::ErrorKind;
///
/// assert_eq!(SIGTERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::try_from(SIGTERM.as_raw()).unwrap(), SIGTERM);
/// // SIGKILL cannot be caught.
/// assert_eq!(Signal::try_from(9).unwrap_err().kind(), ErrorKind::InvalidInput);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

macro_rules! signals {
    ($($(#[$docs:meta])* $name:ident)*) => {
        $($(#[$docs])* pub const $name: Signal = Signal(libc::$name);)*

        /// All that can be caught, with their names.
        const KNOWN: &[(Signal, &str)] = &[$(($name, stringify!($name))),*];
    };
}

signals! {
    /// The terminal is gone; for services, often: read the configuration again.
    SIGHUP
    /// Ctrl-C.
    SIGINT
    /// Ctrl-\.
    SIGQUIT
    /// For the program's own use.
    SIGUSR1
    /// For the program's own use.
    SIGUSR2
    /// A write to a pipe or socket without a reader. Rust programs ignore it.
    SIGPIPE
    /// The timer of `alarm`.
    SIGALRM
    /// The process should end.
    SIGTERM
    /// A child has ended or stopped.
    SIGCHLD
    /// The process goes on after a stop.
    SIGCONT
    /// Ctrl-Z.
    SIGTSTP
    /// A read from the terminal in the background.
    SIGTTIN
    /// A write to the terminal in the background.
    SIGTTOU
    /// The terminal's window has another size.
    SIGWINCH
}

impl Signal {
    /// The number of the signal, as in `libc`.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(gort::signal::SIGTERM.as_raw(), 15);
    /// ```
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Whether the process ignores this signal, or did until it was caught here.
    ///
    /// A process inherits that: under `nohup`, SIGHUP is ignored. A service that catches it all the
    /// same would end when its terminal is closed.
    ///
    /// # Blocking
    ///
    /// G: only while another call of this module is under way. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::signal::{SIGHUP, SIGINT, SIGTERM};
    ///
    /// let mut signals = vec![SIGINT, SIGTERM];
    /// if !SIGHUP.is_ignored() {
    ///     signals.push(SIGHUP);
    /// }
    /// let signals = gort::signal::channel(&signals).unwrap();
    /// # drop(signals);
    /// ```
    pub fn is_ignored(self) -> bool {
        let state = state();
        if state.hooked & self.bit() != 0 { is_set(&IGNORED, self) } else { system::is_ignored(self.0) }
    }

    fn name(self) -> &'static str {
        KNOWN.iter().find(|(signal, _)| *signal == self).map_or("?", |(_, name)| name)
    }

    /// All are below 32.
    const fn bit(self) -> u32 {
        1 << self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// From the number of a signal. `InvalidInput` with a sentence if it cannot be caught here.
impl TryFrom<i32> for Signal {
    type Error = io::Error;

    fn try_from(number: i32) -> io::Result<Signal> {
        if KNOWN.iter().any(|(signal, _)| signal.0 == number) {
            return Ok(Signal(number));
        }
        let why = match number {
            libc::SIGURG => "SIGURG is gort's own: goroutines are preempted by it",
            libc::SIGKILL | libc::SIGSTOP => "SIGKILL and SIGSTOP cannot be caught by any program",
            libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGSYS
            | libc::SIGABRT => {
                "signals of a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT) cannot \
                 wait for a receiver: the thread that has caused one cannot go on"
            }
            _ => return Err(invalid(format!("{number} is no signal that gort::signal can catch"))),
        };
        Err(invalid(why.to_string()))
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The cause of a context that a signal has ended; see [`shutdown`].
///
/// # Examples
///
/// ```
/// use gort::context::Context;
/// use gort::signal::{Received, SIGINT};
///
/// /// The exit code by which a shell knows that a signal has ended a program.
/// fn exit_code(ctx: &Context) -> i32 {
///     let cause = ctx.cause().expect("it is done");
///     cause.downcast_ref::<Received>().map_or(0, |received| 128 + received.0.as_raw())
/// }
///
/// let (ctx, cancel) = Context::background().with_cancel();
/// cancel.cancel_cause(Received(SIGINT)); // as `shutdown` does
/// assert_eq!(exit_code(&ctx), 130);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received(pub Signal);

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received {}", self.0)
    }
}

impl Error for Received {}

/// Catches signals as messages of a channel.
///
/// Each signal that the process gets goes to all channels that were made for it. A channel has room
/// for one of each kind. So the first of a kind is never lost, and more of that kind are left out
/// until it was received: the next ones are then told of by the one in the channel.
///
/// Dropping the [`Signals`] gives the signals their former action again, if no other channel or
/// context wants them.
///
/// # Blocking
///
/// G: only while another call of this module is under way. M: no. P: no.
///
/// # Errors
///
/// - `InvalidInput` if there are no signals in the list. (Which signals there can be is a matter of
///   [`Signal`].)
/// - The system's errors, if a handler or a thread cannot be made.
///
/// # Panics
///
/// In a [forked child](crate#forks).
///
/// # Examples
///
/// ```
/// use gort::signal::{self, SIGUSR1, SIGUSR2};
///
/// gort::run(|| -> std::io::Result<()> {
///     let signals = signal::channel(&[SIGUSR1, SIGUSR2])?;
///     std::process::Command::new("kill")
///         .args(["-USR1", &std::process::id().to_string()])
///         .status()?;
///     gort::select! {
///         recv(signals) -> signal => assert_eq!(signal, Ok(SIGUSR1)),
///     }
///     Ok(())
/// })
/// # .unwrap();
/// ```
pub fn channel(signals: &[Signal]) -> io::Result<Signals> {
    fork::refuse("signal::channel");
    let set = signals.iter().fold(0, |set, signal| set | signal.bit());
    if set == 0 {
        return Err(invalid("signal::channel needs at least one signal".to_string()));
    }
    let mut state = state();
    state.hook(set)?;
    let (sender, receiver) = chan::bounded(set.count_ones() as usize);
    state.last_id += 1;
    let id = state.last_id;
    state.channels.push(Listener { id, set, sender, sent: VecDeque::new() });
    want(set);
    Ok(Signals { receiver, id, set })
}

/// Returns the context that SIGINT or SIGTERM ends.
///
/// The first of the two ends it, with [`Received`] as its [`cause`](Context::cause). A second one,
/// of either kind, has its default action: it ends the process at once, in case the way to the end
/// is stuck. That is also so where a [`channel`] catches these signals too. (One that the process
/// was told to ignore at its start, as shells do with SIGINT for what they start in the background,
/// ends the context, and is ignored the second time.)
///
/// There is one such context: all calls return it. Make children of it
/// ([`with_cancel`](Context::with_cancel), [`with_timeout`](Context::with_timeout)) for parts that
/// end for other reasons too. The signals stay caught as long as the process lives.
///
/// # Blocking
///
/// G: only while another call of this module is under way. M: no. P: no.
///
/// # Errors
///
/// The system's errors, if a handler or a thread cannot be made.
///
/// # Panics
///
/// In a [forked child](crate#forks).
///
/// # Examples
///
/// ```no_run
/// use gort::net::TcpListener;
/// use gort::signal;
/// use std::sync::Arc;
///
/// gort::run(|| -> std::io::Result<()> {
///     let ctx = signal::shutdown()?;
///     let listener = Arc::new(TcpListener::bind("127.0.0.1:8080")?);
///     // `close` ends the `accept` that is under way.
///     let closes = listener.clone();
///     ctx.after_func(move || closes.close());
///     while let Ok((stream, _)) = listener.accept() {
///         let ctx = ctx.clone();
///         gort::go(move || drop((ctx, stream))); // … serve it
///     }
///     Ok(())
/// })
/// # .unwrap();
/// ```
pub fn shutdown() -> io::Result<Context> {
    fork::refuse("signal::shutdown");
    let mut state = state();
    if let Some((ctx, _)) = &state.shutdown {
        return Ok(ctx.clone());
    }
    state.hook(ENDS)?;
    let (ctx, cancel) = Context::background().with_cancel();
    state.shutdown = Some((ctx.clone(), cancel));
    SHUTDOWN.store(ARMED, SeqCst);
    want(ENDS);
    Ok(ctx)
}

/// A [`Receiver`] of signals, made by [`channel`].
///
/// It derefs to the receiver, so it can be an operand of [`select!`](crate::select!).
///
/// # Examples
///
/// ```no_run
/// use gort::signal::{self, SIGHUP};
///
/// gort::run(|| -> std::io::Result<()> {
///     let hangups = signal::channel(&[SIGHUP])?;
///     for _ in hangups.iter() {
///         println!("read the configuration again");
///     }
///     Ok(())
/// })
/// # .unwrap();
/// ```
pub struct Signals {
    receiver: Receiver<Signal>,
    id: u64,
    set: u32,
}

impl Deref for Signals {
    type Target = Receiver<Signal>;

    fn deref(&self) -> &Receiver<Signal> {
        &self.receiver
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let caught = KNOWN.iter().filter(|(signal, _)| self.set & signal.bit() != 0);
        f.debug_set().entries(caught.map(|(signal, _)| signal)).finish()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if is_child() {
            return; // nothing is caught there, and another thread may have had the lock
        }
        let gone = {
            let mut state = state();
            let at = state.channels.iter().position(|listener| listener.id == self.id);
            at.map(|at| state.channels.swap_remove(at))
        };
        bits(self.set).for_each(|signal| _ = WANTED[signal.0 as usize].fetch_sub(1, SeqCst));
        drop(gone);
    }
}

// ---- what the handler sees ----

/// What [`shutdown`] catches.
const ENDS: u32 = SIGINT.bit() | SIGTERM.bit();

const OFF: u32 = 0;
const ARMED: u32 = 1;
const FIRED: u32 = 2;

static WANTED: [AtomicU32; 32] = [const { AtomicU32::new(0) }; 32];
static SHUTDOWN: AtomicU32 = AtomicU32::new(OFF);
static PENDING: Calls = Calls::new(AtomicU32::new(0));
/// A bit for each signal that was ignored when it was first caught.
static IGNORED: AtomicU32 = AtomicU32::new(0);

fn is_set(word: &AtomicU32, signal: Signal) -> bool {
    word.load(SeqCst) & signal.bit() != 0
}

fn want(set: u32) {
    bits(set).for_each(|signal| _ = WANTED[signal.0 as usize].fetch_add(1, SeqCst));
}

/// The signals of a set.
fn bits(set: u32) -> impl Iterator<Item = Signal> {
    (1..32).map(Signal).filter(move |signal| set & signal.bit() != 0)
}

/// The handler of `signal`. It does what a handler may do: atomic words, and system calls.
fn handle(signal: Signal) {
    if is_child() || WANTED[signal.0 as usize].load(SeqCst) == 0 {
        return default_action(signal);
    }
    if ENDS & signal.bit() != 0 && SHUTDOWN.compare_exchange(ARMED, FIRED, SeqCst, SeqCst) == Err(FIRED) {
        return default_action(signal);
    }
    if PENDING.call(signal.bit()) {
        futex::wake(PENDING.futex(), 1);
    }
}

/// Does what `signal` would do if it had never been caught. It may be called in a handler.
fn default_action(signal: Signal) {
    if !is_set(&IGNORED, signal) {
        // It knows all of `KNOWN`.
        let _ = signal_hook::low_level::emulate_default_handler(signal.0);
    }
}

// ---- the thread ----

/// The stack of the thread that passes signals on.
const STACK_BYTES: usize = 256 << 10;

static STATE: Mutex<State> =
    Mutex::new(State { channels: Vec::new(), shutdown: None, hooked: 0, has_thread: false, last_id: 0 });

struct State {
    channels: Vec<Listener>,
    shutdown: Option<(Context, Cancel)>,
    /// The signals that have a handler.
    hooked: u32,
    has_thread: bool,
    last_id: u64,
}

/// The sending end of a [`Signals`].
struct Listener {
    id: u64,
    set: u32,
    sender: Sender<Signal>,
    /// What was sent, the last at the end; as much as may still be queued.
    sent: VecDeque<Signal>,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Makes handlers for these signals, and the thread. Until they are wanted, they have their
    /// default action.
    fn hook(&mut self, set: u32) -> io::Result<()> {
        if !self.has_thread {
            fork::watch()?;
            sched::spawn_thread("gort-signals".into(), STACK_BYTES, pass_on)?;
            self.has_thread = true;
        }
        for signal in bits(set & !self.hooked) {
            if system::is_ignored(signal.0) {
                IGNORED.fetch_or(signal.bit(), SeqCst);
            }
            // SAFETY: `handle` does only what may be done in a signal handler.
            unsafe { signal_hook::low_level::register(signal.0, move || handle(signal)) }?;
            self.hooked |= signal.bit();
        }
        Ok(())
    }
}

impl Listener {
    fn give(&mut self, signal: Signal) {
        let queued = self.sender.len();
        self.sent.drain(..self.sent.len().saturating_sub(queued));
        if !self.sent.contains(&signal) && self.sender.try_send(signal).is_ok() {
            self.sent.push_back(signal);
        }
    }
}

/// What the thread does.
fn pass_on() {
    loop {
        let pending = PENDING.take();
        if pending == 0 {
            futex::wait(PENDING.futex(), 0, None);
        }
        bits(pending).for_each(deliver);
    }
}

fn deliver(signal: Signal) {
    let cancel = {
        let mut state = state();
        let mut wanted = false;
        for listener in state.channels.iter_mut().filter(|listener| listener.set & signal.bit() != 0) {
            listener.give(signal);
            wanted = true;
        }
        let shutdown = state.shutdown.as_ref().filter(|_| ENDS & signal.bit() != 0);
        if !wanted && shutdown.is_none() {
            return default_action(signal); // the last one that wanted it is gone
        }
        shutdown.map(|(_, cancel)| cancel.clone())
    };
    if let Some(cancel) = cancel {
        cancel.cancel_cause(Received(signal));
    }
}
