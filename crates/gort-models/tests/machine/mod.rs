//! The floors below channels and locks, for models: what `sched/mod.rs` offers, and a raw lock,
//! both over loom.

#[path = "../../../gort/src/sys/rng.rs"]
pub(crate) mod rng;
#[path = "../../../gort/src/sched/core/wait_word.rs"]
mod waiter;

/// `crate::sched` as the channels know it: the library's wait word, and threads of the model that
/// sleep.
pub(crate) mod sched {
    pub(crate) use super::waiter::{FIRST_TOKEN, TIMED_OUT};
    use super::waiter::{WaitWord, Won};
    use loom::sync::{Condvar, Mutex};
    use std::ptr::NonNull;
    use std::time::Instant;

    /// No goroutine is preempted here.
    pub(crate) fn checkpoint(_parks: bool) {}

    #[derive(Clone, Copy)]
    pub(crate) enum WaitReason {
        ChanReceive,
        ChanReceiveNever,
        ChanSend,
        Select,
        SelectNoCases,
        MutexLock,
        RwLockRead,
        RwLockWrite,
        WaitGroupWait,
    }

    pub(crate) fn go<T: 'static>(f: impl FnOnce() -> T + 'static) -> loom::thread::JoinHandle<T> {
        loom::thread::spawn(f)
    }

    struct Waiter {
        word: WaitWord,
        readied: Mutex<bool>,
        wake: Condvar,
    }

    loom::thread_local! {
        static WAITER: Waiter = Waiter {
            word: WaitWord::new(),
            readied: Mutex::new(false),
            wake: Condvar::new(),
        };
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct WaiterRef(NonNull<Waiter>);

    // SAFETY: all of a waiter is atomic or behind a mutex. How long it lives is what is modelled.
    unsafe impl Send for WaiterRef {}

    impl WaiterRef {
        pub(crate) fn current() -> WaiterRef {
            WAITER.with(|w| WaiterRef(NonNull::from(w)))
        }

        fn get(&self) -> &Waiter {
            // SAFETY: waiter.rs, invariant 3, is kept by the code under test.
            unsafe { self.0.as_ref() }
        }

        pub(crate) fn arm(self) {
            self.get().word.arm();
        }

        pub(crate) fn selected(self) -> Option<usize> {
            self.get().word.selected()
        }

        pub(crate) fn try_select(self, token: usize) -> Option<Wake> {
            match self.get().word.try_select(token)? {
                Won::Running => Some(Wake::NONE),
                Won::Parked => Some(Wake(Some(self))),
            }
        }

        /// With a deadline, a timer races at any time with whatever else ends the wait.
        pub(crate) fn wait(self, _: WaitReason, deadline: Option<Instant>) -> usize {
            let timer = deadline.map(|_| {
                loom::thread::spawn(move || {
                    if let Some(wake) = self.try_select(TIMED_OUT) {
                        wake.ready();
                    }
                })
            });
            if self.get().word.commit_park() {
                let mut readied = self.get().readied.lock().unwrap();
                while !*readied {
                    readied = self.get().wake.wait(readied).unwrap();
                }
                *readied = false;
            }
            let token = self.selected().expect("the wait has ended");
            if let Some(timer) = timer {
                timer.join().unwrap();
            }
            token
        }
    }

    /// What others may use of a stack that is swapped out (`swap.rs` is about that).
    #[derive(Clone, Copy)]
    pub(crate) enum Lent {
        Nothing,
        Under(#[allow(dead_code, reason = "no stack is swapped out here")] *const ()),
    }

    impl WaiterRef {
        pub(crate) fn wait_swappable(self, reason: WaitReason, _: Lent) -> usize {
            self.wait(reason, None)
        }

        /// As for an OS thread.
        pub(crate) unsafe fn place_node<N>(self, here: &mut std::mem::MaybeUninit<N>, node: N) -> &N {
            here.write(node)
        }

        pub(crate) fn fetch(self) {}
    }

    #[must_use]
    pub(crate) struct Wake(Option<WaiterRef>);

    impl Wake {
        pub(crate) const NONE: Wake = Wake(None);

        pub(crate) fn is_none(&self) -> bool {
            self.0.is_none()
        }

        pub(crate) fn ready(self) {
            let Some(waiter) = self.0 else { return };
            let mut readied = waiter.get().readied.lock().unwrap();
            assert!(!*readied, "made ready twice");
            *readied = true;
            waiter.get().wake.notify_one();
        }
    }
}

/// `crate::sys` as the channels know it.
#[path = "../../../gort/src/sys/wait_list.rs"]
pub(crate) mod wait_list;

pub(crate) mod sys {
    pub(crate) use gort_models::sys::sync;

    #[allow(unused_imports, reason = "the channels use it")]
    pub(crate) use super::rng;

    pub(crate) mod clock {
        use std::cell::Cell;

        thread_local! {
            // The threads of a model share the OS thread that runs it.
            static NOW: Cell<u64> = const { Cell::new(1) };
            static STEP: Cell<u64> = const { Cell::new(0) };
        }

        /// Not the time: it stands still, or goes on by a step at each look.
        pub(crate) fn now_ns() -> u64 {
            NOW.set(NOW.get() + STEP.get());
            NOW.get()
        }

        /// How far the clock goes on at each look, in this model.
        pub(crate) fn set_step_ns(step: u64) {
            NOW.set(1);
            STEP.set(step);
        }
    }

    pub(crate) use super::wait_list;

    pub(crate) mod lock {
        use loom::sync::{Mutex, MutexGuard};
        use std::cell::UnsafeCell;
        use std::ops::{Deref, DerefMut};
        use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

        /// The raw lock's interface, over a mutex of the model.
        pub(crate) struct Lock<T> {
            rank: usize,
            mutex: Mutex<()>,
            /// The guard of the lock's holder.
            held: UnsafeCell<Option<MutexGuard<'static, ()>>>,
            value: UnsafeCell<T>,
        }

        // SAFETY: only the holder of the mutex touches `held` and `value`.
        unsafe impl<T: Send> Sync for Lock<T> {}
        // SAFETY: no guard is left in a lock that is moved, and the T may be sent.
        unsafe impl<T: Send> Send for Lock<T> {}

        impl<T> Lock<T> {
            pub(crate) fn new(value: T) -> Lock<T> {
                // Addresses differ from run to run, which would lead loom astray.
                static LOCKS: AtomicUsize = AtomicUsize::new(1);
                Lock {
                    rank: LOCKS.fetch_add(1, Relaxed),
                    mutex: Mutex::new(()),
                    held: UnsafeCell::new(None),
                    value: UnsafeCell::new(value),
                }
            }

            /// Never taken: no stack is swapped out here.
            #[allow(dead_code, reason = "the channels use it")]
            pub(crate) fn erased(&self) -> *const () {
                std::ptr::from_ref(self).cast()
            }

            pub(crate) fn rank(&self) -> usize {
                self.rank
            }

            pub(crate) fn lock(&self) -> Guard<'_, T> {
                let guard = self.mutex.lock().unwrap();
                // SAFETY: the mutex outlives its guard, which is dropped by ours. We hold the
                // mutex, so `held` is ours.
                unsafe {
                    *self.held.get() =
                        Some(std::mem::transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard));
                }
                Guard { lock: self }
            }

            /// # Safety
            /// As the library's.
            pub(crate) unsafe fn assume_locked(&self) -> Guard<'_, T> {
                Guard { lock: self }
            }
        }

        pub(crate) struct Guard<'a, T> {
            lock: &'a Lock<T>,
        }

        impl<T> Deref for Guard<'_, T> {
            type Target = T;
            fn deref(&self) -> &T {
                // SAFETY: a guard's holder holds the lock.
                unsafe { &*self.lock.value.get() }
            }
        }

        impl<T> DerefMut for Guard<'_, T> {
            fn deref_mut(&mut self) -> &mut T {
                // SAFETY: as above, and the guard is borrowed mutably.
                unsafe { &mut *self.lock.value.get() }
            }
        }

        impl<T> Drop for Guard<'_, T> {
            fn drop(&mut self) {
                // SAFETY: we hold the mutex until the guard taken here is dropped.
                let guard = unsafe { (*self.lock.held.get()).take() };
                drop(guard.expect("locked"));
            }
        }
    }
}
