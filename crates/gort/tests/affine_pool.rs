//! `AffinePool`: a pool whose workers are fixed threads.

use gort::affine::AffinePool;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    static DONE: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

fn pool(workers: usize) -> AffinePool {
    AffinePool::new(workers, |n| NUMBER.set(Some(n)), |_| ())
}

/// Each job runs on its worker's thread, after the worker's `init`, in the order of submission.
/// Jobs come from goroutines and from plain threads.
#[test]
fn jobs_run_where_they_belong() {
    fn play() {
        let pool = pool(3);
        let mut threads: HashMap<usize, ThreadId> = HashMap::new();
        for i in 0..60 {
            let worker = i % 3;
            let id = pool
                .submit(worker, move || {
                    assert_eq!(NUMBER.get(), Some(worker));
                    DONE.with_borrow_mut(|done| done.push(i as u32));
                    std::thread::current().id()
                })
                .join()
                .unwrap();
            assert_eq!(*threads.entry(worker).or_insert(id), id);
        }
        assert_eq!(threads.values().collect::<std::collections::HashSet<_>>().len(), 3);
        for worker in 0..3 {
            let done = pool.submit(worker, || DONE.with_borrow(Vec::clone)).join().unwrap();
            assert_eq!(done, (0..20).map(|i| i * 3 + worker as u32).collect::<Vec<_>>());
        }
        pool.shutdown();
    }
    gort::run(play);
    play();
}

/// Workers are bound to one CPU each, in turn.
#[gort::test]
fn workers_are_bound_to_cpus() {
    fn cpus() -> Vec<usize> {
        // SAFETY: a CPU set of this function's own.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set), 0);
            (0..1024).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
        }
    }
    let allowed = cpus();
    let pool = pool(allowed.len() + 1);
    for worker in 0..=allowed.len() {
        let bound = pool.submit(worker, cpus).join().unwrap();
        assert_eq!(bound, [allowed[worker % allowed.len()]]);
    }
}

/// A key always leads to the same worker, and many keys use all workers. `submit_any` uses a worker
/// that is free.
#[gort::test]
fn keys_and_any_worker() {
    let pool = pool(4);
    let mut used = [0; 4];
    for key in 0..100 {
        let ask = || pool.submit_keyed(&format!("key {key}"), || NUMBER.get().unwrap()).join().unwrap();
        let first = ask();
        assert_eq!(first, ask());
        used[first] += 1;
    }
    assert!(used.iter().all(|&n| n > 5), "{used:?}");
    // Three workers are held, so the free one does the jobs that any worker may do.
    let (go_on, gate) = gort::chan::bounded::<()>(0);
    let (begin, began) = gort::chan::bounded(3);
    let held: Vec<_> = [0, 1, 3]
        .map(|worker| {
            let (begin, gate) = (begin.clone(), gate.clone());
            pool.submit(worker, move || {
                begin.send(()).unwrap();
                let _ = gate.recv();
            })
        })
        .into();
    // A worker that has not begun its own job yet could take one of those jobs first.
    (0..3).for_each(|_| began.recv().unwrap());
    for _ in 0..20 {
        assert_eq!(pool.submit_any(|| NUMBER.get()).join().unwrap(), Some(2));
    }
    drop(go_on);
    held.into_iter().for_each(|h| h.join().unwrap());
}

/// The panic of a job goes to the goroutine that joins it, or is dropped with the handle. The
/// worker keeps its state and goes on.
#[gort::test]
fn a_panicking_job_does_not_take_the_worker_down() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the drop");
        }
    }
    let pool = pool(1);
    let thread = pool.submit(0, || std::thread::current().id()).join().unwrap();
    let error = pool.submit(0, || panic!("boom {}", 7)).join().unwrap_err();
    assert!(error.is_panic() && error.to_string().contains("boom 7"), "{error}");
    // The worker is held until the handles are gone, so nothing takes the results.
    let (go_on, gate) = gort::chan::bounded::<()>(0);
    let (begin, began) = gort::chan::bounded(1);
    let held = pool.submit(0, move || {
        begin.send(()).unwrap();
        let _ = gate.recv();
    });
    began.recv().unwrap();
    drop(pool.submit(0, || Bomb));
    drop(pool.submit_any(|| Bomb));
    drop(go_on);
    held.join().unwrap();
    let after = pool.submit(0, || (NUMBER.get(), std::thread::current().id())).join().unwrap();
    assert_eq!(after, (Some(0), thread));
}

/// A sender to a full inbox parks; nothing is lost.
#[gort::test]
fn a_full_inbox_parks_the_sender() {
    let pool = Arc::new(AffinePool::with_inbox(1, 2, |_| (), |_| ()));
    let (go_on, gate) = gort::chan::bounded::<()>(0);
    let first = pool.submit(0, move || {
        let _ = gate.recv();
    });
    let sent = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    let sender = {
        let (pool, sent, done) = (pool.clone(), sent.clone(), done.clone());
        gort::go(move || {
            for _ in 0..10 {
                let done = done.clone();
                drop(pool.submit(0, move || done.fetch_add(1, SeqCst)));
                sent.fetch_add(1, SeqCst);
            }
        })
    };
    while sent.load(SeqCst) < 2 {
        gort::yield_now();
    }
    gort::sleep(std::time::Duration::from_millis(20));
    assert!(sent.load(SeqCst) <= 3 && done.load(SeqCst) == 0, "{sent:?} {done:?}");
    drop(go_on);
    sender.join().unwrap();
    first.join().unwrap();
    Arc::into_inner(pool).unwrap().shutdown();
    assert_eq!(done.load(SeqCst), 10);
}

/// `shutdown` does all submitted jobs, runs every `teardown` on its worker's thread, and resumes
/// their panics. A dropped pool does the same, but no caller waits for it.
#[gort::test]
fn shutdown_drains() {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let make = |panics: bool| {
        let log = log.clone();
        AffinePool::new(
            2,
            |n| NUMBER.set(Some(n)),
            move |n| {
                assert_eq!(NUMBER.get(), Some(n));
                log.lock().unwrap().push(format!("teardown {n}"));
                assert!(!panics, "in the teardown of {n}");
            },
        )
    };
    let fill = |pool: &AffinePool| {
        for i in 0..50 {
            let log = log.clone();
            drop(pool.submit(i % 2, move || log.lock().unwrap().push("job".into())));
        }
    };
    let check = |log: &Mutex<Vec<String>>| {
        let mut log = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(log.iter().filter(|l| *l == "job").count(), 50);
        log.retain(|l| l != "job");
        log.sort();
        assert_eq!(log, ["teardown 0", "teardown 1"]);
    };
    let pool = make(false);
    fill(&pool);
    pool.shutdown();
    check(&log);

    let pool = make(true);
    fill(&pool);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.shutdown())).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("in the teardown of"));
    check(&log);

    let pool = make(false);
    fill(&pool);
    drop(pool);
    while log.lock().unwrap().len() < 52 {
        gort::sleep(std::time::Duration::from_millis(1));
    }
    check(&log);
}

/// A panic in an `init` continues in `new`; the workers that were ready end.
#[gort::test]
fn a_panicking_init() {
    let torn = Arc::new(AtomicUsize::new(0));
    let t = torn.clone();
    let made = std::panic::catch_unwind(move || {
        AffinePool::new(
            3,
            |n| assert!(n != 1, "no context for worker {n}"),
            move |_| {
                t.fetch_add(1, SeqCst);
            },
        )
    });
    assert!(made.unwrap_err().downcast_ref::<String>().unwrap().contains("no context for worker 1"));
    while torn.load(SeqCst) < 2 {
        gort::sleep(std::time::Duration::from_millis(1));
    }
}

#[gort::test]
#[should_panic(expected = "there is no worker 2: the pool has 2")]
fn no_such_worker() {
    drop(pool(2).submit(2, || ()));
}
