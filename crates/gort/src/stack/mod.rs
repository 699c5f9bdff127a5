//! Stacks, and switching between them. This floor is directly above `sys`.
//!
//! - [`switch`]: the only place with context-switch assembly.
//! - [`slab`]: hands out the memory of stacks, in slots.
//! - [`tls`]: builds a thread descriptor and its thread-local block at the top of a slot, with
//!   [`surplus`], [`listed`], [`end`] and [`exit_trap`].
//! - [`overflow`]: tells a stack overflow from other faults.
//! - [`image`]: packs what a suspended stack holds.
//! - [`walk`]: finds the frames of a suspended stack.

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
