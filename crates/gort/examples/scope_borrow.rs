//! Goroutines that borrow from the caller: a parallel sum without an `Arc`.

#[gort::main]
fn main() {
    let numbers: Vec<u64> = (1..=1_000_000).collect();
    let sum: u64 = gort::scope(|s| {
        let parts: Vec<_> = numbers.chunks(100_000).map(|part| s.go(|| part.iter().sum::<u64>())).collect();
        parts.into_iter().map(|part| part.join().expect("no part panics")).sum()
    });
    assert_eq!(sum, 500_000_500_000);
    println!("the sum of {} numbers, by ten goroutines, is {sum}", numbers.len());
}
