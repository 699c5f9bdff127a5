//! What an idle connection costs on the heap, measured with an allocator that counts.
mod common;

use common::{KEY, hub, tcp, until};
use gort_hub::ws::masked_text_frame;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::io::{Read, Write};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The budget of each idle connection that is on a channel: the hub's tables, its queue, and the
/// runtime's part.
const BUDGET_BYTES: isize = 2048;
const CONNECTIONS: isize = 300;

// tungstenite's defaults would cost 130 KB. Each connection has sent a large message before,
// and the buffers for that must be freed as well.
#[test]
fn an_idle_connection_is_within_its_budget() {
    let hub = hub(|_| {});
    let open = || {
        let mut stream = tcp(hub.addr);
        let mut send = |bytes: &[u8]| stream.write_all(bytes).unwrap();
        send(
            format!(
                "GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        let padding = " ".repeat(20_000);
        for event in [
            r#"{"event":"pusher:subscribe","data":{"channel":"room"}}"#,
            &format!(r#"{{"event":"pusher:ping"{padding}}}"#),
        ] {
            send(&masked_text_frame(event, [1, 2, 3, 4]));
        }
        let mut got = [0; 1024];
        let mut n = 0;
        until("the pong", || {
            n += stream.read(&mut got[n..]).unwrap();
            String::from_utf8_lossy(&got[..n]).contains("pusher:pong").then_some(())
        });
        stream
    };
    let warm: Vec<_> = (0..20).map(|_| open()).collect();
    let region = Region::new(ALLOCATOR);
    let streams: Vec<_> = (0..CONNECTIONS).map(|_| open()).collect();
    hub.until("all are there", |stats| stats.connections as isize == CONNECTIONS + warm.len() as isize);
    // The last writers may not have ended yet.
    let each = until("the writers have ended", || {
        let change = region.change();
        let each = (change.bytes_allocated as isize - change.bytes_deallocated as isize) / CONNECTIONS;
        (each <= BUDGET_BYTES).then_some(each)
    });
    println!("{each} bytes of heap for each idle connection");
    assert!(each > 0, "nothing was counted");
    drop((warm, streams));
}
