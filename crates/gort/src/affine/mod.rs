//! Threads that keep something: a pool in which each worker is one OS thread for good, with its own set-up, and jobs are sent to the
//! worker that has what they need.
//!
//! For foreign libraries that keep state per thread (graphics and compute contexts, database handles, interpreters), and for data that is
//! split by key. For calls that only block, use [`blocking`](crate::blocking); for one goroutine that needs its thread,
//! [`lock_os_thread`](crate::lock_os_thread).
//!
//! # How it works
//! A worker is a plain OS thread, on one CPU, with a bounded inbox of its own and one that all share. Sending a job parks the goroutine
//! while the inbox is full; joining it parks until the worker has done it. No worker holds a P. A worker ends when all senders are gone
//! and both inboxes are empty: nothing that was submitted is lost.
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

/// Jobs that wait for one worker, unless [`AffinePool::with_inbox`] says otherwise.
const INBOX: usize = 256;

/// A pool of OS threads that are never exchanged, see the [module](self).
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
///     let pool = AffinePool::new(2, |worker| WORDS.with_borrow_mut(|w| w.push(format!("worker {worker}"))), |_| ());
///     let first = pool.submit(1, || WORDS.with_borrow(|words| words[0].clone()));
///     assert_eq!(first.join().unwrap(), "worker 1");
///     // The same key always goes to the same worker.
///     pool.submit_keyed("user 7", || WORDS.with_borrow_mut(|w| w.push("seven".into()))).join().unwrap();
///     assert_eq!(pool.submit_keyed("user 7", || WORDS.with_borrow(|w| w.len())).join().unwrap(), 2);
///     pool.shutdown();
/// })
/// ```
pub struct AffinePool {
    inboxes: Vec<Sender<Job>>,
    shared: Sender<Job>,
    /// A message from each worker as it ends: how its teardown went.
    ended: Receiver<Outcome<()>>,
}

impl AffinePool {
    /// Starts `workers` threads. Each is bound to one of the CPUs that the calling thread may use, in turn, calls `init` with its number,
    /// and `teardown` as it ends. Returns when all are ready.
    ///
    /// # Blocking
    ///
    /// G: yes, until every `init` has returned. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `workers` is 0, if the system gives no thread, or if an `init` panics (the panic goes on here; the others end).
    pub fn new<I, D>(workers: usize, init: I, teardown: D) -> AffinePool
    where
        I: Fn(usize) + Send + Sync + 'static,
        D: Fn(usize) + Send + Sync + 'static,
    {
        AffinePool::with_inbox(workers, INBOX, init, teardown)
    }

    /// As [`new`](AffinePool::new); at most `capacity` jobs wait for each worker, more senders park.
    ///
    /// # Blocking
    ///
    /// As [`new`](AffinePool::new).
    ///
    /// # Panics
    ///
    /// As [`new`](AffinePool::new).
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
                    // Whoever made the pool waits for this, so it is there.
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

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.inboxes.len()
    }

    /// Sends `f` to worker number `worker`.
    ///
    /// # Blocking
    ///
    /// G: yes, while the worker's inbox is full. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If there is no such worker.
    pub fn submit<T, F>(&self, worker: usize, f: F) -> JobHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let workers = self.inboxes.len();
        assert!(worker < workers, "there is no worker {worker}: the pool has {workers}");
        send(&self.inboxes[worker], f)
    }

    /// Sends `f` to whichever worker is free first.
    ///
    /// # Blocking
    ///
    /// G: yes, while the shared inbox is full. M: no. P: no.
    pub fn submit_any<T, F>(&self, f: F) -> JobHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        send(&self.shared, f)
    }

    /// Sends `f` to the worker that all jobs with an equal `key` go to (in this process; another number of workers spreads anew).
    ///
    /// # Blocking
    ///
    /// As [`submit`](AffinePool::submit).
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

    /// Waits until all that was submitted is done and every worker has called `teardown`. A pool that is only dropped does the same
    /// by itself, without anybody waiting.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If a `teardown` panicked: the panic goes on here, when all have ended.
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

/// A worker's life: jobs from both inboxes, until both are closed and empty.
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
            // As with threads: a result that nobody wants is dropped here, and its panic ends nothing else.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(unwanted)));
        }
    });
    if inbox.send(job).is_err() {
        unreachable!("workers end after the pool's senders");
    }
    JobHandle { result }
}

/// The right to a job's result. Dropping it leaves the job to itself, and drops the result if that is there already.
pub struct JobHandle<T> {
    result: Receiver<Outcome<T>>,
}

impl<T> JobHandle<T> {
    /// Waits until the job is done and gives its result.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the job panicked. The worker goes on.
    pub fn join(self) -> Result<T, JoinError> {
        match self.result.recv() {
            Ok(outcome) => outcome.map_err(JoinError::from_payload),
            Err(RecvError) => unreachable!("every job that was submitted is done"),
        }
    }

    /// Whether the job is done. Then `join` does not wait.
    pub fn is_finished(&self) -> bool {
        !self.result.is_empty()
    }
}

impl<T> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("is_finished", &self.is_finished()).finish()
    }
}
