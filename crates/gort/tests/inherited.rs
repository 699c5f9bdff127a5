//! What a process inherits and the runtime relies on: masks, ignored signals, limits. And what a child of a goroutine inherits: nothing
//! that the runtime has set for itself. Each scene has a process of its own.

mod child;

use child::{command, play, scene};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A goroutine that computes is stopped, on the one P, for one that ends it.
fn a_hog_is_stopped() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let stop = gort::go(|| {
        gort::sleep(Duration::from_millis(1));
        STOP.store(true, SeqCst);
    });
    let begun = Instant::now();
    while !STOP.load(SeqCst) {
        assert!(begun.elapsed() < Duration::from_secs(50), "is not preempted");
        std::hint::spin_loop();
    }
    stop.join().unwrap();
}

fn on_one_p(f: fn()) {
    gort::Runtime::builder().gomaxprocs(1).run(f).unwrap();
}

fn block_all() {
    // SAFETY: a set of our own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()), 0);
    }
}

/// Executes in a forked child, which is asked for the lines of /proc/self/status with these names.
fn status_of_a_forked_child(names: &str) -> String {
    let mut grep = Command::new("grep");
    grep.args(["-E", names, "/proc/self/status"]);
    // SAFETY: does nothing; with it `Command` forks, and does not spawn.
    unsafe { grep.pre_exec(|| Ok(())) };
    String::from_utf8(grep.output().unwrap().stdout).unwrap()
}

/// The daemon's pattern: all signals are blocked as the runtime starts. Goroutines are preempted all the same, and a forked child that executes
/// something has the mask of the process.
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

/// An overflow is reported also where SIGSEGV is blocked in the process.
#[test]
fn an_overflow_is_reported_under_a_mask() {
    #[allow(unconditional_recursion)]
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

/// SIGURG is ignored by inheritance: goroutines are preempted, and forked children ignore it too.
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
    // SAFETY: `signal` is for such closures.
    unsafe {
        child.pre_exec(|| {
            libc::signal(libc::SIGURG, libc::SIG_IGN);
            Ok(())
        })
    };
    assert!(child.status().unwrap().success());
}

/// With no room for pending signals the kernel forgets who has sent one.
#[test]
fn no_signals_may_be_pending() {
    if scene().is_some() {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a limit of our own.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &none) }, 0);
        return on_one_p(a_hog_is_stopped);
    }
    let end = play("no_signals_may_be_pending", "scene", &[]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// What a child inherits, as it sees it.
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

/// A child that is to die with the thread that made it lives as long as its goroutine is locked to that.
#[test]
fn pdeathsig_waits_for_the_locked_goroutine() {
    if child::is_played(|| {
        let (made, pid) = gort::chan::bounded(1);
        let (end, ended) = gort::chan::bounded::<()>(0);
        let maker = gort::go(move || {
            let lock = gort::lock_os_thread();
            let mut sleeps = Command::new("sleep");
            sleeps.arg("1000").stdin(std::process::Stdio::null());
            // SAFETY: takes numbers.
            unsafe {
                sleeps.pre_exec(|| {
                    assert_eq!(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), 0);
                    Ok(())
                })
            };
            made.send(sleeps.spawn().unwrap()).unwrap();
            let _ = ended.recv();
            std::mem::forget(lock); // the thread ends with the goroutine
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
