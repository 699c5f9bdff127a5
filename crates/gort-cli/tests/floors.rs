//! The modules of the program stand in an order: each uses only those before it.

#[path = "../../gort-hub/tests/floors/order.rs"]
mod order;

use std::path::Path;

/// From the ground up.
const ORDER: &[&str] = &[
    "rt",
    "out",
    "args",
    "plan",
    "threads",
    "log",
    "load/error",
    "load/event",
    "load/tally",
    "load/client",
    "load/publish",
    "load/report",
    "load",
    "hub",
    "demo",
    "lab/finding",
    "lab/costs",
    "lab/procs",
    "lab/threads",
    "lab/claims",
    "lab/page",
    "lab",
    "main",
];

#[test]
fn no_module_uses_one_above() {
    order::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), ORDER);
}
