//! `lock_os_thread`: what a goroutine does to its thread's kernel state stays there and ends with
//! it (GO-CASES S22 to S27). Each scene has a process of its own.

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
    // SAFETY: only asks, into a set of this function's own.
    unsafe {
        let mut now: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut now);
        libc::sigismember(&now, libc::SIGUSR1) == 1
    }
}

fn cpus() -> usize {
    // SAFETY: only asks, into a set of this function's own.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set), 0);
        libc::CPU_COUNT(&set) as usize
    }
}

/// The state that a new thread inherits from its parent.
fn state_of_thread() -> (std::path::PathBuf, bool, usize) {
    (std::env::current_dir().unwrap(), blocks_usr1(), cpus())
}

/// Changes all of that state, for this thread alone.
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

/// GO-CASES S24: threads that are started while, or by, a locked goroutine that has changed its
/// thread's state have the state of the process's start. When that goroutine ends locked, no other
/// goroutine ever runs on its thread.
#[test]
fn s24_a_tainted_thread_is_no_parent() {
    if is_played(|| {
        let clean = state_of_thread();
        let (tell, told) = gort::chan::bounded(0);
        let tainted = gort::go({
            let clean = clean.clone();
            move || {
                std::mem::forget(gort::lock_os_thread());
                taint();
                // Starts goroutines that are all locked at the same time, each to a thread of its
                // own.
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
                // This thread also hands its P on.
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
    ends_well("s24_a_tainted_thread_is_no_parent", "1");
}

/// GO-CASES S23: a goroutine that ends locked, or whose guard was dropped by unwinding (caught or
/// not), takes its thread with it. The main goroutine never runs there.
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
                // The first park may move the goroutine, so the id is taken where it is locked.
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

/// Sends the id of the thread on which it is dropped.
struct Tid(gort::chan::Sender<i32>);

impl Drop for Tid {
    fn drop(&mut self) {
        let _ = self.0.send(tid());
    }
}

/// GO-CASES S25, S27: goroutines lock for the first time and end locked while the number of Ps
/// changes all the time, beside CPU-bound goroutines.
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

/// A priority-inheriting mutex belongs to a kernel thread id. It works while the goroutine is
/// locked, also under contention.
#[test]
fn priority_inheriting_mutexes_work_while_locked() {
    struct Pi(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a mutex.
    unsafe impl Sync for Pi {}
    // SAFETY: it does not move, since it is in an Arc.
    unsafe impl Send for Pi {}
    if is_played(|| {
        let pi = Arc::new(Pi(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        // SAFETY: initialised once, before any use.
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
