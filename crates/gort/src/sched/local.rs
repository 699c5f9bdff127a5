//! Goroutine-local storage: what `goroutine_local!` declares.
//!
//! A `thread_local!` belongs to the stack slot and keeps its value for the next goroutine there, like a pool's
//! thread. These belong to one goroutine: fresh for each, dropped at its end.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// A value that children get a clone of.
type Inherit = fn(&(dyn Any + Send)) -> Box<dyn Any + Send>;

/// The values of one goroutine, by the address of their key.
#[derive(Default)]
pub(crate) struct Locals {
    pub(crate) own: HashMap<usize, Arc<dyn Any>>,
    pub(crate) inherited: HashMap<usize, (Box<dyn Any + Send>, Inherit)>,
}
