//! The trace shows how Ps change hands. Each scene has a process of its own.

mod child;

use child::{play, scene};
use gort::trace::{self, Event, EventKind::*, TraceIsOn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

fn ends_well(test: &str) {
    let end = play(test, "scene", &[("GOMAXPROCS", "1")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// All events of the goroutine that had the first event of `kind`.
fn story(events: &[Event], kind: trace::EventKind) -> Vec<Event> {
    let first = events.iter().find(|e| e.kind == kind).unwrap_or_else(|| panic!("no {kind:?}: {events:?}"));
    events.iter().filter(|e| e.goroutine == first.goroutine).copied().collect()
}

/// A call that blocks while another goroutine is runnable: its P is taken and goes to another
/// thread. The goroutine continues on its own thread.
#[test]
fn a_long_call_loses_its_p() {
    if scene().is_some() {
        return gort::run(|| {
            // Only the call should be traced, however slow the machine.
            let _quiet = gort::no_preempt();
            trace::start(10_000).unwrap();
            assert_eq!(trace::start(1), Err(TraceIsOn));
            let ran = Arc::new(AtomicBool::new(false));
            let other = gort::go({
                let ran = ran.clone();
                move || ran.store(true, SeqCst)
            });
            gort::blocking(|| {
                while !ran.load(SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            other.join().unwrap();
            let seen = trace::stop();
            assert_eq!(seen.lost, 0);
            let kinds: Vec<_> = story(&seen.events, SyscallBegin).iter().map(|e| e.kind).collect();
            assert_eq!(kinds, [SyscallBegin, SyscallEndBlocked, Resume]);
            let on: Vec<_> = story(&seen.events, SyscallBegin).iter().map(|e| e.m).collect();
            assert!(on.iter().all(|m| m.is_some() && *m == on[0]), "it came back on another thread: {on:?}");
            let stolen = seen.events.iter().position(|e| e.kind == ProcSteal).expect("the P was taken");
            assert_eq!((seen.events[stolen].m, seen.events[stolen].p), (on[0], Some(0)));
            assert!(seen.events[stolen..].iter().any(|e| e.kind == ProcHandOff && e.p == Some(0)));
            assert!(seen.events.windows(2).all(|pair| pair[0].time <= pair[1].time));
        });
    }
    ends_well("a_long_call_loses_its_p");
}

/// A short call keeps its P: two events, and no others.
#[test]
fn a_short_call_keeps_its_p() {
    if scene().is_some() {
        return gort::run(|| {
            // Sysmon may interfere once in a while.
            for _ in 0..100 {
                trace::start(100).unwrap();
                gort::blocking(|| ());
                let seen = trace::stop().events;
                if seen.iter().map(|e| e.kind).eq([SyscallBegin, SyscallEnd]) {
                    assert_eq!((seen[0].p, seen[0].m), (Some(0), seen[1].m));
                    assert_eq!(seen[0].p, seen[1].p);
                    return;
                }
            }
            panic!("never only the two events");
        });
    }
    ends_well("a_short_call_keeps_its_p");
}

/// Two CPU-bound goroutines on one P: each is preempted with its thread, and continues there.
#[test]
fn a_preempted_goroutine_continues_on_its_thread() {
    if scene().is_some() {
        return gort::run(|| {
            trace::start(10_000).unwrap();
            // On a busy machine the time may end before a preemption; then it repeats.
            while gort::metrics::snapshot().preemptions == 0 {
                let until = Instant::now() + Duration::from_millis(100);
                let hogs = [(); 2].map(|()| gort::go(move || while Instant::now() < until {}));
                hogs.into_iter().for_each(|h| h.join().unwrap());
            }
            let seen = trace::stop().events;
            let story = story(&seen, Preempt);
            assert!(story.len() >= 2, "{story:?}");
            for pair in story.chunks_exact(2) {
                assert_eq!((pair[0].kind, pair[1].kind), (Preempt, Resume));
                assert_eq!(pair[0].m, pair[1].m);
                assert_eq!(pair[1].p, Some(0));
            }
        });
    }
    ends_well("a_preempted_goroutine_continues_on_its_thread");
}

/// Events for which there is no room are counted. Without a trace there are no events.
#[test]
fn what_does_not_fit_is_counted() {
    if scene().is_some() {
        return gort::run(|| {
            assert!(trace::stop().events.is_empty());
            trace::start(3).unwrap();
            (0..10).for_each(|_| gort::blocking(|| ()));
            gort::set_gomaxprocs(2);
            gort::debug::goroutines_at_once();
            let seen = trace::stop();
            assert_eq!(seen.events.len(), 3);
            assert!(seen.lost >= 17, "{seen:?}");
            gort::blocking(|| ());
            assert!(trace::stop().events.is_empty());
        });
    }
    ends_well("what_does_not_fit_is_counted");
}
