//! Goroutine-local storage: what `goroutine_local!` declares.
//!
//! A `thread_local!` belongs to the stack slot, and keeps its value for the next goroutine there,
//! as a pool's thread does. Goroutine-local values belong to one goroutine: they are fresh for
//! each, are dropped at its end, and are inherited by children where that is asked for.

use crate::sched::core::g::G;
use crate::sched::core::locals::{CloneValue, Entry, Locals};
use crate::sched::core::m;
use std::any::Any;
use std::cell::{Cell, RefCell};

/// A key of goroutine-local storage, as `std::thread::LocalKey`.
/// [`goroutine_local!`](crate::goroutine_local) declares it. On a plain thread the value is the
/// thread's.
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    clone: Option<CloneValue>,
}

thread_local! {
    /// The values of a thread that runs no goroutine.
    static PLAIN: RefCell<Locals> = const { RefCell::new(Locals(Vec::new())) };
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { init, clone: None }
    }

    #[doc(hidden)]
    pub const fn inherited(init: fn() -> T) -> LocalKey<T>
    where
        T: Clone + Send,
    {
        LocalKey { init, clone: Some(clone_value::<T>) }
    }

    /// Calls `f` with the goroutine's value, which is made on first use.
    ///
    /// # Blocking
    ///
    /// G, M, P: no, unless the initialiser or `f` do.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// gort::goroutine_local! {
    ///     static REQUEST: Cell<u32> = Cell::new(0);
    /// }
    ///
    /// gort::run(|| {
    ///     REQUEST.with(|r| r.set(7));
    ///     let child = gort::go(|| REQUEST.with(|r| r.get()));
    ///     assert_eq!(child.join().unwrap(), 0);
    ///     assert_eq!(REQUEST.get(), 7);
    /// })
    /// ```
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        let value = self.find().unwrap_or_else(|| self.insert());
        // SAFETY: the value is in a box that stays until the goroutine (or thread) ends, and only
        // its own code gets here. There are no `&mut`s to it.
        f(unsafe { &*value })
    }

    fn key(&'static self) -> usize {
        std::ptr::from_ref(self) as usize
    }

    fn find(&'static self) -> Option<*const T> {
        with_locals(|locals| {
            let entry = locals.0.iter().find(|e| e.key == self.key())?;
            Some(std::ptr::from_ref(entry.value.downcast_ref::<T>().expect("a key has one type")))
        })
    }

    fn insert(&'static self) -> *const T {
        let value: Box<dyn Any> = Box::new((self.init)());
        // The initialiser may have used the key itself; as in std, the later value wins.
        let ptr = std::ptr::from_ref(value.downcast_ref::<T>().expect("just made"));
        with_locals(|locals| locals.0.push(Entry { key: self.key(), value, clone: self.clone }));
        ptr
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value.
    pub fn set(&'static self, value: T) {
        self.with(|c| c.set(value));
    }

    /// A copy of the value.
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value, leaving the default.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Replaces the value, returning the one before.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|c| c.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with a shared borrow.
    ///
    /// # Panics
    ///
    /// If the value is mutably borrowed.
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|c| f(&c.borrow()))
    }

    /// Calls `f` with a mutable borrow.
    ///
    /// # Panics
    ///
    /// If the value is borrowed.
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|c| f(&mut c.borrow_mut()))
    }

    /// Sets the value.
    ///
    /// # Panics
    ///
    /// If the value is borrowed.
    pub fn set(&'static self, value: T) {
        self.with(|c| *c.borrow_mut() = value);
    }

    /// Takes the value, leaving the default.
    ///
    /// # Panics
    ///
    /// If the value is borrowed.
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Replaces the value, returning the one before.
    ///
    /// # Panics
    ///
    /// If the value is borrowed.
    pub fn replace(&'static self, value: T) -> T {
        self.with(|c| c.replace(value))
    }
}

impl<T: 'static> std::fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

fn clone_value<T: Clone + 'static>(value: &dyn Any) -> Box<dyn Any> {
    Box::new(value.downcast_ref::<T>().expect("a key has one type").clone())
}

/// Calls `f`, which runs no user code, with the caller's values.
fn with_locals<R>(f: impl FnOnce(&mut Locals) -> R) -> R {
    match m::current().and_then(|m| m.g()) {
        // SAFETY: they are the goroutine's own, and nothing in `f` comes back here.
        Some(g) => f(unsafe { (*g.locals.get()).get_or_insert_default() }),
        None => PLAIN.with(|locals| f(&mut locals.borrow_mut())),
    }
}

/// Clones of the caller's values, for a child that is to inherit them. Panics if a `Clone` does.
#[inline]
pub(crate) fn inherited() -> Option<Box<Locals>> {
    let parent = m::current()?.g()?;
    // SAFETY: they are the goroutine's own.
    if unsafe { (*parent.locals.get()).is_some() } { inherited_from(parent) } else { None }
}

#[cold]
fn inherited_from(parent: &G) -> Option<Box<Locals>> {
    // Cloning is user code and may use the locals. So this notes them first, and clones then.
    // Values stay where they are meanwhile.
    // SAFETY: they are the goroutine's own.
    let noted: Vec<(usize, *const dyn Any, CloneValue)> = unsafe { (*parent.locals.get()).as_deref() }
        .into_iter()
        .flat_map(|locals| &locals.0)
        .filter_map(|e| Some((e.key, std::ptr::from_ref(&*e.value), e.clone?)))
        .collect();
    if noted.is_empty() {
        return None;
    }
    let clones = noted.into_iter().map(|(key, value, clone)| {
        // SAFETY: values live until their goroutine ends, and that goroutine is the caller.
        Entry { key, value: clone(unsafe { &*value }), clone: Some(clone) }
    });
    Some(Box::new(Locals(clones.collect())))
}

/// Drops the values of `g`, which is the caller, at its end. Destructors may make new values; those
/// are dropped too.
#[inline]
pub(crate) fn drop_all(g: &G) {
    // SAFETY: they are the goroutine's own.
    while let Some(locals) = unsafe { (*g.locals.get()).take() } {
        drop(locals);
    }
}

/// Declares goroutine-local storage, with the grammar of `thread_local!`.
///
/// Each goroutine has its own value, made on first use and dropped at the goroutine's end. With
/// `#[inherit]` a child starts with a clone of its parent's value, if the parent has used it
/// (`T: Clone + Send`).
///
/// ```
/// use std::cell::RefCell;
///
/// gort::goroutine_local! {
///     /// Whose request this is.
///     #[inherit]
///     static USER: RefCell<String> = RefCell::new(String::new());
///     static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
/// }
///
/// gort::run(|| {
///     USER.set("ada".into());
///     let child = gort::go(|| USER.with_borrow(String::clone));
///     assert_eq!(child.join().unwrap(), "ada");
///     BUFFER.with_borrow_mut(|b| b.push(1));
/// })
/// ```
#[macro_export]
macro_rules! goroutine_local {
    () => {};
    (@key inherited $(#[$attr:meta])* $vis:vis $name:ident, $t:ty, $init:expr) => {
        $(#[$attr])*
        $vis static $name: $crate::LocalKey<$t> = $crate::LocalKey::inherited(|| $init);
    };
    (@key new $(#[$attr:meta])* $vis:vis $name:ident, $t:ty, $init:expr) => {
        $(#[$attr])*
        $vis static $name: $crate::LocalKey<$t> = $crate::LocalKey::new(|| $init);
    };
    // Takes attributes one by one, until `#[inherit]` or the declaration.
    (@attrs [$(#[$seen:meta])*] #[inherit] $(#[$attr:meta])* $vis:vis static $name:ident : $t:ty = $init:expr $(; $($rest:tt)*)?) => {
        $crate::goroutine_local!(@key inherited $(#[$seen])* $(#[$attr])* $vis $name, $t, $init);
        $($crate::goroutine_local!($($rest)*);)?
    };
    (@attrs [$(#[$seen:meta])*] #[$attr:meta] $($rest:tt)*) => {
        $crate::goroutine_local!(@attrs [$(#[$seen])* #[$attr]] $($rest)*);
    };
    (@attrs [$(#[$seen:meta])*] $vis:vis static $name:ident : $t:ty = $init:expr $(; $($rest:tt)*)?) => {
        $crate::goroutine_local!(@key new $(#[$seen])* $vis $name, $t, $init);
        $($crate::goroutine_local!($($rest)*);)?
    };
    ($($rest:tt)+) => {
        $crate::goroutine_local!(@attrs [] $($rest)+);
    };
}
