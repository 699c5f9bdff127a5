//! A goroutine is preempted while it owns the allocator's lock, and the runtime needs that lock.

mod child;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// An allocator with one lock, which belongs to the thread that took it, as malloc's locks do.
struct OneLock {
    lock: std::sync::Mutex<()>,
}

/// An allocation of this size computes for a while under the lock.
const SLOW: usize = 12_345;

static SLOW_ONES: AtomicU64 = AtomicU64::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for OneLock {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _lock = self.lock.lock();
        if layout.size() == SLOW {
            let until = Instant::now() + Duration::from_millis(30);
            while Instant::now() < until {}
            SLOW_ONES.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let _lock = self.lock.lock();
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOC: OneLock = OneLock { lock: std::sync::Mutex::new(()) };

/// `n` goroutines that keep the lock for long, and make the scheduler allocate.
fn play(n: usize, rounds: usize) {
    let before = SLOW_ONES.load(Relaxed);
    let all: Vec<_> = (0..n)
        .map(|_| {
            gort::go(move || {
                for _ in 0..rounds {
                    drop(std::hint::black_box(Vec::<u8>::with_capacity(SLOW)));
                    // Large closures are boxed, and each goroutine needs a descriptor and a stack.
                    let children: Vec<_> = (0..20).map(|i| gort::go(move || [i; 100].len())).collect();
                    for child in children {
                        assert_eq!(child.join().unwrap(), 100);
                    }
                    gort::blocking(|| std::thread::sleep(Duration::from_micros(100)));
                }
            })
        })
        .collect();
    all.into_iter().for_each(|h| h.join().unwrap());
    assert_eq!(SLOW_ONES.load(Relaxed) - before, (n * rounds) as u64);
}

/// All goroutines go on, although the scheduler needs memory (stacks, threads, descriptors) while
/// the owner of the lock is preempted, and even if the goroutines that continue first wait for that
/// lock themselves.
#[test]
fn the_owner_of_the_allocators_lock_gets_its_turn() {
    gort::Runtime::builder()
        .gomaxprocs(2)
        .run(|| {
            play(4, 8);
            assert!(
                gort::metrics::snapshot().preemptions > 0,
                "there was no preemption, so this shows nothing"
            );
            gort::set_gomaxprocs(1);
            play(6, 2);
            gort::set_gomaxprocs(4);
            play(8, 2);
        })
        .unwrap();
}

/// The same when hundreds were preempted before the owner, and most queued goroutines need a thread
/// of their own. While no thread can be made, the preempted goroutines take turns; they do not each
/// wait for a thread and for sysmon's delay.
#[test]
fn the_owner_of_the_allocators_lock_gets_its_turn_under_overload() {
    const ROUNDS: u64 = 10;
    if child::scene().is_some() {
        return gort::run(|| {
            let stop = Arc::new(AtomicBool::new(false));
            let hogs: Vec<_> = (0..2000)
                .map(|_| {
                    let stop = stop.clone();
                    gort::go(move || while !stop.load(Relaxed) {})
                })
                .collect();
            while gort::metrics::snapshot().preempted < 300 {
                gort::sleep(Duration::from_millis(1));
            }
            for _ in 0..ROUNDS {
                drop(std::hint::black_box(Vec::<u8>::with_capacity(SLOW)));
            }
            stop.store(true, Relaxed);
            hogs.into_iter().for_each(|h| h.join().unwrap());
            assert_eq!(SLOW_ONES.load(Relaxed), ROUNDS);
        });
    }
    for procs in ["1", "2"] {
        let env = [("GOMAXPROCS", procs), ("GORT_DEBUG", "sliceus=500")];
        let end = child::play("the_owner_of_the_allocators_lock_gets_its_turn_under_overload", "scene", &env);
        assert_eq!(end.code, Some(0), "{}", end.text);
    }
}
