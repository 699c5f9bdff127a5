//! Threads and goroutines together: the main thread stays a plain thread (for a GUI's loop, for
//! example) and uses channels to talk to goroutines.

use gort::chan::bounded;

fn main() -> Result<(), gort::StartError> {
    gort::start()?;
    let (questions_tx, questions) = bounded::<u64>(0);
    let (answers_tx, answers) = bounded(0);
    for _ in 0..4 {
        let (questions, answers) = (questions.clone(), answers_tx.clone());
        gort::go(move || questions.iter().try_for_each(|n| answers.send((n, n * n))));
    }
    let asker =
        std::thread::spawn(move || (0..100).for_each(|n| questions_tx.send(n).expect("receivers exist")));
    let mut sum = 0;
    for _ in 0..100 {
        let (n, square) = answers.recv().expect("every question is answered");
        assert_eq!(square, n * n);
        sum += square;
    }
    asker.join().expect("it only asks");
    assert_eq!(sum, 328_350);
    println!("100 questions of a thread, answered by 4 goroutines, received by the main thread: {sum}");
    Ok(())
}
