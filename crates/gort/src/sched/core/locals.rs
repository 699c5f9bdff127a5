//! The goroutine-local values that a descriptor keeps; `spawn/local.rs` has the keys.

use std::any::Any;

pub(crate) type CloneValue = fn(&dyn Any) -> Box<dyn Any>;

/// One value. A box: its address stays while others come and go.
pub(crate) struct Entry {
    pub(crate) key: usize,
    pub(crate) value: Box<dyn Any>,
    pub(crate) clone: Option<CloneValue>,
}

/// The values of one goroutine.
#[derive(Default)]
pub(crate) struct Locals(pub(crate) Vec<Entry>);
