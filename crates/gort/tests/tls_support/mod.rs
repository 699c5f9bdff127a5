//! What a thread may do with its thread-locals, done by goroutines that park in between: the rows
//! for both modes. `own.rs` has the rows that need goroutines to own their thread-locals.

use gort::chan;
use std::backtrace::Backtrace;
use std::ffi::c_int;
use std::net::ToSocketAddrs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// How often a goroutine parks.
pub(crate) const PARKS: usize = 20;

/// The kernel's id of the current thread.
#[inline(never)]
pub(crate) fn kernel_tid() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Parks, so that any free thread may continue the goroutine.
pub(crate) fn park(i: usize) {
    if i.is_multiple_of(2) {
        gort::yield_now()
    } else {
        gort::sleep(Duration::from_micros(20 + i as u64 % 50))
    }
}

/// Runs `body(number)` in many goroutines and joins them.
pub(crate) fn many(n: usize, body: impl Fn(usize) + Send + Sync + 'static) {
    let body = Arc::new(body);
    let all: Vec<_> = (0..n).map(|i| (i, body.clone())).map(|(i, body)| gort::go(move || body(i))).collect();
    all.into_iter().for_each(|h| h.join().unwrap());
}

/// Parks in its drop, during unwinding.
struct ParksInDrop {
    same_thread: bool,
}

impl Drop for ParksInDrop {
    fn drop(&mut self) {
        let thread = kernel_tid();
        for i in 0..PARKS {
            assert!(std::thread::panicking());
            park(i);
            assert!(std::thread::panicking());
            assert!(!self.same_thread || thread == kernel_tid(), "a goroutine that unwinds has migrated");
        }
    }
}

/// The panic count follows the goroutine, also through parks in destructors during unwinding.
pub(crate) fn panic_count(same_thread: bool) {
    many(200, move |id| {
        for _ in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _parks = ParksInDrop { same_thread };
                std::panic::resume_unwind(Box::new(id)); // Counts as a panic, without a message.
            }));
            assert_eq!(*caught.unwrap_err().downcast_ref::<usize>().unwrap(), id);
            assert!(!std::thread::panicking());
            park(1);
            assert!(!std::thread::panicking());
        }
    });
}

/// A pthread mutex of `kind`, used by one goroutine at a time and by others that try.
pub(crate) struct PthreadMutex(Box<std::cell::UnsafeCell<libc::pthread_mutex_t>>);

// SAFETY: a pthread mutex is made to be shared; all access is by pthread calls.
unsafe impl Sync for PthreadMutex {}
// SAFETY: as above, and its box does not move it.
unsafe impl Send for PthreadMutex {}

impl PthreadMutex {
    pub(crate) fn new(kind: c_int) -> PthreadMutex {
        // SAFETY: attributes are initialised before use; the mutex stays in its box.
        unsafe {
            let mutex = Box::new(std::cell::UnsafeCell::new(std::mem::zeroed()));
            let mut attr: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attr);
            libc::pthread_mutexattr_settype(&mut attr, kind);
            assert_eq!(libc::pthread_mutex_init(mutex.get(), &attr), 0);
            PthreadMutex(mutex)
        }
    }

    pub(crate) fn try_lock(&self) -> bool {
        // SAFETY: an initialised mutex.
        unsafe { libc::pthread_mutex_trylock(self.0.get()) == 0 }
    }

    pub(crate) fn unlock(&self) -> c_int {
        // SAFETY: an initialised mutex. For the kinds used here an unlock by another owner is an
        // error, not undefined behaviour.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) }
    }
}

/// Memory that is allocated on one thread is freed on another, while both go on.
pub(crate) fn malloc_and_free_elsewhere() {
    let (tx, rx) = chan::bounded::<Vec<u8>>(64);
    let free = gort::go(move || {
        rx.iter()
            .map(|v| {
                assert!(v.iter().all(|&b| b == v.len() as u8));
                v.len()
            })
            .sum::<usize>()
    });
    let sent = Arc::new(AtomicUsize::new(0));
    let total = sent.clone();
    let tx = Arc::new(tx);
    many(200, move |id| {
        let mut kept = Vec::new();
        for i in 0..PARKS {
            let v = vec![(id + i) as u8; (id + i) as u8 as usize];
            sent.fetch_add(v.len(), SeqCst);
            kept.push(vec![1u64; i * 37 % 300]);
            tx.send(v).unwrap();
            park(i);
        }
    });
    assert_eq!(free.join().unwrap(), total.load(SeqCst));
}

/// libc's resolver keeps state per thread.
pub(crate) fn name_lookups() {
    many(100, |i| {
        park(i);
        let found = gort::blocking(|| ("localhost", 80).to_socket_addrs()).unwrap();
        assert!(found.count() > 0);
    });
}

/// `setuid` and its family interrupt every thread and wait for each. Here the ids change nothing,
/// and other goroutines run meanwhile.
pub(crate) fn setuid_family() {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let stop = stop.clone();
            gort::go(move || {
                let mut i = 0;
                while !stop.load(SeqCst) {
                    park(i);
                    i += 1;
                }
            })
        })
        .collect();
    many(4, |_| {
        for i in 0..25 {
            park(i);
            // SAFETY: -1 leaves an id as it is.
            let rc = gort::blocking(|| unsafe { libc::setresuid(u32::MAX, u32::MAX, u32::MAX) });
            assert_eq!(rc, 0);
        }
    });
    stop.store(true, SeqCst);
    busy.into_iter().for_each(|h| h.join().unwrap());
}

/// A backtrace of a goroutine has an end.
pub(crate) fn backtrace_ends() {
    many(4, |i| {
        park(i);
        let text = Backtrace::force_capture().to_string();
        let frames =
            text.lines().filter(|l| l.trim_start().split(':').next().unwrap().parse::<u32>().is_ok());
        assert!((3..100).contains(&frames.count()), "{text}");
    });
}

/// Promise 1: only an explicit park migrates a goroutine.
pub(crate) fn only_parks_migrate() {
    let (tx, rx) = chan::bounded::<usize>(4);
    many(64, move |id| {
        for i in 0..PARKS {
            park(i);
            let thread = kernel_tid();
            gort::blocking(|| std::thread::sleep(Duration::from_micros(200)));
            assert_eq!(kernel_tid(), thread, "`blocking` has migrated");
            for _ in 0..200 {
                let _ = tx.try_send(id);
                let _ = rx.try_recv();
                let _ = rx.len();
            }
            assert_eq!(kernel_tid(), thread, "a call that does not park has migrated");
        }
    });
}

/// Promise 3: `lock_os_thread` stops migration, and meanwhile libc's thread id is the kernel's.
pub(crate) fn locked_goroutines_stay() {
    many(16, |_| {
        let lock = gort::lock_os_thread();
        let nested = gort::lock_os_thread();
        let thread = kernel_tid();
        for i in 0..PARKS {
            park(i);
            assert_eq!(kernel_tid(), thread);
            if i == PARKS / 2 {
                // SAFETY: plain use of a local mutex. glibc keeps the owner's thread id in it.
                let owner = unsafe {
                    let mutex = PthreadMutex::new(libc::PTHREAD_MUTEX_RECURSIVE);
                    assert!(mutex.try_lock());
                    let owner = *mutex.0.get().cast::<i32>().add(2);
                    assert_eq!(mutex.unlock(), 0);
                    owner
                };
                assert_eq!(owner, thread);
            }
        }
        drop(nested);
        park(0);
        assert_eq!(kernel_tid(), thread);
        drop(lock);
    });
}
