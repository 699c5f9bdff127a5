//! crossbeam-channel's own tests over `gort::chan`. The including file has a `mod shim`, which
//! defines what a thread is.

#![allow(
    clippy::all,
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the files stay as close to their originals as possible"
)]

/// A random number generator with the two calls that the tests make.
pub mod random {
    use std::ops::Range;
    use std::time::{SystemTime, UNIX_EPOCH};

    pub struct ThreadRng(u64);

    /// Prints its seed for the log of a failed test.
    pub fn thread_rng() -> ThreadRng {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 | 1);
        println!("seed {seed}");
        ThreadRng(seed)
    }

    impl ThreadRng {
        pub fn gen_range(&mut self, range: Range<usize>) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            range.start + (self.0 >> 11) as usize % (range.end - range.start)
        }
    }
}

/// A helper for the tests of `after` and `tick`.
pub mod moments {
    use std::fmt::Debug;
    use std::time::Instant;

    /// Whether there was nothing yet, as expected. After a stall the message may be there: then the
    /// test cannot go on, but the message must not have been due before `earliest`.
    pub fn not_yet<E: Debug + PartialEq>(got: Result<Instant, E>, nothing: E, earliest: Instant) -> bool {
        match got {
            Ok(due) => {
                assert!(earliest <= due && due <= Instant::now());
                false
            }
            Err(e) => {
                assert_eq!(e, nothing);
                true
            }
        }
    }
}

mod after;
mod array;
mod golang;
mod iter;
mod list;
mod mpsc;
mod never;
mod ready;
mod same_channel;
mod select;
mod select_macro;
mod tick;
mod zero;
