//! How a process ends (GO-CASES A2): deadlocks, exits, and what is not a deadlock.
//!
//! A deadlock is certain only if the process has no foreign thread. libtest has one, so this test
//! has a `main` of its own. Without arguments it runs all checks; with a scene in the environment
//! it plays that scene.

mod child;

use child::{Outcome, play, scene};
use gort::chan;
use std::time::Duration;

const DEADLOCK: &str = "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine ";
const NO_GOROUTINES: &str = "fatal error: no goroutines (main called goexit) - deadlock!";

/// A scene for a child, and the check of how the child ended.
struct Case {
    name: &'static str,
    scene: fn(),
    check: fn(&Outcome),
}

const CASES: &[Case] = &[
    // GO-CASES D1: the main goroutine waits for a message that cannot come.
    Case {
        name: "d1_simple_deadlock",
        scene: || gort::run(wait_for_ever),
        check: |end| fatal(end, &[DEADLOCK, "[chan receive]:\n"]),
    },
    // As D1, in a process without rights that must not be inspected.
    Case {
        name: "deadlock_without_proc",
        scene: || {
            // SAFETY: plain system calls. A process that cannot change its user is not root.
            unsafe {
                libc::setuid(65534);
                assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 0), 0);
            }
            gort::run(wait_for_ever);
        },
        check: |end| fatal(end, &[DEADLOCK]),
    },
    // As D1, after a sleep during which the detector was asleep too.
    Case {
        name: "d1_deadlock_later",
        scene: || {
            gort::run(|| {
                gort::sleep(Duration::from_millis(300));
                wait_for_ever();
            })
        },
        check: |end| fatal(end, &[DEADLOCK]),
    },
    // A `select!` whose arms are all left out by their guards waits for ever.
    Case {
        name: "select_with_all_arms_left_out",
        scene: || {
            gort::run(|| {
                let (tx, rx) = chan::unbounded();
                tx.send(1).unwrap();
                gort::select! {
                    recv(rx) -> _, if false => {}
                    send(tx, 2) -> _, if false => {}
                }
            })
        },
        check: |end| fatal(end, &[DEADLOCK, "[select]:\n"]),
    },
    // GO-CASES D3: a deadlocked goroutine that is locked to its thread is listed as locked.
    Case {
        name: "d3_locked_deadlock",
        scene: || {
            gort::run(|| {
                let _lock = gort::lock_os_thread();
                wait_for_ever();
            })
        },
        check: |end| fatal(end, &[DEADLOCK, "[chan receive, locked to thread]:\n"]),
    },
    // GO-CASES D4: both goroutines are listed, the locked child too.
    Case {
        name: "d4_locked_child_deadlock",
        scene: || {
            gort::run(|| {
                gort::Builder::new()
                    .name("the child".into())
                    .spawn(|| {
                        let _lock = gort::lock_os_thread();
                        wait_for_ever();
                    })
                    .unwrap();
                gort::sleep(Duration::from_millis(1));
                wait_for_ever();
            })
        },
        check: |end| {
            fatal(
                end,
                &[
                    DEADLOCK,
                    "[chan receive, locked to thread]:\nname \"the child\"\n",
                    "wait_for_ever(...)\n\t",
                    "sched_fatal.rs:",
                    "\ncreated by goroutine ",
                    "[chan receive]:\n",
                ],
            );
        },
    },
    // As D4, with the child's stack swapped out: the report still has its frames.
    Case {
        name: "swapped_child_deadlock",
        scene: || {
            // SAFETY: no goroutine lends its stack to another thread.
            let builder = unsafe { gort::Runtime::builder().swap_idle_stacks(Duration::ZERO) };
            let ended = builder.run(|| {
                gort::Builder::new().name("the child".into()).spawn(wait_for_ever).unwrap();
                while gort::metrics::snapshot().swap_outs == 0 {
                    gort::select!(recv(gort::chan::after(Duration::from_millis(1))) -> _ => ());
                }
                wait_for_ever();
            });
            unreachable!("{ended:?}");
        },
        check: |end| {
            fatal(end, &[DEADLOCK, "[chan receive]:\nname \"the child\"\n"]);
            let child =
                end.text.split("name \"the child\"\n").nth(1).and_then(|text| text.split("\n\n").next());
            let child = child.unwrap_or_default();
            assert!(
                child.contains("wait_for_ever(...)\n\t") && child.contains("sched_fatal.rs:"),
                "{}",
                end.text
            );
        },
    },
    // GO-CASES D5: the main goroutine calls goexit, and no goroutine is left.
    Case {
        name: "d5_goexit_deadlock",
        scene: || {
            gort::run(|| {
                gort::go(|| ());
                gort::go(|| ());
                gort::goexit();
            })
        },
        check: |end| fatal(end, &[NO_GOROUTINES]),
    },
    // GO-CASES D6: the goroutines that are left go on first.
    Case {
        name: "d6_goexit_exit",
        scene: || {
            gort::run(|| {
                gort::go(|| {
                    gort::sleep(Duration::from_millis(1));
                    println!("the sleeper went on");
                });
                gort::goexit();
            })
        },
        check: |end| fatal(end, &["the sleeper went on", NO_GOROUTINES]),
    },
    // GO-CASES D9: catching the unwinding of goexit and resuming it does not cancel it.
    Case {
        name: "d9_goexit_goes_on_when_resumed",
        scene: || {
            gort::run(|| {
                let caught = std::panic::catch_unwind(|| gort::goexit());
                println!("caught");
                std::panic::resume_unwind(caught.unwrap_err());
            })
        },
        check: |end| fatal(end, &["caught", NO_GOROUTINES]),
    },
    // Two goroutines that wait for each other's locks.
    Case {
        name: "abba_on_two_mutexes",
        scene: || {
            static A: gort::sync::Mutex<()> = gort::sync::Mutex::new(());
            static B: gort::sync::Mutex<()> = gort::sync::Mutex::new(());
            gort::run(|| {
                let _a = A.lock().unwrap();
                let h = gort::go(|| {
                    let _b = B.lock().unwrap();
                    gort::yield_now();
                    let _a = A.lock().unwrap();
                });
                gort::sleep(Duration::from_millis(5));
                let _b = B.lock().unwrap();
                h.join().unwrap();
            })
        },
        check: |end| fatal(end, &[DEADLOCK, "[Mutex::lock]:\n"]),
    },
    // A foreign thread could still send. When it has ended, nothing can.
    Case {
        name: "deadlock_after_the_last_foreign_thread",
        scene: || {
            gort::run(|| {
                std::thread::spawn(|| std::thread::sleep(Duration::from_millis(300)));
                wait_for_ever();
            })
        },
        check: |end| fatal(end, &[DEADLOCK]),
    },
    // GO-CASES D14: one thread more than the cap.
    Case {
        name: "d14_thread_exhaustion",
        scene: || {
            gort::Runtime::builder().thread_cap(10).run(thread_exhaustion).unwrap();
        },
        check: |end| {
            fatal(end, &["gort: program exceeds 10-thread limit\nfatal error: thread exhaustion"]);
        },
    },
    // GO-CASES D27: `run` returns and the process ends, although goroutines are left.
    Case {
        name: "d27_main_returns",
        scene: || {
            gort::run(|| (0..100).for_each(|_| drop(gort::go(wait_for_ever))));
            println!("main returned");
        },
        check: |end| ended_well(end, "main returned"),
    },
    // The matrix of GO-CASES A2, cases that are no deadlock: a goroutine sleeps.
    Case {
        name: "alive_sleep",
        scene: || gort::run(|| gort::sleep(Duration::from_millis(400))),
        check: |end| ended_well(end, ""),
    },
    // A goroutine waits for a timer.
    Case {
        name: "alive_timer",
        scene: || gort::run(|| assert!(chan::after(Duration::from_millis(400)).recv().is_ok())),
        check: |end| ended_well(end, ""),
    },
    // A goroutine is inside `blocking`.
    Case {
        name: "alive_blocking",
        scene: || {
            gort::run(|| {
                let (tx, rx) = chan::bounded(0);
                gort::go(move || {
                    gort::blocking(|| std::thread::sleep(Duration::from_millis(400)));
                    tx.send(1).unwrap();
                });
                assert_eq!(rx.recv(), Ok(1));
            })
        },
        check: |end| ended_well(end, ""),
    },
    // A goroutine waits for I/O; the peer is another process.
    Case {
        name: "alive_io",
        scene: || {
            gort::run(|| {
                let listener = gort::net::TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                let script = format!("sleep 0.4; exec 3<>/dev/tcp/127.0.0.1/{port}");
                let mut client = std::process::Command::new("bash").args(["-c", &script]).spawn().unwrap();
                listener.accept().unwrap();
                gort::blocking(|| client.wait()).unwrap();
            })
        },
        check: |end| ended_well(end, ""),
    },
    // A foreign thread could send.
    Case {
        name: "alive_foreign_thread",
        scene: || {
            gort::run(|| {
                let (tx, rx) = chan::bounded(0);
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(400));
                    tx.send(1).unwrap();
                });
                assert_eq!(rx.recv(), Ok(1));
            })
        },
        check: |end| ended_well(end, ""),
    },
    // The thread that called `start` is foreign and could still act.
    Case {
        name: "alive_starter",
        scene: || {
            gort::start().unwrap();
            gort::go(wait_for_ever);
            std::thread::sleep(Duration::from_millis(400));
        },
        check: |end| ended_well(end, ""),
    },
    // The main goroutine has ended, and the thread in `run` has not noticed yet.
    Case {
        name: "alive_slow_caller",
        scene: || {
            extern "C" fn doze(_: libc::c_int) {
                std::thread::sleep(Duration::from_millis(600));
            }
            // SAFETY: the handler only sleeps; the thread that gets the signal waits in `run`.
            let caller = unsafe {
                libc::signal(libc::SIGUSR1, doze as extern "C" fn(libc::c_int) as libc::sighandler_t);
                libc::pthread_self()
            };
            // SAFETY: the thread lives as long as the process.
            gort::run(move || assert_eq!(unsafe { libc::pthread_kill(caller, libc::SIGUSR1) }, 0));
            println!("came back");
        },
        check: |end| ended_well(end, "came back"),
    },
    // GO-CASES A2: a listener without a waiting goroutine does not prevent a deadlock.
    Case {
        name: "idle_listener_is_no_excuse",
        scene: || {
            gort::run(|| {
                let _listener = gort::net::TcpListener::bind("127.0.0.1:0").unwrap();
                wait_for_ever();
            })
        },
        check: |end| fatal(end, &[DEADLOCK]),
    },
    // `go` before the start.
    Case {
        name: "go_before_run_says_what_to_do",
        scene: || drop(gort::go(|| ())),
        check: |end| {
            assert_eq!(end.code, Some(101), "{}", end.text);
            assert!(end.text.contains("gort::go was called before the runtime was started"), "{}", end.text);
            assert!(end.text.contains("inside gort::run"), "{}", end.text);
        },
    },
    // Settings after the start.
    Case {
        name: "settings_too_late",
        scene: || {
            gort::run(|| ());
            let e = gort::Runtime::builder().gomaxprocs(2).start().unwrap_err();
            assert!(matches!(e, gort::StartError::TooLate), "{e}");
            gort::start().unwrap();
            assert!(gort::Runtime::builder().run(|| true).unwrap());
            println!("{e}");
        },
        check: |end| ended_well(end, "runs already"),
    },
    // Settings that are invalid.
    Case {
        name: "settings_that_cannot_be",
        scene: || {
            let e = gort::Runtime::builder().gomaxprocs(0).start().unwrap_err();
            assert!(matches!(e, gort::StartError::Invalid(_)), "{e}");
            let e = gort::Runtime::builder().stack_size(usize::MAX).start().unwrap_err();
            assert!(matches!(e, gort::StartError::Invalid(_)), "{e}");
            gort::run(|| println!("and then it started"));
        },
        check: |end| ended_well(end, "and then it started"),
    },
];

/// Waits for ever, with nothing that could end the wait.
fn wait_for_ever() {
    let (_tx, rx) = chan::bounded::<()>(0);
    let _ = rx.recv();
}

fn thread_exhaustion() {
    let (_tx, rx) = chan::bounded::<()>(0);
    for _ in 0..100 {
        let rx = rx.clone();
        gort::go(move || {
            let _lock = gort::lock_os_thread();
            let _ = rx.recv();
        });
    }
    wait_for_ever();
}

fn fatal(end: &Outcome, words: &[&str]) {
    assert_eq!(end.code, Some(2), "{}", end.text);
    for words in words {
        assert!(end.text.contains(words), "no {words:?} in {}", end.text);
    }
}

fn ended_well(end: &Outcome, words: &str) {
    assert_eq!(end.code, Some(0), "{}", end.text);
    assert!(end.text.contains(words), "no {words:?} in {}", end.text);
}

fn main() {
    if let Some(scene) = scene() {
        return (CASES.iter().find(|case| case.name == scene).expect("a known scene").scene)();
    }
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&filter)) {
        (case.check)(&play("", case.name, &[]));
        println!("test {} ... ok", case.name);
    }
}
