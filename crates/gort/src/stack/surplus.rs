//! Takes the space that libc keeps free in each thread's block for libraries that are opened later.
//!
//! # Why a library must take it
//! Thread-locals of a library opened by `dlopen` are allocated when a thread first uses them. The
//! exception is *initial-exec* thread-locals: they lie at the same distance from every thread
//! pointer, in a surplus of some 1.6 KB below the thread-locals of the libraries that the program
//! was started with.
//!
//! - If a goroutine's stack began below the surplus, the goroutine would touch a second page for no
//!   use.
//! - If its stack lies *in* the surplus, no library may get that space later.
//!
//! So a library that gort makes takes all of the surplus, once per process. libc then refuses a
//! later library that wants some: "cannot allocate memory in static TLS block".
//!
//! # The library
//! It is a file in memory (`memfd`), made here and opened by libc's own `dlopen`. It has no code: a
//! segment of data, thread-locals of the wanted size, and one relocation of the kind that asks for
//! initial-exec thread-locals. The relocated word tells where they lie. The library is opened by a
//! thread that ends soon, so its path leads nowhere afterwards.
//!
//! A first library, of one byte, finds out what is free. It is closed again; libc allows that for
//! the library that was opened last. The second library is never closed.

use crate::sys::thread;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// The sizes of a block in libc that matter here: of everything from the lowest byte of static TLS
/// to the end of the descriptor, and of the descriptor alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) all: usize,
    pub(super) descriptor: usize,
}

impl Sizes {
    /// The bytes for thread-locals, used and free.
    fn room(self) -> usize {
        self.all - self.descriptor
    }
}

/// The bytes below the thread pointer that belong to libraries.
pub(super) fn used(sizes: Sizes) -> Result<usize, String> {
    on_new_thread(move || used_here(sizes))
}

fn used_here(sizes: Sizes) -> Result<usize, String> {
    match Library::open(1, false) {
        Ok(probe) => {
            let at = probe.offset;
            probe.close();
            at.checked_sub(1)
                .filter(|&used| used <= sizes.room())
                .ok_or_else(|| format!("an unexpected offset, {at}"))
        }
        Err(Refused::NoRoom) => Ok(sizes.room()),
        Err(Refused::Otherwise(why)) => Err(why),
    }
}

/// Takes everything that is free, permanently. Returns how many bytes below the thread pointer
/// belonged to libraries before.
pub(super) fn take(sizes: Sizes) -> Result<usize, String> {
    static USED: OnceLock<Result<usize, String>> = OnceLock::new();
    USED.get_or_init(|| on_new_thread(move || take_here(sizes))).clone()
}

/// Runs `f` on a new thread.
fn on_new_thread(f: impl FnOnce() -> Result<usize, String> + Send) -> Result<usize, String> {
    std::thread::scope(|s| match std::thread::Builder::new().spawn_scoped(s, f) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err("a thread panicked".into())),
        Err(e) => Err(format!("a thread could not be started: {e}")),
    })
}

fn take_here(sizes: Sizes) -> Result<usize, String> {
    let used = used_here(sizes)?;
    let mut library = None;
    if used < sizes.room() {
        let taken = Library::open(sizes.room() - used, true).map_err(|e| e.to_string())?;
        if taken.offset != sizes.room() {
            return Err(format!("an unexpected offset, {} instead of {}", taken.offset, sizes.room()));
        }
        library = Some(taken); // while it lives, its path is not used again
    }
    match Library::open(1, false) {
        Err(Refused::NoRoom) => {
            drop(library);
            Ok(used)
        }
        Err(other) => Err(other.to_string()),
        Ok(library) => {
            library.close();
            Err("libc has more room than it reports".into())
        }
    }
}

/// Why a library could not be opened.
enum Refused {
    /// There is not enough room.
    NoRoom,
    Otherwise(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::NoRoom => f.write_str("another library was given the room"),
            Refused::Otherwise(why) => f.write_str(why),
        }
    }
}

/// An open library.
struct Library {
    handle: *mut libc::c_void,
    /// The distance of the start of its thread-locals below the thread pointer.
    offset: usize,
    _file: OwnedFd,
}

impl Library {
    fn open(bytes: usize, for_good: bool) -> Result<Library, Refused> {
        let file =
            in_memory(&image(bytes, for_good)).map_err(|e| Refused::Otherwise(format!("memfd: {e}")))?;
        // Not the plain path of the descriptor: libc identifies libraries by the path they were
        // opened by, and the next library opened from memory may have the same descriptor. So may a
        // file of a debugger, which looks at that path in its own process.
        let path = format!("/proc/self/task/{}/fd/{}", thread::tid(), file.as_raw_fd());
        let path = CString::new(path).expect("no zero in it");
        // SAFETY: the path is valid; the library has no code that could run.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: after a failure dlerror returns a string that stays until this thread's next
            // call.
            let why = unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned();
            return Err(if why.contains("static TLS") { Refused::NoRoom } else { Refused::Otherwise(why) });
        }
        // SAFETY: the library has a symbol of this name.
        let word = unsafe { libc::dlsym(handle, SYMBOL.as_ptr()) } as *const isize;
        // SAFETY: null, or the word in the library, which was relocated when the library was
        // opened.
        let offset = unsafe { word.as_ref() }.map_or(0, |below| below.wrapping_neg()) as usize;
        Ok(Library { handle, offset, _file: file })
    }

    fn close(self) {
        // SAFETY: the handle comes from `open`, and nothing of the library is used any more.
        unsafe { libc::dlclose(self.handle) };
    }
}

fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    /// Linux 6.3: the file is not meant to be executed.
    const MFD_NOEXEC_SEAL: libc::c_uint = 8;
    let create = |flags| {
        // SAFETY: takes a name and flags.
        let fd = unsafe { libc::memfd_create(c"gort-static-tls".as_ptr(), libc::MFD_CLOEXEC | flags) };
        // SAFETY: the descriptor is fresh and has no other owner.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
    };
    let fd = create(MFD_NOEXEC_SEAL).or_else(|_| create(0))?;
    let mut file = std::fs::File::from(fd);
    io::Write::write_all(&mut file, bytes)?;
    Ok(file.into())
}

/// The exported word.
const SYMBOL: &CStr = c"gort_static_tls";

/// A library with this many bytes of initial-exec thread-locals.
fn image(bytes: usize, for_good: bool) -> Vec<u8> {
    const DYNAMIC: u64 = 0x120;
    const SYMBOLS: u64 = 0x200;
    const HASH: u64 = 0x230;
    const RELOCATIONS: u64 = 0x250;
    const WORD: u64 = 0x270;
    const STRINGS: u64 = 0x280;
    const END: u64 = 0x2C0;
    const STATIC_TLS: u64 = 0x10;
    const BIND_NOW: u64 = 8;
    const NODELETE: u64 = 8;
    const R_X86_64_TPOFF64: u64 = 18;
    const SONAME: &[u8] = b"gort-static-tls.so\0";

    let mut image = vec![0u8; END as usize];
    let mut put = |at: u64, bytes: &[u8]| image[at as usize..][..bytes.len()].copy_from_slice(bytes);
    let words = |words: &[u64]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let halves = |halves: &[u32]| halves.iter().flat_map(|h| h.to_le_bytes()).collect::<Vec<u8>>();

    // The header: 64 bits, little endian; a shared object for x86-64; four program headers after
    // it, no sections.
    put(0, b"\x7fELF\x02\x01\x01");
    put(0x10, &halves(&[62 << 16 | 3, 1]));
    put(0x18, &words(&[0, 0x40, 0]));
    put(0x30, &halves(&[0, 56 << 16 | 64, 4]));
    let mut program_header =
        |n: u64, kind: u32, flags: u32, at: u64, in_file: u64, in_memory: u64, align: u64| {
            put(0x40 + 56 * n, &halves(&[kind, flags]));
            put(0x48 + 56 * n, &words(&[at, at, at, in_file, in_memory, align]));
        };
    let (read, read_write) = (libc::PF_R, libc::PF_R | libc::PF_W);
    program_header(0, libc::PT_LOAD, read_write, 0, END, END, 0x1000);
    program_header(1, libc::PT_DYNAMIC, read_write, DYNAMIC, SYMBOLS - DYNAMIC, SYMBOLS - DYNAMIC, 8);
    program_header(2, libc::PT_TLS, read, WORD, 0, bytes as u64, 1);
    program_header(3, libc::PT_GNU_STACK, read_write, 0, 0, 0, 16);
    let name = SONAME.len() as u64 + 1;
    let dynamic = [
        (14, 1), // the library's name
        (4, HASH),
        (5, STRINGS),
        (10, END - STRINGS),
        (6, SYMBOLS),
        (11, 24),
        (7, RELOCATIONS),
        (8, 24),
        (9, 24),
        (30, STATIC_TLS | BIND_NOW),
        (0x6FFF_FFFB, if for_good { NODELETE } else { 0 }),
        (0, 0),
    ];
    put(DYNAMIC, &dynamic.iter().flat_map(|&(tag, value)| words(&[tag, value])).collect::<Vec<_>>());
    // Symbol 0 is empty; symbol 1 is the word: global data of 8 bytes, in some section.
    put(SYMBOLS + 24, &halves(&[name as u32, 1 << 16 | 0x11]));
    put(SYMBOLS + 32, &words(&[WORD, 8]));
    put(HASH, &halves(&[1, 2, 1, 0, 0]));
    // The relocation makes the word the distance of this library's thread-locals from the thread
    // pointer.
    put(RELOCATIONS, &words(&[WORD, R_X86_64_TPOFF64, 0]));
    put(STRINGS + 1, SONAME);
    put(STRINGS + name, SYMBOL.to_bytes_with_nul());
    image
}
