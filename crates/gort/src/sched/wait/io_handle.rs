//! How a goroutine waits for a socket: the right to a poll descriptor. The protocol is in
//! `io/netpoll.rs`.

use crate::sched::core::reason::WaitReason;
use crate::sched::core::timers::TimerNode;
use crate::sched::core::waiter::{Lent, WaiterRef, Wake};
use crate::sched::io::direction::{Barred, Direction, Enrolled};
use crate::sched::io::netpoll::{
    BARRED_TOKEN, CALL_TIMED_OUT_TOKEN, Mode, PollDesc, READY_TOKEN, TABLE, fire_call_timeout, fire_deadline,
    poller, select, waiting,
};
use crate::sched::io::poll::{self, TimerHost};
use crate::sys::sync::{Ordering::*, is_child};
use crate::sys::{clock, fork};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

/// Why an operation may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoWaitError {
    Closed,
    DeadlineExceeded,
}

impl From<Barred> for IoWaitError {
    fn from(barred: Barred) -> IoWaitError {
        match barred {
            Barred::Closed => IoWaitError::Closed,
            Barred::Expired => IoWaitError::DeadlineExceeded,
        }
    }
}

/// A socket's right to a poll descriptor. At most one operation in each direction uses it at a
/// time.
pub(crate) struct IoHandle {
    desc: &'static PollDesc,
}

impl IoHandle {
    /// Registers `fd` with the poller.
    ///
    /// `fd` stays open until [`deregister`](IoHandle::deregister) or the handle's drop.
    ///
    /// # Errors
    /// What the kernel says (out of memory, not a kind of file that can be polled), or that no
    /// runtime was started, so that nothing would poll.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> io::Result<IoHandle> {
        fork::refuse("I/O");
        let poller =
            poller().ok_or_else(|| io::Error::other(crate::sched::core::fixed::not_started("net")))?;
        let handle = IoHandle { desc: TABLE.alloc()? };
        poller.add(fd, handle.desc.token())?;
        handle.desc.fd.store(fd.as_raw_fd(), Relaxed);
        Ok(handle)
    }

    /// Called before an operation's first system call: fails if the handle is closed or the
    /// deadline has passed, and forgets old edges.
    #[inline]
    pub(crate) fn prepare(&self, mode: Mode) -> Result<(), IoWaitError> {
        self.check(mode)?;
        self.desc.direction(mode).clear();
        Ok(())
    }

    /// Fails if the handle is closed or the deadline has passed.
    #[inline]
    pub(crate) fn check(&self, mode: Mode) -> Result<(), IoWaitError> {
        self.desc.direction(mode).check()?;
        let deadline_ns = self.desc.deadlines_ns[mode as usize].load(Relaxed);
        if deadline_ns != 0 && deadline_ns <= clock::now_ns() {
            return Err(IoWaitError::DeadlineExceeded);
        }
        Ok(())
    }

    /// Parks the caller until an edge has come since the last [`prepare`](IoHandle::prepare) or
    /// `wait`, but at most until `deadline_ns` of the clock. That is this call's own deadline,
    /// beside the handle's.
    pub(crate) fn wait(&self, mode: Mode, deadline_ns: Option<u64>) -> Result<(), IoWaitError> {
        let direction = self.desc.direction(mode);
        loop {
            direction.check()?;
            match self.park(direction, deadline_ns) {
                READY_TOKEN => return Ok(()),
                CALL_TIMED_OUT_TOKEN => return Err(IoWaitError::DeadlineExceeded),
                // The deadline may have been moved since it woke the caller, and so may not have
                // passed: look again.
                _ => {}
            }
        }
    }

    /// Enrols the caller, and parks it until it is taken out of the word. The token says why.
    fn park(&self, direction: &Direction, deadline_ns: Option<u64>) -> usize {
        let me = WaiterRef::current();
        me.arm();
        match direction.enrol(me.to_ptr()) {
            Enrolled::Ready => return READY_TOKEN,
            Enrolled::Barred(_) => return BARRED_TOKEN,
            Enrolled::Waits => {}
        }
        let token = match deadline_ns {
            None => self.sleep(me),
            Some(when_ns) => self.sleep_until(direction, me, when_ns),
        };
        if token == READY_TOKEN {
            direction.clear();
        }
        token
    }

    /// Apart from [`park`](IoHandle::park), so that the frame of a wait for ever holds no timer.
    #[inline(never)]
    fn sleep_until(&self, direction: &Direction, me: WaiterRef, when_ns: u64) -> usize {
        let mut here = MaybeUninit::uninit();
        // SAFETY: the waiter has no other node, and this one is stopped below.
        let timer = unsafe { me.place_node(&mut here, TimerNode::new()) };
        let arg = std::ptr::from_ref(direction).cast();
        // Started after `enrol`, so that it finds the waiter in the word.
        // SAFETY: the node is new, stays where it is, and is stopped below before the frame ends
        // (nothing in between unwinds). The direction lives for ever.
        unsafe { TimerHost::start(timer, when_ns, fire_call_timeout, arg, 0) };
        let token = self.sleep(me);
        timer.stop();
        token
    }

    /// Waits until the waiter is taken out of the word.
    #[inline]
    fn sleep(&self, me: WaiterRef) -> usize {
        let count = waiting(self.desc.index);
        count.fetch_add(1, Relaxed);
        if me.is_thread() {
            poll::announce(poll::SOON_ENOUGH); // a goroutine's M comes to the poll by itself
        }
        // No deadline here: what has taken the waiter out of the word must find it still waiting.
        let token = me.wait_swappable(WaitReason::IoWait, Lent::Nothing);
        count.fetch_sub(1, Relaxed);
        token
    }

    /// True if an operation must try before it waits (`Direction::is_lasting`).
    #[inline]
    pub(crate) fn is_lasting(&self, mode: Mode) -> bool {
        self.desc.direction(mode).is_lasting()
    }

    /// Sets the deadline of the chosen directions, or takes it away (`None`), also for operations
    /// in flight. A moment in the past fails them at once. After `evict` this does nothing.
    pub(crate) fn set_deadline(&self, read: bool, write: bool, deadline: Option<Instant>) {
        fork::refuse("a deadline");
        let when_ns = deadline.map(clock::ns_of);
        let mut wakes = [Wake::NONE, Wake::NONE];
        {
            let _guard = self.desc.lock.lock();
            if self.desc.read.check() == Err(Barred::Closed) {
                return;
            }
            for (i, mode) in [(0, Mode::Read), (1, Mode::Write)] {
                if if i == 0 { read } else { write } {
                    wakes[i] = self.set_one_deadline(mode, when_ns);
                }
            }
        }
        wakes.into_iter().for_each(Wake::ready);
    }

    /// Does so for one direction, under the descriptor's lock.
    fn set_one_deadline(&self, mode: Mode, when_ns: Option<u64>) -> Wake {
        let direction = self.desc.direction(mode);
        let timer = self.desc.timer(mode);
        timer.stop();
        self.desc.deadlines_ns[mode as usize].store(when_ns.unwrap_or(0), Relaxed);
        let Some(when_ns) = when_ns else {
            direction.renew();
            return Wake::NONE;
        };
        if when_ns <= clock::now_ns() {
            return select(direction.fail(Barred::Expired), BARRED_TOKEN);
        }
        direction.renew();
        // SAFETY: the node was stopped above, and is started only here, under the lock. Node and
        // direction live for ever.
        unsafe { TimerHost::start(timer, when_ns, fire_deadline, std::ptr::from_ref(direction).cast(), 0) };
        Wake::NONE
    }

    /// Closes the handle: operations in flight and later ones fail.
    pub(crate) fn evict(&self) {
        let wakes = {
            let _guard = self.desc.lock.lock();
            [Mode::Read, Mode::Write].map(|mode| {
                self.desc.timer(mode).stop();
                select(self.desc.direction(mode).fail(Barred::Closed), BARRED_TOKEN)
            })
        };
        wakes.into_iter().for_each(Wake::ready);
    }

    /// Takes the file descriptor away from the poller; it may be closed after this. No operation is
    /// in progress.
    pub(crate) fn deregister(&self) {
        let fd = self.desc.fd.swap(-1, Relaxed);
        if fd != -1 {
            // Cannot fail for a descriptor that is open and registered. If its owner closed it
            // early, the kernel has forgotten it already.
            let _ = poller().expect("made by `open`").delete(fd);
        }
    }
}

impl Drop for IoHandle {
    fn drop(&mut self) {
        if is_child() {
            return; // what the poller knows is the parent's
        }
        self.deregister();
        {
            let _guard = self.desc.lock.lock();
            self.desc.read_timer.stop();
            self.desc.write_timer.stop();
            self.desc.deadlines_ns.iter().for_each(|deadline| deadline.store(0, Relaxed));
        }
        TABLE.free(self.desc);
    }
}

impl std::fmt::Debug for IoHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IoHandle").field("index", &self.desc.index).finish_non_exhaustive()
    }
}
