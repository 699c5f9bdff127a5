//! Signal handlers and the stacks they run on.

use crate::sys::map;
use crate::sys::sync::{AtomicU32, Ordering::Relaxed};

/// A handler that interrupts this thread sees everything written before the fence before anything
/// written after it. The compiler keeps the order, and the CPU does not reorder a thread's own
/// stores as seen by that thread.
#[inline(always)]
pub(crate) fn fence() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// A three-argument signal handler.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// The action that was installed before the runtime's handler.
pub(crate) struct Previous(libc::sigaction);

// SAFETY: plain data.
unsafe impl Sync for Previous {}
// SAFETY: as above.
unsafe impl Send for Previous {}

impl Previous {
    /// Whether it is a function, not the default action or `SIG_IGN`.
    pub(crate) fn is_handler(&self) -> bool {
        self.0.sa_sigaction > libc::SIG_IGN
    }
}

/// Whether `handler` is the one installed for `sig`.
pub(crate) fn is_installed(sig: libc::c_int, handler: Handler) -> bool {
    // SAFETY: a zeroed sigaction is a valid place for the result.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(sig, std::ptr::null(), &mut now) == 0
            && now.sa_sigaction == handler as *const () as usize
    }
}

/// Whether the process ignores `sig`.
#[cfg(feature = "signal")]
pub(crate) fn is_ignored(sig: libc::c_int) -> bool {
    // SAFETY: a zeroed sigaction is a valid place for the result.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(sig, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// Installs `handler` for `sig` on the alternate stack, with interrupted calls restarted. Returns
/// the action that was installed before.
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

/// Installs `previous` again, if `handler` is still installed for `sig`.
pub(crate) fn uninstall(sig: libc::c_int, handler: Handler, previous: &Previous) {
    if is_installed(sig, handler) {
        // SAFETY: this action was installed before, so it may be installed again.
        unsafe { libc::sigaction(sig, &previous.0, std::ptr::null_mut()) };
    }
}

/// Does what would have happened without the runtime's handler.
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
            // SAFETY: sets the default action. After the return the instruction faults again, and
            // the process dies as usual.
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

/// Signals whose handlers the runtime relies on. A thread that overflows its stack, or runs for too
/// long, gets them on that thread itself.
const OURS: [libc::c_int; 3] = [libc::SIGURG, libc::SIGSEGV, libc::SIGBUS];

/// Those of [`OURS`] that this process had blocked when the runtime's threads began, one bit each.
static BLOCKED: AtomicU32 = AtomicU32::new(0);

/// Unblocks these signals on this thread, whatever mask it has inherited.
pub(crate) fn unblock_ours() {
    // SAFETY: both sets are locals.
    let before = unsafe {
        let (mut ours, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        OURS.iter().for_each(|&sig| _ = libc::sigaddset(&mut ours, sig));
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &ours, &mut before);
        before
    };
    // SAFETY: only reads the set.
    let was_blocked = |sig: libc::c_int| unsafe { libc::sigismember(&before, sig) } == 1;
    let bits = OURS.iter().enumerate().map(|(i, &sig)| u32::from(was_blocked(sig)) << i).sum();
    BLOCKED.store(bits, Relaxed);
}

/// Blocks the signals that [`unblock_ours`] has unblocked: a forked child gets the process's mask
/// back.
pub(crate) fn block_again() {
    let bits = BLOCKED.load(Relaxed);
    // SAFETY: the set is a local.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for (_, &sig) in OURS.iter().enumerate().filter(|(i, _)| bits & 1 << i != 0) {
            libc::sigaddset(&mut set, sig);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

/// Blocks all signals that libc lets a program block, on this thread. Returns the mask before.
pub(crate) fn block_all() -> libc::sigset_t {
    // SAFETY: both sets are locals.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
        before
    }
}

/// Sets this thread's mask.
pub(crate) fn set_mask(mask: &libc::sigset_t) {
    // SAFETY: the set is valid.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

/// Bytes of an M's signal stack: enough for a report with a backtrace, and for the kernel's frame
/// with AVX-512.
const ALT_STACK_BYTES: usize = 64 << 10;
/// Bytes of guard below it: the program's own handlers run on this stack too, and may need more.
const ALT_GUARD_BYTES: usize = 64 << 10;

/// The alternate signal stack of one thread, with a guard below. It must be dropped on that thread,
/// which gives the memory back.
pub(crate) struct AltStack(usize);

impl AltStack {
    /// Makes this thread's signal handlers run on a stack of their own. `None`, and the old stack
    /// stays, if there is no memory.
    pub(crate) fn install() -> Option<AltStack> {
        let base = map::reserve(ALT_GUARD_BYTES + ALT_STACK_BYTES).ok()?;
        // SAFETY: the memory was just mapped. If the kernel has no memory to split the mapping,
        // there is no guard.
        let _ = unsafe { map::guard(base, ALT_GUARD_BYTES, map::guard_kind()) };
        let ss_sp = (base + ALT_GUARD_BYTES) as *mut _;
        let ss = libc::stack_t { ss_sp, ss_flags: 0, ss_size: ALT_STACK_BYTES };
        // SAFETY: the memory was just mapped and lives until the drop.
        unsafe { libc::sigaltstack(&ss, std::ptr::null_mut()) };
        Some(AltStack(base))
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let ss = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the stack is switched off before its memory is released.
        unsafe {
            libc::sigaltstack(&ss, std::ptr::null_mut());
            map::release(self.0, ALT_GUARD_BYTES + ALT_STACK_BYTES);
        }
    }
}

/// glibc's signal for `setuid` and its family: each thread changes its own credentials in the
/// handler.
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

/// Calls a function on the thread's own thread-locals, whatever block the caller runs on.
pub(crate) type OnOwnBlock = fn(&mut dyn FnMut());

static SETXID: std::sync::OnceLock<(KernelSigaction, OnOwnBlock)> = std::sync::OnceLock::new();

/// Makes glibc's `setuid` handler run on the thread's own block. The handler sets a flag in the
/// descriptor that the FS base points to, and the caller of `setuid` waits for that flag in the
/// thread's own descriptor.
pub(crate) fn wrap_setxid(on_own_block: OnOwnBlock) {
    // SAFETY: raw system calls on a valid struct (libc's sigaction refuses this signal, the kernel
    // does not). The new handler passes its arguments to the old one.
    unsafe {
        let mut old = KernelSigaction { handler: 0, flags: 0, restorer: 0, mask: 0 };
        let none = std::ptr::null::<KernelSigaction>();
        let rc = libc::syscall(libc::SYS_rt_sigaction, SIGSETXID, none, &raw mut old, 8usize);
        if rc != 0 || old.handler <= libc::SIG_IGN || SETXID.set((old, on_own_block)).is_err() {
            return; // not glibc, or no threads yet, so it does not send this
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
