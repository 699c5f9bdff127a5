//! [`Singleflight`]: callers that want the same at the same time share one call.

use super::{Mutex, MutexGuard, OnceLock, PoisonError};
use crate::sched;
use crate::sys::payload;
use std::any::Any;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Callers that want the same at the same time share one call: Go's `singleflight.Group`.
///
/// While a call for a key is under way, others for the same key wait for it and get a clone of its
/// result. The next call after that runs anew: this is no cache. It is what a cache needs, so that
/// a missing entry is fetched once and not by every caller that asks meanwhile.
///
/// For a result that is costly to clone, take an `Arc`. A `Result` needs an error that can be
/// cloned: `Arc<io::Error>`, for instance.
///
/// # Examples
///
/// ```
/// use gort::sync::Singleflight;
/// use std::sync::Arc;
///
/// gort::run(|| {
///     let flights = Arc::new(Singleflight::<String, usize>::new());
///     let asking: Vec<_> = (0..3)
///         .map(|_| {
///             let flights = flights.clone();
///             gort::go(move || {
///                 let (length, _shared) = flights.run("some text", || {
///                     gort::sleep(std::time::Duration::from_millis(1)); // it takes its time
///                     "some text".len()
///                 });
///                 length
///             })
///         })
///         .collect();
///     assert!(asking.into_iter().all(|task| task.join().unwrap() == 9));
/// })
/// ```
pub struct Singleflight<K, V> {
    calls: Mutex<HashMap<K, Arc<Call<V>>>>,
}

/// A call under way.
struct Call<V> {
    end: OnceLock<End<V>>,
    /// How many wait for it beside the one that runs it. Changed under the lock of the map.
    others: AtomicUsize,
}

/// How a call has ended.
enum End<V> {
    Returned(V),
    /// With the text of the panic.
    Panicked(String),
    /// By `goexit`.
    Exited,
}

impl<K: Eq + Hash, V: Clone> Singleflight<K, V> {
    /// Makes one without calls.
    pub fn new() -> Singleflight<K, V> {
        Singleflight { calls: Mutex::new(HashMap::new()) }
    }

    /// Runs `f`, unless a call for `key` is under way: then waits for that one and takes a clone of
    /// its result. Returns the result, and whether several callers have got it.
    ///
    /// `f` runs on the caller's own stack, in its goroutine. It must not call `run` with the same
    /// key: that would wait for itself.
    ///
    /// To wait with a limit, call this in a goroutine and use
    /// [`join_timeout`](crate::JoinHandle::join_timeout). The call goes on.
    ///
    /// # Blocking
    ///
    /// G: while another caller's `f` runs. M: no. P: no. (What `f` blocks is its own affair.)
    ///
    /// # Panics
    ///
    /// If `f` panics, all callers that wait for it panic. The one that runs it has the payload, the
    /// others have its text. If `f` calls [`goexit`](crate::goexit), all of them do.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Singleflight;
    ///
    /// gort::run(|| {
    ///     let flights = Singleflight::<String, usize>::new();
    ///     let (length, shared) = flights.run("key", || 3);
    ///     assert_eq!((length, shared), (3, false));
    /// })
    /// ```
    pub fn run<Q>(&self, key: &Q, f: impl FnOnce() -> V) -> (V, bool)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut calls = self.lock();
        if let Some(call) = calls.get(key) {
            let call = call.clone();
            call.others.fetch_add(1, Relaxed);
            drop(calls);
            return match call.end.wait() {
                End::Returned(value) => (value.clone(), true),
                End::Panicked(text) => panic!("the call that was shared has panicked: {text}"),
                End::Exited => sched::goexit(),
            };
        }
        let call = Arc::new(Call { end: OnceLock::new(), others: AtomicUsize::new(0) });
        calls.insert(key.to_owned(), call.clone());
        drop(calls);
        let result = catch_unwind(AssertUnwindSafe(f));
        // From here on, callers begin a call of their own, so the count of others does not change.
        let taken = {
            let mut calls = self.lock();
            let ours = calls.get(key).is_some_and(|other| Arc::ptr_eq(other, &call));
            if ours { calls.remove_entry(key) } else { None }
        };
        drop(taken);
        let shared = call.others.load(Relaxed) > 0;
        if shared {
            let end = match &result {
                Ok(value) => catch_unwind(AssertUnwindSafe(|| End::Returned(value.clone())))
                    .unwrap_or_else(|payload| ended(&*payload)),
                Err(payload) => ended(&**payload),
            };
            assert!(call.end.set(end).is_ok(), "only its own caller ends a call");
        }
        match result {
            Ok(value) => (value, shared),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Forgets the call for `key` that is under way: the next [`run`](Singleflight::run) does not
    /// wait for it, but runs its own function. Those that wait go on waiting.
    ///
    /// # Blocking
    ///
    /// G: only while another call looks a key up. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::Singleflight;
    ///
    /// gort::run(|| {
    ///     let flights = Singleflight::<u32, &str>::new();
    ///     let outer = flights.run(&7, || {
    ///         flights.forget(&7); // what is read here is out of date
    ///         assert_eq!(flights.run(&7, || "new").0, "new");
    ///         "old"
    ///     });
    ///     assert_eq!(outer, ("old", false));
    /// })
    /// ```
    pub fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let forgotten = self.lock().remove_entry(key);
        drop(forgotten); // the key is the user's: not under the lock
    }

    /// A panic in `Hash` or `Eq` of a key leaves the map as it was.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Call<V>>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call that has unwound with this payload tells those that wait for it.
fn ended<V>(payload: &(dyn Any + Send)) -> End<V> {
    if sched::is_goexit(payload) {
        return End::Exited;
    }
    End::Panicked(payload::text(payload).unwrap_or("no message").to_string())
}

impl<K: Eq + Hash, V: Clone> Default for Singleflight<K, V> {
    fn default() -> Self {
        Singleflight::new()
    }
}

impl<K, V> fmt::Debug for Singleflight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Singleflight { .. }")
    }
}
