use std::time::*;
fn main() {
    let spin: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let burn: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    gort::run(move || {
        let (tx, rx) = gort::chan::bounded::<()>(0);
        for _ in 0..spin { let rx = rx.clone(); gort::go(move || loop { let t = Instant::now(); while t.elapsed() < Duration::from_micros(burn) {} if let Err(gort::chan::TryRecvError::Disconnected) = rx.try_recv() { break } }); }
        let hs: Vec<_> = (0..20).map(|i| gort::go(move || {
            let mut worst = Duration::ZERO; let mut sum = Duration::ZERO;
            for k in 0..100 { let t = Instant::now(); let d = Duration::from_micros(900 + i * 37 + k); gort::sleep(d); let late = t.elapsed() - d; worst = worst.max(late); sum += late; }
            (worst, sum / 100)
        })).collect();
        let t = Instant::now();
        let r: Vec<_> = hs.into_iter().map(|h| h.join().unwrap()).collect();
        println!("{:?} worst {:?} mean {:?}", t.elapsed(), r.iter().map(|x| x.0).max().unwrap(), r.iter().map(|x| x.1).sum::<Duration>() / 20);
        drop(tx);
    });
    println!("{:?}", gort::metrics::snapshot());
}
