//! The servers on gort.

use super::on_gort::in_runtime;
use super::*;
use gort::chan::{Sender, bounded};
use gort::net::{TcpListener, TcpStream};
use gort::sync::Mutex;
use gort_hub::ws::{Decoder, Message, Role, text_frame};
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

/// Serves until it is told to end. False: there is no such server.
pub(crate) fn serve(kind: &str, procs: usize, shared: bool) -> bool {
    let handler: fn(TcpStream) -> io::Result<()> = match kind {
        "echo" | "hogs" => echo,
        "ws-echo" => ws_echo,
        "ws-broadcast" => {
            let everybody = Arc::new(Everybody::default());
            in_runtime(procs, shared, || listen(move |stream| everybody.serve(stream)));
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

/// tungstenite's handshake, on a buffer that ends with it.
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
    while decoder.read_from(stream)? > 0 {
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

/// A writer for each connection, with a bounded queue; a message is encoded once.
#[derive(Default)]
struct Everybody(Mutex<Vec<Sender<Arc<[u8]>>>>);

impl Everybody {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let stream = Arc::new(stream);
        let (tx, rx) = bounded::<Arc<[u8]>>(64);
        let writer = stream.clone();
        gort::go(move || rx.iter().try_for_each(|frame| (&*writer).write_all(&frame)));
        self.0.lock().unwrap().push(tx);
        each_message(&stream, |text| {
            let frame = text_frame(text);
            self.0.lock().unwrap().iter().for_each(|tx| drop(tx.try_send(frame.clone())));
            Ok(())
        })
    }
}
