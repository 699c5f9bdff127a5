//! What a process inherits and the runtime depends on: masks, ignored signals, limits. And what a
//! child of a goroutine inherits: nothing that the runtime has set for itself. Each scene has a
//! process of its own.

mod child;

use child::{command, play, scene};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A CPU-bound goroutine on the only P is preempted for a goroutine that ends it.
fn a_hog_is_stopped() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let stop = gort::go(|| {
        gort::sleep(Duration::from_millis(1));
        STOP.store(true, SeqCst);
    });
    let begun = Instant::now();
    while !STOP.load(SeqCst) {
        assert!(begun.elapsed() < Duration::from_secs(50), "not preempted");
        std::hint::spin_loop();
    }
    stop.join().unwrap();
}

fn on_one_p(f: fn()) {
    gort::Runtime::builder().gomaxprocs(1).run(f).unwrap();
}

fn block_all() {
    // SAFETY: a signal set of this function's own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()), 0);
    }
}

/// Runs grep in a forked child, for the lines of /proc/self/status with these names.
fn status_of_a_forked_child(names: &str) -> String {
    let mut grep = Command::new("grep");
    grep.args(["-E", names, "/proc/self/status"]);
    // SAFETY: the closure does nothing; because of it `Command` forks and does not spawn.
    unsafe { grep.pre_exec(|| Ok(())) };
    String::from_utf8(grep.output().unwrap().stdout).unwrap()
}

/// The daemon's pattern: all signals are blocked when the runtime starts. Goroutines are preempted
/// nevertheless, and a forked child that calls `exec` has the mask of the process.
#[test]
fn all_signals_are_blocked() {
    if scene().is_some() {
        block_all();
        let outside = status_of_a_forked_child("SigBlk");
        gort::Runtime::builder()
            .gomaxprocs(1)
            .run(move || {
                a_hog_is_stopped();
                assert_eq!(status_of_a_forked_child("SigBlk"), outside);
                assert_eq!(gort::blocking(|| status_of_a_forked_child("SigBlk")), outside);
            })
            .unwrap();
        return;
    }
    let end = play("all_signals_are_blocked", "scene", &[]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// An overflow is reported even if SIGSEGV is blocked in the process.
#[test]
fn an_overflow_is_reported_under_a_mask() {
    #[allow(unconditional_recursion)] // This overflows the stack.
    fn dive(n: u64) -> u64 {
        std::hint::black_box(dive(std::hint::black_box(n + 1))) + 1
    }
    if scene().is_some() {
        block_all();
        return on_one_p(|| assert_ne!(dive(0), 7));
    }
    let end = play("an_overflow_is_reported_under_a_mask", "scene", &[]);
    assert_eq!(end.code, Some(2), "{}", end.text);
    assert!(end.text.contains("fatal error: stack overflow"), "{}", end.text);
}

/// SIGURG is ignored by inheritance. Goroutines are preempted, and forked children ignore it too.
#[test]
fn sigurg_is_ignored() {
    if scene().is_some() {
        let outside = status_of_a_forked_child("SigIgn");
        gort::Runtime::builder()
            .gomaxprocs(1)
            .run(move || {
                a_hog_is_stopped();
                assert_eq!(status_of_a_forked_child("SigIgn"), outside);
            })
            .unwrap();
        return;
    }
    let mut child = command("sigurg_is_ignored", "scene");
    // SAFETY: `signal` may be called in such a closure.
    unsafe {
        child.pre_exec(|| {
            libc::signal(libc::SIGURG, libc::SIG_IGN);
            Ok(())
        })
    };
    assert!(child.status().unwrap().success());
}

/// If no signals may be queued, the kernel does not record the sender of a signal.
#[test]
fn no_signals_may_be_pending() {
    if scene().is_some() {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a limit of this process.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &none) }, 0);
        return on_one_p(a_hog_is_stopped);
    }
    let end = play("no_signals_may_be_pending", "scene", &[]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// What a child inherits, in its own view.
fn seen_by_a_child() -> String {
    let script = "cat /proc/self/timerslack_ns; grep -E 'SigBlk|Cpus_allowed:' /proc/self/status; \
                  cut -d' ' -f18,19,40,41 /proc/self/stat";
    String::from_utf8(Command::new("sh").args(["-c", script]).output().unwrap().stdout).unwrap()
}

/// Timer slack, mask, CPUs, priority and policy of a goroutine's child are those of the process.
#[test]
fn children_inherit_nothing_of_an_m() {
    if child::is_played(|| {
        let outside = std::env::var("OUTSIDE").unwrap();
        let children: Vec<_> = (0..20)
            .map(|i| {
                gort::go(move || {
                    for _ in 0..20 {
                        gort::sleep(Duration::from_micros(100 * i));
                    }
                    let mut seen = vec![seen_by_a_child(), gort::blocking(seen_by_a_child)];
                    seen.push(std::thread::spawn(seen_by_a_child).join().unwrap());
                    let lock = gort::lock_os_thread();
                    seen.push(seen_by_a_child());
                    drop(lock);
                    seen
                })
            })
            .collect();
        for seen in children.into_iter().flat_map(|h| h.join().unwrap()) {
            assert_eq!(seen, outside);
        }
    }) {
        return;
    }
    for mode in ["own", "shared"] {
        let env = [("OUTSIDE", seen_by_a_child())];
        let env = env.each_ref().map(|(name, value)| (*name, &**value));
        let end = play("children_inherit_nothing_of_an_m", mode, &env);
        assert_eq!(end.code, Some(0), "{mode}: {}", end.text);
    }
}

/// A child with a parent-death signal lives as long as its goroutine is locked to the thread that
/// made it.
#[test]
fn pdeathsig_waits_for_the_locked_goroutine() {
    if child::is_played(|| {
        let (made, pid) = gort::chan::bounded(1);
        let (end, ended) = gort::chan::bounded::<()>(0);
        let maker = gort::go(move || {
            let lock = gort::lock_os_thread();
            let mut sleeps = Command::new("sleep");
            sleeps.arg("1000").stdin(std::process::Stdio::null());
            // SAFETY: `prctl` takes numbers.
            unsafe {
                sleeps.pre_exec(|| {
                    assert_eq!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), 0);
                    Ok(())
                })
            };
            made.send(sleeps.spawn().unwrap()).unwrap();
            let _ = ended.recv();
            std::mem::forget(lock); // The thread ends with the goroutine.
        });
        let mut sleeps = pid.recv().unwrap();
        for _ in 0..20 {
            gort::sleep(Duration::from_millis(2));
            assert!(sleeps.try_wait().unwrap().is_none(), "killed while its maker is locked to the thread");
        }
        drop(end);
        maker.join().unwrap();
        let status = gort::blocking(|| sleeps.wait()).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
    }) {
        return;
    }
    child::ends_well_in_both_modes("pdeathsig_waits_for_the_locked_goroutine", "2");
}

/// The memory below an M's signal stack is not accessible.
#[test]
fn signal_stacks_are_guarded() {
    if child::is_played(|| {
        let mut stack = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: 0, ss_size: 0 };
        // SAFETY: a query, with a place for the result.
        assert_eq!(unsafe { libc::sigaltstack(std::ptr::null(), &mut stack) }, 0);
        assert_eq!(stack.ss_flags & libc::SS_DISABLE, 0);
        let (_reads, writes) = std::io::pipe().unwrap();
        for below in [1, 4096, 20_000] {
            let at = stack.ss_sp.wrapping_byte_sub(below);
            // SAFETY: the kernel checks whether it may read there.
            let n = unsafe { libc::write(std::os::fd::AsRawFd::as_raw_fd(&writes), at, 1) };
            let error = std::io::Error::last_os_error().raw_os_error();
            assert_eq!((n, error), (-1, Some(libc::EFAULT)), "{below} bytes below");
        }
    }) {
        return;
    }
    child::ends_well_in_both_modes("signal_stacks_are_guarded", "1");
}

/// Code of the process closes all descriptors that it does not know. One error reports that at
/// once, whichever thread finds out.
#[test]
fn all_descriptors_are_closed() {
    if let Some(scene) = scene() {
        return gort::run(|| {
            gort::sleep(Duration::from_millis(5));
            // SAFETY: as some libraries do.
            unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
            match &*scene {
                "sleeps" => loop {
                    gort::sleep(Duration::from_millis(5));
                },
                _ => loop {
                    let soon = gort::go(|| gort::sleep(Duration::from_micros(50)));
                    gort::blocking(|| std::thread::sleep(Duration::from_millis(1)));
                    soon.join().unwrap();
                },
            }
        });
    }
    for scene in ["sleeps", "computes"] {
        let end = play("all_descriptors_are_closed", scene, &[("GOMAXPROCS", "2")]);
        assert_eq!(end.code, Some(2), "{scene}: {}", end.text);
        let said = "fatal error: the gort runtime cannot wait for I/O and time any more";
        assert_eq!(end.text.matches(said).count(), 1, "{scene}: {}", end.text);
    }
}

/// A start that the system has refused can be repeated, also with other settings.
#[test]
fn a_start_that_failed_can_be_repeated() {
    if scene().is_some() {
        // Root has no such limit, so this becomes another user; a process that cannot is not root.
        // SAFETY: plain system calls.
        let before = unsafe {
            libc::setuid(65534);
            let mut limit: libc::rlimit = std::mem::zeroed();
            assert_eq!(libc::getrlimit(libc::RLIMIT_NPROC, &mut limit), 0);
            limit
        };
        let set = |n| {
            let limit = libc::rlimit { rlim_cur: n, ..before };
            // SAFETY: a limit of this process.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &limit) }, 0);
        };
        let threads = std::fs::read_dir("/proc/self/task").unwrap().count() as u64;
        // The runtime needs three threads of its own, and short-lived ones before. With two more
        // allowed, at least one of its own has started when another one is refused.
        for more in [0, 1, 1, 2, 2] {
            set(threads + more);
            let started = gort::Runtime::builder().gomaxprocs(2).stack_size(64 << 10).run(|| ());
            assert!(started.is_err(), "with {more} threads more");
            // The kernel lists a thread for a moment after it has been joined.
            let begin = std::time::Instant::now();
            while std::fs::read_dir("/proc/self/task").unwrap().count() as u64 != threads {
                assert!(begin.elapsed() < Duration::from_secs(20), "threads of the failed start are left");
                std::thread::yield_now();
            }
        }
        set(before.rlim_cur);
        let procs = gort::Runtime::builder().gomaxprocs(3).run(gort::gomaxprocs).unwrap();
        assert_eq!(procs, 3);
        return;
    }
    let end = play("a_start_that_failed_can_be_repeated", "scene", &[]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}
