//! What a thread or goroutine has panicked with.

use std::any::Any;

/// The message, if the payload has one: `panic!` makes a `&str` or a `String`.
pub(crate) fn text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
