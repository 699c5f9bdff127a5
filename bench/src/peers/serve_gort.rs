//! The servers on gort.

use super::on_gort::in_runtime;
use super::*;
use gort::net::{TcpListener, TcpStream};
use gort::sync::Mutex;
use gort_hub::ws::{Decoder, Message, Role, text_frame};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::sync::Arc;

/// Serves until it is told to end. False: there is no such server.
pub(crate) fn serve(kind: &str, procs: usize, shared: bool) -> bool {
    let handler: fn(TcpStream) -> io::Result<()> = match kind {
        "echo" | "hogs" => echo,
        "ws-echo" => ws_echo,
        "ws-broadcast" => {
            let subscribers = Arc::new(Subscribers::default());
            in_runtime(procs, shared, || listen(move |stream| subscribers.serve(stream)));
            return true;
        }
        _ => return false,
    };
    in_runtime(procs, shared, || {
        if kind == "hogs" {
            (0..HOGS).for_each(|_| {
                gort::go(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            });
        }
        listen(handler);
    });
    true
}

fn listen(handler: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    gort::go(move || {
        while let Ok((stream, _)) = listener.accept() {
            let handler = handler.clone();
            gort::go(move || {
                let _ = stream.set_nodelay(true).and_then(|()| handler(stream));
            });
        }
    });
    gort::blocking(until_told);
    std::process::exit(0)
}

/// tungstenite's handshake, with a buffer that is freed after it.
fn upgrade(mut stream: &TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut some = [0; 512];
        let n = stream.read(&mut some)?;
        if n == 0 || head.len() > 8_192 {
            return Err(ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(&some[..n]);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let key = key.ok_or(ErrorKind::InvalidData)?;
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    )
}

/// Calls `f` for each text message.
fn each_message(stream: &TcpStream, mut f: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    upgrade(stream)?;
    let mut decoder = Decoder::new(Role::Server, 64 << 10);
    while stream.wait_readable().and_then(|()| decoder.read_from(stream))? > 0 {
        while let Some(message) = decoder.next_message().map_err(io::Error::other)? {
            match message {
                Message::Text(text) => f(&text)?,
                Message::Close(_) => return Ok(()),
                _ => {}
            }
        }
    }
    Ok(())
}

fn ws_echo(stream: TcpStream) -> io::Result<()> {
    each_message(&stream, |text| (&stream).write_all(&text_frame(text)))
}

/// As in the hub: a message is encoded once and queued for every connection. If a connection's
/// queue was empty, a goroutine writes for it, together with other connections, all that is queued
/// and as much as the socket takes. A goroutine of its own waits only for a full socket.
#[derive(Default)]
struct Subscribers(Mutex<Vec<Arc<Outbox>>>);

/// The capacity of a connection's queue, as in the other peers; further messages are dropped.
const QUEUE: usize = 64;

struct Outbox {
    stream: TcpStream,
    queued: Mutex<Queued>,
}

#[derive(Default)]
struct Queued {
    frames: Vec<Arc<[u8]>>,
    /// A goroutine is writing, or about to.
    writing: bool,
}

impl Subscribers {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        const TOGETHER: usize = 128;
        let outbox = Arc::new(Outbox { stream, queued: Mutex::default() });
        self.0.lock().unwrap().push(outbox.clone());
        each_message(&outbox.stream, |text| {
            let frame = text_frame(text);
            let all = self.0.lock().unwrap();
            let to_write: Vec<_> = all.iter().filter(|outbox| outbox.push(&frame)).cloned().collect();
            drop(all);
            for some in to_write.chunks(TOGETHER) {
                let some = some.to_vec();
                gort::go(move || {
                    let mut frames = Vec::new();
                    some.iter().for_each(|outbox| outbox.write(&mut frames));
                });
            }
            Ok(())
        })
    }
}

impl Outbox {
    /// Returns true if the caller has to write.
    fn push(&self, frame: &Arc<[u8]>) -> bool {
        let mut queued = self.queued.lock().unwrap();
        if queued.frames.len() < QUEUE {
            queued.frames.push(frame.clone());
        }
        !std::mem::replace(&mut queued.writing, true)
    }

    /// Writes until the queue is empty or the socket is full. `frames` is empty before and after.
    fn write(self: &Arc<Self>, frames: &mut Vec<Arc<[u8]>>) {
        while self.take(frames) {
            let n = self.try_write(frames).unwrap_or(0);
            if n < frames.iter().map(|frame| frame.len()).sum() {
                let (outbox, rest) = (self.clone(), frames.concat());
                gort::go(move || {
                    if (&outbox.stream).write_all(&rest[n..]).is_ok() {
                        outbox.write(&mut Vec::new());
                    }
                });
                frames.clear();
                return;
            }
            frames.clear();
        }
    }

    fn take(&self, frames: &mut Vec<Arc<[u8]>>) -> bool {
        let mut queued = self.queued.lock().unwrap();
        queued.writing = !queued.frames.is_empty();
        std::mem::swap(&mut queued.frames, frames);
        queued.writing
    }

    fn try_write(&self, frames: &[Arc<[u8]>]) -> io::Result<usize> {
        match frames {
            [frame] => self.stream.try_write(frame),
            _ => {
                let slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
                self.stream.try_write_vectored(&slices)
            }
        }
    }
}
