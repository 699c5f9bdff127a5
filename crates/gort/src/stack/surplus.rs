//! What libc keeps free in each thread's block, for libraries that are opened later, and which
//! library gets it.
//!
//! # Why it must belong to a library
//! Thread-locals of a library that is opened by `dlopen` are allocated when a thread first uses
//! them, but for the *initial-exec* ones: those lie at one distance from every thread pointer, in a
//! surplus of some 1.6 KB below the thread-locals of the libraries that the program was started
//! with. A goroutine whose stack began below the surplus would touch a second page for nothing; one
//! whose stack lies *in* it must be sure that no library gets it. So a library of ours takes all of
//! it, once for the process. A library that wants some later is refused by libc: "cannot allocate
//! memory in static TLS block".
//!
//! # The library
//! is a file in memory (`memfd`), made here and opened by libc's own `dlopen`. It holds no code: a
//! segment of data, thread-locals of as many bytes as wanted, and one relocation of the kind that
//! asks for initial-exec thread-locals. The relocated word tells where they lie. It is opened by a
//! thread that ends soon, so that its path leads nowhere afterwards. A first library, of one byte,
//! finds out what is free; it is closed again, which libc allows for the last one; the second is
//! never closed.

use crate::sys::thread;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// How libc lays a block, as far as it matters here: from the lowest byte of static TLS to the end
/// of the descriptor, and of these the descriptor.
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

/// The bytes below the thread pointer that belong to some library.
pub(super) fn used(sizes: Sizes) -> Result<usize, String> {
    elsewhere(move || used_here(sizes))
}

fn used_here(sizes: Sizes) -> Result<usize, String> {
    match Library::open(1, false) {
        Ok(probe) => {
            let at = probe.offset;
            probe.close();
            at.checked_sub(1)
                .filter(|&used| used <= sizes.room())
                .ok_or_else(|| format!("an odd offset, {at}"))
        }
        Err(Refused::NoRoom) => Ok(sizes.room()),
        Err(Refused::Otherwise(why)) => Err(why),
    }
}

/// Takes all that is free, for good, and says how many bytes below the thread pointer belonged to
/// libraries before.
pub(super) fn take(sizes: Sizes) -> Result<usize, String> {
    static USED: OnceLock<Result<usize, String>> = OnceLock::new();
    USED.get_or_init(|| elsewhere(move || take_here(sizes))).clone()
}

/// Runs `f` on a thread of its own.
fn elsewhere(f: impl FnOnce() -> Result<usize, String> + Send) -> Result<usize, String> {
    std::thread::scope(|s| match std::thread::Builder::new().spawn_scoped(s, f) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err("a panic".into())),
        Err(e) => Err(format!("no thread: {e}")),
    })
}

fn take_here(sizes: Sizes) -> Result<usize, String> {
    let used = used_here(sizes)?;
    let mut library = None;
    if used < sizes.room() {
        let taken = Library::open(sizes.room() - used, true).map_err(|e| e.to_string())?;
        if taken.offset != sizes.room() {
            return Err(format!("an odd offset, {}, where {} was due", taken.offset, sizes.room()));
        }
        library = Some(taken); // its path is not given to another one as long as that lives
    }
    match Library::open(1, false) {
        Err(Refused::NoRoom) => {
            drop(library);
            Ok(used)
        }
        Err(other) => Err(other.to_string()),
        Ok(library) => {
            library.close();
            Err("libc has more room than it said".into())
        }
    }
}

/// Why a library could not be opened.
enum Refused {
    /// There is not so much room.
    NoRoom,
    Otherwise(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::NoRoom => f.write_str("somebody else was given the room"),
            Refused::Otherwise(why) => f.write_str(why),
        }
    }
}

/// One that is open.
struct Library {
    handle: *mut libc::c_void,
    /// Its thread-locals begin so many bytes below the thread pointer.
    offset: usize,
    _file: OwnedFd,
}

impl Library {
    fn open(bytes: usize, for_good: bool) -> Result<Library, Refused> {
        let file =
            in_memory(&image(bytes, for_good)).map_err(|e| Refused::Otherwise(format!("memfd: {e}")))?;
        // Not the plain path: libc knows libraries by the path they were opened by, and the next
        // one that is opened from memory may have the same descriptor; so may a file of a debugger,
        // which looks at that path in a process of its own.
        let path = format!("/proc/self/task/{}/fd/{}", thread::tid(), file.as_raw_fd());
        let path = CString::new(path).expect("no zero in it");
        // SAFETY: a path; the library has no code that could run.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: after a failure dlerror gives a string, which stays until the next call of
            // this thread.
            let why = unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned();
            return Err(if why.contains("static TLS") { Refused::NoRoom } else { Refused::Otherwise(why) });
        }
        // SAFETY: a name that the library has.
        let word = unsafe { libc::dlsym(handle, SYMBOL.as_ptr()) } as *const isize;
        // SAFETY: null, or the word in the library, relocated when it was opened.
        let offset = unsafe { word.as_ref() }.map_or(0, |below| below.wrapping_neg()) as usize;
        Ok(Library { handle, offset, _file: file })
    }

    fn close(self) {
        // SAFETY: opened by us, and nothing of it is used any more.
        unsafe { libc::dlclose(self.handle) };
    }
}

fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    /// Linux 6.3: nobody will want to run this.
    const MFD_NOEXEC_SEAL: libc::c_uint = 8;
    let create = |flags| {
        // SAFETY: a name and flags.
        let fd = unsafe { libc::memfd_create(c"gort-static-tls".as_ptr(), libc::MFD_CLOEXEC | flags) };
        // SAFETY: the descriptor is fresh, and ours.
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
    };
    let fd = create(MFD_NOEXEC_SEAL).or_else(|_| create(0))?;
    let mut file = std::fs::File::from(fd);
    io::Write::write_all(&mut file, bytes)?;
    Ok(file.into())
}

/// The exported word.
const SYMBOL: &CStr = c"gort_static_tls";

/// A library with so many bytes of initial-exec thread-locals.
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

    // The header: 64 bits, little endian; a shared object for x86-64; four program headers behind
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
    // Symbol 0 is nothing; symbol 1 is the word: global data of 8 bytes, in some section.
    put(SYMBOLS + 24, &halves(&[name as u32, 1 << 16 | 0x11]));
    put(SYMBOLS + 32, &words(&[WORD, 8]));
    put(HASH, &halves(&[1, 2, 1, 0, 0]));
    // The word becomes the distance of this library's thread-locals from the thread pointer.
    put(RELOCATIONS, &words(&[WORD, R_X86_64_TPOFF64, 0]));
    put(STRINGS + 1, SONAME);
    put(STRINGS + name, SYMBOL.to_bytes_with_nul());
    image
}
