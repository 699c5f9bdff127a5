//! WebSocket frames: the messages are the same however the bytes arrive, and none is too long.
#![no_main]

use gort_hub::ws::{Decoder, Message, Role, WsError};
use libfuzzer_sys::fuzz_target;

/// The messages of `bytes`, which arrive in pieces of `piece` bytes, by `push` or by `read_from`.
fn messages(
    mut decoder: Decoder,
    mut bytes: &[u8],
    piece: usize,
    by_read: bool,
) -> (Vec<Message>, Option<WsError>) {
    let mut found = Vec::new();
    loop {
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(e) => return (found, Some(e)),
            }
        }
        if bytes.is_empty() {
            return (found, None);
        }
        let (mut now, _) = bytes.split_at(piece.min(bytes.len()));
        let len = if by_read {
            decoder.read_from(&mut now).expect("a slice can be read")
        } else {
            decoder.push(now);
            now.len()
        };
        bytes = &bytes[len..];
    }
}

fuzz_target!(|data: &[u8]| {
    let [options, piece, max, bytes @ ..] = data else { return };
    let role = if options & 1 == 0 { Role::Server } else { Role::Client };
    let max_message = usize::from(*max) * 4;
    let piece = usize::from(*piece) + 1;
    let decoder = || Decoder::new(role, max_message);
    let whole = messages(decoder(), bytes, usize::MAX, false);
    assert_eq!(whole, messages(decoder(), bytes, piece, false));
    assert_eq!(whole, messages(decoder(), bytes, piece, true));
    for message in &whole.0 {
        match message {
            Message::Text(text) => assert!(text.len() <= max_message),
            Message::Binary(bytes) => assert!(bytes.len() <= max_message),
            Message::Ping(bytes) | Message::Pong(bytes) => assert!(bytes.len() <= 125),
            Message::Close(_) => {}
        }
    }
    if let Some(error) = &whole.1 {
        assert!([1002, 1007, 1009].contains(&error.close_code()));
    }
});
