//! Benchmarks of gort beside its peers.
fn main() {}
