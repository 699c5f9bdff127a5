//! crossbeam-channel's own tests, with goroutines at both ends. `thread_locals.rs` is not among
//! them: it tests the end of OS threads.

#![allow(unreachable_pub, reason = "the shim stands in for crates, whose items are public")]

#[path = "crossbeam/suite.rs"]
mod suite;

/// What the tests use as a thread.
mod shim {
    pub use crate::suite::random::thread_rng;
    use gort::chan::{Receiver, Sender, bounded};
    pub use gort::test;
    use std::any::Any;
    use std::convert::Infallible;
    use std::marker::PhantomData;
    use std::sync::{Arc, Mutex};

    pub mod thread {
        pub use gort::{sleep, yield_now};
        use std::any::Any;

        pub struct JoinHandle<T>(gort::JoinHandle<T>);

        pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
            JoinHandle(gort::go(f))
        }

        impl<T> JoinHandle<T> {
            pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
                self.0.join().map_err(|error| error.into_panic())
            }
        }
    }

    /// Runs `f` with as much stack as a std thread has.
    pub fn with_2_mib(f: impl FnOnce() + Send + 'static) {
        gort::Builder::new().stack_size(2 << 20).spawn(f).unwrap().join().unwrap();
    }

    /// crossbeam-utils' scope: joins everything that was spawned before it returns.
    pub fn scope<'env, R>(f: impl FnOnce(&Scope<'env>) -> R) -> Result<R, Box<dyn Any + Send>> {
        let _loan = gort::lend_stack();
        let scope = Scope { handles: Arc::default(), env: PhantomData };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(&scope)));
        let mut panic = None;
        loop {
            let handle = scope.handles.lock().unwrap().pop();
            let Some(handle) = handle else { break };
            if let Err(error) = handle.join() {
                panic = Some(error.into_panic());
            }
        }
        match panic {
            None => result,
            Some(panic) => Err(panic),
        }
    }

    pub struct Scope<'env> {
        handles: Arc<Mutex<Vec<gort::JoinHandle<()>>>>,
        env: PhantomData<&'env mut &'env ()>,
    }

    impl<'env> Scope<'env> {
        pub fn spawn<T: Send + 'env>(&self, f: impl FnOnce(&Scope<'env>) -> T + Send + 'env) {
            let handles = self.handles.clone();
            let f: Box<dyn FnOnce() + Send + 'env> = Box::new(move || {
                f(&Scope { handles, env: PhantomData });
            });
            // SAFETY: `scope` joins the goroutine before it returns, so what `f` borrows lives.
            let f: Box<dyn FnOnce() + Send + 'static> = unsafe { std::mem::transmute(f) };
            self.handles.lock().unwrap().push(gort::go(f));
        }
    }

    /// `wait` receives from a channel that the last `done` disconnects.
    #[derive(Clone)]
    pub struct WaitGroup(Arc<Mutex<Count>>);

    struct Count {
        count: i32,
        open: Option<(Sender<Infallible>, Receiver<Infallible>)>,
    }

    impl WaitGroup {
        pub fn new() -> WaitGroup {
            WaitGroup(Arc::new(Mutex::new(Count { count: 0, open: None })))
        }

        pub fn add(&self, delta: i32) {
            let mut count = self.0.lock().unwrap();
            count.count += delta;
            assert!(count.count >= 0);
            if count.count == 0 {
                count.open = None;
            } else if count.open.is_none() {
                count.open = Some(bounded(0));
            }
        }

        pub fn done(&self) {
            self.add(-1);
        }

        pub fn wait(&self) {
            loop {
                let done = self.0.lock().unwrap().open.as_ref().map(|(_, r)| r.clone());
                let Some(done) = done else { return };
                assert!(done.recv().is_err());
            }
        }
    }
}
