//! The modules of the hub stand in an order: each uses only those before it.

#[path = "floors/order.rs"]
mod order;

use order::{check, violations};
use std::path::Path;

/// From the ground up.
const ORDER: &[&str] = &[
    "rt", "sync", "fd", "stats", "log", "ws", "http", "auth", "protocol", "config", "common", "client",
    "channel", "slots", "shared", "api", "conn", "hub", "lib",
];

#[test]
fn no_module_uses_one_above() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), ORDER);
}

const MADE_UP: &[&str] = &["ground", "hall/stairs", "hall/door", "hall", "roof"];

fn found(module: &str, text: &str) -> String {
    violations(MADE_UP, module, text).join("; ")
}

#[test]
fn the_check_sees_what_is_above() {
    assert_eq!(found("ground", "use crate::roof;"), "`crate::roof` is above it");
    assert_eq!(found("hall", "fn f() -> crate::roof::Tile {}"), "`crate::roof::Tile` is above it");
    assert_eq!(found("ground", "use crate::{hall::{stairs::a, b}, ground};").matches("above").count(), 2);
    assert_eq!(found("hall/stairs", "use crate::hall::door::Key;"), "`crate::hall::door::Key` is above it");
    assert_eq!(found("hall/door", "use crate::hall::run;"), "`crate::hall::run` is above it");
    assert!(found("roof", "use crate::Tile;").contains("in no module"));
    assert!(found("hall/door", "use super::stairs;").contains("begins with `crate::`"));
    assert!(found("hall/door", "use super::*;").contains("begins with `crate::`"));
    assert!(found("cellar", "").contains("not in the order"));
    assert!(violations(&["hall", "hall/door"], "hall/door", "").join("").contains("comes after"));
}

#[test]
fn the_check_passes_what_is_below() {
    for (module, text) in [
        ("roof", "use crate::hall::{self, stairs::{Step, Rail}, door};\nuse crate::ground;"),
        ("hall/door", "use crate::hall::stairs::Step;"),
        ("ground", "// crate::roof\nlet x = 1; // as crate::roof\n/// super::roof"),
        ("ground", "macro_rules! m { () => { $crate::roof } }\nuse other_crate::roof;"),
        ("hall", "mod tests {\n    use super::*;\n}"),
    ] {
        assert_eq!(found(module, text), "", "{text}");
    }
}
