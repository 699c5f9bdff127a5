//! crossbeam-channel's own tests, with OS threads at both ends, as in the original.

#![allow(unreachable_pub, reason = "the shim stands in for crates, whose items are public")]

#[path = "crossbeam/suite.rs"]
mod suite;

#[path = "crossbeam/thread_locals.rs"]
mod thread_locals;

/// What the tests use as a thread.
mod shim {
    pub use crate::suite::random::thread_rng;
    pub use core::prelude::v1::test;
    use std::sync::{Arc, Condvar, Mutex};
    pub use std::thread;

    /// Runs `f`; a thread has 2 MiB of stack already.
    pub fn with_2_mib(f: impl FnOnce()) {
        f();
    }

    /// crossbeam-utils' scope: `spawn` passes the scope to its closure, and a panic is returned as
    /// an error.
    pub fn scope<'env, R>(f: impl for<'s> FnOnce(&Scope<'s, 'env>) -> R) -> thread::Result<R> {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread::scope(|scope| f(&Scope(scope)))))
    }

    pub struct Scope<'s, 'env: 's>(&'s thread::Scope<'s, 'env>);

    impl<'s, 'env> Scope<'s, 'env> {
        pub fn spawn<T: Send + 's>(
            &self,
            f: impl FnOnce(&Scope<'s, 'env>) -> T + Send + 's,
        ) -> thread::ScopedJoinHandle<'s, T> {
            let scope = self.0;
            scope.spawn(move || f(&Scope(scope)))
        }
    }

    #[derive(Clone)]
    pub struct WaitGroup(Arc<(Mutex<i32>, Condvar)>);

    impl WaitGroup {
        pub fn new() -> WaitGroup {
            WaitGroup(Arc::new((Mutex::new(0), Condvar::new())))
        }

        pub fn add(&self, delta: i32) {
            let mut count = self.0.0.lock().unwrap();
            *count += delta;
            assert!(*count >= 0);
            self.0.1.notify_all();
        }

        pub fn done(&self) {
            self.add(-1);
        }

        pub fn wait(&self) {
            let mut count = self.0.0.lock().unwrap();
            while *count > 0 {
                count = self.0.1.wait(count).unwrap();
            }
        }
    }
}
