//! For programs with a global allocator of their own.
//!
//! Allocators such as mimalloc and jemalloc keep a heap per thread, which they find through a
//! thread-local. A goroutine owns its thread-locals. So in a goroutine, such an allocator would
//! make a heap for each goroutine, and never free it. With [`OnThread`], the allocator sees the
//! thread-locals of the OS thread instead.
//!
//! - Allocators that link the thread-locals of all threads, as jemalloc does, must not be used
//!   without [`OnThread`] if stacks are [swapped out](crate::RuntimeBuilder::swap_idle_stacks).
//! - Rust's default allocator, that of glibc, needs no wrapper: gort gives each goroutine the cache
//!   of the thread on which it runs.

use crate::sched::on_own_block;
use std::alloc::{GlobalAlloc, Layout};

/// A global allocator that calls `A` with the thread-locals of the OS thread, also in goroutines.
///
/// In a goroutine, each call switches the thread-locals to those of the thread and back. On plain
/// threads and in shared mode, it only checks that this is not needed.
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
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::alloc::OnThread;
    /// use std::alloc::System;
    ///
    /// #[global_allocator]
    /// static ALLOC: OnThread<System> = OnThread::new(System);
    ///
    /// gort::run(|| assert_eq!(vec![7; 100].len(), 100))
    /// ```
    pub const fn new(allocator: A) -> OnThread<A> {
        OnThread(allocator)
    }
}

/// Calls `f` with the thread-locals of the OS thread.
fn on_thread<R>(f: impl FnOnce() -> R) -> R {
    let (mut f, mut result) = (Some(f), None);
    on_own_block(&mut || result = f.take().map(|f| f()));
    result.expect("called")
}

// SAFETY: every call is passed on to `A`, which keeps the contract. Which thread-locals it sees is
// no part of that. They are those of the OS thread that runs the call, as in any other program.
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
