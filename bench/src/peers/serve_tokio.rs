//! The servers on tokio; WebSockets by tokio-tungstenite with buffers of 4 KiB, which its
//! documentation advises for many connections.

use super::on_tokio::in_runtime;
use super::*;
use futures_util::{SinkExt, StreamExt};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::protocol::WebSocketConfig;

/// Serves until it is told to end. False: there is no such server.
pub(crate) fn serve(kind: &str, procs: usize) -> bool {
    match kind {
        "echo" => in_runtime(procs, listen(echo)),
        "ws-echo" => in_runtime(procs, listen(ws_echo)),
        "ws-broadcast" => {
            let subscribers = Subscribers::default();
            in_runtime(procs, listen(move |stream| broadcast(stream, subscribers.clone())));
        }
        _ => return false,
    }
    true
}

async fn listen<F: Future<Output = io::Result<()>> + Send + 'static>(
    handler: impl Fn(TcpStream) -> F + Send + 'static,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::thread::spawn(|| {
        until_told();
        std::process::exit(0)
    });
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        tokio::spawn(handler(stream));
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; ECHO_BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

async fn upgrade(stream: TcpStream) -> io::Result<WebSocketStream<TcpStream>> {
    let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(4 << 10);
    tokio_tungstenite::accept_async_with_config(stream, Some(config)).await.map_err(io::Error::other)
}

async fn ws_echo(stream: TcpStream) -> io::Result<()> {
    let mut socket = upgrade(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message.map_err(io::Error::other)?;
        if message.is_text() {
            socket.send(message).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

type Subscribers = Arc<Mutex<Vec<mpsc::Sender<Message>>>>;

async fn broadcast(stream: TcpStream, subscribers: Subscribers) -> io::Result<()> {
    let (mut sink, mut source) = upgrade(stream).await?.split();
    let (tx, mut rx) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(message) = rx.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    });
    subscribers.lock().unwrap().push(tx);
    while let Some(message) = source.next().await {
        let message = message.map_err(io::Error::other)?;
        if message.is_text() {
            // Clones of a message share its text.
            subscribers.lock().unwrap().iter().for_each(|tx| drop(tx.try_send(message.clone())));
        }
    }
    Ok(())
}
