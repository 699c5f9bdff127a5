//! Tests and examples of gort with other crates. They are here so that gort itself needs no
//! dev-dependencies, which `cargo run -p gort --example hello` would build.
//!
//! The library holds those chapters of the guide that have code with other crates: `cargo test`
//! runs it here.
#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../../gort/guide/blocking.md")]
mod blocking {}
#[cfg(doctest)]
#[doc = include_str!("../../gort/guide/from_tokio.md")]
mod from_tokio {}
