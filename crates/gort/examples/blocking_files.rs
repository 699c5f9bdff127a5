//! `blocking`: a hundred goroutines read files, which blocks their threads, while other goroutines
//! go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[gort::main]
fn main() -> std::io::Result<()> {
    let (stop, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let other = gort::go({
        let (stop, turns) = (stop.clone(), turns.clone());
        move || {
            while !stop.load(Relaxed) {
                turns.fetch_add(1, Relaxed);
                gort::yield_now();
            }
        }
    });
    let path = std::env::current_exe()?;
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let path = path.clone();
            gort::go(move || gort::blocking(|| std::fs::read(path)).map(|bytes| bytes.len()))
        })
        .collect();
    let mut bytes = 0;
    for reader in readers {
        bytes += reader.join().expect("no reader panics")?;
    }
    stop.store(true, Relaxed);
    other.join().expect("it only counts");
    println!("{bytes} bytes read by 100 goroutines; another one had {} turns meanwhile", turns.load(Relaxed));
    Ok(())
}
