//! `select!` over two sources and a deadline.

use gort::chan::{after, bounded, tick};
use std::time::Duration;

#[gort::main]
fn main() {
    let (tx, rx) = bounded(0);
    gort::go(move || {
        for n in 1..=3 {
            gort::sleep(Duration::from_millis(20));
            if tx.send(n).is_err() {
                return;
            }
        }
        gort::sleep(Duration::from_secs(3600)); // nothing more is sent
    });
    let (ticks, deadline) = (tick(Duration::from_millis(15)), after(Duration::from_secs(2)));
    let (mut numbers, mut ticked) = (Vec::new(), 0);
    loop {
        gort::select! {
            recv(rx) -> n => numbers.push(n.expect("the sender is there")),
            recv(ticks) -> _ => ticked += 1,
            recv(deadline) -> _ => break,
        }
    }
    assert_eq!(numbers, [1, 2, 3]);
    println!("{numbers:?} and {ticked} ticks before the deadline");
}
