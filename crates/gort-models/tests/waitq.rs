//! Channels (`chan/`, the whole folder): wait queues, direct hand-off, the commit of a `select`,
//! and the rendezvous in two steps.
//!
//! loom fails if a wait is never ended (a deadlock), or if a message is read without having been
//! handed over (`Message`). The tests check that each message arrives once, or stays with its
//! sender.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "modules of the library, of which this uses a part"
)]
#![allow(missing_docs, reason = "the channels are documented in the library")]

mod machine;
pub(crate) use machine::{sched, sys};

#[path = "../../gort/src/chan/mod.rs"]
pub mod chan;

use chan::{Receiver, Select, Sender, TryRecvError, bounded, never, unbounded};
use gort_models::model;
use loom::thread;
use std::time::Instant;

/// A message that may be read only by the thread that got it from its maker: loom checks that there
/// is an order.
struct Message(loom::cell::UnsafeCell<u32>);

impl Message {
    fn new(n: u32) -> Message {
        Message(loom::cell::UnsafeCell::new(n))
    }

    fn read(self) -> u32 {
        // SAFETY: we own the message; loom checks that no other thread writes meanwhile.
        self.0.with(|p| unsafe { *p })
    }
}

fn msg(n: u32) -> Message {
    Message::new(n)
}

/// A message expression that leaves (the caller's function), so there is no message.
fn no_message() -> Option<Message> {
    None
}

/// A deadline that may pass at any time.
fn soon() -> Instant {
    Instant::now()
}

fn pair(cap: usize) -> (Sender<Message>, Receiver<Message>) {
    bounded(cap)
}

fn go<T: 'static>(f: impl FnOnce() -> T + 'static) -> thread::JoinHandle<T> {
    thread::spawn(f)
}

#[test]
fn hand_off() {
    for cap in [0, 1] {
        model(3, move || {
            let (s, r) = pair(cap);
            let t = go(move || {
                assert!(s.send(msg(1)).is_ok());
                assert!(s.send(msg(2)).is_ok());
            });
            assert_eq!(r.recv().ok().map(Message::read), Some(1));
            assert_eq!(r.recv().ok().map(Message::read), Some(2));
            assert!(r.recv().is_err());
            t.join().unwrap();
        });
    }
}

#[test]
fn two_senders_two_receivers() {
    for cap in [0, 1] {
        model(2, move || {
            let (s, r) = pair(cap);
            let senders = [1, 2].map(|n| {
                let s = s.clone();
                go(move || assert!(s.send(msg(n)).is_ok()))
            });
            drop(s);
            let t = {
                let r = r.clone();
                go(move || r.recv().ok().unwrap().read())
            };
            let mine = r.recv().ok().unwrap().read();
            assert_eq!(mine + t.join().unwrap(), 3);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }
}

#[test]
fn close_wakes_both_sides() {
    model(3, || {
        let (s, r) = pair(0);
        let t = go(move || drop(s));
        assert!(r.recv().is_err());
        t.join().unwrap();
        let (s, r) = pair(0);
        let t = go(move || drop(r));
        assert_eq!(s.send(msg(1)).unwrap_err().into_inner().read(), 1);
        t.join().unwrap();
    });
}

/// The message is either received or stays with its sender, whichever of the two times out.
#[test]
fn a_deadline_loses_nothing() {
    for cap in [0, 1] {
        model(2, move || {
            let (s, r) = pair(cap);
            let t = go(move || r.recv_deadline(soon()).ok().map(Message::read));
            let sent = s.send_deadline(msg(7), soon());
            match (sent, t.join().unwrap()) {
                (Ok(()), Some(7)) => {}
                (Ok(()), None) if cap == 1 => {} // it lay in the channel when the receiver left
                (Err(error), None) => assert_eq!(error.into_inner().read(), 7),
                (sent, got) => panic!("sent {sent:?}, got {got:?}"),
            }
        });
    }
}

/// GO-CASES C2: a non-blocking receive sees the message or the close, never nothing.
#[test]
fn nonblocking_receive_and_close() {
    model(3, || {
        let (s, r) = pair(1);
        assert!(s.send(msg(1)).is_ok());
        let t = {
            let r = r.clone();
            go(move || assert!(!matches!(r.try_recv(), Err(TryRecvError::Empty))))
        };
        drop(s);
        let _ = r.recv();
        t.join().unwrap();
    });
}

/// GO-CASES C3: a select looks at all channels at once.
#[test]
fn default_is_not_taken_while_something_is_ready() {
    model(3, || {
        let (s1, r1) = pair(1);
        let (s2, r2) = pair(1);
        assert!(s1.send(msg(1)).is_ok());
        let t = {
            let (r1, r2) = (r1.clone(), r2.clone());
            go(move || {
                select_biased! {
                    recv(r1) -> _ => {}
                    recv(r2) -> _ => {}
                    default => panic!("one of them was ready all the time"),
                }
            })
        };
        assert!(s2.send(msg(2)).is_ok());
        let _ = r1.try_recv();
        t.join().unwrap();
    });
}

/// Of two senders one is chosen, and the other one stays; then it is its turn.
#[test]
fn select_takes_one_of_two() {
    model(2, || {
        let (s1, r1) = pair(0);
        let (s2, r2) = pair(0);
        let t1 = go(move || assert!(s1.send(msg(1)).is_ok()));
        let t2 = go(move || assert!(s2.send(msg(2)).is_ok()));
        let mut got = 0;
        let (mut r1, mut r2) = (&r1, &r2);
        let off = never();
        for _ in 0..2 {
            select_biased! {
                recv(r1) -> m => { got += m.ok().unwrap().read(); r1 = &off }
                recv(r2) -> m => { got += m.ok().unwrap().read(); r2 = &off }
            }
        }
        assert_eq!(got, 3);
        t1.join().unwrap();
        t2.join().unwrap();
    });
}

/// A selected send has no message yet when it meets its receiver.
#[test]
fn select_send_meets_receive() {
    model(3, || {
        let (s, r) = pair(0);
        let (_keep, nothing) = unbounded::<()>();
        let t = go(move || r.recv().ok().unwrap().read());
        select_biased! {
            recv(nothing) -> _ => unreachable!(),
            send(s, msg(5)) -> res => assert!(res.is_ok()),
        }
        assert_eq!(t.join().unwrap(), 5);
    });
}

/// Two selects meet: neither side has the message, nor a place for it.
#[test]
fn select_send_meets_select_receive() {
    model(3, || {
        let (s, r) = pair(0);
        let t = go(move || {
            let off = never::<()>();
            select_biased! {
                recv(off) -> _ => unreachable!(),
                recv(r) -> m => m.ok().unwrap().read(),
            }
        });
        let off = never::<()>();
        select_biased! {
            recv(off) -> _ => unreachable!(),
            send(s, msg(5)) -> res => assert!(res.is_ok()),
        }
        assert_eq!(t.join().unwrap(), 5);
    });
}

/// A selected receive holds the sender until the receive is completed.
#[test]
fn select_receive_meets_send() {
    model(3, || {
        let (s, r) = pair(0);
        let t = go(move || assert!(s.send(msg(5)).is_ok()));
        let mut select = Select::new_biased();
        select.recv(&r);
        let oper = select.select();
        assert_eq!(oper.recv(&r).ok().unwrap().read(), 5);
        t.join().unwrap();
    });
}

/// The message expression leaves: the receiver goes back to waiting, and gets the next message.
#[test]
fn an_abandoned_send_lets_the_receiver_wait_on() {
    fn leave(s: &Sender<Message>) -> Option<()> {
        let off = never::<()>();
        select_biased! {
            recv(off) -> _ => unreachable!(),
            send(s, no_message()?) -> _ => unreachable!(),
        }
    }
    for selecting in [false, true] {
        model(2, move || {
            let (s, r) = pair(0);
            let t = go(move || {
                if !selecting {
                    return r.recv().ok().unwrap().read();
                }
                let off = never::<()>();
                select_biased! {
                    recv(off) -> _ => unreachable!(),
                    recv(r) -> m => m.ok().unwrap().read(),
                }
            });
            assert!(leave(&s).is_none());
            assert!(s.send(msg(9)).is_ok());
            assert_eq!(t.join().unwrap(), 9);
        });
    }
}

/// Places and messages that were promised and given back wake those that wait for them.
#[test]
fn an_abandoned_promise_is_for_the_next() {
    model(2, || {
        let (s, r) = pair(1);
        let t = {
            let s = s.clone();
            go(move || assert!(s.send(msg(1)).is_ok()))
        };
        let off = never::<()>();
        let leave = || {
            select_biased! {
                recv(off) -> _ => unreachable!(),
                send(s, no_message()?) -> _ => unreachable!(),
                default => None::<()>,
            }
        };
        assert!(leave().is_none());
        assert_eq!(r.recv().ok().unwrap().read(), 1);
        t.join().unwrap();
    });
}

/// A select with a deadline against a sender with one: both agree on what happened.
#[test]
fn select_and_deadlines() {
    model(2, || {
        let (s, r) = pair(0);
        let t = go(move || s.send(msg(3)).is_ok());
        let mut select = Select::new_biased();
        select.recv(&r);
        let got = select.select_deadline(soon()).ok().map(|oper| oper.recv(&r).ok().unwrap().read());
        drop(select);
        drop(r);
        assert_eq!(t.join().unwrap(), got == Some(3));
    });
}

/// GO-CASES C4: two goroutines that both send and receive on one channel find each other, not
/// themselves.
#[test]
fn self_select() {
    model(2, || {
        let (s, r) = pair(0);
        let other = |mine: u32, s: Sender<Message>, r: Receiver<Message>| {
            select_biased! {
                send(s, msg(mine)) -> res => { assert!(res.is_ok()); 0 }
                recv(r) -> m => {
                    let got = m.ok().unwrap().read();
                    assert_ne!(got, mine);
                    got
                }
            }
        };
        let t = {
            let (s, r) = (s.clone(), r.clone());
            go(move || other(1, s, r))
        };
        let got = other(2, s, r) + t.join().unwrap();
        assert!(got == 1 || got == 2);
    });
}

/// GO-CASES C9: a select that has left two arms on one channel does not lose the next one in the
/// queue.
#[test]
fn duplicate_arms_leave_the_queue_whole() {
    model(2, || {
        let (s, r) = pair(0);
        let (done, end) = pair(0);
        let selecting = {
            let r = r.clone();
            go(move || {
                select_biased! {
                    recv(r) -> m => m.is_ok(),
                    recv(r) -> m => m.is_ok(),
                    recv(end) -> _ => false,
                }
            })
        };
        let receiving = go(move || r.recv().is_ok());
        drop(done);
        assert!(s.send(msg(1)).is_ok());
        drop(s);
        let got = [selecting.join().unwrap(), receiving.join().unwrap()];
        assert_eq!(got.into_iter().filter(|&g| g).count(), 1);
    });
}

/// A receiver that waits for readiness hears of a message, and of a sender that parks.
#[test]
fn ready_hears_of_it() {
    for cap in [0, 1] {
        model(2, move || {
            let (s, r) = pair(cap);
            let t = go(move || assert!(s.send(msg(1)).is_ok()));
            let mut select = Select::new_biased();
            select.recv(&r);
            assert_eq!(select.ready(), 0);
            assert_eq!(r.recv().ok().unwrap().read(), 1);
            t.join().unwrap();
        });
    }
}

/// A sender that waits for readiness hears of a receiver.
#[test]
fn ready_to_send_hears_of_a_receiver() {
    model(2, || {
        let (s, r) = pair(0);
        let t = go(move || r.recv().ok().unwrap().read());
        let mut select = Select::new_biased();
        select.send(&s);
        assert_eq!(select.ready(), 0);
        assert!(s.send(msg(4)).is_ok());
        assert_eq!(t.join().unwrap(), 4);
    });
}
