//! Signal handlers and the stacks they run on.

use crate::sys::map;
use crate::sys::sync::{AtomicU32, Ordering::Relaxed};

/// What is written before it, a handler that interrupts this thread sees before what is written
/// after it: the compiler keeps the order, and a thread's own stores the processor does not reorder
/// for it.
#[inline(always)]
pub(crate) fn fence() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// A handler of ours.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// What was installed before ours.
pub(crate) struct Previous(libc::sigaction);

// SAFETY: plain data.
unsafe impl Sync for Previous {}
// SAFETY: as above.
unsafe impl Send for Previous {}

impl Previous {
    /// Whether it is a function (and not the default, or to ignore it).
    pub(crate) fn is_handler(&self) -> bool {
        self.0.sa_sigaction > libc::SIG_IGN
    }
}

/// Whether `handler` is what `sig` leads to.
pub(crate) fn is_installed(sig: libc::c_int, handler: Handler) -> bool {
    // SAFETY: a zeroed sigaction is a valid place for the answer.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(sig, std::ptr::null(), &mut now) == 0
            && now.sa_sigaction == handler as *const () as usize
    }
}

/// Installs `handler` for `sig` on the alternate stack, restarting interrupted calls; returns what was there.
///
/// # Safety
/// `handler` does only what may be done in a signal handler.
pub(crate) unsafe fn install(sig: libc::c_int, handler: Handler) -> Previous {
    // SAFETY: a zeroed sigaction is valid, and both pointers are to locals.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        let mut old: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = handler as *const () as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(sig, &new, &mut old);
        Previous(old)
    }
}

/// Puts `previous` back, if `handler` is what `sig` leads to.
pub(crate) fn uninstall(sig: libc::c_int, handler: Handler, previous: &Previous) {
    if is_installed(sig, handler) {
        // SAFETY: what was installed before, and may be again.
        unsafe { libc::sigaction(sig, &previous.0, std::ptr::null_mut()) };
    }
}

/// Does what would have happened without our handler.
///
/// # Safety
/// Called from the handler of `sig` with the arguments it got.
pub(crate) unsafe fn chain(
    sig: libc::c_int,
    previous: Option<&Previous>,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let old = previous.map(|p| &p.0);
    match old.map_or(libc::SIG_DFL, |o| o.sa_sigaction) {
        libc::SIG_IGN if sig != libc::SIGSEGV && sig != libc::SIGBUS => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the default action on return: the instruction faults again and the process dies as usual.
            unsafe {
                let mut dfl: libc::sigaction = std::mem::zeroed();
                dfl.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(sig, &dfl, std::ptr::null_mut());
            }
        }
        handler if old.is_some_and(|o| o.sa_flags & libc::SA_SIGINFO != 0) => {
            // SAFETY: installed as a three-argument handler by its owner.
            unsafe { std::mem::transmute::<usize, Handler>(handler)(sig, info, context) }
        }
        handler => {
            // SAFETY: installed as a one-argument handler by its owner.
            unsafe { std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(handler)(sig) }
        }
    }
}

/// Signals whose handlers the runtime relies on: a thread that overflows its stack, or computes for
/// long, gets them on its own thread.
const OURS: [libc::c_int; 3] = [libc::SIGURG, libc::SIGSEGV, libc::SIGBUS];

/// Those of [`OURS`] that this process had blocked when the runtime's threads began: bit by bit.
static BLOCKED: AtomicU32 = AtomicU32::new(0);

/// Lets our signals come to this thread, whatever mask it has inherited.
pub(crate) fn unblock_ours() {
    // SAFETY: sets of our own.
    let before = unsafe {
        let (mut ours, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        OURS.iter().for_each(|&sig| _ = libc::sigaddset(&mut ours, sig));
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &ours, &mut before);
        before
    };
    // SAFETY: asks the set.
    let was_blocked = |sig: libc::c_int| unsafe { libc::sigismember(&before, sig) } == 1;
    let bits = OURS.iter().enumerate().map(|(i, &sig)| u32::from(was_blocked(sig)) << i).sum();
    BLOCKED.store(bits, Relaxed);
}

/// Blocks what [`unblock_ours`] has unblocked: for a forked child, that the mask is the process's
/// again.
pub(crate) fn block_again() {
    let bits = BLOCKED.load(Relaxed);
    // SAFETY: a set of our own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for (_, &sig) in OURS.iter().enumerate().filter(|(i, _)| bits & 1 << i != 0) {
            libc::sigaddset(&mut set, sig);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

/// Bytes of an M's signal stack: room for a report with a backtrace, and for the kernel's frame with AVX-512.
const ALT_STACK_BYTES: usize = 64 << 10;
/// Bytes below it that nobody may touch: handlers of the program's run there too, and may need
/// more.
const ALT_GUARD_BYTES: usize = 64 << 10;

/// The alternate signal stack of one thread, with its guard below; given back on drop, on that
/// thread.
pub(crate) struct AltStack(usize);

impl AltStack {
    /// Makes this thread's signal handlers run on a stack of their own. Without memory the old one stays.
    pub(crate) fn install() -> Option<AltStack> {
        let base = map::reserve(ALT_GUARD_BYTES + ALT_STACK_BYTES).ok()?;
        // SAFETY: fresh memory of ours. Without memory for the split of a mapping there is no
        // guard.
        let _ = unsafe { map::guard(base, ALT_GUARD_BYTES, map::guard_kind()) };
        let ss_sp = (base + ALT_GUARD_BYTES) as *mut _;
        let ss = libc::stack_t { ss_sp, ss_flags: 0, ss_size: ALT_STACK_BYTES };
        // SAFETY: the memory is ours and lives until the drop.
        unsafe { libc::sigaltstack(&ss, std::ptr::null_mut()) };
        Some(AltStack(base))
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let ss = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the stack is switched off before its memory goes.
        unsafe {
            libc::sigaltstack(&ss, std::ptr::null_mut());
            map::release(self.0, ALT_GUARD_BYTES + ALT_STACK_BYTES);
        }
    }
}

/// glibc's signal for `setuid` and its family: each thread changes its own credentials in the handler.
const SIGSETXID: i32 = 33;

/// The kernel's `struct sigaction`, with the restorer that glibc hides.
#[repr(C)]
#[derive(Clone, Copy)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Calls a function on the thread's own thread-locals, wherever it is called: `on_own_block(f, arg)`.
pub(crate) type OnOwnBlock = fn(&mut dyn FnMut());

static SETXID: std::sync::OnceLock<(KernelSigaction, OnOwnBlock)> = std::sync::OnceLock::new();

/// Makes glibc's `setuid` handler run on the thread's own block: it sets a flag in the descriptor that the FS base points to, and
/// the caller of `setuid` waits for that flag in the real one.
pub(crate) fn wrap_setxid(on_own_block: OnOwnBlock) {
    // SAFETY: raw system calls on a valid struct; libc's sigaction refuses this signal, the kernel does not. The new
    // handler calls the old one with what it was given.
    unsafe {
        let mut old = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
        let none = std::ptr::null::<KernelSigaction>();
        let rc = libc::syscall(libc::SYS_rt_sigaction, SIGSETXID, none, &raw mut old, 8usize);
        if rc != 0 || old.handler <= libc::SIG_IGN || SETXID.set((old, on_own_block)).is_err() {
            return; // not glibc, or it has no threads yet and will not send this
        }
        let new = KernelSigaction { handler: on_setxid as *const () as usize, ..old };
        libc::syscall(
            libc::SYS_rt_sigaction,
            SIGSETXID,
            &raw const new,
            std::ptr::null::<KernelSigaction>(),
            8usize,
        );
    }
}

extern "C" fn on_setxid(sig: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let (old, on_own_block) = SETXID.get().expect("set before the handler");
    on_own_block(&mut || {
        // SAFETY: glibc installed it as a three-argument handler.
        unsafe { std::mem::transmute::<usize, Handler>(old.handler)(sig, info, context) }
    });
}
