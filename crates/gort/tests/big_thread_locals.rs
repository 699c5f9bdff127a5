//! Thread-locals that are larger than the smallest stack, and larger than a default stack. Their
//! size is added to the stack, whatever size is asked for.

use std::cell::RefCell;
use std::sync::Arc;

/// Also larger than the stacks of the runtime's own threads, which have them too.
const BYTES: usize = 400 << 10;

thread_local!(static BIG: RefCell<[u8; BYTES]> = const { RefCell::new([1; BYTES]) });

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 16]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[depth % 16] - depth + 1 }
}

/// Every goroutine has all thread-locals and as much stack as it asked for, with the smallest stack
/// and with larger ones. Neighbours do not see each other's values.
#[test]
fn come_on_top_of_any_stack() {
    gort::run(|| {
        let (hold, held) = gort::chan::bounded::<()>(0);
        let parked = Arc::new(gort::sync::WaitGroup::new());
        parked.add(60);
        let all: Vec<_> = (0..60_usize)
            .map(|i| {
                let (held, parked) = (held.clone(), parked.clone());
                let size = [1, 16 << 10, 64 << 10, 256 << 10][i % 4];
                let body = move || {
                    let own = i as u8 + 2;
                    BIG.with_borrow_mut(|big| {
                        assert!(big.iter().all(|&b| b == 1), "the initial value");
                        big.fill(own);
                    });
                    // A frame of `recurse` takes less than 512 bytes.
                    let frames = size.max(16 << 10) * 3 / 4 / 512;
                    assert_eq!(recurse(frames), frames);
                    parked.done();
                    assert!(held.recv().is_err());
                    BIG.with_borrow(|big| {
                        assert!(big.iter().all(|&b| b == own), "a neighbour's was written")
                    });
                };
                gort::Builder::new().stack_size(size).spawn(body).unwrap()
            })
            .collect();
        parked.wait();
        drop(hold);
        all.into_iter().for_each(|h| h.join().unwrap());
        assert!(gort::metrics::snapshot().block_bytes > BYTES);
    });
}
