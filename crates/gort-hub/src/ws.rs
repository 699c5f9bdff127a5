//! WebSocket frames (RFC 6455) without permanent buffers.
//!
//! tungstenite parses and formats the frame headers. Its `WebSocket` is not used, because it keeps
//! a read buffer and a write buffer for each connection (130 KB with its defaults). A [`Decoder`]
//! owns memory only from the first byte of a message to its last, and a frame to send is made once
//! and shared.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use thiserror::Error;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The end of a connection that a decoder is for. Clients mask their frames, servers do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Accepts masked frames only.
    Server,
    /// Accepts unmasked frames only.
    Client,
}

/// A complete message, joined from its fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message, which is valid UTF-8.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping. The answer is a [`pong_frame`] with the same bytes.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The peer closes, with this code if it gave one.
    Close(Option<u16>),
}

/// The peer broke a rule of WebSocket, or sent a message that is too large.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WsError {
    /// Close code 1002.
    #[error("WebSocket protocol error: {0}")]
    Protocol(Cow<'static, str>),
    /// Close code 1007.
    #[error("a text message is not UTF-8")]
    NotUtf8,
    /// Close code 1009.
    #[error("a message has {bytes} bytes or more; at most {max} are accepted")]
    TooLarge {
        /// Its size as far as it is known.
        bytes: u64,
        /// The limit.
        max: usize,
    },
}

impl WsError {
    /// The code to close the connection with.
    pub fn close_code(&self) -> u16 {
        match self {
            WsError::Protocol(_) => 1002,
            WsError::NotUtf8 => 1007,
            WsError::TooLarge { .. } => 1009,
        }
    }
}

/// Turns bytes into messages. Between messages it is empty and owns no memory on the heap.
#[derive(Debug)]
pub struct Decoder {
    role: Role,
    max_message: usize,
    /// Bytes that are not yet a whole frame.
    raw: Vec<u8>,
    /// How many bytes the whole frame in `raw` has; 0 until its header is complete.
    raw_wanted: usize,
    /// The payload of the fragments so far, if a message is incomplete.
    fragments: Option<(Data, Vec<u8>)>,
}

/// The size of the read buffer on the stack, used between messages. Most messages of clients are
/// shorter.
const SMALL: usize = 512;
/// The most bytes that one read asks for while a long message arrives.
const LARGE: usize = 16 * 1024;

impl Decoder {
    /// A decoder that refuses a message of more than `max_message` bytes before it has stored all
    /// of it.
    pub fn new(role: Role, max_message: usize) -> Decoder {
        Decoder { role, max_message, raw: Vec::new(), raw_wanted: 0, fragments: None }
    }

    /// Reads once from `from` and returns how many bytes that gave. `Ok(0)` is the end of the
    /// stream.
    ///
    /// # Blocking
    ///
    /// Like `from.read`.
    ///
    /// A buffer is on the stack during the read. So a connection that may be idle for long first
    /// waits in [`wait_readable`](gort::net::TcpStream::wait_readable).
    #[inline(never)]
    pub fn read_from(&mut self, mut from: impl Read) -> io::Result<usize> {
        let missing = self.raw_wanted.saturating_sub(self.raw.len());
        if missing <= SMALL {
            let mut small = [0; SMALL];
            let n = from.read(&mut small)?;
            self.push(&small[..n]);
            Ok(n)
        } else {
            let before = self.raw.len();
            self.raw.resize(before + missing.min(LARGE), 0);
            let result = from.read(&mut self.raw[before..]);
            self.raw.truncate(before + *result.as_ref().unwrap_or(&0));
            result
        }
    }

    /// Adds bytes that were read by other means.
    pub fn push(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
    }

    /// Whether a part of a message has arrived and the rest has not.
    pub fn is_mid_message(&self) -> bool {
        !self.raw.is_empty() || self.fragments.is_some()
    }

    /// The next whole message, or `None` if more bytes are needed. After an error the stream cannot
    /// be decoded any further.
    pub fn next_message(&mut self) -> Result<Option<Message>, WsError> {
        loop {
            let mut cursor = Cursor::new(&self.raw);
            let parsed =
                FrameHeader::parse(&mut cursor).map_err(|e| WsError::Protocol(e.to_string().into()))?;
            let header_len = cursor.position() as usize;
            let Some((header, len)) = parsed else {
                self.raw_wanted = 0;
                return Ok(None);
            };
            self.check(&header, len)?;
            let end = header_len + len as usize;
            if self.raw.len() < end {
                self.raw_wanted = end;
                return Ok(None);
            }
            let mut payload = self.raw[header_len..end].to_vec();
            if let Some(mask) = header.mask {
                apply_mask(&mut payload, mask);
            }
            if self.raw.len() == end {
                self.raw = Vec::new();
            } else {
                self.raw.drain(..end);
            }
            self.raw_wanted = 0;
            if let Some(message) = self.accept(&header, payload)? {
                return Ok(Some(message));
            }
        }
    }

    fn check(&self, header: &FrameHeader, len: u64) -> Result<(), WsError> {
        let protocol = |what: &'static str| Err(WsError::Protocol(what.into()));
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return protocol("reserved bits are set, but no extension was agreed on");
        }
        match self.role {
            Role::Server if header.mask.is_none() => return protocol("a client's frame is not masked"),
            Role::Client if header.mask.is_some() => return protocol("a server's frame is masked"),
            _ => {}
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final => return protocol("a control frame is fragmented"),
            OpCode::Control(_) if len > 125 => return protocol("a control frame has more than 125 bytes"),
            OpCode::Control(_) => return Ok(()),
            OpCode::Data(Data::Continue) if self.fragments.is_none() => {
                return protocol("a continuation frame without a message");
            }
            OpCode::Data(Data::Text | Data::Binary) if self.fragments.is_some() => {
                return protocol("a new message begins before the last fragment of the one before");
            }
            OpCode::Data(_) => {}
        }
        let before = self.fragments.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        let bytes = before.saturating_add(len);
        if bytes > self.max_message as u64 {
            return Err(WsError::TooLarge { bytes, max: self.max_message });
        }
        Ok(())
    }

    fn accept(&mut self, header: &FrameHeader, payload: Vec<u8>) -> Result<Option<Message>, WsError> {
        let (kind, bytes) = match header.opcode {
            OpCode::Control(Control::Ping) => return Ok(Some(Message::Ping(payload))),
            OpCode::Control(Control::Pong) => return Ok(Some(Message::Pong(payload))),
            OpCode::Control(_) => return parse_close(&payload).map(|code| Some(Message::Close(code))),
            OpCode::Data(Data::Continue) => {
                let (kind, mut bytes) = self.fragments.take().expect("`check` refused it otherwise");
                bytes.extend_from_slice(&payload);
                (kind, bytes)
            }
            OpCode::Data(kind) => (kind, payload),
        };
        if !header.is_final {
            self.fragments = Some((kind, bytes));
            return Ok(None);
        }
        Ok(Some(match kind {
            Data::Text => Message::Text(String::from_utf8(bytes).map_err(|_| WsError::NotUtf8)?),
            _ => Message::Binary(bytes),
        }))
    }
}

fn parse_close(payload: &[u8]) -> Result<Option<u16>, WsError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(WsError::Protocol("a close frame has one byte".into())),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::from(code).is_allowed() {
        return Err(WsError::Protocol(format!("close code {code} must not be sent").into()));
    }
    std::str::from_utf8(reason).map_err(|_| WsError::NotUtf8)?;
    Ok(Some(code))
}

fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[i % 4];
    }
}

/// One unmasked text frame. It is made once for each event and shared by all receivers.
pub fn text_frame(text: &str) -> Arc<[u8]> {
    frame(OpCode::Data(Data::Text), text.as_bytes(), None).into()
}

/// The answer to a ping.
pub fn pong_frame(payload: &[u8]) -> Arc<[u8]> {
    frame(OpCode::Control(Control::Pong), payload, None).into()
}

/// A close frame. The reason is cut to what fits into a control frame.
pub fn close_frame(code: u16, reason: &str) -> Arc<[u8]> {
    frame(OpCode::Control(Control::Close), &close_payload(code, reason), None).into()
}

/// A text frame of a client. Masks protect proxies from scripts in browsers, so for other clients
/// the mask need not be secret.
pub fn masked_text_frame(text: &str, mask: [u8; 4]) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), text.as_bytes(), Some(mask))
}

/// A client's answer to a ping.
pub fn masked_pong_frame(payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    frame(OpCode::Control(Control::Pong), payload, Some(mask))
}

/// A close frame of a client.
pub fn masked_close_frame(code: u16, reason: &str, mask: [u8; 4]) -> Vec<u8> {
    frame(OpCode::Control(Control::Close), &close_payload(code, reason), Some(mask))
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    let cut = reason.floor_char_boundary(123);
    payload.extend_from_slice(&reason.as_bytes()[..cut]);
    payload
}

fn frame(opcode: OpCode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let header = FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask };
    let len = payload.len() as u64;
    let mut bytes = Vec::with_capacity(header.len(len) + payload.len());
    header.format(len, &mut bytes).expect("a Vec takes every byte");
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut bytes[start..], mask);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn server() -> Decoder {
        Decoder::new(Role::Server, 100_000)
    }

    fn first(bytes: &[u8]) -> Result<Option<Message>, WsError> {
        let mut decoder = server();
        decoder.push(bytes);
        decoder.next_message()
    }

    #[test]
    fn examples_of_the_rfc() {
        assert_eq!(&*text_frame("Hello"), [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(masked_text_frame("Hello", MASK), masked);
        assert_eq!(first(&masked), Ok(Some(Message::Text("Hello".into()))));
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_messages_and_leaves_no_memory() {
        let long = "ü".repeat(12_000);
        let mut bytes = masked_text_frame("one", MASK);
        bytes.extend(masked_text_frame(&long, MASK));
        bytes.extend(masked_pong_frame(b"x", MASK));
        bytes.extend(masked_close_frame(1000, "bye", MASK));
        for chunk in [1, 2, 3, 7, 511, 512, 513, 4096, usize::MAX] {
            let mut decoder = server();
            let mut from = bytes.as_slice();
            let mut got = Vec::new();
            while !from.is_empty() {
                let n = chunk.min(from.len());
                let (now, later) = from.split_at(n);
                let mut now = now;
                while !now.is_empty() {
                    decoder.read_from(&mut now).unwrap();
                    while let Some(message) = decoder.next_message().unwrap() {
                        got.push(message);
                    }
                }
                from = later;
            }
            assert_eq!(
                got,
                [
                    Message::Text("one".into()),
                    Message::Text(long.clone()),
                    Message::Pong(b"x".to_vec()),
                    Message::Close(Some(1000)),
                ]
            );
            assert!(!decoder.is_mid_message());
            assert_eq!(decoder.raw.capacity(), 0);
        }
    }

    #[test]
    fn fragments_become_one_message_with_control_frames_between_them() {
        let mut start = masked_text_frame("He", MASK);
        start[0] = 0x01;
        let ping = {
            let mut frame = masked_pong_frame(b"?", MASK);
            frame[0] = 0x89;
            frame
        };
        let mut end = masked_text_frame("llo", MASK);
        end[0] = 0x80;
        let mut decoder = server();
        decoder.push(&[start, ping, end].concat());
        assert_eq!(decoder.next_message(), Ok(Some(Message::Ping(b"?".to_vec()))));
        assert!(decoder.is_mid_message());
        assert_eq!(decoder.next_message(), Ok(Some(Message::Text("Hello".into()))));
        assert!(!decoder.is_mid_message());
    }

    fn check(bytes: &[u8], code: u16) {
        assert_eq!(first(bytes).map_err(|e| e.close_code()), Err(code), "{bytes:?}");
    }

    #[test]
    fn unmasked_frame_of_a_client() {
        check(&text_frame("Hello"), 1002);
    }

    #[test]
    fn masked_frame_of_a_server() {
        let mut decoder = Decoder::new(Role::Client, 100);
        decoder.push(&masked_text_frame("Hello", MASK));
        assert_eq!(decoder.next_message().map_err(|e| e.close_code()), Err(1002));
    }

    #[test]
    fn rules_of_the_frame_header() {
        check(&[0xc1, 0x80, 0, 0, 0, 0], 1002); // a reserved bit
        check(&[0x83, 0x80, 0, 0, 0, 0], 1002); // a reserved opcode
        check(&[0x80, 0x80, 0, 0, 0, 0], 1002); // a continuation of nothing
        check(&[0x09, 0x80, 0, 0, 0, 0], 1002); // a ping in fragments
        check(&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], 1002); // a ping of 126 bytes
        check(&[0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0], 1002); // a message inside another
    }

    #[test]
    fn rules_of_the_close_frame() {
        check(&[0x88, 0x81, 0, 0, 0, 0, 3], 1002);
        check(&masked_close_frame(1005, "", MASK), 1002);
        check(&masked_close_frame(999, "", MASK), 1002);
        check(&[0x88, 0x83, 0, 0, 0, 0, 0x03, 0xe8, 0xff], 1007);
        assert_eq!(first(&[0x88, 0x80, 0, 0, 0, 0]), Ok(Some(Message::Close(None))));
        assert_eq!(first(&masked_close_frame(4200, "later", MASK)), Ok(Some(Message::Close(Some(4200)))));
    }

    #[test]
    fn text_that_is_not_utf8() {
        check(&[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007);
    }

    #[test]
    fn too_long_is_refused_by_the_header_alone_and_over_all_fragments() {
        let mut decoder = Decoder::new(Role::Server, 10);
        decoder.push(&[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(decoder.next_message().map_err(|e| e.close_code()), Err(1009));
        let mut decoder = Decoder::new(Role::Server, 10);
        let mut part = masked_text_frame("123456", MASK);
        part[0] = 0x01;
        decoder.push(&part);
        assert_eq!(decoder.next_message(), Ok(None));
        part[0] = 0x80;
        decoder.push(&part);
        assert_eq!(decoder.next_message(), Err(WsError::TooLarge { bytes: 12, max: 10 }));
    }

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let frame = close_frame(4100, &"ü".repeat(100));
        assert_eq!(frame[1], 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
