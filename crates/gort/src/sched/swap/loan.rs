//! Goroutines whose stacks must stay where they are.

use crate::sched::core::owner::Owner;

/// As long as this lives, the goroutine's stack and thread-locals stay where they are; see
/// [`lend_stack`].
#[must_use = "the stack may be swapped out again when this is dropped"]
#[derive(Debug)]
pub struct StackLoan {
    owner: Owner,
}

/// Keeps the calling goroutine's stack and thread-locals from being swapped out, until the guard is
/// dropped. Guards nest.
///
/// A goroutine needs this when it lends memory of its stack or thread-locals to others and parks
/// meanwhile, in a program that uses [`swap_idle_stacks`](crate::RuntimeBuilder::swap_idle_stacks).
/// Examples are `std::thread::scope` and `rayon::scope`. gort's own [`scope`](crate::scope) does
/// this by itself.
///
/// It costs next to nothing. On a plain thread it does nothing.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let (tx, rx) = gort::chan::bounded(0);
///     let mut sum = 0;
///     let _loan = gort::lend_stack();
///     std::thread::scope(|s| {
///         s.spawn(|| {
///             sum += 1;
///             tx.send(()).unwrap();
///         });
///         rx.recv().unwrap();
///     });
///     assert_eq!(sum, 1);
/// })
/// ```
pub fn lend_stack() -> StackLoan {
    let loan = StackLoan { owner: Owner::current() };
    if let Some(g) = loan.owner.goroutine() {
        g.loans.begin();
    }
    loan
}

impl Drop for StackLoan {
    fn drop(&mut self) {
        if let Some(g) = self.owner.goroutine() {
            g.loans.end();
        }
    }
}
