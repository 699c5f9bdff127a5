//! Guards that belong to one goroutine and are kept in a thread-local, which belongs to the slot
//! (in shared mode, to the thread). A later goroutine that drops them is not affected. Each scene
//! has a process of its own.

mod child;

use child::{ends_well_in_both_modes as ends_well, is_played, play};
use std::any::Any;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

thread_local!(static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) });

fn keep(guard: impl Any) {
    KEPT.with(|kept| kept.borrow_mut().push(Box::new(guard)));
}

/// Drops what an earlier goroutine has kept. Returns whether there was something.
fn drop_kept() -> bool {
    let kept = KEPT.with(|kept| std::mem::take(&mut *kept.borrow_mut()));
    !kept.is_empty()
}

fn is_shared() -> bool {
    child::scene().as_deref() == Some("shared")
}

/// The thread id by which libc identifies the owner of a lock: the goroutine's own, or the thread's
/// while locked to it.
fn libcs_tid() -> i32 {
    let mutex = UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER);
    // SAFETY: a mutex of this function's own; glibc stores the owner in its third word.
    unsafe {
        let mut attr: libc::pthread_mutexattr_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&mut attr);
        libc::pthread_mutexattr_settype(&mut attr, libc::PTHREAD_MUTEX_ERRORCHECK);
        libc::pthread_mutex_init(mutex.get(), &attr);
        libc::pthread_mutex_lock(mutex.get());
        let owner = *mutex.get().cast::<i32>().add(2);
        libc::pthread_mutex_unlock(mutex.get());
        owner
    }
}

fn kernels_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Starts goroutines one after the other on the only P, until one finds what was kept. That one
/// goes on with `f`. In shared mode none does if the thread has ended.
fn by_the_next(f: fn()) -> bool {
    (0..100).any(|_| {
        let next = gort::go(move || {
            let found = drop_kept();
            if found {
                f();
            }
            found
        });
        next.join().unwrap()
    })
}

/// An `OsThreadLock` that was kept neither locks nor unlocks a later goroutine, and no block gets a
/// thread's id because of it.
#[test]
fn a_kept_lock_is_not_the_next_ones() {
    if is_played(|| {
        gort::go(|| keep(gort::lock_os_thread())).join().unwrap();
        let found = by_the_next(|| {
            let own = libcs_tid();
            assert!(is_shared() || own != kernels_tid(), "the block has the thread's id");
            {
                let _lock = gort::lock_os_thread();
                let tid = kernels_tid();
                let _inner = gort::lock_os_thread();
                for _ in 0..10 {
                    gort::sleep(Duration::from_micros(100));
                    assert_eq!((kernels_tid(), libcs_tid()), (tid, tid));
                }
            }
            assert_eq!(libcs_tid(), own);
        });
        assert!(found || is_shared(), "no goroutine had the slot again");
    }) {
        return;
    }
    ends_well("a_kept_lock_is_not_the_next_ones", "1");
}

/// A goroutine that drops another's lock while it holds one of its own stays locked.
#[test]
fn a_kept_lock_does_not_unlock() {
    if is_played(|| {
        gort::go(|| keep(gort::lock_os_thread())).join().unwrap();
        for _ in 0..100 {
            gort::go(|| {
                let _lock = gort::lock_os_thread();
                drop_kept();
                assert_eq!(libcs_tid(), kernels_tid());
            })
            .join()
            .unwrap();
        }
    }) {
        return;
    }
    ends_well("a_kept_lock_does_not_unlock", "1");
}

/// A goroutine drops its own result after everything else. If that user code locks the thread, the
/// lock does not stay in the block.
#[test]
fn locked_by_the_last_destructor() {
    struct Locks;
    impl Drop for Locks {
        fn drop(&mut self) {
            keep(gort::lock_os_thread());
        }
    }
    if is_played(|| {
        for _ in 0..10 {
            drop(gort::go(|| Locks));
        }
        while gort::num_goroutine() > 1 {
            gort::sleep(Duration::from_millis(1));
        }
        let found = by_the_next(|| assert!(is_shared() || libcs_tid() != kernels_tid()));
        assert!(found || is_shared(), "no goroutine had the slot again");
    }) {
        return;
    }
    ends_well("locked_by_the_last_destructor", "1");
}

/// A `NoPreempt` that was kept does not stop the preemption of a later goroutine.
#[test]
fn a_kept_no_preempt_is_not_the_next_ones() {
    static STOP: AtomicBool = AtomicBool::new(false);
    if is_played(|| {
        gort::go(|| keep(gort::no_preempt())).join().unwrap();
        let found = by_the_next(|| {
            let stop = gort::go(|| STOP.store(true, SeqCst));
            let begun = Instant::now();
            while !STOP.load(SeqCst) {
                assert!(begun.elapsed() < Duration::from_secs(50), "not preempted");
                std::hint::spin_loop();
            }
            stop.join().unwrap();
        });
        assert!(found, "no goroutine had the slot again");
    }) {
        return;
    }
    ends_well("a_kept_no_preempt_is_not_the_next_ones", "1");
}

/// A slot that is given back runs destructors, and so does a thread that ends. Guards that are kept
/// there do no harm.
#[test]
fn kept_where_a_slot_or_a_thread_ends() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counts(Cell<Option<gort::NoPreempt>>);
    impl Drop for Counts {
        fn drop(&mut self) {
            drop(self.0.take());
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    if is_played(|| {
        let all_there = Arc::new(gort::sync::Barrier::new(2000));
        let all: Vec<_> = (0..2000)
            .map(|i| {
                let all_there = all_there.clone();
                gort::go(move || {
                    all_there.wait();
                    keep(gort::lend_stack());
                    keep(Counts(Cell::new(Some(gort::no_preempt()))));
                    if i % 50 == 0 {
                        keep(gort::lock_os_thread());
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|h| h.join().unwrap());
        while DROPPED.load(SeqCst) == 0 {
            gort::sleep(Duration::from_millis(1));
        }
    }) {
        return;
    }
    ends_well("kept_where_a_slot_or_a_thread_ends", "2");
}

/// Guards of a plain thread are its own, and do nothing.
#[test]
fn on_plain_threads() {
    let scene = child::scene();
    if scene.is_some() {
        gort::start().unwrap();
        std::thread::spawn(|| {
            keep(gort::lock_os_thread());
            keep(gort::no_preempt());
            keep(gort::lend_stack());
        })
        .join()
        .unwrap();
        drop((gort::lock_os_thread(), gort::no_preempt(), gort::lend_stack()));
        return;
    }
    let end = play("on_plain_threads", "threads", &[]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}
