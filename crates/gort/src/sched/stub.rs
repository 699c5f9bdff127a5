//! TEMPORARY: the waist on OS threads, so that the floors above can be built before the scheduler is in.
use super::timers::{Timers, TimerNode};
use std::any::Any;
use std::time::Instant;

/// See gort::JoinHandle
pub struct JoinHandle<T>(std::thread::JoinHandle<T>);
/// Why a join failed
pub struct JoinError(Box<dyn Any + Send>);
impl JoinError {
    /// panic?
    pub fn is_panic(&self) -> bool { !self.is_goexit() }
    /// payload
    pub fn into_panic(self) -> Box<dyn Any + Send> { self.0 }
    /// goexit?
    pub fn is_goexit(&self) -> bool { is_goexit(&*self.0) }
}
impl std::fmt::Debug for JoinError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("JoinError") } }
impl std::fmt::Display for JoinError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("goroutine panicked") } }
impl std::error::Error for JoinError {}
impl<T> JoinHandle<T> {
    /// join
    pub fn join(self) -> Result<T, JoinError> { self.0.join().map_err(JoinError) }
    /// finished?
    pub fn is_finished(&self) -> bool { self.0.is_finished() }
}
/// Builder
#[derive(Default, Debug)]
pub struct Builder(());
impl Builder {
    /// new
    pub fn new() -> Builder { Builder(()) }
    /// name
    pub fn name(self, _: impl Into<String>) -> Builder { self }
    /// size
    pub fn stack_size(self, _: usize) -> Builder { self }
    /// spawn
    pub fn spawn<F: FnOnce() -> T + Send + 'static, T: Send + 'static>(self, f: F) -> std::io::Result<JoinHandle<T>> { Ok(go(f)) }
}
/// go
pub fn go<F: FnOnce() -> T + Send + 'static, T: Send + 'static>(f: F) -> JoinHandle<T> { JoinHandle(std::thread::spawn(f)) }
/// run
pub fn run<F: FnOnce() -> R + Send, R: Send>(f: F) -> R { f() }
/// start
pub fn start() -> Result<(), std::io::Error> { Ok(()) }
/// blocking
pub fn blocking<R>(f: impl FnOnce() -> R) -> R { f() }
/// yield
pub fn yield_now() { std::thread::yield_now() }
/// goexit
pub fn goexit() -> ! { std::panic::resume_unwind(Box::new(Goexit)) }
struct Goexit;
/// True if `payload`, which `catch_unwind` gave, is a `goexit` on its way; who caught it must resume it.
pub(crate) fn is_goexit(payload: &(dyn Any + Send)) -> bool { payload.is::<Goexit>() }

/// Runs `f` in a goroutine of its own at `when`, unless stopped before.
pub(crate) fn after_func(when: Instant, f: Box<dyn FnOnce() + Send>) -> AfterFunc {
    let state = std::sync::Arc::new(std::sync::Mutex::new(Some(f)));
    let s = state.clone();
    std::thread::spawn(move || {
        std::thread::sleep(when.saturating_duration_since(Instant::now()));
        let f = s.lock().unwrap().take();
        if let Some(f) = f { f() }
    });
    AfterFunc(state)
}
/// A pending `after_func`. Dropping it does not stop it.
pub(crate) struct AfterFunc(std::sync::Arc<std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>>);
impl AfterFunc {
    /// True if this kept `f` from running.
    pub(crate) fn stop(&self) -> bool { self.0.lock().unwrap().take().is_some() }
}

/// Where timers go: the current P's heap, or the runtime's when no goroutine runs.
pub(crate) struct TimerHost;
static TIMERS: Timers = Timers::new();
impl TimerHost {
    /// Starts `node` in the heap at hand and tells the poller if it became the earliest.
    ///
    /// # Safety
    /// As [`TimerNode::start`].
    pub(crate) unsafe fn start(node: &TimerNode, when_ns: u64, fire: super::timers::Fire, arg: *const (), seq: usize) {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| { std::thread::spawn(|| loop { TIMERS.run_due(crate::sys::clock::now_ns(), |w| w.ready()); std::thread::sleep(std::time::Duration::from_micros(200)); }); });
        // SAFETY: the caller's promise
        unsafe { node.start(&TIMERS, when_ns, fire, arg, seq) };
    }
}

/// True if somebody polls (the real one: the runtime was started).
pub(crate) fn started() -> bool { true }

/// TEMPORARY: drives the netpoller until the scheduler does; called once the poller is there. To delete: this
/// function and its one call in `netpoll::start_poller`.
pub(crate) fn ensure_poll_thread() -> std::io::Result<()> {
    static STARTED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    if !STARTED.swap(true, std::sync::atomic::Ordering::Relaxed) {
        std::thread::Builder::new().name("gort-poll".into()).spawn(|| loop { super::netpoll::poll(None, &mut |w| w.ready()); })?;
    }
    Ok(())
}
