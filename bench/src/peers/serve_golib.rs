//! The servers on go-lib; WebSockets by tungstenite with buffers of 4 KiB.

use super::on_golib::configure;
use super::*;
use go_lib::chan::{Sender, chan};
use go_lib::go;
use go_lib::net::{TcpListener, TcpStream};
use go_lib::sync::Mutex;
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::Arc;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Bytes, Message};

/// Serves until it is told to end. False: there is no such server.
pub(crate) fn serve(kind: &str, procs: usize) -> bool {
    configure(procs);
    let run: Box<dyn FnOnce() + Send> = match kind {
        "echo" => Box::new(|| listen(echo)),
        "hogs" => Box::new(|| {
            (0..HOGS).for_each(|_| {
                go!(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            });
            listen(echo);
        }),
        "ws-echo" => Box::new(|| listen(ws_echo)),
        "ws-broadcast" => Box::new(|| {
            let subscribers = Subscribers::default();
            listen(move |stream| broadcast(stream, &subscribers));
        }),
        _ => return false,
    };
    // There is one thread for each P, so a wait here in `with_syscall` would occupy one of them.
    std::thread::spawn(|| in_runtime(run));
    until_told();
    std::process::exit(0)
}

/// Runs `run` as the first goroutine.
#[go_lib::main]
fn in_runtime(run: Box<dyn FnOnce() + Send>) {
    run();
}

fn listen(handler: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    while let Ok(stream) = listener.accept() {
        let handler = handler.clone();
        go!(move || {
            let _ = set_nodelay(&stream).and_then(|()| handler(stream));
        });
    }
}

/// go-lib has no call for this.
fn set_nodelay(stream: &TcpStream) -> io::Result<()> {
    // SAFETY: the descriptor stays open, and `stream` remains its owner.
    let same = unsafe { std::net::TcpStream::from_raw_fd(stream.as_raw_fd()) };
    ManuallyDrop::new(same).set_nodelay(true)
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(4 << 10)
}

fn upgrade(stream: TcpStream) -> io::Result<WebSocket<TcpStream>> {
    let accepted = tungstenite::accept_with_config(stream, Some(config()));
    accepted.map_err(|e| io::Error::other(e.to_string()))
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

type Subscribers = Arc<Mutex<Vec<Sender<Bytes>>>>;

/// Each connection has a writer goroutine with a bounded queue, as in the Go program.
fn broadcast(stream: TcpStream, subscribers: &Subscribers) -> io::Result<()> {
    let mut socket = upgrade(stream)?;
    let (tx, rx) = chan::<Bytes>(64);
    let same = socket.get_ref().try_clone()?;
    let mut writer = WebSocket::from_raw_socket(same, Role::Server, Some(config()));
    go!(move || {
        while let Some(text) = rx.recv() {
            let sent = writer.send(Message::Binary(text)).map_err(io::Error::other);
            if sent.and_then(|()| writer.get_mut().flush()).is_err() {
                return;
            }
        }
    });
    subscribers.lock().unwrap().push(tx);
    loop {
        let message = socket.read().map_err(io::Error::other)?;
        if message.is_text() {
            let bytes = message.into_data();
            let subscribers = subscribers.lock().unwrap();
            subscribers.iter().for_each(|tx| use_up(tx.try_send(bytes.clone())));
        }
    }
}
