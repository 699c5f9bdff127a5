//! For programs with a global allocator of their own.
//!
//! Allocators such as mimalloc and jemalloc keep a heap per thread, found through a thread-local. In a goroutine, which owns its
//! thread-locals, they would make one for each goroutine and never give it up. [`OnThread`] has them see the OS thread instead. Those that
//! link the thread-locals of all threads (jemalloc does) must not be used without it where stacks are
//! [swapped out](crate::RuntimeBuilder::swap_idle_stacks).
//! Rust's default, the allocator of glibc, needs nothing: gort carries its cache's address along.

use crate::sched::on_own_block;
use std::alloc::{GlobalAlloc, Layout};

/// A global allocator that calls `A` with the OS thread's own thread-locals, also in goroutines.
///
/// Costs some nanoseconds a call in a goroutine; on plain threads and in shared mode next to nothing.
///
/// # Blocking
///
/// G, M and P: as `A` does.
///
/// # Examples
///
/// ```
/// use std::alloc::System; // or mimalloc::MiMalloc, tikv_jemallocator::Jemalloc
///
/// #[global_allocator]
/// static ALLOC: gort::alloc::OnThread<System> = gort::alloc::OnThread::new(System);
///
/// gort::run(|| {
///     let words = gort::go(|| vec!["from", "a", "goroutine"]).join().unwrap();
///     assert_eq!(words.len(), 3);
/// })
/// ```
#[derive(Debug, Default)]
pub struct OnThread<A>(A);

impl<A> OnThread<A> {
    /// Wraps `allocator`.
    pub const fn new(allocator: A) -> OnThread<A> {
        OnThread(allocator)
    }
}

fn on_thread<R>(f: impl FnOnce() -> R) -> R {
    let (mut f, mut result) = (Some(f), None);
    on_own_block(&mut || result = f.take().map(|f| f()));
    result.expect("called")
}

// SAFETY: every call is passed on to `A`, which keeps the contract. Which thread-locals it sees is no part of that; they are
// those of the OS thread that runs the call, as for any other program.
unsafe impl<A: GlobalAlloc> GlobalAlloc for OnThread<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        on_thread(|| unsafe { self.0.alloc(layout) })
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        on_thread(|| unsafe { self.0.dealloc(ptr, layout) });
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        on_thread(|| unsafe { self.0.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        on_thread(|| unsafe { self.0.realloc(ptr, layout, new_size) })
    }
}
