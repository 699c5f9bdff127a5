//! `gort::signal`: channels of signals, and the context that ends by SIGTERM. Signals belong to the
//! process, so each scene has one of its own.

mod child;

use child::{Outcome, play, scene};
use gort::chan::TryRecvError;
use gort::signal::{self, Received, SIGINT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2, Signal};
use std::io::ErrorKind;
use std::time::Duration;

/// Sends a signal to this thread of the process, which has taken it when this returns. (One for the
/// process may reach another thread later, when the channel is gone.)
fn send(signal: Signal) {
    // SAFETY: plain system calls.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), signal.as_raw()) };
    assert_eq!(sent, 0);
}

/// For a scene that a signal should have ended: its child ends with success, and the test fails.
fn stay_alive() {
    gort::sleep(Duration::from_secs(20));
}

fn is_well(end: Outcome) {
    assert_eq!(end.code, Some(0), "{:?} {}", end.signal, end.text);
}

#[track_caller]
fn was_ended_by(end: Outcome, signal: Signal) {
    assert_eq!(end.signal, Some(signal.as_raw()), "{:?} {}", end.code, end.text);
}

/// However many signals of a kind come, the first of another is not lost; and no kind is queued
/// twice.
#[test]
fn the_first_of_each_kind_is_not_lost() {
    if scene().is_none() {
        return is_well(play("the_first_of_each_kind_is_not_lost", "scene", &[]));
    }
    gort::run(|| {
        let signals = signal::channel(&[SIGUSR1, SIGUSR2]).unwrap();
        for _ in 0..50 {
            for _ in 0..20 {
                send(SIGUSR1);
                assert!(signals.len() <= 2);
            }
            send(SIGUSR2);
            let mut seen = Vec::new();
            while !(seen.contains(&SIGUSR1) && seen.contains(&SIGUSR2)) {
                seen.push(signals.recv().unwrap());
            }
        }
    });
}

/// A signal that comes while one of its kind is received is told of again: the receiver that has
/// handled one looks at what has happened before the next.
#[test]
fn a_signal_after_a_receive_is_told_of() {
    if scene().is_none() {
        return is_well(play("a_signal_after_a_receive_is_told_of", "scene", &[]));
    }
    gort::run(|| {
        let signals = signal::channel(&[SIGUSR1]).unwrap();
        for _ in 0..500 {
            send(SIGUSR1);
            assert_eq!(signals.recv(), Ok(SIGUSR1));
        }
    });
}

/// Each channel gets the signals that it was made for, in `select!` and on plain threads too.
#[test]
fn all_channels_get_it() {
    if scene().is_none() {
        return is_well(play("all_channels_get_it", "scene", &[]));
    }
    gort::run(|| {
        let first = signal::channel(&[SIGUSR1, SIGUSR2]).unwrap();
        let second = signal::channel(&[SIGUSR1]).unwrap();
        let others = signal::channel(&[SIGPIPE, SIGPIPE]).unwrap();
        assert_eq!(format!("{first:?}"), "{SIGUSR1, SIGUSR2}");
        send(SIGUSR1);
        gort::select! {
            recv(first) -> signal => assert_eq!(signal, Ok(SIGUSR1)),
            recv(others) -> _ => unreachable!(),
        }
        gort::blocking(|| {
            std::thread::scope(|s| {
                s.spawn(|| assert_eq!(second.recv(), Ok(SIGUSR1)));
            });
        });
        assert_eq!(others.try_recv(), Err(TryRecvError::Empty));
        send(SIGPIPE);
        assert_eq!(others.recv(), Ok(SIGPIPE));
    });
}

/// It works on plain threads, without a runtime.
#[test]
fn without_a_runtime() {
    if scene().is_none() {
        return is_well(play("without_a_runtime", "scene", &[]));
    }
    let signals = signal::channel(&[SIGTERM]).unwrap();
    send(SIGTERM);
    assert_eq!(signals.recv(), Ok(SIGTERM));
}

/// When the last channel for a signal is gone, it has its default action again; while another is
/// there, it is caught.
#[test]
fn the_default_action_comes_back() {
    let Some(scene) = scene() else {
        is_well(play("the_default_action_comes_back", "one left", &[]));
        return was_ended_by(play("the_default_action_comes_back", "none left", &[]), SIGUSR1);
    };
    gort::run(|| {
        let first = signal::channel(&[SIGUSR1]).unwrap();
        let second = signal::channel(&[SIGUSR1, SIGUSR2]).unwrap();
        drop(first);
        send(SIGUSR1);
        assert_eq!(second.recv(), Ok(SIGUSR1));
        if scene == "none left" {
            drop(second);
            send(SIGUSR1);
            stay_alive();
        }
    });
}

/// What was ignored before it was caught is ignored again afterwards. Rust's programs ignore
/// SIGPIPE.
#[test]
fn what_was_ignored_is_ignored_again() {
    if scene().is_none() {
        return is_well(play("what_was_ignored_is_ignored_again", "scene", &[]));
    }
    gort::run(|| {
        assert!(SIGPIPE.is_ignored() && !SIGUSR1.is_ignored());
        let signals = signal::channel(&[SIGPIPE, SIGUSR1]).unwrap();
        assert!(SIGPIPE.is_ignored() && !SIGUSR1.is_ignored());
        send(SIGPIPE);
        assert_eq!(signals.recv(), Ok(SIGPIPE));
        drop(signals);
        send(SIGPIPE);
    });
}

/// Either signal ends the context, and is its cause. All calls give the same one, later ones too.
#[test]
fn shutdown_is_a_context() {
    let test = "shutdown_is_a_context";
    let Some(scene) = scene() else {
        is_well(play(test, "SIGTERM", &[]));
        return is_well(play(test, "SIGINT", &[("GOMAXPROCS", "1")]));
    };
    let signal = if scene == "SIGTERM" { SIGTERM } else { SIGINT };
    gort::run(move || {
        let ctx = signal::shutdown().unwrap();
        let same = signal::shutdown().unwrap();
        assert!(ctx.err().is_none());
        let part = gort::go(move || {
            let (below, _cancel) = same.with_cancel();
            below.done().recv().unwrap_err();
            below.cause().unwrap().to_string()
        });
        send(signal);
        ctx.done().recv().unwrap_err();
        assert_eq!(ctx.cause().unwrap().downcast_ref::<Received>(), Some(&Received(signal)));
        assert_eq!(part.join().unwrap(), format!("received {signal}"));
        assert!(signal::shutdown().unwrap().err().is_some());
    });
}

/// The second signal, of either kind, ends the process, also if a channel catches it and if all Ps
/// are busy.
#[test]
fn a_second_signal_ends_the_process() {
    if scene().is_none() {
        let end = play("a_second_signal_ends_the_process", "scene", &[("GOMAXPROCS", "1")]);
        return was_ended_by(end, SIGINT);
    }
    // A shell that starts the tests in the background has SIGINT ignored.
    // SAFETY: plain system call, before anything catches the signal.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    gort::run(|| {
        let ctx = signal::shutdown().unwrap();
        let both = signal::channel(&[SIGINT, SIGTERM]).unwrap();
        send(SIGTERM);
        ctx.done().recv().unwrap_err();
        assert_eq!(both.recv(), Ok(SIGTERM));
        std::thread::spawn(|| send(SIGINT));
        let _alone = gort::no_preempt();
        loop {
            std::hint::spin_loop();
        }
    });
}

/// Other signals are not affected by `shutdown`.
#[test]
fn shutdown_catches_two_signals() {
    if scene().is_none() {
        return was_ended_by(play("shutdown_catches_two_signals", "scene", &[]), SIGUSR1);
    }
    gort::run(|| {
        let _ctx = signal::shutdown().unwrap();
        send(SIGUSR1);
        stay_alive();
    });
}

/// In a forked child the signals have their default action, and the parent does not hear of them.
#[test]
fn a_forked_child_is_ended() {
    if scene().is_none() {
        return is_well(play("a_forked_child_is_ended", "scene", &[]));
    }
    gort::run(|| {
        let signals = signal::channel(&[SIGTERM]).unwrap();
        let mut status = 0;
        // SAFETY: the child only waits; the parent ends it and takes its status.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                loop {
                    libc::pause();
                }
            }
            assert_eq!(libc::kill(child, libc::SIGTERM), 0);
            gort::blocking(|| assert_eq!(libc::waitpid(child, &mut status, 0), child));
        }
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTERM);
        assert_eq!(signals.try_recv(), Err(TryRecvError::Empty));
    });
}

/// Signals that cannot be caught are refused with a sentence; so is an empty list.
#[test]
fn what_cannot_be_caught() {
    for (number, words) in [
        (libc::SIGURG, "preempted"),
        (libc::SIGSEGV, "fault"),
        (libc::SIGBUS, "fault"),
        (libc::SIGABRT, "fault"),
        (libc::SIGKILL, "cannot be caught"),
        (libc::SIGSTOP, "cannot be caught"),
        (32, "32 is no signal"),
        (0, "0 is no signal"),
        (-1, "-1 is no signal"),
    ] {
        let e = Signal::try_from(number).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidInput);
        assert!(e.to_string().contains(words), "{e}");
    }
    assert_eq!(signal::channel(&[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(Signal::try_from(libc::SIGWINCH).unwrap(), signal::SIGWINCH);
}
