//! Numbers about stacks that were swapped out.

/// The sums of what the shards count.
#[derive(Default)]
pub(crate) struct Counts {
    /// How many stacks were swapped out, and how many were brought back, since the start.
    pub(crate) outs: u64,
    pub(crate) ins: u64,
    /// The bytes in which the stacks that are out are kept.
    pub(crate) bytes: usize,
}
