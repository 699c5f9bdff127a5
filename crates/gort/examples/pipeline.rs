//! Stages joined by channels, and a context that stops them all.

use gort::chan::{Receiver, bounded};
use gort::context::Context;

/// Counts from 1 until the receiver is gone or the context is done.
fn numbers(ctx: &Context) -> Receiver<u64> {
    let (tx, rx) = bounded(0);
    let ctx = ctx.clone();
    gort::go(move || {
        for n in 1.. {
            gort::select! {
                send(tx, n) -> sent => if sent.is_err() { return },
                recv(ctx.done()) -> _ => return,
            }
        }
    });
    rx
}

/// Squares the numbers received, with `workers` goroutines.
fn squares(numbers: &Receiver<u64>, workers: usize) -> Receiver<u64> {
    let (tx, rx) = bounded(16);
    for _ in 0..workers {
        let (numbers, tx) = (numbers.clone(), tx.clone());
        gort::go(move || numbers.iter().try_for_each(|n| tx.send(n * n)));
    }
    rx
}

#[gort::main]
fn main() {
    let (ctx, cancel) = Context::background().with_cancel();
    let mut first: Vec<u64> = squares(&numbers(&ctx), 4).iter().take(10).collect();
    cancel.cancel();
    first.sort_unstable();
    // The four workers may overtake one another, so a few of the first ten numbers may be missing.
    // All are squares.
    assert!(first.iter().all(|n| n.isqrt().pow(2) == *n));
    println!("squares from a pipeline: {first:?}; then cancelled: {}", ctx.err().expect("cancelled"));
}
