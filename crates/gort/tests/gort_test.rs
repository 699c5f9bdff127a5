//! `#[gort::test]`: to the language the test's goroutine is the thread that libtest runs it on.

mod child;

use std::cell::Cell;
use std::process::Command;
use std::time::Duration;

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// Runs one of the tests below as libtest does by default: output is captured, and printed if the
/// test fails.
fn run_captured(test: &str, threads: &str) -> (bool, String, String) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--test-threads", threads]).env("GORT_TEST_SCENE", "captured");
    let out = child.env("RUST_BACKTRACE", "0").output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

#[gort::test]
fn fails_after_a_park() {
    if child::scene().is_some() {
        println!("before");
        gort::sleep(Duration::from_millis(2));
        println!("after");
        panic!("on purpose");
    }
}

#[gort::test]
fn prints_and_succeeds() {
    if child::scene().is_some() {
        println!("a line");
        gort::yield_now();
        eprintln!("another line");
    }
}

/// What a test prints is captured, also after it has parked, and a panic names the test.
#[test]
fn output_is_captured() {
    for threads in ["1", "2"] {
        let (success, stdout, stderr) = run_captured("fails_after_a_park", threads);
        assert!(!success);
        let captured = stdout.split("---- fails_after_a_park stdout ----").nth(1).expect("it was captured");
        assert!(captured.contains("before\nafter\n"), "{stdout}");
        assert!(captured.contains("thread 'fails_after_a_park'"), "{stdout}");
        assert!(captured.contains("on purpose"), "{stdout}");
        assert!(!stderr.contains("on purpose"), "{stderr}");

        let (success, stdout, stderr) = run_captured("prints_and_succeeds", threads);
        assert!(success, "{stdout}{stderr}");
        assert!(!stdout.contains("a line") && !stderr.contains("another line"), "{stdout}{stderr}");
    }
}

/// It is a goroutine: others run while it waits, and it can go to another thread. It keeps its
/// thread-locals, and libc describes the stack that it is on.
#[gort::test]
fn it_is_a_goroutine_and_the_thread() {
    let me = std::thread::current();
    NUMBER.set(7);
    let (tx, rx) = gort::chan::bounded(0);
    let others: Vec<_> = (0..8)
        .map(|i| {
            let tx = tx.clone();
            gort::go(move || {
                NUMBER.set(i);
                tx.send(i).unwrap();
            })
        })
        .collect();
    let got: u32 = (0..8).map(|_| rx.recv().unwrap()).sum();
    assert_eq!(got, 28);
    others.into_iter().for_each(|h| h.join().unwrap());
    assert_eq!(NUMBER.get(), 7);
    assert_eq!(std::thread::current().id(), me.id());
    assert!(gort::debug::goroutines().iter().any(|g| g.status == gort::debug::Status::Running));

    if me.name() != Some("main") {
        let local = 0u8;
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: libc fills the attribute in, which is then read and destroyed.
        unsafe {
            let mut attr = std::mem::zeroed();
            assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &mut attr), 0);
            assert_eq!(libc::pthread_attr_getstack(&attr, &mut low, &mut size), 0);
            libc::pthread_attr_destroy(&mut attr);
        }
        let stack = low as usize..low as usize + size;
        assert!(stack.contains(&(std::ptr::from_ref(&local) as usize)));
    }
}

#[gort::test]
fn adds_one() {
    NUMBER.set(NUMBER.get() + 1);
    gort::yield_now();
}

/// The thread has its thread-locals back afterwards, and is a thread again.
#[test]
fn the_thread_goes_on() {
    for n in 1..100 {
        adds_one();
        assert_eq!(NUMBER.get(), n);
        let (tx, rx) = gort::chan::bounded(1);
        gort::go(move || tx.send(n).unwrap());
        assert_eq!(rx.recv(), Ok(n));
        drop(vec![0u8; 100 * n as usize]);
    }
}

#[gort::test]
fn keeps_its_thread_to_the_end() {
    std::mem::forget(gort::lock_os_thread());
}

/// The id of the thread that its descriptor has, as libc makes a clock of it.
fn tid_in_the_descriptor() -> libc::clockid_t {
    let mut clock = 0;
    // SAFETY: about the calling thread.
    assert_eq!(unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) }, 0);
    !(clock >> 3)
}

/// A guard that was left behind changes nothing for the thread that has lent its thread-locals.
#[test]
fn a_guard_that_is_left_stays_with_the_goroutine() {
    // SAFETY: no preconditions.
    let tid = unsafe { libc::gettid() };
    for _ in 0..3 {
        keeps_its_thread_to_the_end();
        assert_eq!(tid_in_the_descriptor(), tid);
    }
}

#[gort::test]
fn forks() {
    // SAFETY: the child only returns.
    let child = unsafe { libc::fork() };
    if child != 0 {
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 2, "{status:x}");
    }
}

/// A panic in a goroutine says which one it was, and where it was started.
#[test]
fn a_panic_names_its_goroutine() {
    if child::scene().is_some() {
        return gort::run(|| {
            let worker = gort::Builder::new().name("worker-7".to_string()).spawn(|| panic!("boom")).unwrap();
            assert!(worker.join().is_err());
            assert!(gort::go(|| panic!("bang")).join().is_err());
        });
    }
    let end = child::play("a_panic_names_its_goroutine", "scene", &[]);
    let [first, second] = ["boom", "bang"].map(|text| {
        let mut before = end.text.split(text).next().unwrap().lines();
        let line = before.rfind(|line| line.starts_with("goroutine ")).unwrap_or_default();
        assert!(line.contains("gort_test.rs:"), "{}", end.text);
        line.to_string()
    });
    assert!(first.contains("'worker-7'") && !second.contains('\''), "{}", end.text);
}
