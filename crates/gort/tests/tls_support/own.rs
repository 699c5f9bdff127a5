//! The rows that need goroutines to own their thread-locals.

use crate::tls_support::{PARKS, PthreadMutex, kernel_tid, many, park};
use gort::chan;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::{CString, c_int, c_void};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Goroutines at once.
const GOROUTINES: usize = 2_000;

/// After how long a wait counts as a hang.
const HANG: Duration = Duration::from_secs(60);

thread_local! {
    static CONST: Cell<usize> = const { Cell::new(7) };
    static LAZY: RefCell<Vec<usize>> = RefCell::new(Vec::with_capacity(4));
}

/// Values, addresses and borrows last across parks, and the parks do migrate.
pub(crate) fn values_addresses_and_borrows() {
    let moved = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    // A loaded machine may run all goroutines on one thread.
    while moved.load(SeqCst) == 0 {
        assert!(start.elapsed() < HANG, "no goroutine migrated, so this shows nothing");
        let count = moved.clone();
        many(GOROUTINES, move |id| {
            let address = CONST.with(|c| c.as_ptr() as usize);
            CONST.set(id);
            LAZY.with_borrow_mut(|lazy| {
                lazy.clear();
                let mut thread = kernel_tid();
                for i in 0..PARKS {
                    park(i);
                    lazy.push(id);
                    assert_eq!(CONST.get(), id);
                    assert_eq!(CONST.with(|c| c.as_ptr() as usize), address);
                    LAZY.with(|l| assert!(l.try_borrow().is_err(), "another goroutine's vector"));
                    count.fetch_add(
                        usize::from(std::mem::replace(&mut thread, kernel_tid()) != thread),
                        SeqCst,
                    );
                }
                assert_eq!(*lazy, vec![id; PARKS]);
            });
        });
    }
}

/// Each goroutine has its own `errno`.
pub(crate) fn errno() {
    many(GOROUTINES, |id| {
        // SAFETY: the address of this goroutine's errno, which is writable.
        let place = unsafe { libc::__errno_location() };
        for i in 0..PARKS {
            park(i);
            // SAFETY: as above.
            unsafe {
                assert_eq!(libc::__errno_location(), place);
                *place = id as c_int;
                assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(id as c_int));
            }
        }
    });
}

/// A goroutine's thread identity does not change, and two goroutines do not share one.
pub(crate) fn thread_identity() {
    let alive = Arc::new(Mutex::new(HashSet::new()));
    many(200, move |_| {
        let me = std::thread::current().id();
        assert!(alive.lock().unwrap().insert(me), "two goroutines at once are one thread");
        for i in 0..PARKS {
            park(i);
            assert_eq!(std::thread::current().id(), me);
        }
        alive.lock().unwrap().remove(&me);
    });
}

/// std's reentrant lock of stdout is held across parks, and taken again by its owner.
pub(crate) fn stdout_lock() {
    many(20, |_| {
        // Others hold it across their parks, so this wait may block the thread.
        let mut held = gort::blocking(|| std::io::stdout().lock());
        for i in 0..5 {
            park(i);
            let _again = std::io::stdout().lock();
            held.write_all(b"").unwrap();
        }
    });
}

/// Recursive mutexes recognise their owner across parks, and refuse others.
pub(crate) fn recursive_mutex() {
    let mutex = Arc::new(PthreadMutex::new(libc::PTHREAD_MUTEX_RECURSIVE));
    let inside = Arc::new(AtomicUsize::new(0));
    let turns = Arc::new(AtomicUsize::new(0));
    let had = turns.clone();
    many(50, move |_| {
        for i in 0..PARKS {
            if !mutex.try_lock() {
                assert_eq!(mutex.unlock(), libc::EPERM);
                park(i);
                continue;
            }
            assert_eq!(inside.fetch_add(1, SeqCst), 0, "two owners");
            park(i);
            assert!(mutex.try_lock(), "the owner locks again");
            park(i + 1);
            assert_eq!(mutex.unlock(), 0);
            assert_eq!(inside.fetch_sub(1, SeqCst), 1);
            assert_eq!(mutex.unlock(), 0);
            turns.fetch_add(1, SeqCst);
        }
    });
    assert!(had.load(SeqCst) > 0);
}

/// The C library that the `dlopen` row loads, with a thread-local of its own.
const LIBRARY: &str =
    "__thread long mine = 41; long *place(void) { return &mine; } long bump(void) { return ++mine; }";

/// A library that is loaded while goroutines run has its thread-locals in each of them.
pub(crate) fn dlopened_library() {
    let dir = std::env::temp_dir().join(format!("gort-dlopen-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (source, library) = (dir.join("tls.c"), dir.join("libtls.so"));
    std::fs::write(&source, LIBRARY).unwrap();
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    match cc {
        Ok(status) => assert!(status.success()),
        Err(e) => return println!("no C compiler here ({e}): this row shows nothing"),
    }
    let (opened_tx, opened_rx) = chan::bounded::<(usize, usize)>(200);
    let early: Vec<_> = (0..200)
        .map(|_| {
            let opened = opened_rx.clone();
            gort::go(move || use_library(opened.recv().unwrap()))
        })
        .collect();
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: a library without constructors; the names are NUL-terminated.
    let (place, bump) = unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null());
        (libc::dlsym(handle, c"place".as_ptr()) as usize, libc::dlsym(handle, c"bump".as_ptr()) as usize)
    };
    assert!(place != 0 && bump != 0);
    (0..200).for_each(|_| opened_tx.send((place, bump)).unwrap());
    early.into_iter().for_each(|h| h.join().unwrap());
    many(200, move |_| use_library((place, bump)));
    std::fs::remove_dir_all(&dir).unwrap();
}

fn use_library((place, bump): (usize, usize)) {
    // SAFETY: the functions of LIBRARY have these types.
    let (place, bump) = unsafe {
        (
            std::mem::transmute::<usize, extern "C" fn() -> *mut i64>(place),
            std::mem::transmute::<usize, extern "C" fn() -> i64>(bump),
        )
    };
    let own = place();
    // SAFETY: this goroutine's own copy of the library's thread-local.
    unsafe { *own = 0 };
    for i in 0..PARKS {
        park(i);
        assert_eq!(place(), own);
        assert_eq!(bump(), i as i64 + 1);
    }
}

/// libc reports the true bounds of the stack.
pub(crate) fn own_stack_bounds() {
    many(20, |i| {
        park(i);
        let here = &raw const i as usize;
        // SAFETY: plain use of pthread attributes of the current thread.
        unsafe {
            let mut attr: libc::pthread_attr_t = std::mem::zeroed();
            assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &mut attr), 0);
            let (mut low, mut size): (*mut c_void, usize) = (std::ptr::null_mut(), 0);
            assert_eq!(libc::pthread_attr_getstack(&attr, &mut low, &mut size), 0);
            libc::pthread_attr_destroy(&mut attr);
            assert!(
                (low as usize..low as usize + size).contains(&here),
                "{low:?} + {size:#x}, here {here:#x}"
            );
            assert!(
                (256 << 10..320 << 10).contains(&size),
                "{size} bytes, where a stack has 256 KiB and the block a page or two"
            );
        }
    });
}

/// `fork` from a goroutine: the child has one thread, this one, and may use libc.
pub(crate) fn fork() {
    many(8, |id| {
        CONST.set(id);
        for i in 0..3 {
            park(i);
            // SAFETY: the child only reads its memory, allocates and ends.
            let child = unsafe { libc::fork() };
            assert!(child >= 0);
            if child == 0 {
                let fine = CONST.get() == id && std::hint::black_box(vec![1u8; 100]).len() == 100;
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(if fine { 0 } else { 1 }) };
            }
            let mut status = 0;
            // SAFETY: waits for a child of this process.
            gort::blocking(|| unsafe { libc::waitpid(child, &mut status, 0) });
            assert_eq!(status, 0, "the child ended badly");
        }
        let status = gort::blocking(|| Command::new("true").stdin(Stdio::null()).status()).unwrap();
        assert!(status.success());
    });
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct CountsDrop;

impl Drop for CountsDrop {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, SeqCst);
    }
}

/// Slots that a peak has left are given up, and then the destructors of their thread-locals run.
pub(crate) fn destructors_of_given_up_slots() {
    thread_local!(static COUNTS: CountsDrop = const { CountsDrop });
    let (hold, held) = chan::bounded::<()>(0);
    let all: Vec<_> = (0..4_000)
        .map(|_| {
            let held = held.clone();
            gort::go(move || {
                COUNTS.with(|_| ());
                assert!(held.recv().is_err());
            })
        })
        .collect();
    while gort::metrics::snapshot().stacks < 4_000 {
        gort::yield_now();
    }
    drop(hold);
    all.into_iter().for_each(|h| h.join().unwrap());
    let start = Instant::now();
    while DROPPED.load(SeqCst) < 500 {
        assert!(start.elapsed() < HANG, "only {} destructors ran", DROPPED.load(SeqCst));
        gort::sleep(Duration::from_millis(5));
    }
}

/// The function that the debugger must find.
#[inline(never)]
fn find_me_in_the_debugger(announce: impl FnOnce()) {
    announce();
    std::hint::black_box(std::io::read_to_string(std::io::stdin()).unwrap());
}

/// The child of [`debugger_backtrace`]: waits inside `blocking` until its stdin is closed.
pub(crate) fn wait_for_the_debugger() {
    gort::go(|| gort::blocking(|| find_me_in_the_debugger(|| println!("ready")))).join().unwrap();
}

/// A debugger that stops the process can walk the stack of a running goroutine to its first frame.
/// `child` runs [`wait_for_the_debugger`].
pub(crate) fn debugger_backtrace(mut child: Command) {
    use std::io::{BufRead, BufReader};
    if Command::new("gdb").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("no gdb here: this row shows nothing");
    }
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")));
    let pid = child.id().to_string();
    let gdb =
        Command::new("gdb").args(["-p", &pid, "-batch", "-ex", "thread apply all bt"]).output().unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let text = String::from_utf8_lossy(&gdb.stdout);
    let thread = text.split("\nThread ").find(|t| t.contains("find_me_in_the_debugger"));
    let thread = thread.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&gdb.stderr)));
    assert!(thread.contains("switch::start"), "the stack does not end where goroutines begin: {thread}");
    assert!(!thread.contains("Backtrace stopped") && !thread.contains("corrupt"), "{thread}");
}
