//! `gort::alloc::OnThread` with mimalloc: the allocator sees only the OS threads, even if many
//! goroutines allocate, move to other threads, and free what other goroutines have allocated.

use gort::alloc::OnThread;
use gort::chan;
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[global_allocator]
static ALLOC: OnThread<Watched<MiMalloc>> = OnThread::new(Watched(MiMalloc));

thread_local! {
    /// Whether the allocator has been called with this thread-local block. Each block counts once.
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

static SEEN_BY_ALLOCATOR: AtomicUsize = AtomicUsize::new(0);

struct Watched<A>(A);

fn watch() {
    if !SEEN.replace(true) {
        SEEN_BY_ALLOCATOR.fetch_add(1, SeqCst);
    }
}

// SAFETY: every call is forwarded to `A`.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Watched<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        watch();
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        watch();
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(ptr, layout) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        watch();
        // SAFETY: the caller's promise.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        watch();
        // SAFETY: the caller's promise.
        unsafe { self.0.realloc(ptr, layout, new_size) }
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn the_allocator_sees_threads() {
    const GOROUTINES: usize = 1000;
    gort::run(|| {
        let (pass, passed) = chan::bounded::<Vec<usize>>(8);
        let (hold, held) = chan::bounded::<()>(0);
        let all: Vec<_> = (0..GOROUTINES)
            .map(|id| {
                let (pass, passed, held) = (pass.clone(), passed.clone(), held.clone());
                gort::go(move || {
                    for round in 0..10 {
                        pass.send((0..id % 100 + 1).collect()).unwrap();
                        gort::yield_now();
                        let mut received = passed.recv().unwrap();
                        assert_eq!(received.iter().sum::<usize>(), received.len() * (received.len() - 1) / 2);
                        received.resize(received.len() * 50 + round, 7); // moves
                        assert_eq!(received.last(), Some(&7));
                    }
                    // All goroutines exist at once, each with its own block of thread-locals, which
                    // the allocator has not seen.
                    let own = !SEEN.get();
                    let _ = held.recv();
                    own
                })
            })
            .collect();
        drop(held);
        drop(hold);
        let own = all.into_iter().map(|g| g.join().unwrap()).filter(|&own| own).count();
        assert_eq!(own, GOROUTINES, "goroutines whose block the allocator did not touch");
    });
    // The allocator also saw a few threads that have ended: those of the test harness.
    let seen = SEEN_BY_ALLOCATOR.load(SeqCst);
    assert!(seen <= threads() + 8, "{seen} threads seen by the allocator, {} are there", threads());
}
