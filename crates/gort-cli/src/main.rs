//! The `gort` program.
#![forbid(unsafe_code)]
fn main() {}
