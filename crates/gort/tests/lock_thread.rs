//! `lock_os_thread`: what a goroutine does to its thread's kernel state stays there and ends with it (GO-CASES S22 to S27). Each scene has
//! a process of its own.

mod child;

use child::{ends_well_in_both_modes as ends_well, is_played};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

fn thread_exists(tid: i32) -> bool {
    std::path::Path::new(&format!("/proc/self/task/{tid}")).exists()
}

fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(50), "hangs");
        gort::sleep(Duration::from_millis(1));
    }
}

fn blocks_usr1() -> bool {
    // SAFETY: asks only, into a set of our own.
    unsafe {
        let mut now: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut now);
        libc::sigismember(&now, libc::SIGUSR1) == 1
    }
}

fn cpus() -> usize {
    // SAFETY: asks only, into a set of our own.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set), 0);
        libc::CPU_COUNT(&set) as usize
    }
}

/// What a thread has that a new thread inherits.
fn state_of_thread() -> (std::path::PathBuf, bool, usize) {
    (std::env::current_dir().unwrap(), blocks_usr1(), cpus())
}

/// Changes all of it, for this thread alone.
fn taint() {
    // SAFETY: plain system calls; `unshare` keeps the directory from the other threads.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_FS), 0, "{}", std::io::Error::last_os_error());
        let mut usr1: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut usr1, libc::SIGUSR1);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &usr1, std::ptr::null_mut()), 0);
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut one);
        // By libc's own handle of this thread: its block holds the real thread id.
        let r = libc::pthread_setaffinity_np(libc::pthread_self(), size_of::<libc::cpu_set_t>(), &one);
        assert_eq!(r, 0);
    }
    std::env::set_current_dir("/proc").unwrap();
    assert_eq!(std::env::current_dir().unwrap(), std::path::Path::new("/proc"));
    assert_eq!(cpus(), 1);
}

/// GO-CASES S24: threads that are made while a locked goroutine has changed its own, and by it, are as those at the start; and when it
/// ends locked, nobody else ever sees its thread.
#[test]
fn s24_a_tainted_thread_is_nobodys_parent() {
    if is_played(|| {
        let clean = state_of_thread();
        let (tell, told) = gort::chan::bounded(0);
        let tainted = gort::go({
            let clean = clean.clone();
            move || {
                std::mem::forget(gort::lock_os_thread());
                taint();
                // It makes others, each on a thread of its own, all at once.
                let all_there = Arc::new(gort::sync::Barrier::new(20));
                let children: Vec<_> = (0..20)
                    .map(|_| {
                        let (clean, all_there) = (clean.clone(), all_there.clone());
                        gort::go(move || {
                            let _lock = gort::lock_os_thread();
                            all_there.wait();
                            assert_eq!(state_of_thread(), clean);
                        })
                    })
                    .collect();
                children.into_iter().for_each(|c| c.join().unwrap());
                // The others' Ps are handed on by this thread too.
                gort::blocking(|| std::thread::sleep(Duration::from_millis(5)));
                tell.send(tid()).unwrap();
            }
        });
        let tainted_tid = told.recv().unwrap();
        tainted.join().unwrap();
        until(|| !thread_exists(tainted_tid));
        for _ in 0..50 {
            gort::go({
                let clean = clean.clone();
                move || {
                    let _lock = gort::lock_os_thread();
                    assert_eq!(state_of_thread(), clean);
                }
            })
            .join()
            .unwrap();
        }
        assert_eq!(state_of_thread(), clean);
    }) {
        return;
    }
    ends_well("s24_a_tainted_thread_is_nobodys_parent", "1");
}

/// GO-CASES S23: a goroutine that ends locked, or whose guard was dropped by unwinding (also when that is caught), takes its
/// thread with it; the main goroutine never runs there.
#[test]
fn s23_the_thread_ends_with_its_goroutine() {
    if is_played(|| {
        let ends: [fn(); 4] = [
            || std::mem::forget(gort::lock_os_thread()),
            || {
                let _lock = gort::lock_os_thread();
                std::panic::panic_any(1);
            },
            || {
                let caught = std::panic::catch_unwind(|| {
                    let _lock = gort::lock_os_thread();
                    std::panic::panic_any(1);
                });
                assert!(caught.is_err());
            },
            || {
                let _lock = gort::lock_os_thread();
                gort::goexit();
            },
        ];
        std::panic::set_hook(Box::new(|_| ()));
        for end in ends {
            let (tell, told) = gort::chan::bounded(1);
            let h = gort::go(move || {
                tell.send(tid()).unwrap();
                // The first park may have moved it, so ask where it is locked.
                let _outer = Tid(tell);
                end();
            });
            let _ = told.recv().unwrap();
            let _ = h.join();
            let at_end = told.recv().unwrap();
            until(|| !thread_exists(at_end));
            assert_ne!(tid(), at_end);
        }
    }) {
        return;
    }
    ends_well("s23_the_thread_ends_with_its_goroutine", "2");
}

/// Tells on drop which thread this is.
struct Tid(gort::chan::Sender<i32>);

impl Drop for Tid {
    fn drop(&mut self) {
        let _ = self.0.send(tid());
    }
}

/// GO-CASES S25, S27: first locks and locked ends beside the number of Ps changing for ever, with goroutines that compute.
#[test]
fn s27_locked_ends_beside_resizing() {
    if is_played(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let hogs: Vec<_> = (0..2)
            .map(|_| {
                let stop = stop.clone();
                gort::go(move || {
                    while !stop.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        for i in 0..100 {
            let locked: Vec<_> =
                (0..2).map(|_| gort::go(|| std::mem::forget(gort::lock_os_thread()))).collect();
            gort::set_gomaxprocs(2 + i % 3);
            locked.into_iter().for_each(|h| h.join().unwrap());
        }
        stop.store(true, SeqCst);
        hogs.into_iter().for_each(|h| h.join().unwrap());
    }) {
        return;
    }
    ends_well("s27_locked_ends_beside_resizing", "4");
}

/// A priority-inheriting mutex belongs to a thread id in the kernel: while locked, it works, contended too.
#[test]
fn priority_inheriting_mutexes_work_while_locked() {
    struct Pi(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a mutex.
    unsafe impl Sync for Pi {}
    // SAFETY: it does not move: it is in an Arc.
    unsafe impl Send for Pi {}
    if is_played(|| {
        let pi = Arc::new(Pi(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        // SAFETY: initialised once, before anybody uses it.
        unsafe {
            let mut attr: libc::pthread_mutexattr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_mutexattr_init(&mut attr), 0);
            assert_eq!(libc::pthread_mutexattr_setprotocol(&mut attr, libc::PTHREAD_PRIO_INHERIT), 0);
            assert_eq!(libc::pthread_mutex_init(pi.0.get(), &attr), 0);
        }
        let inside = Arc::new(AtomicUsize::new(0));
        let all: Vec<_> = (0..4)
            .map(|_| {
                let (pi, inside) = (pi.clone(), inside.clone());
                gort::go(move || {
                    let _lock = gort::lock_os_thread();
                    for _ in 0..200 {
                        // SAFETY: locked and unlocked by the same thread.
                        unsafe { assert_eq!(libc::pthread_mutex_lock(pi.0.get()), 0) };
                        assert_eq!(inside.fetch_add(1, SeqCst), 0);
                        gort::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        // SAFETY: as above.
                        unsafe { assert_eq!(libc::pthread_mutex_unlock(pi.0.get()), 0) };
                    }
                })
            })
            .collect();
        all.into_iter().for_each(|h| h.join().unwrap());
    }) {
        return;
    }
    ends_well("priority_inheriting_mutexes_work_while_locked", "2");
}
