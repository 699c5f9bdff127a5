//! What libc does for threads, as goroutines see it: libraries that are opened late, locales, keys,
//! `pthread_self()`, the end of a thread, and C frames. A test that changes or ends the process
//! runs in a child.

mod child;

use child::{play, scene};
use gort::chan;
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

/// After how long a wait counts as a hang.
const HANG: Duration = Duration::from_secs(60);

const LIBRARY: &str = r#"
static __thread long magic __attribute__((tls_model("initial-exec"))) = 42;
long bump(void) { return magic++; }
#include <string.h>
__attribute__((noinline)) long frame(long n) { char buf[n]; memset(buf, 7, 1024); return ((volatile char *)buf)[5]; }
"#;

/// Compiles [`LIBRARY`], whose frames have no stack probes. Without a compiler it prints that, and
/// returns `None`.
fn library() -> Option<PathBuf> {
    let dir = std::env::temp_dir().join(format!("gort-as-a-thread-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (source, library) = (dir.join("lib.c"), dir.join("lib.so"));
    std::fs::write(&source, LIBRARY).unwrap();
    let args = ["-O1", "-shared", "-fPIC", "-fno-stack-clash-protection", "-o"];
    match Command::new("cc").args(args).arg(&library).arg(&source).status() {
        Ok(status) => assert!(status.success()),
        Err(e) => {
            println!("no C compiler here ({e}): this row shows nothing");
            return None;
        }
    }
    Some(library)
}

/// Opens `library` and returns the address of its function `name`.
fn open(library: &Path, name: &str) -> Result<usize, String> {
    let (path, name) = (CString::new(library.to_str().unwrap()).unwrap(), CString::new(name).unwrap());
    // SAFETY: the library has no constructors; the text of dlerror is copied.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        if handle.is_null() {
            return Err(std::ffi::CStr::from_ptr(libc::dlerror()).to_string_lossy().into_owned());
        }
        Ok(libc::dlsym(handle, name.as_ptr()) as usize)
    }
}

fn call(f: usize) -> i64 {
    // SAFETY: `bump` has this type.
    unsafe { std::mem::transmute::<usize, extern "C" fn() -> i64>(f)() }
}

/// Fills free memory of libc's heap, where a thread-local block may be allocated. The start
/// compares such a block with a thread's, and must not count bytes that were never written as a
/// difference.
fn dirty_heap() {
    let of_all_sizes = (1..32).flat_map(|n| (0..8).map(move |_| vec![0xA5_u8; n * 256]));
    drop(std::hint::black_box(of_all_sizes.collect::<Vec<_>>()));
}

fn late_library() {
    let Some(library) = library() else { return };
    const N: usize = 100;
    let parked = Arc::new(gort::sync::WaitGroup::new());
    parked.add(N);
    let (tx, rx) = chan::bounded::<usize>(0);
    let early: Vec<_> = (0..N)
        .map(|_| {
            let (rx, parked) = (rx.clone(), parked.clone());
            gort::go(move || {
                parked.done();
                call(rx.recv().unwrap())
            })
        })
        .collect();
    parked.wait();
    // A goroutine that runs all the time.
    let opened = Arc::new(AtomicUsize::new(0));
    let busy = gort::go({
        let opened = opened.clone();
        move || {
            while opened.load(Acquire) == 0 {
                std::hint::spin_loop();
            }
            call(opened.load(Acquire))
        }
    });
    match open(&library, "bump") {
        Err(e) => println!("refused: {e}"),
        Ok(f) => {
            opened.store(f, Release);
            assert_eq!(call(f), 42, "in the goroutine that opened it");
            assert_eq!(busy.join().unwrap(), 42, "in one that runs meanwhile");
            assert_eq!(std::thread::spawn(move || call(f)).join().unwrap(), 42, "in a thread");
            (0..N).for_each(|_| tx.send(f).unwrap());
            assert!(early.into_iter().all(|h| h.join().unwrap() == 42), "in those that were parked");
            let fresh: Vec<_> = (0..2 * N)
                .map(|_| gort::go(move || (call(f), gort::sleep(Duration::from_millis(20))).0))
                .collect();
            assert!(
                fresh.into_iter().all(|h| h.join().unwrap() >= 42),
                "in later ones, on used slots and fresh ones"
            );
            println!("opened");
        }
    }
    std::fs::remove_dir_all(library.parent().unwrap()).unwrap();
    if opened.load(Acquire) == 0 {
        std::process::exit(0); // Parked goroutines wait for this one.
    }
}

/// A library with initial-exec thread-locals that is opened when goroutines exist is refused with
/// libc's message. If room is reserved, or where no room could be taken, every goroutine sees the
/// initial values, whatever it was doing at that moment.
#[test]
fn initial_exec_thread_locals_of_late_libraries() {
    if scene().is_some() {
        dirty_heap();
    }
    match scene().as_deref() {
        Some("reserved") => {
            return gort::Runtime::builder().reserve_static_tls(256).run(late_library).unwrap();
        }
        Some(_) => return gort::run(late_library),
        None => {}
    }
    let refused = "cannot allocate memory in static TLS block";
    for (scene, env, says) in [
        ("default", &[][..], refused),
        ("reserved", &[], "opened"),
        ("environment", &[("GORT_STATIC_TLS", "1K")], "opened"),
        ("left", &[("GORT_DEBUG", "tlssurplus=0")], "opened"),
    ] {
        let end = play("initial_exec_thread_locals_of_late_libraries", scene, env);
        assert_eq!(end.code, Some(0), "{scene}: {}", end.text);
        assert!(end.text.contains(says) || end.text.contains("no C compiler"), "{scene}: {}", end.text);
    }
}

/// A start that reserves more room than libc has is refused with both numbers, and can be repeated.
#[test]
fn room_that_there_is_not() {
    if scene().is_some() {
        let e = gort::Runtime::builder().reserve_static_tls(1 << 20).start().unwrap_err();
        assert!(matches!(e, gort::StartError::Invalid(_)), "{e:?}");
        assert!(e.to_string().contains("1048576 bytes"), "{e}");
        let possible =
            e.to_string().split("this libc has ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>();
        let possible = possible.unwrap();
        return gort::Runtime::builder().reserve_static_tls(possible).run(|| ()).unwrap();
    }
    let end = play("room_that_there_is_not", "room", &[]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// A C frame without stack probes that begins in the stack and ends in the guard is reported as a
/// stack overflow, up to the guard's full size.
#[test]
fn big_frames_of_c() {
    const STACK: i64 = 256 << 10;
    if let Some(bytes) = scene() {
        let bytes: i64 = bytes.parse().unwrap();
        return gort::run(move || {
            let Some(library) = library() else { std::process::exit(2) };
            let f = open(&library, "frame");
            std::fs::remove_dir_all(library.parent().unwrap()).unwrap();
            let Ok(f) = f else { panic!("{f:?}") };
            // SAFETY: `frame` has this type; there is a guard below its stack.
            let h = gort::go(move || unsafe {
                std::mem::transmute::<usize, extern "C" fn(i64) -> i64>(f)(bytes)
            });
            println!("it returned {:?}", h.join());
        });
    }
    let Some(probe) = library() else { return };
    std::fs::remove_dir_all(probe.parent().unwrap()).unwrap();
    for (bytes, fits) in [
        (STACK - 4096, true),
        (STACK + 2 * 4096, false),
        (STACK + (48 << 10), false),
        (STACK + (62 << 10), false),
    ] {
        let end = play("big_frames_of_c", &bytes.to_string(), &[("GORT_STATIC_TLS", "64")]);
        assert_eq!(end.code, Some(if fits { 0 } else { 2 }), "{bytes}: {}", end.text);
        let says = if fits { "it returned Ok(7)" } else { "fatal error: stack overflow" };
        assert!(end.text.contains(says), "{bytes}: {}", end.text);
    }
}

static DESTROYED: AtomicUsize = AtomicUsize::new(0);
static AGAIN: AtomicUsize = AtomicUsize::new(0);
static KEYS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Sets the value again in the first round, as a destructor may; that causes another round.
extern "C" fn destroy(value: *mut c_void) {
    if value as usize == 1 {
        AGAIN.fetch_add(1, SeqCst);
        let key = KEYS[0].load(SeqCst) as libc::pthread_key_t;
        // SAFETY: the key is the test's; the value is a number.
        unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(2)) };
    } else {
        DESTROYED.fetch_add(1, SeqCst);
    }
}

/// HelenOS/helenos#245: destructors of pthread keys run when slots are given up, in rounds. Those
/// of deleted keys do not run.
#[test]
fn keys_of_given_up_slots() {
    if !child::is_played(|| {
        let key = |destructor: Option<unsafe extern "C" fn(*mut c_void)>| {
            let mut key = 0;
            // SAFETY: `key` is a place for the key.
            assert_eq!(unsafe { libc::pthread_key_create(&mut key, destructor) }, 0);
            key
        };
        // More keys than libc's first table has (32).
        let keys: Vec<_> = (0..40).map(|_| key(Some(destroy))).collect();
        KEYS[0].store(keys[0] as usize, SeqCst);
        let (first, last, plain, gone) = (keys[0], keys[39], key(None), key(Some(destroy)));
        const N: usize = 4_000;
        let parked = Arc::new(gort::sync::WaitGroup::new());
        parked.add(N);
        let (hold, held) = chan::bounded::<()>(0);
        let all: Vec<_> = (0..N)
            .map(|_| {
                let (held, parked) = (held.clone(), parked.clone());
                gort::go(move || {
                    // SAFETY: the values are numbers.
                    unsafe {
                        libc::pthread_setspecific(first, std::ptr::without_provenance(1));
                        libc::pthread_setspecific(last, std::ptr::without_provenance(3));
                        libc::pthread_setspecific(plain, std::ptr::without_provenance(4));
                        libc::pthread_setspecific(gone, std::ptr::without_provenance(5));
                        // Also memory that libc allocates for a thread: an error message, and the
                        // text of an unknown error.
                        libc::dlopen(c"/nowhere/at/all".as_ptr(), libc::RTLD_NOW);
                        libc::strsignal(12_345);
                    }
                    parked.done();
                    assert!(held.recv().is_err());
                })
            })
            .collect();
        parked.wait();
        // SAFETY: the key is the test's.
        unsafe { libc::pthread_key_delete(gone) };
        drop(hold);
        all.into_iter().for_each(|h| h.join().unwrap());
        let start = Instant::now();
        while DESTROYED.load(SeqCst) < 2 * 500 {
            assert!(start.elapsed() < HANG, "only {} destructors ran", DESTROYED.load(SeqCst));
            gort::sleep(Duration::from_millis(5));
        }
        assert!(AGAIN.load(SeqCst) >= DESTROYED.load(SeqCst) / 2 - 100, "{AGAIN:?} {DESTROYED:?}");
    }) {
        let end = play("keys_of_given_up_slots", "own", &[("GOMAXPROCS", "2")]);
        assert_eq!(end.code, Some(0), "{}", end.text);
    }
}

/// libc's answers about `pthread_self()` are those about the thread that the goroutine is on.
#[test]
fn about_oneself() {
    gort::run(|| {
        let _stay = gort::lock_os_thread();
        compare_with_the_kernel();
        drop(_stay);
        let all: Vec<_> = (0..20).map(|_| gort::go(compare_with_the_kernel)).collect();
        all.into_iter().for_each(|h| h.join().unwrap());
    });
}

fn compare_with_the_kernel() {
    // SAFETY: plain calls; each result has a place.
    unsafe {
        let me = libc::pthread_self();
        let (mut libcs, mut kernels): (libc::cpu_set_t, libc::cpu_set_t) = std::mem::zeroed();
        assert_eq!(libc::pthread_getaffinity_np(me, size_of::<libc::cpu_set_t>(), &mut libcs), 0);
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut kernels), 0);
        assert!(libc::CPU_EQUAL(&libcs, &kernels));
        let (mut policy, mut param): (libc::c_int, libc::sched_param) = std::mem::zeroed();
        assert_eq!(libc::pthread_getschedparam(me, &mut policy, &mut param), 0);
        assert_eq!(policy, libc::sched_getscheduler(0));
        let mut clock = 0;
        assert_eq!(libc::pthread_getcpuclockid(me, &mut clock), 0);
        let (mut a, mut b): (libc::timespec, libc::timespec) = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(clock, &mut a), 0);
        assert_eq!(libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut b), 0);
        let ns = |t: libc::timespec| i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec);
        assert!((ns(b) - ns(a)).abs() < 1_000_000_000, "{} {}", ns(a), ns(b));
        assert_eq!(libc::pthread_kill(me, 0), 0);
        assert_eq!(libc::pthread_detach(me), libc::EINVAL);
        // A detached thread that joins itself: the error depends on which of the two glibc checks
        // first (2.43: the second).
        let joined = libc::pthread_join(me, std::ptr::null_mut());
        assert!([libc::EINVAL, libc::EDEADLK].contains(&joined), "{joined}");
    }
}

unsafe extern "C" {
    fn isalpha(c: libc::c_int) -> libc::c_int;
    fn toupper(c: libc::c_int) -> libc::c_int;
}

/// libc's classification of a Latin 1 character (ä).
fn look() -> (bool, libc::c_int) {
    // SAFETY: any byte is a valid argument.
    unsafe { (isalpha(0xe4) != 0, toupper(0xe4)) }
}

fn another_locale() {
    assert_eq!(look(), (false, 0xe4));
    let many = || -> Vec<_> {
        let pause = Duration::from_millis(10);
        let all: Vec<_> = (0..300).map(|_| gort::go(move || (gort::sleep(pause), look()).1)).collect();
        all.into_iter().map(|h| h.join().unwrap()).collect()
    };
    assert!(many().into_iter().all(|seen| !seen.0));
    // SAFETY: the name is valid; no other thread uses the locale meanwhile.
    assert!(!unsafe { libc::setlocale(libc::LC_ALL, c"de_DE".as_ptr()) }.is_null(), "the locale exists");
    let in_a_thread = std::thread::spawn(look).join().unwrap();
    assert_eq!(in_a_thread, (true, 0xc4));
    assert!(
        many().into_iter().all(|seen| seen == in_a_thread),
        "goroutines on used slots see the old locale"
    );
}

/// After `setlocale` a new goroutine sees the new character classes, as a new thread does, on a
/// used slot and on a fresh one.
#[test]
fn character_classes_of_today() {
    if scene().is_some() {
        return gort::run(another_locale);
    }
    let dir = std::env::temp_dir().join(format!("gort-locale-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let made =
        Command::new("localedef").args(["-i", "de_DE", "-f", "ISO-8859-1"]).arg(dir.join("de_DE")).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return println!("no localedef here, or nothing to make a locale from: this row shows nothing");
    }
    let end = play("character_classes_of_today", "own", &[("LOCPATH", dir.to_str().unwrap())]);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(end.code, Some(0), "{}", end.text);
}

/// Another goroutine's `pthread_t` is not a thread of the kernel: calls with it fail with an error.
#[test]
fn about_others() {
    gort::run(|| {
        let (hold, held) = chan::bounded::<()>(0);
        let (tx, rx) = chan::bounded::<usize>(0);
        let other = gort::go(move || {
            // SAFETY: no preconditions.
            tx.send(unsafe { libc::pthread_self() } as usize).unwrap();
            assert!(held.recv().is_err());
        });
        let thread = rx.recv().unwrap() as libc::pthread_t;
        // SAFETY: the other goroutine is alive.
        unsafe {
            assert_eq!(libc::pthread_kill(thread, 0), libc::ESRCH);
            assert_eq!(libc::pthread_cancel(thread), libc::ESRCH);
        }
        drop(hold);
        other.join().unwrap();
    });
}

/// `pthread_exit` in a goroutine, and `pthread_cancel` of itself, end the process with a message
/// and status 2.
#[test]
fn threads_end_otherwise() {
    match scene().as_deref() {
        Some("pthread_exit") => {
            let end = || {
                // SAFETY: it does not return, and nothing here needs to be dropped.
                unsafe { libc::pthread_exit(std::ptr::null_mut()) }
            };
            return gort::run(move || gort::go(end).join().unwrap());
        }
        Some("pthread_cancel") => {
            return gort::run(|| {
                // SAFETY: as above.
                unsafe { libc::pthread_cancel(libc::pthread_self()) };
            });
        }
        _ => {}
    }
    for scene in ["pthread_exit", "pthread_cancel"] {
        let end = play("threads_end_otherwise", scene, &[]);
        assert_eq!(end.code, Some(2), "{scene}: {}", end.text);
        assert!(end.text.contains(&format!("fatal error: {scene} in a goroutine")), "{scene}: {}", end.text);
    }
}
