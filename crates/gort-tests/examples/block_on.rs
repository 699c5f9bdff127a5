//! A future in a goroutine. `block_on` parks the goroutine, not the thread, and nests to any depth.

use gort::future::block_on;

#[gort::main]
fn main() {
    let (tx, rx) = async_channel::bounded(1);
    let sender = gort::go(move || {
        for n in 0..5 {
            block_on(tx.send(n)).expect("the receiver is there");
        }
    });
    let sum = block_on(async {
        let mut sum = 0;
        while let Ok(n) = rx.recv().await {
            sum += block_on(async { n * 10 });
        }
        sum
    });
    sender.join().expect("all were taken");
    assert_eq!(sum, 100);
    println!("a channel of another crate, awaited by a goroutine: {sum}");
}
