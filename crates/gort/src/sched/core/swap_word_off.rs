//! What stands for `swap_word.rs` in a build without the feature `swap`: a stack is always at home.

/// See the module's head.
pub(crate) struct SwapWord;

impl SwapWord {
    pub(crate) fn new() -> SwapWord {
        SwapWord
    }

    #[inline]
    pub(crate) fn stay(&self) {}

    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        true
    }

    pub(crate) fn is_out(&self) -> bool {
        false
    }
}

/// See the module's head.
pub(crate) struct Loans;

impl Loans {
    pub(crate) fn new() -> Loans {
        Loans
    }

    #[inline]
    pub(crate) fn begin(&self) {}

    #[inline]
    pub(crate) fn end(&self) {}

    pub(crate) fn reset(&self) {}
}
