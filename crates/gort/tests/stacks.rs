//! Stacks: overflow, how many there can be, what they cost. A test that ends the process uses a
//! child.

use gort::chan;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The scene that the child plays.
const SCENE: &str = "GORT_TEST_SCENE";

/// After how long a wait counts as a hang.
const HANG: Duration = Duration::from_secs(60);

/// Runs this test alone in a child process that plays `scene`.
fn child(test: &str, scene: &str, env: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SCENE, scene)
        .env("RUST_BACKTRACE", "0")
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

fn scene() -> Option<String> {
    std::env::var(SCENE).ok()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let frame = std::hint::black_box([depth; 16]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[depth % 16] - depth + 1 }
}

/// Touches a frame of half a megabyte; the compiler probes it page by page.
#[inline(never)]
fn big_frame() -> u8 {
    let big = std::hint::black_box([1u8; 512 << 10]);
    big[big.len() / 2]
}

fn shared(f: impl FnOnce() + Send) {
    // SAFETY: the scenes keep no state of a thread across a park.
    unsafe { gort::Runtime::builder().shared_thread_locals() }.run(f).unwrap();
}

fn overflow() {
    let deep =
        gort::Builder::new().name("deep one".into()).stack_size(64 << 10).spawn(|| recurse(1 << 20)).unwrap();
    println!("{:?}", deep.join());
}

/// GO-CASES A2: an overflow is reported with the goroutine, its size and the knobs, and ends the
/// process with status 2. It is so in both modes, for recursion and for one big frame, and with
/// both kinds of guards.
#[test]
fn overflow_is_reported() {
    match scene().as_deref() {
        Some("recursion") => return gort::run(overflow),
        Some("shared") => return shared(overflow),
        Some("frame") => return gort::run(|| assert_eq!(big_frame(), 1)),
        _ => {}
    }
    for (scene, env, name) in [
        ("recursion", &[][..], Some("(\"deep one\")")),
        ("shared", &[], Some("(\"deep one\")")),
        ("recursion", &[("GORT_DEBUG", "guards=mprotect")], Some("(\"deep one\")")),
        ("frame", &[], None),
    ] {
        let output = child("overflow_is_reported", scene, env);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{scene}: {said}");
        assert!(said.contains("fatal error: stack overflow\n\ngoroutine "), "{scene}: {said}");
        assert!(said.contains("Builder::stack_size") && said.contains("GORT_STACK"), "{scene}: {said}");
        assert!(name.is_none_or(|name| said.contains(name)), "{scene}: {said}");
        assert!(said.contains("(in a slot of "), "{scene}: {said}");
        let dump = said.split("for all.\n\n").nth(1).unwrap_or_default();
        assert!(dump.contains("goroutine ") && dump.contains(" [running]:\n"), "{scene}: {said}");
    }
}

/// A fault that is not an overflow ends the process as usual, and is not reported as one.
#[test]
fn other_faults_are_not_called_overflows() {
    if scene().is_some() {
        return gort::run(|| {
            // SAFETY: none: this is the fault that the test is about, in a child process.
            unsafe { std::ptr::without_provenance_mut::<u8>(64).write_volatile(1) };
        });
    }
    let output = child("other_faults_are_not_called_overflows", "null", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", text(&output));
    assert!(!text(&output).contains("stack overflow"), "{}", text(&output));
}

/// A handler that was there before the runtime gets the faults that are not gort's.
#[test]
fn earlier_handlers_get_their_faults() {
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(77) };
    }
    if scene().is_some() {
        // SAFETY: the handler does only what a handler may do.
        unsafe { libc::signal(libc::SIGSEGV, handler as extern "C" fn(libc::c_int) as libc::sighandler_t) };
        return gort::run(|| {
            // SAFETY: none, as above.
            unsafe { std::ptr::without_provenance_mut::<u8>(64).write_volatile(1) };
        });
    }
    assert_eq!(child("earlier_handlers_get_their_faults", "handler", &[]).status.code(), Some(77));
}

/// PEERS (may): recursion up to the requested size works, with `Builder::stack_size` and with
/// `GORT_STACK`.
#[test]
fn stacks_are_as_large_as_asked_for() {
    // A frame of `recurse` takes less than 512 bytes.
    const FRAMES: usize = (900 << 10) / 512;
    if scene().is_some() {
        return gort::run(|| assert_eq!(gort::go(|| recurse(FRAMES)).join().unwrap(), FRAMES));
    }
    let output = child("stacks_are_as_large_as_asked_for", "env", &[("GORT_STACK", "1M")]);
    assert!(output.status.success(), "{}", text(&output));
    gort::run(|| {
        let deep = gort::Builder::new().stack_size(1 << 20).spawn(|| recurse(FRAMES)).unwrap();
        assert_eq!(deep.join().unwrap(), FRAMES);
        let e = gort::Builder::new().stack_size(2 << 30).spawn(|| ()).unwrap_err();
        assert_eq!(e.kind(), std::io::ErrorKind::InvalidInput);
    });
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// Parks `n` goroutines; returns a function that ends them.
fn park(n: usize) -> impl FnOnce() {
    let (hold, held) = chan::bounded::<()>(0);
    let parked = Arc::new(gort::sync::WaitGroup::new());
    parked.add(n);
    let all: Vec<_> = (0..n)
        .map(|_| {
            let (held, parked) = (held.clone(), parked.clone());
            gort::go(move || {
                parked.done();
                assert!(held.recv().is_err());
            })
        })
        .collect();
    parked.wait();
    move || {
        drop(hold);
        all.into_iter().for_each(|h| h.join().unwrap());
    }
}

const MANY: usize = 200_000;

fn park_many() {
    let (before, maps) = (resident(), mappings());
    let release = park(MANY);
    let each = (resident() - before) / MANY;
    println!("each={each} maps={}", mappings() - maps);
    release();
}

/// 200 000 goroutines are parked at once, three times `vm.max_map_count`. A stack needs no mapping
/// of its own and takes one page, thread-locals included.
#[test]
fn stacks_are_no_mappings() {
    match scene().as_deref() {
        Some("own") => return gort::run(park_many),
        Some(_) => return shared(park_many),
        None => {}
    }
    for (scene, most) in [("own", 4_813), ("shared", 4_813)] {
        let output = child("stacks_are_no_mappings", scene, &[]);
        let said = text(&output);
        assert!(output.status.success(), "{scene}: {said}");
        let number = |key: &str| -> usize {
            let at = said.split(key).nth(1).unwrap_or_else(|| panic!("{said}"));
            at.split_whitespace().next().unwrap().parse().unwrap()
        };
        // Unoptimised frames take another page.
        let most = if cfg!(debug_assertions) { most + (4 << 10) } else { most };
        assert!(number("each=") <= most, "{scene}: {said}");
        assert!(number("maps=") < 3_000, "{scene}: {said}");
    }
}

/// If each guard splits a mapping, the number of stacks is limited, and a message says so when the
/// limit is reached.
#[test]
fn running_out_of_mappings_is_said() {
    if scene().is_some() {
        return gort::run(|| drop(park(MANY)));
    }
    let output = child("running_out_of_mappings_is_said", "maps", &[("GORT_DEBUG", "guards=mprotect")]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("cannot allocate a stack for goroutine") && said.contains("vm.max_map_count"),
        "{said}"
    );
}

/// A goroutine that has not run has no stack, and one that ends leaves a warm stack for the next.
/// So a hundred thousand short goroutines touch few stacks.
#[test]
fn short_goroutines_share_a_handful_of_stacks() {
    if scene().is_some() {
        return gort::run(|| {
            let all: Vec<_> = (0..100_000).map(|i| gort::go(move || i)).collect();
            all.into_iter().enumerate().for_each(|(i, h)| assert_eq!(h.join().unwrap(), i));
            println!("stacks={}", gort::metrics::snapshot().stacks);
        });
    }
    let said = text(&child("short_goroutines_share_a_handful_of_stacks", "short", &[]));
    let stacks = said.split("stacks=").nth(1).unwrap_or_else(|| panic!("{said}"));
    let stacks: usize = stacks.split_whitespace().next().unwrap().parse().unwrap();
    assert!(stacks < 200, "{stacks} stacks");
}

/// Touches 170 KiB of stack, however large a frame is in this build.
fn deep() {
    const BYTES: usize = 170 << 10;
    fn below(top: usize) -> usize {
        let frame = std::hint::black_box([1u8; 256]);
        let here = frame.as_ptr().addr();
        if top - here < BYTES { below(top) + usize::from(frame[7]) } else { 0 }
    }
    let top = std::hint::black_box(0u8);
    let top = (&raw const top).addr();
    assert!(below(top) > 0);
    assert!(is_resident(top - BYTES / 2), "the stack was not deep");
}

fn is_resident(addr: usize) -> bool {
    let mut page = 0u8;
    // SAFETY: asks about one page, and has a byte for the answer.
    assert_eq!(unsafe { libc::mincore((addr & !4095) as *mut _, 4096, &mut page) }, 0);
    page & 1 == 1
}

fn once_deep() {
    const N: usize = 400;
    let before = resident();
    let parked = Arc::new(gort::sync::WaitGroup::new());
    parked.add(N);
    let (hold, held) = chan::bounded::<()>(0);
    let (never, silent) = chan::bounded::<()>(0);
    let all: Vec<_> = (0..N)
        .map(|i| {
            let (held, silent, parked) = (held.clone(), silent.clone(), parked.clone());
            gort::go(move || {
                let own = std::hint::black_box([i; 32]);
                deep();
                parked.done();
                // One kind of wait names the lock of its channel, the other does not.
                if i % 2 == 0 {
                    assert!(held.recv().is_err());
                } else {
                    gort::select! {
                        recv(held) -> m => assert!(m.is_err()),
                        recv(silent) -> _ => unreachable!(),
                    }
                }
                assert!(own.iter().all(|&o| o == i), "a live value has changed");
                deep();
                assert!(own.iter().all(|&o| o == i));
            })
        })
        .collect();
    parked.wait();
    let start = Instant::now();
    while resident() - before > N * (16 << 10) {
        assert!(start.elapsed() < HANG, "{} bytes are still there", resident() - before);
        gort::sleep(Duration::from_millis(20));
    }
    drop(hold);
    all.into_iter().for_each(|h| h.join().unwrap());
    drop(never);
}

/// Goroutines that were deep once and have been parked for a while give back the pages below their
/// live stacks, also without swapping. Live values stay.
#[test]
fn pages_below_the_live_stack_come_back() {
    match scene().as_deref() {
        Some("shared") => return shared(once_deep),
        Some(_) => return gort::run(once_deep),
        None => {}
    }
    for scene in ["own", "shared"] {
        let output = child("pages_below_the_live_stack_come_back", scene, &[("GORT_DEBUG", "trimms=200")]);
        assert!(output.status.success(), "{scene}: {}", text(&output));
    }
}

/// After a peak the memory of most stacks goes back to the system.
#[test]
fn memory_comes_back_after_a_peak() {
    if scene().is_some() {
        return gort::run(|| {
            let before = resident();
            let release = park(20_000);
            let peak = resident() - before;
            release();
            let start = Instant::now();
            while resident() - before > peak / 2 {
                assert!(start.elapsed() < HANG, "{} of {peak} bytes are still there", resident() - before);
                gort::sleep(Duration::from_millis(20));
            }
        });
    }
    let output = child("memory_comes_back_after_a_peak", "peak", &[]);
    assert!(output.status.success(), "{}", text(&output));
}
