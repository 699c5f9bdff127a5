//! Pools of OS threads that keep state: each worker is one OS thread for its whole life, and a job
//! can be sent to the worker that has what it needs.
//!
//! They are for foreign libraries that keep state per thread (graphics and compute contexts,
//! database handles, interpreters), and for data that is split by key. Otherwise:
//!
//! - For calls that only block, use [`blocking`](crate::blocking).
//! - For one goroutine that needs its thread, use [`lock_os_thread`](crate::lock_os_thread).
//!
//! # How it works
//!
//! A worker is a plain OS thread that is bound to one CPU. It has a bounded inbox of its own, and
//! there is one that all workers share. Sending a job parks the goroutine while the inbox is full,
//! and joining a job parks it until the worker has done the job. No worker holds a P. A worker ends
//! when all senders are gone and both inboxes are empty, so no submitted job is lost.
#![forbid(unsafe_code)]

use crate::chan::{self, Receiver, RecvError, Sender};
use crate::sched::JoinError;
use crate::select;
use crate::sys::thread;
use std::any::Any;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

type Job = Box<dyn FnOnce() + Send>;
type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// How many jobs can wait for one worker, unless [`AffinePool::with_inbox`] sets another number.
const INBOX: usize = 256;

/// A pool of OS threads, each of which keeps its own state; see the [module](self).
///
/// Dropping the pool does not wait. The workers do the jobs that were submitted, call `teardown`
/// and end.
///
/// # Blocking
///
/// Submitting, joining and shutting down: G: yes. M: no. P: no. A drop: G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// use gort::affine::AffinePool;
/// use std::cell::RefCell;
///
/// thread_local!(static WORDS: RefCell<Vec<String>> = RefCell::default());
///
/// gort::run(|| {
///     let init = |worker| WORDS.with_borrow_mut(|w| w.push(format!("worker {worker}")));
///     let pool = AffinePool::new(2, init, |_| ());
///     let first = pool.submit(1, || WORDS.with_borrow(|words| words[0].clone()));
///     assert_eq!(first.join().unwrap(), "worker 1");
///     pool.shutdown();
/// })
/// ```
pub struct AffinePool {
    inboxes: Vec<Sender<Job>>,
    shared: Sender<Job>,
    /// Each worker sends the outcome of its teardown here when it ends.
    ended: Receiver<Outcome<()>>,
}

impl AffinePool {
    /// Starts a pool of `workers` threads. Returns when all are ready.
    ///
    /// Each worker is bound to one of the CPUs that the calling thread may use, in turn. It calls
    /// `init` with its number (from 0) when it begins, and `teardown` when it ends. Up to 256 jobs
    /// can wait for each worker, and as many for any worker.
    ///
    /// # Blocking
    ///
    /// G: yes, until every `init` has returned. M: no. P: no.
    ///
    /// # Panics
    ///
    /// - If `workers` is 0, or if the system gives no thread.
    /// - If an `init` panics. The panic continues here, and the other workers end.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    ///
    /// gort::run(|| {
    ///     let pool = AffinePool::new(2, |worker| println!("{worker} begins"), |_| ());
    ///     assert_eq!(pool.submit_any(|| 6 * 7).join().unwrap(), 42);
    /// })
    /// ```
    pub fn new<I, D>(workers: usize, init: I, teardown: D) -> AffinePool
    where
        I: Fn(usize) + Send + Sync + 'static,
        D: Fn(usize) + Send + Sync + 'static,
    {
        AffinePool::with_inbox(workers, INBOX, init, teardown)
    }

    /// As [`new`](AffinePool::new), with inboxes for `capacity` jobs each.
    ///
    /// When an inbox is full, submitting waits. With 0, it waits until a worker takes the job.
    ///
    /// # Blocking
    ///
    /// As [`new`](AffinePool::new).
    ///
    /// # Panics
    ///
    /// As [`new`](AffinePool::new).
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    ///
    /// gort::run(|| {
    ///     let pool = AffinePool::with_inbox(1, 0, |_| (), |_| ());
    ///     assert_eq!(pool.submit(0, || 6 * 7).join().unwrap(), 42);
    /// })
    /// ```
    pub fn with_inbox<I, D>(workers: usize, capacity: usize, init: I, teardown: D) -> AffinePool
    where
        I: Fn(usize) + Send + Sync + 'static,
        D: Fn(usize) + Send + Sync + 'static,
    {
        assert!(workers > 0, "an AffinePool needs a worker");
        let cpus = thread::allowed_cpus();
        let (init, teardown) = (Arc::new(init), Arc::new(teardown));
        let (shared, shared_jobs) = chan::bounded(capacity);
        let (tell_ready, ready) = chan::bounded(workers);
        let (tell_end, ended) = chan::bounded(workers);
        let inboxes = (0..workers)
            .map(|worker| {
                let (inbox, jobs) = chan::bounded(capacity);
                let (init, teardown) = (init.clone(), teardown.clone());
                let (shared_jobs, tell_ready, tell_end) =
                    (shared_jobs.clone(), tell_ready.clone(), tell_end.clone());
                let cpu = cpus.get(worker % cpus.len().max(1)).copied();
                let body = move || {
                    if let Some(cpu) = cpu {
                        thread::pin_to(cpu);
                    }
                    let outcome = catch_unwind(AssertUnwindSafe(|| init(worker)));
                    let is_ready = outcome.is_ok();
                    // The caller that makes the pool waits for this.
                    let _ = tell_ready.send(outcome);
                    drop(tell_ready);
                    if is_ready {
                        work(&jobs, &shared_jobs);
                        let outcome = catch_unwind(AssertUnwindSafe(|| teardown(worker)));
                        let _ = tell_end.send(outcome);
                    }
                };
                let thread = std::thread::Builder::new().name(format!("gort-affine-{worker}")).spawn(body);
                if let Err(e) = thread {
                    panic!("an AffinePool needs {workers} threads, and worker {worker} cannot have one: {e}");
                }
                inbox
            })
            .collect();
        drop((tell_ready, tell_end));
        let pool = AffinePool { inboxes, shared, ended };
        for outcome in ready {
            if let Err(payload) = outcome {
                drop(pool);
                resume_unwind(payload);
            }
        }
        pool
    }

    /// Returns the number of workers.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    ///
    /// gort::run(|| {
    ///     let pool = AffinePool::new(2, |_| (), |_| ());
    ///     assert_eq!(pool.workers(), 2);
    /// })
    /// ```
    pub fn workers(&self) -> usize {
        self.inboxes.len()
    }

    /// Sends the job `f` to the worker with the number `worker`.
    ///
    /// # Blocking
    ///
    /// G: yes, while the worker's inbox is full. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If there is no such worker; and in a [forked child](crate#forks), if the inbox is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    /// use std::cell::Cell;
    ///
    /// gort::run(|| {
    ///     thread_local!(static NUMBER: Cell<usize> = Cell::new(0));
    ///     let pool = AffinePool::new(2, |worker| NUMBER.set(worker), |_| ());
    ///     assert_eq!(pool.submit(1, || NUMBER.get()).join().unwrap(), 1);
    /// })
    /// ```
    pub fn submit<T, F>(&self, worker: usize, f: F) -> JobHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let workers = self.inboxes.len();
        assert!(worker < workers, "there is no worker {worker}: the pool has {workers}");
        send(&self.inboxes[worker], f)
    }

    /// Sends the job `f` to the worker that is free first.
    ///
    /// # Blocking
    ///
    /// G: yes, while the shared inbox is full. M: no. P: no.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks), if the inbox is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    ///
    /// gort::run(|| {
    ///     let pool = AffinePool::new(2, |_| (), |_| ());
    ///     let jobs: Vec<_> = (0..4).map(|n| pool.submit_any(move || n * n)).collect();
    ///     assert_eq!(jobs.into_iter().map(|job| job.join().unwrap()).sum::<i32>(), 14);
    /// })
    /// ```
    pub fn submit_any<T, F>(&self, f: F) -> JobHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        send(&self.shared, f)
    }

    /// Sends the job `f` to the worker of its `key`: jobs with equal keys go to the same worker.
    ///
    /// The choice depends on the number of workers. It is the same within one process only.
    ///
    /// # Blocking
    ///
    /// As [`submit`](AffinePool::submit).
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks), if the inbox is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    /// use std::cell::Cell;
    ///
    /// gort::run(|| {
    ///     thread_local!(static COUNT: Cell<u32> = Cell::new(0));
    ///     let pool = AffinePool::new(2, |_| (), |_| ());
    ///     let count = || {
    ///         COUNT.set(COUNT.get() + 1);
    ///         COUNT.get()
    ///     };
    ///     assert_eq!(pool.submit_keyed("user 7", count).join().unwrap(), 1);
    ///     assert_eq!(pool.submit_keyed("user 7", count).join().unwrap(), 2); // the same worker
    /// })
    /// ```
    pub fn submit_keyed<K, T, F>(&self, key: &K, f: F) -> JobHandle<T>
    where
        K: Hash + ?Sized,
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.submit((hasher.finish() % self.inboxes.len() as u64) as usize, f)
    }

    /// Waits until all submitted jobs are done and every worker has called `teardown`.
    ///
    /// If the pool is only dropped, the workers do the same, but nothing waits for them.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If a `teardown` panicked. The panic continues here when all workers have ended.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    ///
    /// gort::run(|| {
    ///     static ENDED: AtomicUsize = AtomicUsize::new(0);
    ///     let pool = AffinePool::new(2, |_| (), |_| {
    ///         ENDED.fetch_add(1, Relaxed);
    ///     });
    ///     pool.shutdown();
    ///     assert_eq!(ENDED.load(Relaxed), 2);
    /// })
    /// ```
    pub fn shutdown(self) {
        let AffinePool { inboxes, shared, ended } = self;
        drop((inboxes, shared));
        let mut panic = None;
        for outcome in ended {
            panic = outcome.err().or(panic);
        }
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl fmt::Debug for AffinePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AffinePool").field("workers", &self.inboxes.len()).finish_non_exhaustive()
    }
}

/// Does the jobs from both inboxes, until both are closed and empty.
fn work(own: &Receiver<Job>, shared: &Receiver<Job>) {
    let never = chan::never();
    let (mut own, mut shared) = (own, shared);
    let mut open = 2;
    while open > 0 {
        // Jobs catch their own panics.
        select! {
            recv(own) -> job => match job {
                Ok(job) => job(),
                Err(RecvError) => (own, open) = (&never, open - 1),
            },
            recv(shared) -> job => match job {
                Ok(job) => job(),
                Err(RecvError) => (shared, open) = (&never, open - 1),
            },
        }
    }
}

fn send<T, F>(inbox: &Sender<Job>, f: F) -> JobHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (tell, result) = chan::bounded(1);
    let job = Box::new(move || {
        let outcome = catch_unwind(AssertUnwindSafe(f));
        if let Err(unwanted) = tell.send(outcome) {
            // As with threads: if the handle is gone, the result is dropped here. A panic in that
            // drop does not end the worker.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(unwanted)));
        }
    });
    if inbox.send(job).is_err() {
        unreachable!("workers end after the pool's senders");
    }
    JobHandle { result }
}

/// A handle to a job, with which its result is awaited. [`AffinePool::submit`] and its siblings
/// return it.
///
/// Dropping it does not stop the job. The result is then dropped.
///
/// # Examples
///
/// ```
/// use gort::affine::AffinePool;
///
/// gort::run(|| {
///     let pool = AffinePool::new(1, |_| (), |_| ());
///     let jobs = [pool.submit_any(|| 1), pool.submit_any(|| 2)];
///     assert_eq!(jobs.map(|job| job.join().unwrap()), [1, 2]);
/// })
/// ```
pub struct JobHandle<T> {
    result: Receiver<Outcome<T>>,
}

impl<T> JobHandle<T> {
    /// Waits until the job is done, and returns its result.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the job panicked. The worker goes on with other jobs.
    ///
    /// # Panics
    ///
    /// In a [forked child](crate#forks), if the job is not done.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    ///
    /// gort::run(|| {
    ///     let pool = AffinePool::new(1, |_| (), |_| ());
    ///     assert_eq!(pool.submit(0, || 6 * 7).join().unwrap(), 42);
    ///     assert!(pool.submit(0, || panic!("no")).join().is_err());
    /// })
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        match self.result.recv() {
            Ok(outcome) => outcome.map_err(JoinError::from_payload),
            Err(RecvError) => unreachable!("every job that was submitted is done"),
        }
    }

    /// Returns whether the job is done. Then `join` does not wait.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::affine::AffinePool;
    ///
    /// gort::run(|| {
    ///     let pool = AffinePool::new(1, |_| (), |_| ());
    ///     let (finish, wait) = gort::chan::bounded::<()>(0);
    ///     let job = pool.submit(0, move || wait.recv());
    ///     assert!(!job.is_finished());
    ///     finish.send(()).unwrap();
    ///     assert!(job.join().unwrap().is_ok());
    /// })
    /// ```
    pub fn is_finished(&self) -> bool {
        !self.result.is_empty()
    }
}

impl<T> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("is_finished", &self.is_finished()).finish()
    }
}
