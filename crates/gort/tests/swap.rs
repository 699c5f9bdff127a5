//! Swapping out the stacks of parked goroutines: they come back as they were, whatever reaches for
//! them. Each scene has a process of its own, in both thread-local modes.

mod child;

use child::{play, scene};
use gort::chan::{Receiver, Sender, bounded, never, unbounded};
use gort::debug::{Goroutine, Status, goroutines};
use gort::metrics::snapshot;
use gort::net::UnixStream;
use gort::select;
use gort::sync::{Barrier, Condvar, Mutex, OnceLock, RwLock, Semaphore, WaitGroup};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

/// How long something that must happen may take before it counts as a hang.
const HANG: Duration = Duration::from_secs(50);
/// How long goroutines race with the swapper where it gets little time.
const ENOUGH: Duration = Duration::from_secs(10);

/// Plays the scene of `test` in both modes, with one P and with two.
fn ends_well(test: &str) {
    for (mode, procs) in [("own", "2"), ("shared", "2"), ("own", "1"), ("shared", "1")] {
        let end = play(test, mode, &[("GOMAXPROCS", procs)]);
        assert_eq!(end.code, Some(0), "{mode}, {procs} Ps: {}", end.text);
    }
}

/// Runs `f` with swapping on, if this is the child.
fn is_played(after: Duration, f: fn()) -> bool {
    let Some(scene) = scene() else { return false };
    // SAFETY: what the scenes give away of their stacks is what they test.
    let builder = unsafe { gort::Runtime::builder().swap_idle_stacks(after) };
    // SAFETY: no goroutine of these scenes parks with anything of its thread at hand.
    let builder = if scene == "shared" { unsafe { builder.shared_thread_locals() } } else { builder };
    builder.run(f).unwrap();
    true
}

/// Waits until `done`; itself in a park that is not swapped.
fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANG, "{what}: {:?}", snapshot());
        assert!(never::<()>().recv_timeout(Duration::from_millis(1)).is_err());
    }
}

/// Gives the swapper the opportunity to take goroutines that must not go.
fn let_it_look() {
    for _ in 0..100 {
        assert!(never::<()>().recv_timeout(Duration::from_millis(1)).is_err());
    }
}

/// How many are out just now.
fn out() -> u64 {
    let now = snapshot();
    now.swap_outs - now.swap_ins
}

/// Waits until all goroutines but the caller are parked: so many.
fn until_parked(n: usize) {
    let is_parked = |g: &Goroutine| matches!(g.status, Status::Waiting(_));
    until(&format!("{n} are parked"), || goroutines().iter().filter(|g| is_parked(g)).count() == n);
}

fn until_swapped(n: usize) {
    until(&format!("{n} are swapped out"), || snapshot().swap_outs >= n as u64);
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(0) };
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has things on the stack and in thread-locals that only goroutine `i` has, parks in `park`, and
/// looks whether they are still there.
fn around<R>(i: usize, park: impl FnOnce() -> R) -> R {
    let on_stack: [usize; 24] = black_box(std::array::from_fn(|k| if k % 3 == 0 { 0 } else { i * 31 + k }));
    let own_address = black_box(&on_stack).as_ptr();
    let on_heap = vec![i; i % 7];
    let own_thread_locals = scene().as_deref() != Some("shared");
    if own_thread_locals {
        NUMBER.set(i);
        TEXT.set(format!("text {i}"));
    }
    let result = park();
    assert_eq!(black_box(&on_stack).as_ptr(), own_address);
    assert!((0..24).all(|k| on_stack[k] == if k % 3 == 0 { 0 } else { i * 31 + k }), "{on_stack:?}");
    assert!(on_heap.len() == i % 7 && on_heap.iter().all(|&n| n == i));
    if own_thread_locals {
        assert_eq!(NUMBER.get(), i);
        TEXT.with_borrow(|text| assert_eq!(text, &format!("text {i}")));
    }
    result
}

fn start_all(n: usize, f: impl Fn(usize) + Clone + Send + 'static) -> Vec<gort::JoinHandle<()>> {
    (0..n)
        .map(|i| {
            let f = f.clone();
            gort::go(move || f(i))
        })
        .collect()
}

fn join(all: Vec<gort::JoinHandle<()>>) {
    all.into_iter().for_each(|h| h.join().unwrap());
}

/// A message larger than any slot of the runtime's own.
type Large = [u64; 40];

fn large(n: usize) -> Large {
    std::array::from_fn(|k| (n * 1000 + k) as u64)
}

/// Receivers and senders that are swapped out are served in their places, by plain operations and
/// by `select`.
#[test]
fn messages_reach_stacks_that_are_out() {
    if is_played(Duration::ZERO, || {
        const N: usize = 200;
        let (to, from) = bounded::<Large>(0);
        let receiver = |from: Receiver<Large>| {
            move |i| {
                let got = around(i, || from.recv().unwrap());
                assert_eq!(got, large((got[0] / 1000) as usize));
            }
        };
        let all = start_all(N, receiver(from.clone()));
        until_swapped(N);
        (0..N).for_each(|n| to.send(large(n)).unwrap());
        join(all);

        let out = snapshot().swap_outs as usize;
        let all = start_all(N, receiver(from.clone()));
        until_swapped(out + N);
        // The message is made while the receiver is held.
        (0..N).for_each(|n| select!(send(to, { gort::yield_now(); large(n) }) -> sent => sent.unwrap()));
        join(all);

        let out = snapshot().swap_outs as usize;
        let sender = |to: Sender<Large>| move |i| around(i, || to.send(large(i)).unwrap());
        let all = start_all(N, sender(to.clone()));
        until_swapped(out + N);
        let nothing = never::<Large>();
        let mut got: Vec<usize> = (0..N)
            .map(|n| {
                let got = if n % 2 == 0 {
                    from.recv().unwrap()
                } else {
                    // With one arm alone it would be a plain receive.
                    select!(recv(from) -> got => got.unwrap(), recv(nothing) -> _ => unreachable!())
                };
                assert_eq!(got, large((got[0] / 1000) as usize));
                (got[0] / 1000) as usize
            })
            .collect();
        join(all);
        got.sort_unstable();
        assert!(got.into_iter().eq(0..N));

        // A channel with places: senders that wait for one are served when a message is taken.
        let (to, from) = bounded::<Large>(1);
        to.send(large(N)).unwrap();
        let out = snapshot().swap_outs as usize;
        let all = start_all(N, sender(to));
        until_swapped(out + N);
        assert_eq!(from.iter().count(), N + 1);
        join(all);
        let now = snapshot();
        assert!(now.swap_ins >= 4 * N as u64 && now.swap_ins <= now.swap_outs, "{now:?}");
    }) {
        return;
    }
    ends_well("messages_reach_stacks_that_are_out");
}

/// One of each kind of wait: swapped out, and well when it goes on.
#[test]
fn every_wait_comes_back() {
    if is_played(Duration::ZERO, || {
        const N: usize = 20;
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let mutex = Arc::new(Mutex::new(0));
        let lock = Arc::new(RwLock::new(0));
        let (group, barrier) = (WaitGroup::new(), Arc::new(Barrier::new(N + 1)));
        let (permits, once) = (Arc::new(Semaphore::new(1)), Arc::new(OnceLock::new()));
        let (to, from) = unbounded::<usize>();
        let (here, there) = (0..2 * N).map(|_| UnixStream::pair().unwrap()).unzip::<_, _, Vec<_>, Vec<_>>();
        let (let_begin, begins) = bounded::<()>(0);
        group.add(1);
        let slow = gort::go(move || assert!(begins.recv().is_err()));
        let (slow, slow_end) = (Arc::new(Mutex::new(Some(slow))), Arc::new(AtomicBool::new(false)));
        let holds = (mutex.lock().unwrap(), lock.write().unwrap(), permits.acquire(1));
        let mut all = start_all(N, {
            let open = open.clone();
            move |i| {
                around(i, || {
                    let (is_open, opened) = &*open;
                    drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
                });
            }
        });
        let (m, l) = (mutex.clone(), lock.clone());
        all.extend(start_all(N, move |i| around(i, || *m.lock().unwrap() += 1)));
        all.extend(start_all(N, move |i| {
            around(i, || if i % 2 == 0 { *l.write().unwrap() += 1 } else { drop(l.read().unwrap()) })
        }));
        let g = group.clone();
        all.extend(start_all(N, move |i| around(i, || g.wait())));
        all.extend(start_all(N, {
            let barrier = barrier.clone();
            move |i| {
                around(i, || barrier.wait());
            }
        }));
        let p = permits.clone();
        all.extend(start_all(N, move |i| drop(around(i, || p.acquire(1)))));
        let o = once.clone();
        let (in_once, release_once) = bounded::<()>(0);
        let first = o.clone();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let initialises = gort::go(move || {
            *first.get_or_init(|| {
                begins.store(true, SeqCst);
                usize::from(release_once.recv().is_err())
            })
        });
        until("one initialises", || begun.load(SeqCst));
        all.extend(start_all(N, move |i| assert_eq!(*around(i, || o.get_or_init(|| 7)), 1)));
        all.extend(start_all(N, move |i| assert!(around(i, || from.recv().unwrap()) < N)));
        let here = Arc::new(here);
        let streams = here.clone();
        all.extend(start_all(2 * N, move |i| {
            let mut byte = [0; 300];
            if i % 2 == 0 {
                streams[i].set_read_timeout(Some(HANG)).unwrap();
            }
            assert_eq!(around(i, || (&streams[i]).read(&mut byte).unwrap()), 3);
            assert_eq!(&byte[..4], b"abc\0");
        }));
        let (s, ended) = (slow.clone(), slow_end.clone());
        all.push(gort::go(move || {
            let handle = s.lock().unwrap().take().unwrap();
            around(1, || handle.join().unwrap());
            ended.store(true, SeqCst);
        }));
        let parked = all.len() as u64 + 2; // `slow`, and the one that initialises
        until("all are swapped out", || out() >= parked);
        drop(holds);
        *open.0.lock().unwrap() = true;
        open.1.notify_all();
        group.done();
        drop(in_once);
        assert_eq!(initialises.join().unwrap(), 1);
        (0..N).for_each(|n| to.send(n).unwrap());
        there.iter().for_each(|mut stream| stream.write_all(b"abc").unwrap());
        drop(let_begin);
        barrier.wait();
        join(all);
        assert!(slow_end.load(SeqCst));
        assert_eq!(*mutex.lock().unwrap(), N);
        assert_eq!(*lock.read().unwrap(), N / 2);

        // Sleepers: they go when they have slept for a moment, and come back at their time. (On a
        // machine that is busy with others the swapper may oversleep.)
        let start = Instant::now();
        loop {
            let (began, before) = (Instant::now(), snapshot().swap_outs);
            let nap = Duration::from_millis(200);
            let all = start_all(N, move |i| around(i, || gort::sleep(nap)));
            until("they have slept", || gort::num_goroutine() == 1);
            join(all);
            assert!(began.elapsed() >= nap);
            if snapshot().swap_outs >= before + N as u64 {
                break;
            }
            assert!(start.elapsed() < HANG, "no sleeper is swapped out");
        }
    }) {
        return;
    }
    ends_well("every_wait_comes_back");
}

/// Those whose stacks others may know addresses in stay: only the one that may go does.
#[test]
fn a_goroutine_that_lends_its_stack_stays() {
    if is_played(Duration::from_millis(1), || {
        let (hold, held) = bounded::<()>(0);
        let other = never::<()>();
        let spawn = |f: Box<dyn FnOnce(Receiver<()>) + Send>| {
            let held = held.clone();
            gort::go(move || f(held))
        };
        let stays: Vec<Box<dyn FnOnce(Receiver<()>) + Send>> = vec![
            Box::new(move |held| select!(recv(held) -> _ => (), recv(other) -> _ => ())),
            Box::new(|held| assert!(held.recv_timeout(HANG).is_err())),
            Box::new(|held| {
                let _loan = gort::lend_stack();
                let inner = gort::lend_stack();
                drop(inner);
                assert!(held.recv().is_err());
            }),
            Box::new(|held| {
                let _lock = gort::lock_os_thread();
                assert!(held.recv().is_err());
            }),
            // What is linked with a future of `block_on` lies on this stack, also while the future
            // parks in plain code.
            Box::new(|held| gort::future::block_on(async { assert!(held.recv().is_err()) })),
            Box::new(|held| {
                let mut seen = 0;
                gort::scope(|s| {
                    s.go(|| seen += 1);
                    assert!(held.recv().is_err());
                });
                assert_eq!(seen, 1);
            }),
            Box::new(|held| {
                let large = black_box(large_and_random());
                assert!(held.recv().is_err());
                assert_eq!(*large, *large_and_random());
            }),
            Box::new(|held| {
                let large = black_box(*large_and_random());
                assert!(held.recv().is_err());
                assert_eq!(large, *large_and_random());
            }),
        ];
        // The last but one has its large things on the heap: it goes.
        let n = stays.len();
        let all: Vec<_> = stays.into_iter().map(spawn).collect();
        until_parked(n);
        // A goroutine that parks after this goes in a later look than those, had they gone.
        let late = spawn(Box::new(|held| assert!(held.recv().is_err())));
        until_parked(n + 1);
        until("two are out", || out() >= 2);
        let_it_look();
        assert_eq!(out(), 2, "one went that must not");
        drop(hold);
        all.into_iter().chain([late]).for_each(|h| h.join().unwrap());
    }) {
        return;
    }
    ends_well("a_goroutine_that_lends_its_stack_stays");
}

/// A loan that its goroutine has left in a thread-local is no business of the next goroutine that
/// finds it there.
#[test]
fn a_loan_that_was_left_behind_does_no_harm() {
    thread_local!(static LEFT: RefCell<Option<gort::StackLoan>> = const { RefCell::new(None) });
    if is_played(Duration::ZERO, || {
        gort::go(|| LEFT.set(Some(gort::lend_stack()))).join().unwrap();
        let (hold, held) = bounded::<()>(0);
        let stays = gort::go(move || {
            let _loan = gort::lend_stack();
            drop(LEFT.take());
            assert!(held.recv().is_err());
        });
        let (_hold_another, held) = bounded::<()>(0);
        gort::go(move || held.recv());
        until_parked(2);
        until("one is out", || out() >= 1);
        let_it_look();
        assert_eq!(out(), 1, "a lent stack went");
        drop(hold);
        stays.join().unwrap();
    }) {
        return;
    }
    // With one P the second goroutine has the first one's stack.
    let end = play("a_loan_that_was_left_behind_does_no_harm", "own", &[("GOMAXPROCS", "1")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// Never inlined: its frame holds a copy.
#[inline(never)]
fn large_and_random() -> Box<[u64; 2000]> {
    let mut x = 1u64;
    Box::new(std::array::from_fn(|_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        x
    }))
}

/// Tokens go round in rings, each goroutine adds one; the ways of waiting alternate.
fn race() {
    const RINGS: usize = 30;
    const EACH: usize = 10;
    const ROUNDS: usize = 300;
    let rings_done = Arc::new(AtomicUsize::new(0));
    let tally = Arc::new(Mutex::new(0));
    let mut all = Vec::new();
    for ring in 0..RINGS {
        let links: Vec<_> = (0..EACH).map(|_| bounded::<Large>(ring % 2)).collect();
        for i in 0..EACH {
            let (from, to) = (links[i].1.clone(), links[(i + 1) % EACH].0.clone());
            let (rings_done, tally) = (rings_done.clone(), tally.clone());
            all.push(gort::go(move || {
                for round in 0..ROUNDS {
                    let mut token = around(ring * EACH + i, || from.recv().unwrap());
                    assert!(token.iter().all(|&word| word == token[0]), "{token:?}");
                    token.iter_mut().for_each(|word| *word += 1);
                    if round % 16 == i {
                        around(i, || gort::sleep(Duration::from_micros(50 * ring as u64)));
                        *around(i, || tally.lock().unwrap()) += 1;
                    }
                    if i + 1 == EACH && round + 1 == ROUNDS {
                        assert_eq!(token[0], (ROUNDS * EACH) as u64);
                        rings_done.fetch_add(1, SeqCst);
                        return;
                    }
                    around(i, || to.send(token).unwrap());
                }
            }));
        }
        let first = links[0].0.clone();
        all.push(gort::go(move || first.send([0; 40]).unwrap()));
    }
    join(all);
    assert_eq!(rings_done.load(SeqCst), RINGS);
}

/// Goroutines park and go on all the time, while all that stand still are swapped out at once: none
/// is lost, nothing is mixed up.
#[test]
fn swapping_races_with_waking() {
    if is_played(Duration::ZERO, || {
        let start = Instant::now();
        // How many go out in a race is up to the machine: a thousand, or as many as there is time for.
        while snapshot().swap_outs < 1000 && start.elapsed() < ENOUGH || snapshot().swap_outs == 0 {
            race();
            assert!(start.elapsed() < HANG, "{:?}", snapshot());
        }
        until("none is out", || snapshot().swapped_bytes == 0);
        assert_eq!(out(), 0);
    }) {
        return;
    }
    ends_well("swapping_races_with_waking");
}

/// The bytes of this process that are its own, page tables included.
fn held() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (of("RssAnon:") + of("VmPTE:")) * 1024
}

fn context_switches() -> usize {
    let of = |task: std::io::Result<std::fs::DirEntry>| -> Option<usize> {
        let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    std::fs::read_dir("/proc/self/task").unwrap().filter_map(of).sum()
}

/// 20 000 parked goroutines take less than 1 400 bytes each (1 000 in shared mode), descriptors,
/// page tables and libc's own included. What is packed takes less than 64 of them. When all are out
/// the process rests.
#[test]
fn parked_goroutines_are_small_and_quiet() {
    if is_played(Duration::from_millis(10), || {
        const N: usize = 20_000;
        let (hold, held_back) = bounded::<()>(0);
        let before = held();
        let all = start_all(N, move |_| assert!(held_back.recv().is_err()));
        until_swapped(N);
        let each = (held() - before) / N;
        let (limit, most_packed) = match scene().as_deref() {
            // Larger frames, with more that is left from earlier calls: 240 to 420 packed, by how
            // busy the machine is.
            _ if cfg!(debug_assertions) => (4_000, 800),
            Some("shared") => (1_000, 64),
            // With what libc keeps for a block: 1 295 bytes with glibc 2.36, 1 312 with 2.43.
            _ => (1_400, 64),
        };
        let packed = snapshot().swapped_bytes / N;
        println!("{each} bytes each, of which {packed} packed");
        assert!(packed < most_packed, "all wait in the same place, but {packed} bytes differ");
        assert!(each < limit, "{each} bytes each");
        // We are on a thread of our own here: sysmon need not look after us.
        gort::blocking(|| {
            let start = Instant::now();
            loop {
                let before = context_switches();
                std::thread::sleep(Duration::from_millis(500));
                // Our own sleep is one.
                if context_switches().checked_sub(before).is_some_and(|n| n <= 1) {
                    break;
                }
                assert!(start.elapsed() < HANG, "a thread is awake all the time");
            }
        });
        drop(hold);
        join(all);
    }) {
        return;
    }
    ends_well("parked_goroutines_are_small_and_quiet");
}

/// A stack that is out has no pages below it to give back: nothing wakes up for each of many when
/// they have been parked for that long.
#[test]
fn nothing_wakes_up_for_those_that_are_out() {
    if is_played(Duration::from_millis(10), || {
        const N: usize = 500;
        let (hold, held_back) = bounded::<()>(0);
        // They park over a second, and would be due over a second, from two seconds on.
        let all: Vec<_> = (0..N)
            .map(|_| {
                gort::sleep(Duration::from_millis(2));
                let held_back = held_back.clone();
                gort::go(move || assert!(held_back.recv().is_err()))
            })
            .collect();
        until_swapped(N);
        gort::blocking(|| {
            std::thread::sleep(Duration::from_millis(400)); // sysmon comes to rest
            let before = context_switches();
            std::thread::sleep(Duration::from_secs(2));
            let wakes = context_switches() - before;
            println!("{wakes} wake-ups");
            assert!(wakes < 50, "{wakes} wake-ups");
        });
        drop(hold);
        join(all);
    }) {
        return;
    }
    let test = "nothing_wakes_up_for_those_that_are_out";
    for mode in ["own", "shared"] {
        let end = play(test, mode, &[("GOMAXPROCS", "2"), ("GORT_DEBUG", "trimms=2000")]);
        assert_eq!(end.code, Some(0), "{mode}: {}", end.text);
    }
}

/// Code that reaches into a stack that is out, against the promise, gets a report of whose stack it
/// is and what to do. It is no bare SIGSEGV.
#[test]
fn a_touch_from_outside_is_reported() {
    if is_played(Duration::ZERO, || {
        let place = Arc::new(AtomicPtr::new(std::ptr::null_mut()));
        let (hold, held) = bounded::<()>(0);
        let given = place.clone();
        let lends = gort::Builder::new()
            .name("lends".into())
            .spawn(move || {
                let mut on_stack = black_box(7u64);
                given.store(&raw mut on_stack, SeqCst);
                assert!(held.recv().is_err());
            })
            .unwrap();
        until_swapped(1);
        // The report waits for the locks that these take without a break.
        std::thread::spawn(|| {
            loop {
                _ = snapshot();
            }
        });
        std::thread::spawn(|| {
            loop {
                _ = goroutines();
            }
        });
        println!("goroutine {} lends", lends.id());
        // SAFETY: there is none: this is what the report is for.
        println!("{}", unsafe { place.load(SeqCst).read_volatile() });
        drop(hold);
    }) {
        return;
    }
    for mode in ["own", "shared"] {
        let end = play("a_touch_from_outside_is_reported", mode, &[]);
        assert_eq!(end.code, Some(2), "{mode}: {}", end.text);
        let id = end.text.split("goroutine ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let said = format!(
            "fatal error: a stack that was swapped out was touched\n\nIt is that of goroutine {id}, "
        );
        assert!(end.text.contains(&said) && end.text.contains("gort::lend_stack()"), "{mode}: {}", end.text);
        assert!(end.text.contains("name \"lends\""), "the dump follows: {}", end.text);
    }
}

/// `GORT_SWAP` overrules a program that has promised what swapping needs, and no other; what cannot
/// be read is said.
#[test]
fn the_environment_turns_it_on_and_off() {
    let swaps = || {
        let (_hold, held) = bounded::<()>(0);
        gort::go(move || held.recv());
        until_parked(1);
        let wanted = std::env::var("SWAPS").unwrap();
        if wanted == "on" {
            until_swapped(1);
        }
        let_it_look();
        assert_eq!(out(), u64::from(wanted == "on"));
        std::process::exit(0);
    };
    let after = match scene().as_deref() {
        Some("plain") => return gort::run(swaps),
        Some("at once") => Duration::ZERO,
        Some(_) => Duration::MAX,
        None => HANG,
    };
    if scene().is_some() {
        // SAFETY: nothing of a stack is given away.
        return unsafe { gort::Runtime::builder().swap_idle_stacks(after) }.run(swaps).unwrap();
    }
    for (scene, env, wanted, says) in [
        ("plain", None, "off", ""),
        (
            "plain",
            Some("10ms"),
            "off",
            "GORT_SWAP is ignored: this program has not promised what swapping needs",
        ),
        ("plain", Some("off"), "off", ""),
        ("at once", None, "on", ""),
        ("never", None, "off", ""),
        ("never", Some("10ms"), "on", ""),
        ("at once", Some("off"), "off", ""),
        ("plain", Some("soon"), "off", "GORT_SWAP=\"soon\" is neither a duration nor off"),
        ("at once", Some("soon"), "on", "GORT_SWAP=\"soon\" is neither a duration nor off"),
    ] {
        let env: Vec<_> =
            env.map(|value| ("GORT_SWAP", value)).into_iter().chain([("SWAPS", wanted)]).collect();
        let end = play("the_environment_turns_it_on_and_off", scene, &env);
        assert!(end.code == Some(0) && end.text.contains(says), "{scene}, {env:?}: {}", end.text);
    }
}

/// Forbids a system call to all threads of this process, from here on: it fails with EPERM.
fn forbid(call: libc::c_long) {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // The call's number is what the kernel shows first.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: numbers, and a program that lives through the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let all = libc::SECCOMP_FILTER_FLAG_TSYNC;
        assert_eq!(
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, all, &raw const program),
            0
        );
    }
}

/// The kernel refuses the fence all of a sudden: no other stack is swapped out, those that are out
/// come back, and the program is told.
#[test]
fn without_its_fence_the_swapper_gives_up() {
    if is_played(Duration::ZERO, || {
        const N: usize = 50;
        let (to, from) = bounded::<()>(0);
        let receives = move |i| around(i, || from.recv().unwrap());
        let early = start_all(N, receives.clone());
        until_swapped(N);
        forbid(libc::SYS_membarrier);
        let late = start_all(N, receives);
        until("the swapper has ended", || {
            let names = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
            !names
                .map(|task| std::fs::read_to_string(task.path().join("comm")))
                .any(|name| name.is_ok_and(|name| name == "gort-swapper\n"))
        });
        until_parked(2 * N);
        let before = snapshot().swap_outs;
        let_it_look();
        assert_eq!((snapshot().swap_outs, out() as usize >= N), (before, true));
        (0..2 * N).for_each(|_| to.send(()).unwrap());
        join(early);
        join(late);
        assert_eq!(out(), 0);
    }) {
        return;
    }
    for mode in ["own", "shared"] {
        let end = play("without_its_fence_the_swapper_gives_up", mode, &[("GOMAXPROCS", "2")]);
        assert_eq!(end.code, Some(0), "{mode}: {}", end.text);
        let told = "gort: no more idle stacks are swapped out: the kernel refuses the fence";
        assert_eq!(end.text.matches(told).count(), 1, "{}", end.text);
    }
}

/// Has a thread of this process run as others do (`SCHED_OTHER`), or only when no other wants to
/// (`SCHED_IDLE`).
fn set_policy(name: &str, policy: libc::c_int) {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let is_it = |path: &std::path::Path| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    let task = tasks.map(Result::unwrap).find(|task| is_it(&task.path())).expect("a thread of that name");
    let tid = task.file_name().into_string().unwrap().parse().unwrap();
    // SAFETY: a thread's number, and parameters that live through the call.
    unsafe {
        let no_priority: libc::sched_param = std::mem::zeroed();
        assert_eq!(libc::sched_setscheduler(tid, policy, &raw const no_priority), 0);
    }
}

/// The clock by which parks are timed stands still while nothing runs at all. A goroutine that
/// wakes up then and parks again has not waited all that time.
#[test]
fn a_wait_begins_when_it_begins() {
    const AFTER: Duration = Duration::from_millis(600);
    if let Some(mode) = scene() {
        // SAFETY: these goroutines give nothing of their stacks away, and hold nothing of their
        // threads.
        unsafe {
            let builder = gort::Runtime::builder().swap_idle_stacks(AFTER);
            if mode == "shared" { builder.shared_thread_locals() } else { builder }.start().unwrap();
        }
        let (to, from) = bounded::<()>(0);
        let got = Arc::new(AtomicUsize::new(0));
        let counts = got.clone();
        let echo = gort::go(move || {
            from.iter().for_each(|()| {
                counts.fetch_add(1, SeqCst);
            })
        });
        while snapshot().swap_outs == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        for round in 2..4 {
            std::thread::sleep(2 * AFTER); // plain threads are no reason to look at a clock
            let (woken, parked) = (Instant::now(), AtomicBool::new(false));
            std::thread::scope(|s| {
                let before = got.load(SeqCst);
                let busy = || {
                    while !parked.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                };
                // sysmon, which looks at the clock, sleeps by now, and comes last.
                set_policy("gort-sysmon", libc::SCHED_IDLE);
                (0..gort::num_cpu()).for_each(|_| drop(s.spawn(busy)));
                to.send(()).unwrap();
                while got.load(SeqCst) == before
                    || !goroutines().iter().all(|g| matches!(g.status, Status::Waiting(_)))
                {
                    std::thread::yield_now();
                }
                parked.store(true, SeqCst);
                set_policy("gort-sysmon", libc::SCHED_OTHER);
            });
            while snapshot().swap_outs < round {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(woken.elapsed() > AFTER / 2, "swapped out after {:?}", woken.elapsed());
        }
        drop(to);
        return echo.join().unwrap();
    }
    for mode in ["own", "shared"] {
        let end = play("a_wait_begins_when_it_begins", mode, &[("GOMAXPROCS", "2")]);
        assert_eq!(end.code, Some(0), "{mode}: {}", end.text);
    }
}
