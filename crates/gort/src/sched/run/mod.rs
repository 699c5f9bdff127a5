//! Running goroutines: the loop of an M, what it runs next, and the way past it.
//!
//! | file          | holds                                                              |
//! | ------------- | ------------------------------------------------------------------ |
//! | `schedule.rs` | the loop of an M on g0; goroutines that are bound to an M          |
//! | `find.rs`     | what to run next: own queues, other Ps, the kernel; how an M idles |
//! | `direct.rs`   | from one goroutine straight to the next, without the loop          |
//! | `slice.rs`    | the end of a time slice on a P                                     |
//! | `stacks.rs`   | a goroutine gets its stack, and leaves it                          |

pub(crate) mod direct;
mod find;
mod schedule;
pub(crate) mod slice;
pub(crate) mod stacks;

pub(crate) use schedule::schedule;
