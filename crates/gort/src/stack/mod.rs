//! Act: stacks and how to switch between them.
//!
//! [`switch`] is the only place with context-switch assembly, [`slab`] hands out the memory, [`tls`] lays a
//! thread descriptor and its thread-local block at the top of a slot (with [`surplus`], [`listed`],
//! [`end`] and [`exit_trap`]), [`overflow`] tells a stack overflow from other faults, [`image`]
//! packs what a suspended stack holds, [`walk`] finds the frames of one.

mod end;
mod exit_trap;
pub(crate) mod image;
mod listed;
pub(crate) mod overflow;
pub(crate) mod slab;
mod surplus;
pub(crate) mod switch;
pub(crate) mod tls;
pub(crate) mod walk;
