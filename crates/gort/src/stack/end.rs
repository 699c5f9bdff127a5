//! The end of a block, as the end of a thread.
//!
//! When a thread's function has returned, `start_thread` does three things. gort does the same, in
//! the same order, when a slot is given up:
//!
//! 1. It runs the destructors of `thread_local!`s.
//! 2. It runs the destructors of pthread keys (for C libraries), in rounds, since each may set
//!    values again.
//! 3. It frees what libc itself keeps for the thread. Here this covers only what has a public
//!    interface: the state of the resolver, the strings of `strerror_l` and `strsignal`, and that
//!    of `dlerror`. malloc's cache belongs to the M.
//!
//! libc has no public function that runs the destructors of keys. The values are read and set with
//! `pthread_getspecific` and `pthread_setspecific`, on the block. The destructors are in libc's
//! table, whose place and format it publishes for debuggers.

use super::tls::{LayoutError, require, symbol, word};
use crate::sys::fs;
use std::ffi::{CStr, c_void};

/// The value of `PTHREAD_DESTRUCTOR_ITERATIONS`.
const ROUNDS: usize = 4;
/// An unknown signal and an unknown error, for which libc has to compose a text.
const UNKNOWN: libc::c_int = 12_345;

type Destructor = unsafe extern "C" fn(*mut c_void);

/// One entry of libc's table of keys.
#[repr(C)]
struct Key {
    sequence: usize,
    destructor: Option<Destructor>,
}

/// What ending a block needs to know about libc.
#[derive(Debug, Clone)]
pub(super) struct End {
    call_dtors: unsafe extern "C" fn(),
    keys: usize,
    key_count: usize,
    /// Where a descriptor points to its tables of values, and how many there are. The first table
    /// is in the descriptor itself.
    tables: isize,
    table_count: usize,
    /// Words of a block that point to strings that libc allocated.
    strings: Vec<isize>,
    resolver: Option<unsafe extern "C" fn(*mut Resolver)>,
    resolver_state: Option<unsafe extern "C" fn() -> *mut Resolver>,
}

/// The head of `struct __res_state`.
#[repr(C)]
struct Resolver {
    retrans: libc::c_int,
    retry: libc::c_int,
    options: libc::c_ulong,
    servers: libc::c_int,
}

/// One of libthread_db's descriptors of a field or variable: the bits of an element, the number of
/// elements, and the offset.
fn described(name: &CStr) -> Result<[usize; 3], LayoutError> {
    // SAFETY: `_thread_db_*` descriptors are three 32-bit words; libthread_db of every glibc reads
    // them.
    Ok(unsafe { *(symbol(name)? as *const [u32; 3]) }.map(|n| n as usize))
}

impl End {
    pub(super) fn find() -> Result<End, LayoutError> {
        let [key_bits, key_count, _] = described(c"_thread_db___pthread_keys")?;
        require(
            key_bits == 8 * size_of::<Key>() && key_count <= 1 << 16,
            "the table of pthread keys is not as expected",
        )?;
        let [all_bits, _, tables] = described(c"_thread_db_pthread_specific")?; // of the array
        let table_count = all_bits / 64;
        require(
            (1..=1 << 10).contains(&table_count),
            "a thread's tables of pthread keys are not as expected",
        )?;
        // SAFETY: the functions have these types in every glibc.
        let (resolver, resolver_state) = unsafe {
            (
                symbol(c"__res_nclose")
                    .ok()
                    .map(|f| std::mem::transmute::<usize, unsafe extern "C" fn(*mut Resolver)>(f)),
                symbol(c"__res_state")
                    .ok()
                    .map(|f| std::mem::transmute::<usize, unsafe extern "C" fn() -> *mut Resolver>(f)),
            )
        };
        Ok(End {
            // SAFETY: as above.
            call_dtors: unsafe {
                std::mem::transmute::<usize, unsafe extern "C" fn()>(symbol(c"__call_tls_dtors")?)
            },
            keys: symbol(c"__pthread_keys")?,
            key_count,
            tables: tables as isize,
            table_count,
            strings: Vec::new(),
            resolver,
            resolver_state,
        })
    }

    /// Where a descriptor points to the values of the first keys, which are in the descriptor
    /// itself.
    pub(super) fn first_values(&self) -> isize {
        self.tables
    }

    /// How many bytes those values take.
    pub(super) fn values_bytes(&self) -> usize {
        self.key_count / self.table_count * size_of::<[usize; 2]>()
    }

    /// Finds the words that point to libc's strings. Each of two calls on the fresh block `tp`
    /// changes one word at or above offset `begin` to the pointer that it returns. If libc keeps
    /// its strings elsewhere, nothing is found.
    ///
    /// # Safety
    /// No thread runs on the block.
    pub(super) unsafe fn find_strings(&mut self, tp: usize, begin: isize) {
        let calls: [fn() -> usize; 2] = [
            // SAFETY: any number is allowed.
            || unsafe { strsignal(UNKNOWN) as usize },
            // SAFETY: as above; the locale is created and freed here.
            || unsafe {
                let locale = libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), std::ptr::null_mut());
                let text = strerror_l(UNKNOWN, locale) as usize;
                libc::freelocale(locale);
                text
            },
        ];
        for call in calls {
            // SAFETY: the block is fresh and belongs to the caller; only the call runs on it.
            let text = unsafe {
                let own = fs::read();
                fs::write(tp);
                let text = std::hint::black_box(call)();
                fs::write(own);
                text
            };
            // SAFETY: inside the block.
            let off =
                (begin..0).step_by(8).find(|&off| text != 0 && unsafe { *word(tp, off) } as usize == text);
            self.strings.extend(off);
        }
    }

    /// Runs all destructors of the block that the FS base points to.
    ///
    /// # Safety
    /// The caller runs on that block, as the last user code to do so.
    pub(super) unsafe fn run(&self) {
        // SAFETY: this is what `start_thread` calls at a thread's end, on the thread's block.
        unsafe { (self.call_dtors)() };
        for _ in 0..ROUNDS {
            let mut any = false;
            for key in 0..self.key_count as libc::pthread_key_t {
                // SAFETY: a key that does not exist, or no longer exists, has no value.
                let value = unsafe { libc::pthread_getspecific(key) };
                if value.is_null() {
                    continue;
                }
                any = true;
                // SAFETY: the key has a value, so it exists and is within the table. If other code
                // deletes the key while its destructor runs, that is the same race as with threads
                // that end.
                unsafe {
                    libc::pthread_setspecific(key, std::ptr::null());
                    if let Some(destructor) = (*(self.keys as *const Key).add(key as usize)).destructor {
                        destructor(value);
                    }
                }
            }
            if !any {
                break;
            }
        }
        // SAFETY: public functions that work on the current block. The first `dlerror` marks the
        // message as read, the second frees it.
        unsafe {
            libc::dlerror();
            libc::dlerror();
            if let Some((close, state)) = self.resolver.zip(self.resolver_state) {
                let state = state();
                if !state.is_null() && (*state).servers != 0 {
                    close(state);
                    (*state).options = 0;
                }
            }
        }
    }

    /// Frees what libc still holds for the block `tp`.
    ///
    /// # Safety
    /// No thread runs on it any more.
    pub(super) unsafe fn free(&self, tp: usize) {
        let tables = (1..self.table_count as isize).map(|i| self.tables + 8 * i);
        for off in tables.chain(self.strings.iter().copied()) {
            // SAFETY: the word is null or points to memory that libc allocated for this thread
            // alone.
            unsafe {
                let place = word(tp, off) as *mut *mut c_void;
                libc::free(*place);
                *place = std::ptr::null_mut();
            }
        }
    }
}

unsafe extern "C" {
    fn strsignal(signal: libc::c_int) -> *mut libc::c_char;
    fn strerror_l(error: libc::c_int, locale: libc::locale_t) -> *mut libc::c_char;
}
