//! The servers on may; WebSockets by tungstenite with buffers of 4 KiB.

use super::on_may::configure;
use super::*;
use may::go;
use may::net::{TcpListener, TcpStream};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Bytes, Message};

/// Serves until it is told to end. False: there is no such server.
pub(crate) fn serve(kind: &str, procs: usize) -> bool {
    configure(procs);
    match kind {
        "echo" => listen(echo),
        "ws-echo" => listen(ws_echo),
        "ws-broadcast" => {
            let subscribers = Subscribers::default();
            listen(move |stream| broadcast(stream, &subscribers));
        }
        _ => return false,
    }
    true
}

fn listen(handler: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    go!(move || {
        while let Ok((stream, _)) = listener.accept() {
            let handler = handler.clone();
            go!(move || {
                let _ = stream.set_nodelay(true).and_then(|()| handler(stream));
            });
        }
    });
    until_told();
    std::process::exit(0)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(4 << 10)
}

fn upgrade(stream: TcpStream) -> io::Result<WebSocket<TcpStream>> {
    tungstenite::accept_with_config(stream, Some(config())).map_err(|e| io::Error::other(e.to_string()))
}

fn ws_echo(stream: TcpStream) -> io::Result<()> {
    let mut socket = upgrade(stream)?;
    loop {
        let message = socket.read().map_err(io::Error::other)?;
        if message.is_text() {
            socket.send(message).map_err(io::Error::other)?;
        }
    }
}

type Subscribers = Arc<Mutex<Vec<may::sync::mpsc::Sender<Bytes>>>>;

fn broadcast(stream: TcpStream, subscribers: &Subscribers) -> io::Result<()> {
    let mut socket = upgrade(stream)?;
    let (tx, rx) = may::sync::mpsc::channel::<Bytes>();
    let mut writer = WebSocket::from_raw_socket(socket.get_ref().try_clone()?, Role::Server, Some(config()));
    go!(move || {
        rx.iter().try_for_each(|text| {
            writer.send(Message::Binary(text)).map_err(io::Error::other)?;
            writer.get_mut().flush()
        })
    });
    subscribers.lock().unwrap().push(tx);
    loop {
        let message = socket.read().map_err(io::Error::other)?;
        if message.is_text() {
            let bytes = message.into_data();
            subscribers.lock().unwrap().iter().for_each(|tx| drop(tx.send(bytes.clone())));
        }
    }
}
