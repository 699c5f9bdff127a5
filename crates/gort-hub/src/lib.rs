//! A WebSocket hub that speaks the Pusher Channels protocol (version 7), on goroutines.
//!
//! pusher-js and the other client libraries connect to it, the server libraries publish through its HTTP API.
//! Everything is plain blocking code: a goroutine for each connection reads; another writes, while there is
//! something to write. [`Hub`] is the whole of it; [`Config`] has its limits; [`auth`] and [`ws`] are of use to
//! clients as well.
//!
//! What is served: public, private and encrypted channels, client events on private channels, signed
//! `POST /apps/{id}/events`, `/healthz`, `/stats.json` and, if asked for, a page at `/`. Presence
//! and cache channels are refused with an error, as are the rest of the HTTP API's paths (404).
//!
//! What an operator should know comes as events of the `tracing` crate, with the address of the
//! peer: clients that are too slow, connections and requests that are refused, limits that are hit,
//! failures of the listener. They are rate limited.
#![forbid(unsafe_code)]

mod api;
pub mod auth;
mod channel;
mod client;
mod config;
mod conn;
pub mod fd;
mod http;
mod hub;
mod log;
mod protocol;
mod rt;
mod slots;
mod stats;
mod sync;
pub mod ws;

pub use config::{App, ClientEvent, ClientEventHandler, Config, ParseAppError, Verdict};
pub use hub::{Drained, Hub, HubError};
pub use protocol::{ParseSocketIdError, SocketId, code};
pub use stats::{Stats, resident_bytes};
