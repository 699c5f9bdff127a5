//! Guards of `select!`: an arm whose guard is false is left out. (`sched_fatal.rs` has the wait for
//! ever where all are.)

use gort::chan::{Receiver, after, bounded, never, unbounded};
use gort::{select, select_biased};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Of two arms that are ready, the one with a false guard is never taken, whatever the other
/// operations are.
#[test]
fn a_false_guard_leaves_the_arm_out() {
    gort::run(|| {
        let (s, r) = unbounded();
        let (full, rest) = bounded(100);
        for i in 0..100 {
            s.send(i).unwrap();
            let taken = select! {
                recv(r) -> _, if false => 1,
                send(full, i) -> result, if true => { result.unwrap(); 2 }
            };
            assert_eq!(taken, 2);
            let taken = select! {
                recv(r) -> message, if i >= 0 => message.unwrap() - i,
                recv(rest) -> _, if i < 0 => 1,
                recv(never::<i32>()) -> _ => 2,
            };
            assert_eq!(taken, 0);
        }
        assert_eq!(rest.len(), 100);
    });
}

/// A lone arm with a guard: the default, with or without a time, is taken in its place.
#[test]
fn the_default_is_taken_where_all_are_left_out() {
    gort::run(|| {
        let (s, r) = bounded(1);
        s.send(7).unwrap();
        for on in [false, true] {
            let taken = select! {
                recv(r) -> message, if on => message.unwrap(),
                default => 0,
            };
            assert_eq!(taken, if on { 7 } else { 0 });
        }
        let began = Instant::now();
        let pause = Duration::from_millis(2);
        select! {
            send(s, 1) -> _, if false => unreachable!(),
            recv(r) -> _, if false => unreachable!(),
            default(pause) => assert!(began.elapsed() >= pause),
        }
        assert!(r.is_empty());
    });
}

/// A closed channel and a timer that is due are left out too.
#[test]
fn what_is_always_ready_is_left_out() {
    gort::run(|| {
        let (s, closed) = bounded::<()>(0);
        drop(s);
        let due = after(Duration::ZERO);
        let (s, r) = bounded(0);
        gort::go(move || {
            gort::sleep(Duration::from_millis(2));
            s.send(1).unwrap();
        });
        select! {
            recv(closed) -> _, if false => unreachable!(),
            recv(due) -> _, if false => unreachable!(),
            recv(r) -> message => assert_eq!(message, Ok(1)),
        }
    });
}

/// Channels and guards are evaluated once each and in order, also where the guard is false; bodies
/// and messages only if their arm is chosen.
#[test]
fn the_order_of_evaluation() {
    gort::run(|| {
        let log = RefCell::new(Vec::new());
        let note = |word: &'static str| log.borrow_mut().push(word);
        let (s, r) = bounded(1);
        let channel = |word| -> &Receiver<i32> {
            note(word);
            &r
        };
        select_biased! {
            recv(channel("first")) -> _, if { note("off"); false } => note("no"),
            recv(channel("second")) -> _ => note("no"),
            send({ note("third"); &s }, { note("message"); 1 }) -> _, if { note("on"); true } => note("body"),
        }
        assert_eq!(*log.borrow(), ["first", "off", "second", "third", "on", "message", "body"]);
    });
}

/// A guard may use what the bodies change, and a loop with guards ends.
#[test]
fn guards_of_a_loop() {
    gort::run(|| {
        let (a, from_a) = bounded(0);
        let (b, from_b) = bounded(0);
        gort::go(move || (0..50).try_for_each(|n| a.send(n)));
        gort::go(move || (50..100).try_for_each(|n| b.send(n)));
        let (mut open_a, mut open_b, mut sum) = (true, true, 0);
        while open_a || open_b {
            select! {
                recv(from_a) -> n, if open_a => match n {
                    Ok(n) => sum += n,
                    Err(_) => open_a = false,
                },
                recv(from_b) -> n, if open_b => match n {
                    Ok(n) => sum += n,
                    Err(_) => open_b = false,
                },
            }
        }
        assert_eq!(sum, 4950);
    });
}
