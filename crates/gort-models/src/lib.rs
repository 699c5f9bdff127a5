//! Replacements for `gort`'s lowest floor (`sys`) in the models: the atomics of loom.
//!
//! The tests of this crate compile the protocol modules of `gort` by `#[path]`, unchanged, against
//! these. Each test file says which modules and which interleavings it checks.

/// `crate::sys` for the protocol modules.
pub mod sys {
    /// The only source of atomics, as in the library.
    pub mod sync {
        pub use loom::sync::atomic::{
            AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering,
        };
        use std::cell::Cell;

        thread_local! {
            // The threads of a model share the OS thread that runs it.
            static FENCES: Cell<bool> = const { Cell::new(true) };
            static SKIPS: Cell<bool> = const { Cell::new(false) };
        }

        /// A fence, unless the model is one [`without_fences`].
        pub fn fence(order: Ordering) {
            if FENCES.get() {
                loom::sync::atomic::fence(order);
            }
        }

        /// Like the library's. loom's read-modify-writes are not fences, so this is one.
        pub fn fence_after_rmw() {
            if !SKIPS.replace(false) {
                fence(Ordering::SeqCst);
            }
        }

        /// Makes the next [`fence_after_rmw`] do nothing. It must follow at once. For a model in
        /// which other stores come between the fence and its read-modify-write: on x86-64 the fence
        /// is there, before those stores, and the caller has made one.
        pub fn skip_fence_after_rmw() {
            SKIPS.set(true);
        }

        /// Runs a model in which fences do nothing, to check that it fails. A test that calls this
        /// expects a panic.
        pub fn without_fences(f: impl FnOnce()) {
            struct Restore;
            impl Drop for Restore {
                fn drop(&mut self) {
                    FENCES.set(true);
                }
            }
            FENCES.set(false);
            let _restore = Restore;
            f();
        }

        /// Lets another thread run: a spin loop in a model makes progress only if other threads
        /// run.
        pub fn pause(_times: u32) {
            loom::thread::yield_now();
        }

        /// Like [`pause`].
        pub fn sleep_between(_time: std::time::Duration, _nth: u32) {
            loom::thread::yield_now();
        }

        /// Models are not forked.
        pub fn is_child() -> bool {
            false
        }
    }

    /// Sleeping on a word as in the kernel: checks and wake-ups exclude each other.
    pub mod futex {
        use super::sync::{AtomicU32, Ordering::Relaxed};
        use loom::sync::{Condvar, Mutex};

        struct Sleepers {
            turn: Mutex<()>,
            wake: Condvar,
        }

        loom::lazy_static! {
            static ref SLEEPERS: Sleepers = Sleepers { turn: Mutex::new(()), wake: Condvar::new() };
        }

        /// Like the library's. With a deadline it does not sleep: the deadline has passed.
        pub fn wait(word: &AtomicU32, expected: u32, deadline_ns: Option<u64>) {
            let turn = SLEEPERS.turn.lock().unwrap();
            if deadline_ns.is_none() && word.load(Relaxed) == expected {
                drop(SLEEPERS.wake.wait(turn).unwrap());
            }
        }

        /// Like the library's.
        pub fn wait_bare(word: &AtomicU32, expected: u32) {
            wait(word, expected, None);
        }

        /// Like the library's.
        pub fn address(word: &AtomicU32) -> *const u32 {
            std::ptr::from_ref(word).cast()
        }

        /// Like the library's: it does not touch the word, which may be gone.
        pub fn wake_addr(_addr: *const u32, _n: i32) {
            let _turn = SLEEPERS.turn.lock().unwrap();
            SLEEPERS.wake.notify_all();
        }

        /// Like the library's. It also wakes the sleepers of other words, as spurious wake-ups.
        pub fn wake(_word: &AtomicU32, _n: i32) {
            let _turn = SLEEPERS.turn.lock().unwrap();
            SLEEPERS.wake.notify_all();
        }
    }

    /// A clock that stands still.
    pub mod clock {
        /// Like the library's.
        pub fn now_ns() -> u64 {
            0
        }
    }
}

/// Runs `f` under every interleaving with at most `preemptions` involuntary switches.
pub fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}
