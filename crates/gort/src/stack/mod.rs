//! Act: stacks and how to switch between them.
//!
//! [`switch`] is the only place with context-switch assembly, [`slab`] hands out the memory, [`tls`] lays a
//! thread descriptor and its thread-local block at the top of a slot, [`overflow`] tells a stack overflow from
//! other faults, [`image`] packs what a suspended stack holds, [`walk`] finds the frames of one.

pub(crate) mod image;
pub(crate) mod overflow;
pub(crate) mod slab;
pub(crate) mod switch;
pub(crate) mod tls;
pub(crate) mod walk;
