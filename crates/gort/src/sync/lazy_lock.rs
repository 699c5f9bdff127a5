//! [`LazyLock`]: a value that is made when it is first used.

use super::once_lock::OnceLock;
use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A value that is made on first use.
///
/// A goroutine that comes while it is being made is parked, and its thread runs other goroutines.
/// It has the methods and the poisoning of [`std::sync::LazyLock`]. Dereferencing it is
/// [`force`](LazyLock::force), and waits and panics like it.
///
/// # Examples
///
/// ```
/// use gort::sync::LazyLock;
///
/// static SQUARES: LazyLock<Vec<u32>> = LazyLock::new(|| (0..10).map(|n| n * n).collect());
///
/// gort::run(|| assert_eq!(SQUARES[9], 81))
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    /// Taken to make the value. If it is `None` and there is no value, it has panicked.
    make: Cell<Option<F>>,
}

// SAFETY: `make` is used by the one closure that `value` runs, and by exclusive borrows; F may have
// come from another thread, so it must be Send. For the value, OnceLock says why.
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}

impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// Creates a value that `f` makes on first use.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::LazyLock;
    ///
    /// gort::run(|| {
    ///     let lazy = LazyLock::new(|| 6 * 7);
    ///     assert_eq!(LazyLock::get(&lazy), None);
    ///     assert_eq!(*lazy, 42);
    /// })
    /// ```
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock { value: OnceLock::new(), make: Cell::new(Some(f)) }
    }

    /// Returns the value, and makes it if that was not done yet.
    ///
    /// The function that makes the value must not use it: it would wait for itself.
    ///
    /// # Blocking
    ///
    /// G: yes, while another goroutine or thread makes the value. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If making the value panics, and in every later call.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::LazyLock;
    ///
    /// gort::run(|| {
    ///     let lazy = LazyLock::new(|| 6 * 7);
    ///     assert_eq!(LazyLock::force(&lazy), &42);
    /// })
    /// ```
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.value.get_or_init(|| match this.make.take() {
            Some(make) => make(),
            None => poisoned(),
        })
    }

    /// Returns the value for writing, and makes it if that was not done yet.
    ///
    /// # Panics
    ///
    /// As [`force`](LazyLock::force).
    ///
    /// # Blocking
    ///
    /// As the function that makes the value, if it runs here; else G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::LazyLock;
    ///
    /// gort::run(|| {
    ///     let mut lazy = LazyLock::new(|| 6 * 7);
    ///     *LazyLock::force_mut(&mut lazy) += 1;
    ///     assert_eq!(*lazy, 43);
    /// })
    /// ```
    #[inline]
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        this.value.get_mut().expect("the value is made")
    }
}

impl<T, F> LazyLock<T, F> {
    /// Returns the value, if it was made. It does not make it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::LazyLock;
    ///
    /// gort::run(|| {
    ///     let lazy = LazyLock::new(|| 6 * 7);
    ///     assert_eq!(LazyLock::get(&lazy), None);
    ///     LazyLock::force(&lazy);
    ///     assert_eq!(LazyLock::get(&lazy), Some(&42));
    /// })
    /// ```
    #[inline]
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        this.value.get()
    }

    /// Returns the value for writing, if it was made. It does not make it.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::LazyLock;
    ///
    /// gort::run(|| {
    ///     let mut lazy = LazyLock::new(|| 6 * 7);
    ///     assert_eq!(LazyLock::get_mut(&mut lazy), None);
    ///     LazyLock::force(&lazy);
    ///     assert_eq!(LazyLock::get_mut(&mut lazy), Some(&mut 42));
    /// })
    /// ```
    #[inline]
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        this.value.get_mut()
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("LazyLock instance has previously been poisoned");
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;
    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_tuple("LazyLock");
        match LazyLock::get(self) {
            Some(value) => d.field(value),
            None => d.field(&format_args!("<uninit>")),
        };
        d.finish()
    }
}
