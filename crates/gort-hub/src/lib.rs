//! A WebSocket hub that speaks the Pusher Channels protocol (version 7), on goroutines.
//!
//! pusher-js and the other client libraries connect to it. The server libraries publish through its
//! HTTP API. All code is plain blocking code: one goroutine for each connection reads, and another
//! one writes while there is something to write.
//!
//! [`Hub`] is the hub, and [`Config`] has its limits. Clients can use [`auth`] and [`ws`] as well.
//!
//! The hub serves:
//!
//! - public, private and encrypted channels, and client events on private channels;
//! - signed `POST /apps/{id}/events`;
//! - `/healthz`, `/stats.json` and, if [`Config::page`] is set, a page at `/`.
//!
//! A subscription to a presence or cache channel gets an error. The other paths of the HTTP API get
//! a 404.
//!
//! The hub reports to its operator by events of the `tracing` crate, with the address of the peer:
//! clients that are too slow, refused connections and requests, reached limits, and failures of the
//! listener. Events of one kind are rate limited.
#![forbid(unsafe_code)]

mod api;
pub mod auth;
mod channel;
mod client;
mod common;
mod config;
mod conn;
pub mod fd;
mod http;
mod hub;
mod log;
mod protocol;
mod rt;
mod shared;
mod slots;
mod stats;
mod sync;
pub mod ws;

pub use config::{App, ClientEvent, ClientEventHandler, Config, ParseAppError, Verdict};
pub use hub::{Drained, Hub, HubError};
pub use protocol::{ParseSocketIdError, SocketId, code};
pub use stats::{Stats, resident_bytes};
