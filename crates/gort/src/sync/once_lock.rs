//! [`OnceLock`]: a value that is set once.

use super::once::Once;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};

/// A cell that is written once; who comes while it is being written parks the goroutine, never its thread.
///
/// It has [`std::sync::OnceLock`]'s methods.
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
    /// Initialised as soon as `once` is completed.
    value: UnsafeCell<MaybeUninit<T>>,
    owns: PhantomData<T>,
}

// SAFETY: sharing gives `&T` to all (T: Sync), and the value may be set by one and dropped by another (T:
// Send).
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}
// SAFETY: owning the cell is owning the T.
unsafe impl<T: Send> Send for OnceLock<T> {}

impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// An empty cell.
    pub const fn new() -> OnceLock<T> {
        OnceLock { once: Once::new(), value: UnsafeCell::new(MaybeUninit::uninit()), owns: PhantomData }
    }

    /// The value, if it is set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.once.is_completed() {
            // SAFETY: `once` is completed, so the value was written, and nobody writes it again while we are
            // borrowed.
            Some(unsafe { (*self.value.get()).assume_init_ref() })
        } else {
            None
        }
    }

    /// The value, if it is set.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.once.is_completed() {
            // SAFETY: `once` is completed, so the value was written; the borrow is exclusive.
            Some(unsafe { self.value.get_mut().assume_init_mut() })
        } else {
            None
        }
    }

    /// Waits until the value is set.
    ///
    /// # Blocking
    ///
    /// G: yes. M: no. P: no.
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.get().expect("the value is set")
    }

    /// Sets the value.
    ///
    /// # Blocking
    ///
    /// G: yes, while somebody else is setting it. M: no. P: no.
    ///
    /// # Errors
    ///
    /// Gives `value` back if there was one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("the closure runs once"));
        match value {
            None => Ok(()),
            Some(value) => Err(value),
        }
    }

    /// The value, which `f` makes if it is not set.
    ///
    /// If `f` panics, the cell stays empty, and the next caller's `f` runs.
    ///
    /// # Blocking
    ///
    /// G: yes, while another one's `f` runs. M: no. P: no.
    #[inline]
    pub fn get_or_init<F: FnOnce() -> T>(&self, f: F) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        self.once.call_once_force(|_| {
            let value = f();
            // SAFETY: `once` runs one closure at a time and none after it has completed, so nobody else reads
            // or writes the value now.
            unsafe { (*self.value.get()).write(value) };
        });
        self.get().expect("the value is set")
    }

    /// The value, if it was set.
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    /// Takes the value out; the cell is empty again.
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
