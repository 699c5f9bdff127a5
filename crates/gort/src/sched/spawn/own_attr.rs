//! Functions of libc's about `pthread_self()`, made right for goroutines.
//!
//! To libc a goroutine is a thread with a descriptor of its own. But the kernel does not know the
//! thread id in that descriptor, and libc asks the kernel by this id for whatever the descriptor
//! does not hold. So, in programs that link gort, these functions take the place of libc's. For the
//! length of the call they lend the block the id of the thread that the goroutine is on, so the
//! answers are that thread's.
//!
//! - A goroutine that sets what belongs to a thread (affinity, priority) must hold an
//!   [`OsThreadLock`](crate::OsThreadLock). Under it, its block has that id anyway.
//! - Without it, and for another goroutine's `pthread_t`, the kernel's answer is ESRCH.

use crate::sched::core::m;
use crate::sys::fatal::{exit, write_stderr};
use crate::sys::fs;
use crate::sys::sync::AtomicUsize;
use crate::sys::sync::Ordering::Relaxed;
use std::ffi::CStr;

/// libc's own function of this name, looked up the first time; 0 if there is none.
fn next(place: &AtomicUsize, name: &CStr) -> usize {
    let known = place.load(Relaxed);
    if known != 0 {
        return known;
    }
    // SAFETY: a NUL-terminated name.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) } as usize;
    place.store(next, Relaxed);
    next
}

/// Calls `f`. If `thread` is the calling goroutine, its block has the real id of its thread
/// meanwhile.
fn with_real_tid(thread: libc::pthread_t, f: impl FnOnce() -> libc::c_int) -> libc::c_int {
    let tp = fs::read();
    let goroutine =
        m::current().filter(|m| m.g().is_some() && m.fs.load(Relaxed) != tp && thread as usize == tp);
    let Some((m, layout)) = goroutine.and_then(|m| Some((m, m.fixed.blocks.layout()?))) else { return f() };
    // SAFETY: the block is the caller's own. `f` does not park, and a goroutine that is stopped
    // meanwhile stays on its thread.
    unsafe {
        let own = layout.tid(tp);
        layout.set_tid(tp, m.tid.load(Relaxed) as u32);
        let rc = f();
        layout.set_tid(tp, own);
        rc
    }
}

/// Defines functions of libc's about a thread, which lend the id.
macro_rules! about_oneself {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {$(
        /// As libc's, but also right for a goroutine that asks about itself.
        ///
        /// # Safety
        /// As libc's: `thread` is alive, and pointers are valid.
        // SAFETY: it takes the place of libc's function of that name, and has its type.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(thread: libc::pthread_t, $($arg: $type),*) -> libc::c_int {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let next = next(&NEXT, const { CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) }.expect("a name"));
            if next == 0 {
                return libc::ENOSYS;
            }
            type Function = unsafe extern "C" fn(libc::pthread_t, $($type),*) -> libc::c_int;
            // SAFETY: libc's function of that name has this type; the rest is the caller's promise.
            with_real_tid(thread, || unsafe { std::mem::transmute::<usize, Function>(next)(thread, $($arg),*) })
        }
    )*};
}

about_oneself! {
    pthread_getattr_np(attr: *mut libc::pthread_attr_t);
    pthread_getaffinity_np(size: libc::size_t, set: *mut libc::cpu_set_t);
    pthread_getschedparam(policy: *mut libc::c_int, param: *mut libc::sched_param);
    pthread_getcpuclockid(clock: *mut libc::clockid_t);
    pthread_kill(signal: libc::c_int);
    pthread_sigqueue(signal: libc::c_int, value: libc::sigval);
}

/// As libc's for threads. A goroutine cannot be cancelled: if it tries that on itself, the process
/// ends with a message. Another goroutine counts as no such thread.
///
/// # Safety
/// As libc's: `thread` is alive.
// SAFETY: it takes the place of libc's function of that name, and has its type.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pthread_cancel(thread: libc::pthread_t) -> libc::c_int {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let tp = thread as usize;
    if let Some(layout) = m::current().and_then(|m| m.fixed.blocks.layout()) {
        if tp == fs::read() && m::current().is_some_and(|m| m.g().is_some()) {
            ended("pthread_cancel");
        }
        // SAFETY: the thread is alive, so this is a descriptor.
        if unsafe { layout.is_block(tp) } {
            return libc::ESRCH;
        }
    }
    match next(&NEXT, c"pthread_cancel") {
        0 => libc::ENOSYS,
        // SAFETY: libc's function of that name has this type; the caller's promise.
        next => unsafe {
            std::mem::transmute::<usize, unsafe extern "C" fn(libc::pthread_t) -> libc::c_int>(next)(thread)
        },
    }
}

/// Where `pthread_exit` leads in a goroutine; see `stack/exit_trap.rs`.
pub(crate) extern "C" fn thread_ended() -> ! {
    ended("pthread_exit")
}

/// Called when a goroutine tries to end as a thread does: ends the process.
fn ended(by: &str) -> ! {
    write_stderr(b"fatal error: ");
    write_stderr(by.as_bytes());
    write_stderr(
        b" in a goroutine: the thread is not its own. Return from the goroutine's function, or call gort::goexit.\n",
    );
    exit(2)
}
