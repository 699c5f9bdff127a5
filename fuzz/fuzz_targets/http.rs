//! HTTP requests: they are the same however the bytes arrive, and keep to the limits.
//!
//! The module is the hub's own file, over a stream that is a slice of bytes.
#![no_main]

use http::{Limits, Reader, Refused, Request};
use libfuzzer_sys::fuzz_target;
use std::time::{Duration, Instant};

#[path = "../../crates/gort-hub/src/http.rs"]
#[allow(dead_code, reason = "the target uses what it needs")]
mod http;

/// The hub's names for its runtime, as far as `http` uses them.
mod rt {
    pub(crate) mod net {
        use std::cell::RefCell;
        use std::io::{self, Read, Write};

        /// A peer that has sent these bytes and then closed its end. What it is sent is dropped.
        #[derive(Debug)]
        pub(crate) struct TcpStream {
            left: RefCell<Vec<u8>>,
            piece: usize,
        }

        impl TcpStream {
            /// The bytes arrive in pieces of `piece` bytes.
            pub(crate) fn new(bytes: &[u8], piece: usize) -> TcpStream {
                TcpStream { left: RefCell::new(bytes.to_vec()), piece }
            }
        }

        impl Read for &TcpStream {
            fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
                let mut left = self.left.borrow_mut();
                let n = to.len().min(self.piece).min(left.len());
                to[..n].copy_from_slice(&left[..n]);
                left.drain(..n);
                Ok(n)
            }
        }

        impl Write for &TcpStream {
            fn write(&mut self, from: &[u8]) -> io::Result<usize> {
                Ok(from.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    }
}

/// The requests of a peer, and why there were no more.
fn requests(bytes: &[u8], piece: usize, limits: Limits) -> (Vec<Request>, Refused) {
    let stream = rt::net::TcpStream::new(bytes, piece);
    let mut reader = Reader::new(&stream, limits);
    let mut found = Vec::new();
    loop {
        match reader.next(Instant::now(), |_| {}) {
            Ok(request) => found.push(request),
            Err(refused) => return (found, refused),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [piece, head, body, bytes @ ..] = data else { return };
    let piece = usize::from(*piece) + 1;
    let limits =
        |head_bytes, body_bytes| Limits { head_bytes, body_bytes, request_timeout: Duration::from_secs(1) };
    let most = usize::from(*body);
    let (small, refused) = requests(bytes, piece, limits(usize::from(*head) * 4, most));
    assert!(small.iter().all(|request| request.body.len() <= most));
    if let Refused(Some(response)) = refused {
        let (answer, goes_on) = response.encode(true, false);
        assert!(answer.starts_with(b"HTTP/1.1 ") && !goes_on);
    }
    // A line before a chunk that is longer than its limit may get through if it comes at once.
    if bytes.len() < 1000 {
        let wide = limits(1 << 20, 1 << 20);
        let whole = format!("{:?}", requests(bytes, usize::MAX, wide));
        assert_eq!(whole, format!("{:?}", requests(bytes, piece, wide)));
    }
});
