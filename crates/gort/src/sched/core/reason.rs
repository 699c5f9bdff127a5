//! Why a goroutine waits.

use std::fmt;

/// What a parked goroutine waits for. Dumps show it: `goroutine 7 [chan receive, 2 minutes]:`.
///
/// The text of a reason ([`as_str`](WaitReason::as_str), `Display`) comes in two kinds:
///
/// - Channels, `select!`, sleeping and I/O have the words of Go's dumps, which tools that read
///   dumps know: `chan receive`, `chan send`, `select`, `sleep`, `IO wait`.
/// - All else is named for the Rust call that waits, such as `Mutex::lock`.
///
/// # Examples
///
/// ```
/// use gort::debug::WaitReason;
///
/// assert_eq!(WaitReason::ChanReceive.as_str(), "chan receive");
/// assert_eq!(WaitReason::MutexLock.to_string(), "Mutex::lock");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum WaitReason {
    /// `waiting`: no reason was noted.
    None,
    /// `chan receive`: [`Receiver::recv`](crate::chan::Receiver::recv), its variants with a time
    /// limit, iterators over a receiver; also of [`after`](crate::chan::after),
    /// [`tick`](crate::chan::tick), timers and tickers.
    ChanReceive,
    /// `chan send`: [`Sender::send`](crate::chan::Sender::send), and its variants with a time
    /// limit.
    ChanSend,
    /// `chan receive (never)`: receiving from [`chan::never`](crate::chan::never), which only a
    /// time limit ends.
    ChanReceiveNever,
    /// `select`: [`select!`](crate::select!), or [`Select`](crate::chan::Select).
    Select,
    /// `select (no cases)`: a `select!` or a `Select` without operations, which only a time limit
    /// ends.
    SelectNoCases,
    /// `sleep`: [`sleep`](crate::sleep), [`sleep_until`](crate::sleep_until).
    Sleep,
    /// `IO wait`: a call of [`net`](crate::net) that waits for the kernel, or for another call on
    /// the same socket.
    IoWait,
    /// `Mutex::lock`: [`Mutex::lock`](crate::sync::Mutex::lock), and its variants with a time
    /// limit.
    MutexLock,
    /// `RwLock::read`: [`RwLock::read`](crate::sync::RwLock::read), and its variants with a time
    /// limit.
    RwLockRead,
    /// `RwLock::write`: [`RwLock::write`](crate::sync::RwLock::write), and its variants with a time
    /// limit.
    RwLockWrite,
    /// `Condvar::wait`: [`Condvar::wait`](crate::sync::Condvar::wait), and its variants.
    CondvarWait,
    /// `Once::call_once`: [`Once`](crate::sync::Once), [`OnceLock`](crate::sync::OnceLock) or
    /// [`LazyLock`](crate::sync::LazyLock), while another goroutine initialises it.
    OnceWait,
    /// `Barrier::wait`: [`Barrier::wait`](crate::sync::Barrier::wait).
    BarrierWait,
    /// `WaitGroup::wait`: [`WaitGroup::wait`](crate::sync::WaitGroup::wait), or
    /// [`Group::wait`](crate::group::Group::wait).
    WaitGroupWait,
    /// `Semaphore::acquire`: [`Semaphore::acquire`](crate::sync::Semaphore::acquire), and its
    /// variants.
    SemaphoreAcquire,
    /// `JoinHandle::join`: [`JoinHandle::join`](crate::JoinHandle::join), and
    /// [`join_timeout`](crate::JoinHandle::join_timeout).
    Join,
    /// `scope`: the end of a [`scope`](fn@crate::scope), which waits for its goroutines.
    Scope,
    /// `block_on`: [`future::block_on`](crate::future::block_on), until its future is woken.
    BlockOn,
    /// `blocking limit`: [`blocking`](crate::blocking), at the limit of
    /// [`set_blocking_limit`](crate::set_blocking_limit).
    BlockingLimit,
    /// `run`: a caller of [`run`](crate::run) whose main goroutine called
    /// [`goexit`](crate::goexit).
    Run,
    /// `after_func`: a function of
    /// [`Context::after_func`](crate::context::Context::after_func) that has not been called yet.
    AfterFunc,
}

impl WaitReason {
    /// The words that dumps show.
    ///
    /// # Blocking
    ///
    /// G: no. M: no. P: no.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitReason::None => "waiting",
            WaitReason::ChanReceive => "chan receive",
            WaitReason::ChanSend => "chan send",
            WaitReason::ChanReceiveNever => "chan receive (never)",
            WaitReason::Select => "select",
            WaitReason::SelectNoCases => "select (no cases)",
            WaitReason::Sleep => "sleep",
            WaitReason::IoWait => "IO wait",
            WaitReason::MutexLock => "Mutex::lock",
            WaitReason::RwLockRead => "RwLock::read",
            WaitReason::RwLockWrite => "RwLock::write",
            WaitReason::CondvarWait => "Condvar::wait",
            WaitReason::OnceWait => "Once::call_once",
            WaitReason::BarrierWait => "Barrier::wait",
            WaitReason::WaitGroupWait => "WaitGroup::wait",
            WaitReason::SemaphoreAcquire => "Semaphore::acquire",
            WaitReason::Join => "JoinHandle::join",
            WaitReason::Scope => "scope",
            WaitReason::BlockOn => "block_on",
            WaitReason::BlockingLimit => "blocking limit",
            WaitReason::Run => "run",
            WaitReason::AfterFunc => "after_func",
        }
    }

    /// The reason whose number is `n` (as stored in a descriptor).
    pub(crate) fn from_u8(n: u8) -> WaitReason {
        assert!(n <= WaitReason::AfterFunc as u8);
        // SAFETY: the enum is `repr(u8)` with the numbers 0..=AfterFunc without a gap, and `n` is
        // one of them.
        unsafe { std::mem::transmute(n) }
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reason has its own text, and none that would end the brackets of a dump's header.
    #[test]
    fn texts_are_unique_and_fit_into_a_header() {
        let texts: Vec<&str> =
            (0..=WaitReason::AfterFunc as u8).map(|n| WaitReason::from_u8(n).as_str()).collect();
        for (i, text) in texts.iter().enumerate() {
            assert!(!text.contains([',', '[', ']', '\n']), "{text}");
            assert!(!texts[..i].contains(text), "{text}");
        }
    }
}
