//! The first program: goroutines, a channel, a join.

fn main() {
    gort::run(|| {
        let (tx, rx) = gort::chan::bounded(0);
        let h = gort::go(move || {
            tx.send(42).unwrap();
            "done"
        });
        assert_eq!(rx.recv(), Ok(42));
        assert_eq!(h.join().unwrap(), "done");
        println!("42, done");
    })
}
