//! [`OnceLock`]: a value that is set once.

use super::once::Once;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A cell that is written once.
///
/// A goroutine that comes while it is being written is parked, and its thread runs other
/// goroutines. It has the methods of [`std::sync::OnceLock`].
///
/// # Examples
///
/// ```
/// use gort::sync::OnceLock;
///
/// static NAME: OnceLock<String> = OnceLock::new();
///
/// gort::run(|| {
///     assert_eq!(NAME.get(), None);
///     assert_eq!(NAME.get_or_init(|| "first".into()), "first");
///     assert_eq!(NAME.set("second".into()), Err("second".into()));
/// })
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Initialised once `once` is completed.
    value: UnsafeCell<MaybeUninit<T>>,
    owns: PhantomData<T>,
}

// SAFETY: sharing gives `&T` to all threads (T: Sync), and one thread may set the value and another
// one drop it (T: Send).
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}
// SAFETY: owning the cell is owning the T.
unsafe impl<T: Send> Send for OnceLock<T> {}

impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// Creates an empty cell.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// static CELL: OnceLock<u32> = OnceLock::new();
    ///
    /// gort::run(|| assert_eq!(CELL.get(), None))
    /// ```
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: UnsafeCell::new(MaybeUninit::uninit()), owns: PhantomData }
    }

    /// Returns the value, if it is set.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// gort::run(|| {
    ///     let cell = OnceLock::new();
    ///     assert_eq!(cell.get(), None);
    ///     cell.set(1).unwrap();
    ///     assert_eq!(cell.get(), Some(&1));
    /// })
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() {
            // SAFETY: `once` is completed, so the value was written, and it is not written again
            // while the cell is borrowed.
            Some(unsafe { (*self.value.get()).assume_init_ref() })
        } else {
            None
        }
    }

    /// Returns the value for writing, if it is set.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// gort::run(|| {
    ///     let mut cell = OnceLock::from(1);
    ///     *cell.get_mut().unwrap() += 1;
    ///     assert_eq!(cell.get(), Some(&2));
    /// })
    /// ```
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.once.is_completed() {
            // SAFETY: `once` is completed, so the value was written; the borrow is exclusive.
            Some(unsafe { self.value.get_mut().assume_init_mut() })
        } else {
            None
        }
    }

    /// Waits until the value is set, and returns it.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// static CELL: OnceLock<u32> = OnceLock::new();
    ///
    /// gort::run(|| {
    ///     gort::go(|| CELL.set(1).unwrap());
    ///     assert_eq!(CELL.wait(), &1);
    /// })
    /// ```
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.get().expect("the value is set")
    }

    /// Sets the value, if the cell is empty.
    ///
    /// # Blocking
    ///
    /// G: yes, while another goroutine or thread is setting it. M: no. P: no.
    ///
    /// # Errors
    ///
    /// `value`, if the cell had a value already.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// gort::run(|| {
    ///     let cell = OnceLock::new();
    ///     assert_eq!(cell.set(1), Ok(()));
    ///     assert_eq!(cell.set(2), Err(2));
    /// })
    /// ```
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("the closure runs once"));
        match value {
            None => Ok(()),
            Some(value) => Err(value),
        }
    }

    /// Returns the value, and sets it to the result of `f` if the cell is empty.
    ///
    /// `f` must not use the cell: it would wait for itself.
    ///
    /// # Blocking
    ///
    /// G: yes, while the `f` of another caller runs. M: no. P: no.
    ///
    /// # Panics
    ///
    /// If `f` panics. The cell stays empty then, and the `f` of the next caller runs.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// gort::run(|| {
    ///     let cell = OnceLock::new();
    ///     assert_eq!(cell.get_or_init(|| 1), &1);
    ///     assert_eq!(cell.get_or_init(|| 2), &1);
    /// })
    /// ```
    #[inline]
    pub fn get_or_init<F: FnOnce() -> T>(&self, f: F) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        self.once.call_once_force(|_| {
            let value = f();
            // SAFETY: `once` runs one closure at a time and none after it has completed, so nothing
            // else reads or writes the value now.
            unsafe { (*self.value.get()).write(value) };
        });
        self.get().expect("the value is set")
    }

    /// Returns the value, if it was set, and consumes the cell.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// gort::run(|| {
    ///     assert_eq!(OnceLock::from(1).into_inner(), Some(1));
    ///     assert_eq!(OnceLock::<u32>::new().into_inner(), None);
    /// })
    /// ```
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    /// Takes the value out, if it was set. The cell is empty then.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    ///
    /// # Examples
    ///
    /// ```
    /// use gort::sync::OnceLock;
    ///
    /// gort::run(|| {
    ///     let mut cell = OnceLock::from(1);
    ///     assert_eq!(cell.take(), Some(1));
    ///     assert_eq!(cell.take(), None);
    /// })
    /// ```
    pub fn take(&mut self) -> Option<T> {
        if !self.once.is_completed() {
            return None;
        }
        self.once = Once::new();
        // SAFETY: `once` was completed, so the value was written; now it counts as not written.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }
}

impl<T> Drop for OnceLock<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        OnceLock {
            once: Once::new_complete(),
            value: UnsafeCell::new(MaybeUninit::new(value)),
            owns: PhantomData,
        }
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get().cloned().map_or_else(OnceLock::new, OnceLock::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut d = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => d.field(value),
            None => d.field(&format_args!("<uninit>")),
        };
        d.finish()
    }
}
