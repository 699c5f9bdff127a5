//! A TCP echo server and a thousand clients in one process: one goroutine for each, in plain
//! blocking code.

use gort::net::{TcpListener, TcpStream};
use std::io::{Read, Write};

const CLIENTS: usize = 1_000;
const MESSAGES: usize = 20;

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn talk(addr: std::net::SocketAddr, id: usize) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(addr)?;
    for i in 0..MESSAGES {
        let message = format!("client {id}, message {i}");
        stream.write_all(message.as_bytes())?;
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, message.as_bytes());
    }
    Ok(MESSAGES)
}

#[gort::main]
fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    gort::go(move || {
        while let Ok((stream, _)) = listener.accept() {
            gort::go(move || serve(stream));
        }
    });
    let clients: Vec<_> = (0..CLIENTS).map(|id| gort::go(move || talk(addr, id))).collect();
    let mut answered = 0;
    for client in clients {
        answered += client.join().expect("no client panics")?;
    }
    assert_eq!(answered, CLIENTS * MESSAGES);
    println!(
        "{answered} messages echoed to {CLIENTS} clients on {} OS threads",
        gort::metrics::snapshot().threads
    );
    Ok(())
}
