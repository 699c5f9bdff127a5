//! How many goroutines may be inside `blocking` at once. Past the limit a goroutine parks, so that
//! no more threads block.
//!
//! # Invariants
//! 1. `count` is the number of places that were given out and not given back, to goroutines that
//!    entered while there was a limit.
//! 2. Under the lock: a goroutine waits only while `count` is not below the limit. So leaving and
//!    [`set_blocking_limit`], which change one of the two, hand places to the goroutines that wait,
//!    in the order in which they came.

use crate::sched::core::reason::WaitReason;
use crate::sched::core::wait_word::FIRST_TOKEN;
use crate::sched::core::waiter::{WaiterRef, Wake};
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicUsize, Ordering::*, is_child};
use crate::sys::wait_list::{Links, Node, WaitList};

/// The limit; 0 means that there is none. Changed under the lock of [`INSIDE`].
static LIMIT: AtomicUsize = AtomicUsize::new(0);

struct Inside {
    count: usize,
    waiting: WaitList<Waiting>,
}

static INSIDE: Lock<Inside> = Lock::new(Inside { count: 0, waiting: WaitList::new() });

/// A goroutine or thread that waits for a place. It lies in the frame of [`enter_bounded`].
struct Waiting {
    links: Links<Waiting>,
    waiter: WaiterRef,
}

impl Node for Waiting {
    fn links(&self) -> &Links<Waiting> {
        &self.links
    }
}

/// A place inside. It is given back on drop.
pub(crate) struct Place(());

/// Takes a place, and parks while all are taken. `None` means that there is no limit.
#[inline]
pub(crate) fn enter() -> Option<Place> {
    (LIMIT.load(Relaxed) != 0).then(enter_bounded)
}

#[cold]
fn enter_bounded() -> Place {
    let me = Waiting { links: Links::new(), waiter: WaiterRef::current() };
    {
        let mut inside = INSIDE.lock();
        if inside.has_room() {
            inside.count += 1;
            return Place(());
        }
        me.waiter.arm();
        // SAFETY: the node stays in this frame until the wait has ended, and the side that ends it
        // takes the node out before.
        unsafe { inside.waiting.push_back(&me) };
    }
    me.waiter.wait(WaitReason::BlockingLimit, None);
    Place(())
}

impl Drop for Place {
    fn drop(&mut self) {
        if is_child() {
            return;
        }
        INSIDE.lock().count -= 1;
        hand_out();
    }
}

impl Inside {
    fn has_room(&self) -> bool {
        let limit = LIMIT.load(Relaxed);
        limit == 0 || self.count < limit
    }

    /// Gives the goroutine that waits longest a place, if there is one.
    fn hand_to_next(&mut self) -> Option<Wake> {
        if !self.has_room() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.count += 1;
        Some(next.waiter.try_select(FIRST_TOKEN).expect("only the place ends this wait"))
    }
}

fn hand_out() {
    loop {
        let wake = INSIDE.lock().hand_to_next();
        match wake {
            Some(wake) => wake.ready(),
            None => return,
        }
    }
}

/// How many goroutines may be inside [`blocking`](crate::blocking) at once; 0 is no limit.
///
/// # Blocking
///
/// G: no. M: no. P: no.
pub fn blocking_limit() -> usize {
    LIMIT.load(Relaxed)
}

/// Sets how many goroutines may be inside [`blocking`](crate::blocking) at once, for the whole
/// process; more of them park. 0 is no limit. Returns the limit before.
///
/// Goroutines that are inside stay, even if they are more than the new limit. Those that entered
/// while there was no limit are not counted. To bound only one use of `blocking`, take a
/// [`Semaphore`](crate::sync::Semaphore) around it.
///
/// # Blocking
///
/// G: no. M: no. P: no.
///
/// # Examples
///
/// ```
/// gort::run(|| {
///     let before = gort::set_blocking_limit(16);
///     assert_eq!(gort::blocking_limit(), 16);
///     gort::set_blocking_limit(before);
/// })
/// ```
pub fn set_blocking_limit(n: usize) -> usize {
    let before = {
        let _inside = INSIDE.lock();
        LIMIT.swap(n, Relaxed)
    };
    hand_out();
    before
}
