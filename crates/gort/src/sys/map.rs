//! Memory mappings: address space that is committed when it is touched, and guard pages.

use std::io;
use std::sync::OnceLock;

/// The page size of x86-64.
pub(crate) const PAGE: usize = 4096;

/// `madvise` advice of Linux 6.13: makes pages guards without splitting the mapping.
const MADV_GUARD_INSTALL: libc::c_int = 102;
/// Undoes [`MADV_GUARD_INSTALL`].
const MADV_GUARD_REMOVE: libc::c_int = 103;

/// How guards are made on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuardKind {
    /// `MADV_GUARD_INSTALL`: no mapping is split, so only memory limits the number of guards.
    Install,
    /// `mprotect`: each guard splits a mapping, so `vm.max_map_count` limits the number of guards.
    Mprotect,
}

/// Reserves `bytes` of zeroed memory that is committed when it is touched. Huge pages are off,
/// because a goroutine touches one page of its slot, or a few, not 2 MiB.
pub(crate) fn reserve(bytes: usize) -> io::Result<usize> {
    // SAFETY: an anonymous private mapping at an address that the kernel chooses overlaps no memory
    // in use.
    let addr = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if addr == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the range was just mapped. An error only means a kernel without huge pages.
    unsafe { libc::madvise(addr, bytes, libc::MADV_NOHUGEPAGE) };
    Ok(addr as usize)
}

/// Unmaps a mapping made by [`reserve`].
///
/// # Safety
/// The range is no longer used.
pub(crate) unsafe fn release(addr: usize, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(addr as *mut libc::c_void, bytes) };
}

/// Gives the memory of a range back to the system. The range reads as zeroes afterwards. Guards
/// stay.
///
/// # Safety
/// The range is mapped and what it holds is no longer needed.
pub(crate) unsafe fn decommit(addr: usize, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(addr as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
}

/// Makes every access to the range fault.
///
/// # Safety
/// The range is mapped by [`reserve`] and holds nothing that is still needed.
pub(crate) unsafe fn guard(addr: usize, bytes: usize, kind: GuardKind) -> io::Result<()> {
    let addr = addr as *mut libc::c_void;
    // SAFETY: the caller's promise; both calls only change how the range may be accessed.
    let rc = unsafe {
        match kind {
            GuardKind::Install => libc::madvise(addr, bytes, MADV_GUARD_INSTALL),
            GuardKind::Mprotect => libc::mprotect(addr, bytes, libc::PROT_NONE),
        }
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a range usable again that [`GuardKind::Install`] guards. It reads as zeroes.
///
/// # Safety
/// The range is mapped by [`reserve`].
pub(crate) unsafe fn unguard(addr: usize, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller's promise; guards hold nothing.
    let rc = unsafe { libc::madvise(addr as *mut libc::c_void, bytes, MADV_GUARD_REMOVE) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How this kernel makes guards; found out once, by trying.
pub(crate) fn guard_kind() -> GuardKind {
    static KIND: OnceLock<GuardKind> = OnceLock::new();
    *KIND.get_or_init(|| {
        let Ok(addr) = reserve(PAGE) else { return GuardKind::Mprotect };
        // SAFETY: the page was just mapped and is empty, and it is not used after the release.
        unsafe {
            let kind = match guard(addr, PAGE, GuardKind::Install) {
                Ok(()) => GuardKind::Install,
                Err(_) => GuardKind::Mprotect,
            };
            release(addr, PAGE);
            kind
        }
    })
}
