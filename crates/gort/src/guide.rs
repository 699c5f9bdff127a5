//! A guide for users, chapter by chapter. Begin with the first steps.
//!
//! | chapter | what is in it |
//! | --- | --- |
//! | [First steps](first_steps) | from an empty project to a small server |
//! | [Blocking code](blocking) | calls that block, CPU-bound code, and which crates to use how |
//! | [Channels](channels) | channels, `select!` and patterns |
//! | [Cancellation](cancellation) | how a goroutine is asked to stop, and how a server ends |
//! | [Stacks and memory](stacks) | stack sizes, what a goroutine costs, a million of them |
//! | [Thread-locals](thread_locals) | what belongs to a goroutine, and crates that count threads |
//! | [Tuning](tuning) | builder, environment variables, `GORT_DEBUG`, what to look at |
//! | [Coming from Go](from_go) | names and differences |
//! | [Coming from tokio](from_tokio) | names, differences, async crates |
//! | [Coming from threads](from_threads) | names and differences |
//!
//! The modules here hold nothing but text.

#[doc = include_str!("../guide/blocking.md")]
pub mod blocking {}
#[doc = include_str!("../guide/cancellation.md")]
pub mod cancellation {}
#[doc = include_str!("../guide/channels.md")]
pub mod channels {}
#[doc = include_str!("../guide/first_steps.md")]
pub mod first_steps {}
#[doc = include_str!("../guide/from_go.md")]
pub mod from_go {}
#[doc = include_str!("../guide/from_threads.md")]
pub mod from_threads {}
#[doc = include_str!("../guide/from_tokio.md")]
pub mod from_tokio {}
#[doc = include_str!("../guide/stacks.md")]
pub mod stacks {}
#[doc = include_str!("../guide/thread_locals.md")]
pub mod thread_locals {}
#[doc = include_str!("../guide/tuning.md")]
pub mod tuning {}
