//! Why a goroutine waits, in the words of Go's dumps.

/// What a parked goroutine waits for; shown in dumps as `goroutine 7 [chan receive]:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the words that `as_str` gives")]
pub enum WaitReason {
    None,
    ChanReceive,
    ChanSend,
    ChanReceiveNever,
    Select,
    SelectNoCases,
    Sleep,
    IoWait,
    MutexLock,
    RwLockRead,
    RwLockWrite,
    CondvarWait,
    OnceWait,
    BarrierWait,
    WaitGroupWait,
    SemaphoreAcquire,
    Join,
    Scope,
    BlockOn,
    BlockingLimit,
    Run,
    AfterFunc,
}

impl WaitReason {
    /// The words of the dump.
    pub fn as_str(self) -> &'static str {
        match self {
            WaitReason::None => "waiting",
            WaitReason::ChanReceive => "chan receive",
            WaitReason::ChanSend => "chan send",
            WaitReason::ChanReceiveNever => "chan receive (nil chan)",
            WaitReason::Select => "select",
            WaitReason::SelectNoCases => "select (no cases)",
            WaitReason::Sleep => "sleep",
            WaitReason::IoWait => "IO wait",
            WaitReason::MutexLock => "sync.Mutex.Lock",
            WaitReason::RwLockRead => "sync.RWMutex.RLock",
            WaitReason::RwLockWrite => "sync.RWMutex.Lock",
            WaitReason::CondvarWait => "sync.Cond.Wait",
            WaitReason::OnceWait => "sync.Once",
            WaitReason::BarrierWait => "sync.Barrier",
            WaitReason::WaitGroupWait => "sync.WaitGroup.Wait",
            WaitReason::SemaphoreAcquire => "semacquire",
            WaitReason::Join => "join",
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
