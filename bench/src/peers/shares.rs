//! Parties that are always runnable, side by side: how much work each does. See `crate::shares`.

use super::on_gort::in_runtime;
use gort::chan::{Receiver, Sender, bounded};
use gort::sync::Mutex;
use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long all parties run before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(1);

/// A counter of units of work.
#[derive(Clone, Default)]
struct Work {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Work {
    /// Does one unit; returns false when the measurement is over.
    fn unit(&self) -> bool {
        black_box((0..1000u64).fold(0, |a, i| black_box(a ^ i)));
        self.done.fetch_add(1, Relaxed);
        !self.stop.load(Relaxed)
    }
}

/// The work that each of `parties` (names, separated by commas) does in this many milliseconds.
pub(crate) fn on_gort(parties: &str, millis: u64, procs: usize) -> Option<Vec<f64>> {
    let parties: Vec<&str> = parties.split(',').collect();
    in_runtime(procs, false, move || {
        let all: Vec<Work> = parties.iter().map(|_| Work::default()).collect();
        for (name, work) in parties.iter().zip(&all) {
            start(name, work)?;
        }
        gort::sleep(WARM_UP);
        let done = || all.iter().map(|work| work.done.load(Relaxed)).collect::<Vec<_>>();
        let before = done();
        gort::sleep(Duration::from_millis(millis));
        Some(done().iter().zip(before).map(|(after, before)| (after - before) as f64).collect())
    })
}

/// Starts a party. `None`: there is no party of that name.
fn start(name: &str, work: &Work) -> Option<()> {
    let work = work.clone();
    match name {
        "hog" => drop(gort::go(move || while work.unit() {})),
        "yielder" => drop(gort::go(move || {
            while work.unit() {
                gort::yield_now();
            }
        })),
        "pair" => ring(2, 0, &work),
        "pair-buffered" => ring(2, 1, &work),
        "ring" => ring(8, 1, &work),
        "spawner" => drop(gort::go(move || {
            loop {
                let child = work.clone();
                if !gort::go(move || child.unit()).join().expect("no panic") {
                    return;
                }
            }
        })),
        "mutex" => {
            let mutex = Arc::new(Mutex::new(()));
            for _ in 0..2 {
                let (mutex, work) = (mutex.clone(), work.clone());
                drop(gort::go(move || {
                    while {
                        let _guard = mutex.lock().expect("no panic");
                        work.unit()
                    } {}
                }));
            }
        }
        "socket" => {
            let (mut a, b) = gort::net::UnixStream::pair().expect("sockets");
            a.write_all(&[0]).expect("room");
            for mut end in [a, b] {
                let work = work.clone();
                drop(gort::go(move || {
                    let mut byte = [0];
                    while end.read_exact(&mut byte).is_ok() && work.unit() && end.write_all(&byte).is_ok() {}
                }));
            }
        }
        _ => return None,
    }
    Some(())
}

/// Starts `n` goroutines that hand a token round.
fn ring(n: usize, capacity: usize, work: &Work) {
    let links: Vec<(Sender<()>, Receiver<()>)> = (0..n).map(|_| bounded(capacity)).collect();
    for i in 0..n {
        let (from, to) = (links[i].1.clone(), links[(i + 1) % n].0.clone());
        let (work, begins) = (work.clone(), i == 0);
        drop(gort::go(move || {
            if begins && to.send(()).is_err() {
                return;
            }
            while from.recv().is_ok() && work.unit() && to.send(()).is_ok() {}
        }));
    }
}
