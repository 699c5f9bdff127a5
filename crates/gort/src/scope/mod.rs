//! Goroutines that borrow from the stack of the caller, as with `std::thread::scope`.
//!
//! # Why the borrows are sound
//!
//! `scope` does not return or unwind before every goroutine of it has dropped what it was given and
//! what it made. A child counts itself off after its closure was consumed and its share of the
//! [`Packet`] is gone. If the handle is gone too, that share was the last one, and the result was
//! dropped with it, on the child.

use crate::sched::{self, FIRST_TOKEN, JoinError, JoinHandle, WaitReason, WaiterRef, Wake};
use crate::sys::lock::Lock;
use crate::sys::sync::is_child;
use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

/// A scope in which goroutines can be started that borrow from around it; see [`scope()`].
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let words = ["goroutines", "may", "borrow"];
///     let lengths = gort::scope(|s| {
///         let handles: Vec<_> = words.iter().map(|word| s.go(move || word.len())).collect();
///         handles.into_iter().map(|h| h.join().unwrap()).sum::<usize>()
///     });
///     assert_eq!(lengths, 19);
/// })
/// ```
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    shared: Arc<Shared>,
    /// Invariant in both lifetimes: goroutines may borrow for 'scope, no longer.
    _scope: PhantomData<&'scope mut &'scope ()>,
    _env: PhantomData<&'env mut &'env ()>,
}

/// What a scope and its children share.
struct Shared(Lock<Children>);

struct Children {
    running: usize,
    /// A child panicked and was not joined.
    unheard_panic: bool,
    /// The owner of the scope, while it waits.
    owner: Option<WaiterRef>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("running", &self.0.lock().running).finish_non_exhaustive()
    }
}

impl Shared {
    /// Called when a child has ended and has dropped all it had.
    fn count_off(&self) {
        if is_child() {
            return;
        }
        let wake = {
            let mut children = self.0.lock();
            children.running -= 1;
            match children.owner {
                Some(owner) if children.running == 0 => owner.try_select(FIRST_TOKEN),
                _ => None,
            }
        };
        wake.unwrap_or(Wake::NONE).ready();
    }

    /// Waits until all children have counted themselves off.
    fn wait(&self) {
        {
            let mut children = self.0.lock();
            if children.running == 0 {
                return;
            }
            let me = WaiterRef::current();
            me.arm();
            children.owner = Some(me);
        }
        WaiterRef::current().wait(WaitReason::Scope, None);
        self.0.lock().owner = None;
    }
}

/// A child's result, shared by the child and its handle.
struct Packet<T> {
    shared: Arc<Shared>,
    result: UnsafeCell<Option<std::thread::Result<T>>>,
}

// SAFETY: the child writes the result before its end, and the handle reads it after that (join).
unsafe impl<T: Send> Sync for Packet<T> {}
// SAFETY: as above. The result may move to the thread of the handle.
unsafe impl<T: Send> Send for Packet<T> {}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        let unheard = self.result.get_mut().take().and_then(|result| match result {
            // As in std: a result that panics on drop counts as a panic that was not joined.
            Ok(value) => catch_unwind(AssertUnwindSafe(|| drop(value))).err(),
            Err(payload) => Some(payload),
        });
        if unheard.is_some_and(|payload| !sched::is_goexit(&*payload)) && !is_child() {
            self.shared.0.lock().unheard_panic = true;
        }
    }
}

/// Runs `f`, which may start goroutines that borrow from around it. Then waits for all of them.
///
/// # Blocking
///
/// G: yes. M: no. P: no.
///
/// # Panics
///
/// If `f` panics, or if a goroutine panicked that was not joined. In both cases, only after all
/// goroutines have ended.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let mut a = vec![1, 2, 3];
///     let mut x = 0;
///     gort::scope(|s| {
///         s.go(|| println!("{a:?}"));
///         s.go(|| x += a[0] + a[2]);
///     });
///     a.push(4);
///     assert_eq!(x, a.len() as i32);
/// })
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let children = Children { running: 0, unheard_panic: false, owner: None };
    let scope =
        Scope { shared: Arc::new(Shared(Lock::new(children))), _scope: PhantomData, _env: PhantomData };
    let _loan = sched::lend_stack();
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    scope.shared.wait();
    match result {
        Err(payload) => resume_unwind(payload),
        Ok(_) if scope.shared.0.lock().unheard_panic => panic!("a scoped goroutine panicked"),
        Ok(value) => value,
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine that may borrow what outlives the scope.
    ///
    /// Dropping the handle does not stop the goroutine: the scope waits for it.
    ///
    /// # Blocking
    ///
    /// As [`go`](crate::go).
    ///
    /// # Panics
    ///
    /// If the runtime was not started, and in a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let text = String::from("hello");
    ///     gort::scope(|s| {
    ///         let len = s.go(|| text.len());
    ///         assert_eq!(len.join().unwrap(), 5);
    ///     })
    /// })
    /// ```
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match self.start(sched::Builder::new(), f) {
            Ok(handle) => handle,
            Err(e) => panic!("{e}"),
        }
    }

    /// As [`go`](Scope::go), with std's name.
    ///
    /// # Blocking
    ///
    /// As [`go`](crate::go).
    ///
    /// # Panics
    ///
    /// If the runtime was not started, and in a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let mut sum = 0;
    ///     gort::scope(|s| {
    ///         s.spawn(|| sum += 1);
    ///     });
    ///     assert_eq!(sum, 1);
    /// })
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.go(f)
    }

    #[track_caller]
    fn start<F, T>(&'scope self, builder: sched::Builder, f: F) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let shared = self.shared.clone();
        let packet = Arc::new(Packet { shared: shared.clone(), result: UnsafeCell::new(None) });
        let ours = packet.clone();
        shared.0.lock().running += 1;
        let off = CountOff(shared);
        let task = move || {
            let off = off;
            let result = catch_unwind(AssertUnwindSafe(f));
            let exited = result.as_ref().err().is_some_and(|p| sched::is_goexit(&**p));
            // SAFETY: the handle reads it only after the end of this goroutine.
            unsafe { *ours.result.get() = Some(result) };
            drop(ours);
            drop(off);
            if exited {
                sched::goexit();
            }
        };
        // SAFETY: `scope` waits until `off` is dropped. By then `f` and this goroutine's share of
        // the packet are gone.
        let inner = unsafe { sched::spawn_unchecked(task, builder) }?;
        Ok(ScopedJoinHandle { inner, packet, _scope: PhantomData })
    }
}

/// Counts a child off when dropped, also if the child never ran.
struct CountOff(Arc<Shared>);

impl Drop for CountOff {
    fn drop(&mut self) {
        self.0.count_off();
    }
}

impl sched::Builder {
    /// As [`spawn`](sched::Builder::spawn), in a scope: the goroutine may borrow what outlives it.
    ///
    /// # Blocking
    ///
    /// As [`go`](crate::go).
    ///
    /// # Errors
    ///
    /// As [`spawn`](sched::Builder::spawn).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks).
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     let text = String::from("hello");
    ///     gort::scope(|s| {
    ///         let named = gort::Builder::new().name("counter".into());
    ///         let len = named.spawn_scoped(s, || text.len()).unwrap();
    ///         assert_eq!(len.join().unwrap(), 5);
    ///     })
    /// })
    /// ```
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        scope.start(self, f)
    }
}

/// A handle to a scoped goroutine, with which its result is awaited. [`Scope::go`] returns it.
///
/// Dropping it neither stops the goroutine nor waits. The scope waits for the goroutine.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let words = ["one", "three"];
///     let lengths = gort::scope(|s| {
///         let handles = [s.go(|| words[0].len()), s.go(|| words[1].len())];
///         handles.map(|handle| handle.join().unwrap())
///     });
///     assert_eq!(lengths, [3, 5]);
/// })
/// ```
pub struct ScopedJoinHandle<'scope, T> {
    inner: JoinHandle<()>,
    packet: Arc<Packet<T>>,
    _scope: PhantomData<&'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits until the goroutine has ended, and returns its result.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if it panicked or called [`goexit`](crate::goexit).
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     gort::scope(|s| {
    ///         assert_eq!(s.go(|| 6 * 7).join().unwrap(), 42);
    ///         assert!(s.go(|| gort::goexit()).join().unwrap_err().is_goexit());
    ///     })
    /// })
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        let ended = self.inner.join();
        // SAFETY: the child has ended, so the result belongs to the handle alone.
        let result = unsafe { (*self.packet.result.get()).take() };
        match result {
            Some(result) => result.map_err(JoinError::from_payload),
            None => Err(ended.expect_err("a child that ended well has left a result")),
        }
    }

    /// Returns whether the goroutine has ended. Then `join` does not wait.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// gort::run(|| {
    ///     gort::scope(|s| {
    ///         let (finish, wait) = gort::chan::bounded::<()>(0);
    ///         let handle = s.go(move || wait.recv());
    ///         assert!(!handle.is_finished());
    ///         finish.send(()).unwrap();
    ///         assert!(handle.join().unwrap().is_ok());
    ///     })
    /// })
    /// ```
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }
}

impl<T> std::fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}
