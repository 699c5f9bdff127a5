//! The tree of cancellations.
//!
//! # Role
//!
//! Every context that can end by itself has a [`Canceler`]. Contexts that only add a value share
//! the one of their parent. Users hold a canceler through a [`Handle`], which is in contexts, in
//! their descendants, and in `Cancel`s and `AfterFunc`s.
//!
//! # States
//!
//! ```text
//!   live ──outcome set──▶ claimed ──done disconnects, children taken──▶ closed ──▶ complete
//! ```
//! | step     | made by                                                              |
//! | -------- | -------------------------------------------------------------------- |
//! | claimed  | the first call to set the outcome; the other calls wait for complete |
//! | closed   | the claimer, which takes `live` out, under its lock                  |
//! | complete | the claimer, when everything below is closed too                     |
//!
//! When a canceler is complete, so are all below it.
//!
//! # Invariants
//!
//! 1. A parent holds its children, children hold their parent weakly: there are no cycles. A parent
//!    lives as long as it can be cancelled, since contexts hold their parents and a `Cancel` holds
//!    its canceler.
//! 2. A canceler is linked in its parent while there is a handle on it, or something below it that
//!    is to hear of a cancellation (an `after_func`, a linked child). When the last of these goes,
//!    the canceler is unlinked and its timer is stopped.
//! 3. The outcome is set before `done` disconnects, and [`Canceler::outcome`] waits for `done`. So
//!    users see both at once.
//! 4. No two locks of the tree are held at once. No value of a user's is dropped, and no function
//!    of a user's is called, under such a lock.
//!
//! # Why two cancellations at once do not deadlock
//!
//! A claimer waits only for cancelers that lie below those that it has claimed itself, and that
//! another cancellation claimed first. So it waits for a cancellation that started strictly lower
//! in the tree.

use super::error::Outcome;
use crate::chan::{self, Receiver, Sender};
use crate::sched;
use crate::sync::OnceLock;
use crate::sync::interrupt::Interrupt;
use crate::sys::lock::Lock;
use crate::sys::sync::{AtomicU64, Ordering::Relaxed, is_child};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Instant;

/// One node of the tree.
pub(super) struct Canceler {
    id: u64,
    parent: Weak<Canceler>,
    outcome: OnceLock<Outcome>,
    done: Receiver<Infallible>,
    complete: OnceLock<()>,
    live: Lock<Option<Live>>,
}

/// What a canceler has until it is closed.
struct Live {
    /// Dropping it disconnects `done`.
    done: Sender<Infallible>,
    children: BTreeMap<u64, Child>,
    timer: Option<sched::AfterFunc>,
    /// No handle is left.
    abandoned: bool,
}

/// What is told of a cancellation.
pub(super) enum Child {
    Canceler(Arc<Canceler>),
    Func(Box<dyn FnOnce() + Send>),
    Interrupt(Arc<Interrupt>),
}

/// What users hold of a canceler. When the last one is dropped, the canceler can be neither seen
/// nor cancelled any more.
pub(super) struct Handle(Arc<Canceler>);

impl Deref for Handle {
    type Target = Arc<Canceler>;
    fn deref(&self) -> &Arc<Canceler> {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if is_child() {
            return;
        }
        if let Some(live) = &mut *self.0.live.lock() {
            live.abandoned = true;
        }
        self.0.release_unused();
    }
}

/// Returns a number that no other child has.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

impl Canceler {
    /// Makes a canceler below `parent`. It is closed at once if the parent is.
    pub(super) fn below(parent: Option<&Handle>) -> Arc<Handle> {
        let (tx, rx) = chan::bounded(0);
        let live = Live { done: tx, children: BTreeMap::new(), timer: None, abandoned: false };
        let canceler = Arc::new(Canceler {
            id: next_id(),
            parent: parent.map_or_else(Weak::new, |p| Arc::downgrade(p)),
            outcome: OnceLock::new(),
            done: rx,
            complete: OnceLock::new(),
            live: Lock::new(Some(live)),
        });
        if let Some(parent) = parent
            && parent.link(canceler.id, Child::Canceler(canceler.clone())).is_err()
        {
            canceler.cancel(parent.outcome.get().expect("a closed canceler has its outcome"));
        }
        Arc::new(Handle(canceler))
    }

    pub(super) fn done(&self) -> &Receiver<Infallible> {
        &self.done
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        let outcome = self.outcome.get()?;
        let Err(_) = self.done.recv(); // invariant 3: the claimer is about to disconnect it
        Some(outcome)
    }

    /// Ends this canceler and all below it. When this returns, all of them are done, also those
    /// that another call has ended.
    pub(super) fn cancel(&self, outcome: &Outcome) {
        if self.outcome.set(outcome.clone()).is_err() {
            self.complete.wait();
            return;
        }
        let mut wave = Wave::new(outcome);
        wave.close(self);
        let mut next = 0;
        while let Some(canceler) = wave.claimed.get(next).cloned() {
            wave.close(&canceler);
            next += 1;
        }
        for other in &wave.others {
            other.complete.wait();
        }
        for canceler in wave.claimed.iter().map(Deref::deref).chain([self]) {
            let first = canceler.complete.set(());
            debug_assert!(first.is_ok());
        }
        if let Some(parent) = self.parent.upgrade() {
            parent.unlink(self.id);
            parent.release_unused();
        }
        for timer in wave.timers {
            timer.stop();
        }
        for f in wave.funcs {
            drop(sched::go(f));
        }
    }

    /// Cancels this with `outcome` at `deadline`.
    pub(super) fn cancel_at(self: &Arc<Self>, deadline: Instant, outcome: Outcome) {
        if deadline <= Instant::now() {
            return self.cancel(&outcome);
        }
        if self.outcome.get().is_some() {
            return;
        }
        let canceler = self.clone();
        let timer = sched::after_func(deadline, Box::new(move || canceler.cancel(&outcome)));
        let mut timer = Some(timer);
        if let Some(live) = &mut *self.live.lock() {
            live.timer = timer.take();
        }
        if let Some(timer) = timer {
            timer.stop(); // the canceler was closed meanwhile
        }
    }

    /// Registers a child of any kind. Returns it if this canceler is closed.
    fn link(&self, id: u64, child: Child) -> Result<(), Child> {
        match &mut *self.live.lock() {
            Some(live) => {
                live.children.insert(id, child);
                Ok(())
            }
            None => Err(child),
        }
    }

    fn unlink(&self, id: u64) -> Option<Child> {
        self.live.lock().as_mut()?.children.remove(&id)
    }

    /// Unlinks this canceler if it is no longer needed, and then perhaps those above it (invariant
    /// 2).
    fn release_unused(&self) {
        let Some(mut parent) = self.release_one() else { return };
        while let Some(next) = parent.release_one() {
            parent = next;
        }
    }

    /// Unlinks this canceler if it is unused. Returns its parent then.
    fn release_one(&self) -> Option<Arc<Canceler>> {
        let timer = match &mut *self.live.lock() {
            Some(live) if live.abandoned && live.children.is_empty() => live.timer.take(),
            _ => return None,
        };
        if let Some(timer) = timer {
            timer.stop();
        }
        let parent = self.parent.upgrade()?;
        parent.unlink(self.id);
        Some(parent)
    }

    #[cfg(test)]
    pub(super) fn children(&self) -> usize {
        self.live.lock().as_ref().map_or(0, |live| live.children.len())
    }
}

impl Drop for Canceler {
    /// Drops the cancelers below one after the other: a deep tree must not need a deep stack.
    fn drop(&mut self) {
        if is_child() {
            return;
        }
        let children =
            |canceler: &Canceler| canceler.live.lock().take().map(|live| live.children.into_values());
        let mut todo: Vec<Child> = children(self).into_iter().flatten().collect();
        while let Some(child) = todo.pop() {
            if let Child::Canceler(child) = child
                && let Some(child) = Arc::into_inner(child)
            {
                todo.extend(children(&child).into_iter().flatten());
            }
        }
    }
}

/// A cancellation on its way down the tree.
struct Wave<'a> {
    outcome: &'a Outcome,
    /// Claimed by this cancellation, and closed in this order.
    claimed: Vec<Arc<Canceler>>,
    /// Claimed by another cancellation before.
    others: Vec<Arc<Canceler>>,
    // Timers are stopped and functions started at the end: they hold values of the user's, and a
    // drop of those may look at the contexts, which have to be complete by then.
    timers: Vec<sched::AfterFunc>,
    funcs: Vec<Box<dyn FnOnce() + Send>>,
}

impl Wave<'_> {
    fn new(outcome: &Outcome) -> Wave<'_> {
        Wave { outcome, claimed: Vec::new(), others: Vec::new(), timers: Vec::new(), funcs: Vec::new() }
    }

    /// Closes a canceler that this cancellation has claimed, and claims its children.
    fn close(&mut self, canceler: &Canceler) {
        let live = canceler.live.lock().take().expect("only its claimer closes a canceler");
        drop(live.done);
        self.timers.extend(live.timer);
        for child in live.children.into_values() {
            match child {
                Child::Canceler(child) => match child.outcome.set(self.outcome.clone()) {
                    Ok(()) => self.claimed.push(child),
                    Err(_) => self.others.push(child),
                },
                Child::Func(f) => self.funcs.push(f),
                Child::Interrupt(interrupt) => interrupt.fire(),
            }
        }
    }
}

/// The registration of a child that is no canceler.
pub(super) struct Registration {
    handle: Arc<Handle>,
    id: u64,
}

impl Registration {
    /// Registers `child` with `handle`. Returns it too if that is closed.
    pub(super) fn new(handle: &Arc<Handle>, child: Child) -> (Registration, Result<(), Child>) {
        let id = next_id();
        (Registration { handle: handle.clone(), id }, handle.link(id, child))
    }

    /// Takes the registration back. Returns whether it was still there.
    pub(super) fn remove(&self) -> bool {
        if is_child() {
            return false;
        }
        self.handle.unlink(self.id).is_some()
    }
}
