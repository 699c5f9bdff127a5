//! How a load fails.

use std::io;
use std::net::SocketAddr;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum LoadError {
    #[error("cannot connect to {addr}: {source}")]
    Connect { addr: SocketAddr, source: io::Error },
    #[error("{0}; is it a hub of the Pusher Channels protocol?")]
    NoHub(String),
    #[error("the hub refused a connection: {0}")]
    Refused(String),
    #[error("the hub refused an event: {0}")]
    Publish(String),
    #[error("after {connected} of {wanted} connections: {source}")]
    Partway { connected: usize, wanted: usize, source: Box<LoadError> },
    #[error("a goroutine of the load panicked")]
    Panicked,
}
