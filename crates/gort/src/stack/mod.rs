//! Stacks, and switching between them. This floor is directly above `sys`.
//!
//! - [`switch`]: the only place with context-switch assembly.
//! - [`slab`]: hands out the memory of stacks, in slots.
//! - [`blocks`]: whether goroutines have thread-locals of their own.
//! - [`tls`]: builds a thread descriptor and its thread-local block at the top of a slot, with
//!   [`surplus`], [`listed`], [`end`] and [`exit_trap`].
//! - [`overflow`]: tells a stack overflow from other faults.
//! - [`image`]: packs what a suspended stack holds.
//! - [`walk`]: finds the frames of a suspended stack.

pub(crate) mod blocks;
mod end;
mod exit_trap;
#[cfg(feature = "swap")]
pub(crate) mod image;
mod listed;
pub(crate) mod overflow;
pub(crate) mod slab;
mod surplus;
pub(crate) mod switch;
pub(crate) mod tls;
#[cfg_attr(not(feature = "backtrace"), path = "walk_off.rs")]
pub(crate) mod walk;
