//! A forked child that has not called `exec`. The runtime does not work in it; plain code does. The
//! child may do anything to gort's objects without effect on the parent. Each scene has a process
//! of its own.

mod child;

use child::{ends_well_in_both_modes as ends_well, is_played, play};
use gort::chan;
use gort::context::Context;
use gort::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// After how many seconds a child counts as a hang.
const SECONDS: u32 = 40;

/// The status that says that `f` panicked.
const PANICKED: i32 = 101;

/// Runs `f` in a forked child. Returns its exit status, or the negative number of the signal that
/// ended it.
fn forked(f: impl FnOnce()) -> i32 {
    // SAFETY: what the child may do is what this tests.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: `alarm` and `_exit` take numbers.
        unsafe {
            libc::alarm(SECONDS);
            let result = catch_unwind(AssertUnwindSafe(f));
            libc::_exit(if result.is_ok() { 0 } else { PANICKED })
        }
    }
    end_of(pid)
}

fn end_of(pid: i32) -> i32 {
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    let mut status = 0;
    loop {
        // SAFETY: `status` is a place for the status.
        if gort::blocking(|| unsafe { libc::waitpid(pid, &mut status, 0) }) == pid {
            break;
        }
    }
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

/// Sockets of all kinds, with goroutines of this process waiting for them.
struct Sockets {
    listener: TcpListener,
    here: TcpStream,
    there: TcpStream,
    spare: TcpStream,
    udp: UdpSocket,
    unix: UnixStream,
    unix_there: UnixStream,
}

impl Sockets {
    fn new() -> Sockets {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let here = listener.accept().unwrap().0;
        let spare = here.try_clone().unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (unix, unix_there) = UnixStream::pair().unwrap();
        Sockets { listener, here, there, spare, udp, unix, unix_there }
    }

    /// Checks that each socket wakes the goroutine that waits for it.
    fn work(&self) {
        let ended = AtomicBool::new(false);
        gort::scope(|s| {
            s.go(|| {
                for mut stream in [&self.here, &self.spare] {
                    let mut b = [0];
                    stream.read_exact(&mut b).unwrap();
                }
                (&self.unix).read_exact(&mut [0]).unwrap();
                self.udp.recv_from(&mut [0]).unwrap();
                self.listener.accept().unwrap();
                ended.store(true, SeqCst);
            });
            let begun = Instant::now();
            for i in 0.. {
                if ended.load(SeqCst) {
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(30), "a goroutine was not woken");
                gort::sleep(Duration::from_millis(2));
                match i {
                    0 => (&self.there).write_all(b"x").unwrap(),
                    1 => (&self.there).write_all(b"x").unwrap(),
                    2 => (&self.unix_there).write_all(b"x").unwrap(),
                    3 => assert_eq!(self.udp.send_to(b"x", self.udp.local_addr().unwrap()).unwrap(), 1),
                    4 => drop(std::net::TcpStream::connect(self.listener.local_addr().unwrap()).unwrap()),
                    _ => {}
                }
            }
        });
    }
}

/// A child that drops, closes and changes its parent's sockets has no effect on the parent.
#[test]
fn the_parent_does_not_notice() {
    if is_played(|| {
        let sockets = Sockets::new();
        let waits = Sockets::new();
        let waiter = gort::go(move || {
            let mut b = [0; 5];
            (&waits.here).read_exact(&mut b).unwrap();
            waits.work();
            b
        });
        gort::sleep(Duration::from_millis(10));
        sockets.work();
        for way in 0..3 {
            let mut dropped = Some(Sockets::new());
            let left = dropped.as_ref().map(|s| s.there.try_clone().unwrap()).unwrap();
            let end = forked(|| {
                let sockets = dropped.take().unwrap();
                match way {
                    0 => drop(sockets),
                    1 => {
                        sockets.here.close();
                        sockets.listener.close();
                        sockets.here.close();
                    }
                    _ => {
                        sockets.spare.set_nonblocking(true).unwrap();
                        sockets.here.set_nodelay(true).unwrap();
                        assert!(sockets.listener.local_addr().is_ok());
                        drop(std::os::fd::OwnedFd::from(sockets.udp));
                    }
                }
            });
            assert_eq!(end, 0);
            dropped.unwrap().work();
            drop(left);
        }
        sockets.work();
        drop(waiter);
    }) {
        return;
    }
    ends_well("the_parent_does_not_notice", "2");
}

/// The same for a child that was made without libc, so no `pthread_atfork` handler has run.
#[test]
fn nor_where_the_child_was_made_past_libc() {
    if is_played(|| {
        let sockets = Sockets::new();
        // SAFETY: the child closes a descriptor and ends.
        let pid = unsafe { libc::syscall(libc::SYS_fork) } as i32;
        if pid == 0 {
            // SAFETY: as above.
            unsafe {
                drop(std::ptr::read(&sockets.here));
                drop(std::ptr::read(&sockets.listener));
                libc::_exit(0);
            }
        }
        assert_eq!(end_of(pid), 0);
        sockets.work();
    }) {
        return;
    }
    ends_well("nor_where_the_child_was_made_past_libc", "1");
}

/// Checks that `f` panics with the message in a child.
fn is_refused(what: &str, f: impl FnOnce()) {
    let end = forked(|| {
        let payload = catch_unwind(AssertUnwindSafe(f)).expect_err(what);
        let text = payload.downcast_ref::<String>().map_or("", |text| text);
        assert!(text.contains("in a forked child"), "{what}: {text:?}");
    });
    assert_eq!(end, 0, "{what}");
}

fn all_is_refused() {
    let sockets = Sockets::new();
    (&sockets.there).write_all(b"data that is there").unwrap();
    let (tx, rx) = chan::bounded::<u8>(0);
    let (full, _full_rx) = chan::bounded::<u8>(1);
    full.send(1).unwrap();
    let mutex = gort::sync::Mutex::new(());
    let rwlock = gort::sync::RwLock::new(());
    let semaphore = gort::sync::Semaphore::new(1);
    let group = gort::sync::WaitGroup::new();
    group.add(1);
    let once = gort::sync::OnceLock::<u8>::new();
    // Long enough not to have passed when the child asks: a wait that is over needs no runtime.
    let hour = Duration::from_secs(3600);
    let sleeper = std::cell::Cell::new(Some(gort::go(move || gort::sleep(hour))));
    let address = sockets.listener.local_addr().unwrap();
    {
        let _held = (mutex.lock().unwrap(), rwlock.write().unwrap(), semaphore.acquire(1));
        is_refused("sleep", || gort::sleep(hour));
        is_refused("yield_now", gort::yield_now);
        is_refused("go", || drop(gort::go(|| ())));
        is_refused("Builder::spawn", || drop(gort::Builder::new().spawn(|| ())));
        is_refused("scope", || gort::scope(|s| drop(s.go(|| ()))));
        is_refused("run", || gort::run(|| ()));
        is_refused("recv", || _ = rx.recv());
        is_refused("recv_timeout", || _ = rx.recv_timeout(hour));
        is_refused("send", || _ = tx.send(1));
        is_refused("send, full", || _ = full.send(1));
        is_refused("select", || gort::select! { recv(rx) -> _ => {}, send(full, 1) -> _ => {} });
        is_refused("after", || _ = chan::after(hour).recv());
        is_refused("never", || _ = chan::never::<u8>().recv());
        is_refused("lock", || drop(mutex.lock()));
        is_refused("read", || drop(rwlock.read()));
        is_refused("write", || drop(rwlock.write()));
        is_refused("acquire", || drop(semaphore.acquire(1)));
        is_refused("WaitGroup", || group.wait());
        is_refused("OnceLock", || _ = once.wait());
        is_refused("join", || drop(sleeper.take().unwrap().join()));
        is_refused("join_timeout", || drop(sleeper.take().unwrap().join_timeout(hour)));
        is_refused("block_on", || gort::future::block_on(std::future::pending()));
        is_refused("with_timeout", || drop(Context::background().with_timeout(hour)));
        is_refused("set_gomaxprocs", || _ = gort::set_gomaxprocs(7));
        is_refused("TcpStream::read", || drop((&sockets.here).read(&mut [0; 4])));
        is_refused("TcpStream::write", || drop((&sockets.here).write(b"x")));
        is_refused("try_read", || drop(sockets.here.try_read(&mut [0; 4])));
        is_refused("try_write", || drop(sockets.here.try_write(b"x")));
        is_refused("wait_readable", || drop(sockets.here.wait_readable()));
        is_refused("accept", || drop(sockets.listener.accept()));
        is_refused("connect", || drop(TcpStream::connect(address)));
        is_refused("bind", || drop(TcpListener::bind("127.0.0.1:0")));
        is_refused("recv_from", || drop(sockets.udp.recv_from(&mut [0])));
        is_refused("try_clone", || drop(sockets.here.try_clone()));
        is_refused("set_read_deadline", || drop(sockets.here.set_read_deadline(Some(Instant::now()))));
    }
    let end = forked(|| {
        assert!(matches!(gort::start(), Err(gort::StartError::Forked)));
        let error = gort::Runtime::builder().gomaxprocs(1).run(|| ()).unwrap_err();
        assert!(error.to_string().contains("in a forked child"), "{error}");
    });
    assert_eq!(end, 0);
    let mut byte = [0];
    (&sockets.here).read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"d", "the child has read it");
}

/// Whatever needs the runtime panics with a message in the child. It neither blocks for ever nor
/// affects the parent. The child is that of a goroutine, of a `blocking` call, or of a plain
/// thread.
#[test]
fn what_needs_a_runtime_is_refused() {
    if is_played(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let expected = panic.payload_as_str().is_some_and(|text| text.contains("in a forked child"));
            if !expected {
                hook(panic);
            }
        }));
        all_is_refused();
        gort::blocking(all_is_refused);
        std::thread::spawn(all_is_refused).join().unwrap();
    }) {
        return;
    }
    ends_well("what_needs_a_runtime_is_refused", "2");
}

/// Files, threads, processes, and what of gort does not block, work in the child. So do `exit`,
/// `exec` and another fork.
#[test]
fn plain_code_works() {
    if is_played(|| {
        let (tx, rx) = chan::bounded(4);
        let mutex = gort::sync::Mutex::new(5);
        let code = || {
            assert!(
                std::fs::read_to_string("/proc/self/stat").unwrap().contains(&std::process::id().to_string())
            );
            assert_eq!(std::thread::spawn(|| vec![1u8; 100_000].len()).join().unwrap(), 100_000);
            assert_eq!(Command::new("echo").arg("hi").output().unwrap().stdout, b"hi\n");
            tx.send(1).unwrap();
            assert_eq!(rx.try_recv(), Ok(1));
            assert_eq!(*mutex.lock().unwrap(), 5);
            assert_eq!(gort::blocking(|| 5), 5);
            drop((gort::lock_os_thread(), gort::no_preempt(), gort::lend_stack()));
            assert!(gort::num_goroutine() >= 1);
            std::thread::sleep(Duration::from_millis(1));
        };
        let with_an_exit = || {
            assert_eq!(forked(code), 0);
            assert_eq!(gort::blocking(|| forked(code)), 0);
            assert_eq!(forked(|| assert_eq!(forked_in_child(code), 0)), 0);
            assert_eq!(forked(|| std::process::exit(7)), 7);
            assert_eq!(forked(|| drop(Command::new("sh").args(["-c", "exit 9"]).exec())), 9);
        };
        with_an_exit();
        {
            let _lock = gort::lock_os_thread();
            with_an_exit();
        }
        gort::yield_now();
        with_an_exit();
    }) {
        return;
    }
    ends_well("plain_code_works", "2");
}

/// As [`forked`], called in a child: the grandchild counts as a forked child too.
fn forked_in_child(f: impl FnOnce()) -> i32 {
    forked(|| {
        f();
        let payload = catch_unwind(gort::yield_now).expect_err("this is a child too");
        assert!(payload.downcast_ref::<String>().unwrap().contains("in a forked child"));
    })
}

/// A goroutine that comes to its end in a child has no joiner there: a message says so, and the
/// child ends.
#[test]
fn a_goroutine_that_ends_in_a_child_is_an_error() {
    let ends: [(&str, fn()); 3] =
        [("returns", || ()), ("panics", || panic!("in the child")), ("goexit", || gort::goexit())];
    let scene = child::scene();
    if let Some((_, end)) = ends.iter().find(|(name, _)| scene.as_deref() == Some(name)) {
        gort::run(|| {
            // SAFETY: the child goes on to the end of the goroutine.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                return end();
            }
            let status = end_of(pid);
            assert_eq!(status, 2);
        });
        return;
    }
    for (name, _) in ends {
        let end = play("a_goroutine_that_ends_in_a_child_is_an_error", name, &[]);
        assert_eq!(end.code, Some(0), "{name}: {}", end.text);
        assert!(end.text.contains("a goroutine has ended in a forked child"), "{name}: {}", end.text);
    }
}

/// A child that drops everything ends, whatever the other threads were doing at the fork, and
/// whichever of gort's locks they held.
#[test]
fn forked_in_the_middle_of_others_work() {
    if is_played(|| {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (tx, rx) = chan::bounded::<Vec<u8>>(2);
        let mutex = Arc::new(gort::sync::Mutex::new(0));
        let semaphore = Arc::new(gort::sync::Semaphore::new(2));
        let (context, cancel) = Context::background().with_cancel();
        let sockets = Arc::new(Sockets::new());
        for i in 0..8 {
            let (tx, rx, mutex, semaphore) = (tx.clone(), rx.clone(), mutex.clone(), semaphore.clone());
            let (context, sockets) = (context.clone(), sockets.clone());
            gort::go(move || {
                while !STOP.load(SeqCst) {
                    let _ = if i % 2 == 0 { tx.send(vec![1]).ok() } else { rx.recv().ok().map(drop) };
                    *mutex.lock().unwrap() += 1;
                    drop(semaphore.acquire(1));
                    drop(context.with_timeout(Duration::from_secs(60)));
                    let soon = Instant::now() + Duration::from_secs(60);
                    sockets.here.set_read_deadline(Some(soon)).unwrap();
                    drop(gort::go(|| ()));
                }
            });
        }
        for _ in 0..300 {
            let (guard, permit) = (mutex.lock().unwrap(), semaphore.acquire(1));
            let child = context.with_cancel();
            let ended = gort::go(|| vec![1]);
            let goes_on = gort::go(|| gort::sleep(Duration::from_millis(1)));
            let timer = gort::time::Timer::new(Duration::from_secs(60));
            // SAFETY: the child drops its own copies.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: `alarm` and `_exit` take numbers; the threads that share the sockets do
                // not exist in the child.
                unsafe {
                    libc::alarm(SECONDS);
                    let sockets = std::ptr::read(Arc::as_ptr(&sockets));
                    let ended = catch_unwind(AssertUnwindSafe(move || {
                        drop((guard, permit, child, ended, goes_on, timer));
                        drop((tx, rx, cancel, context, sockets));
                    }));
                    libc::_exit(if ended.is_ok() { 0 } else { PANICKED });
                }
            }
            drop((guard, permit, child, timer));
            assert_eq!(end_of(pid), 0);
            goes_on.join().unwrap();
        }
        STOP.store(true, SeqCst);
    }) {
        return;
    }
    ends_well("forked_in_the_middle_of_others_work", "4");
}

/// `Command` forks if it cannot spawn: here because of a closure to run in the child.
#[test]
fn commands_work_with_and_without_a_fork() {
    if is_played(|| {
        let all: Vec<_> = (0..40)
            .map(|i| {
                gort::go(move || {
                    let mut command = Command::new("sh");
                    command.args(["-c", &format!("echo {i}; exit {}", i % 3)]);
                    if i % 2 == 0 {
                        // SAFETY: the closure does nothing.
                        unsafe { command.pre_exec(|| Ok(())) };
                    }
                    let output = command.output().unwrap();
                    assert_eq!(output.status.code(), Some(i % 3));
                    assert_eq!(output.stdout, format!("{i}\n").as_bytes());
                })
            })
            .collect();
        all.into_iter().for_each(|h| h.join().unwrap());
        let mut fails = Command::new("true");
        // SAFETY: the closure only returns an error.
        unsafe { fails.pre_exec(|| Err(std::io::ErrorKind::Other.into())) };
        assert!(fails.status().is_err());
        Sockets::new().work();
    }) {
        return;
    }
    ends_well("commands_work_with_and_without_a_fork", "2");
}

/// A child of a fork before the start has no dead runtime, and starts its own.
#[test]
fn forked_before_the_start() {
    if child::scene().is_some() {
        // SAFETY: there are two threads, and the other one waits.
        let pid = unsafe { libc::fork() };
        let sum = gort::run(|| gort::go(|| 6 * 7).join().unwrap());
        assert_eq!(sum, 42);
        if pid == 0 {
            // SAFETY: takes a number.
            unsafe { libc::_exit(0) };
        }
        assert_eq!(end_of(pid), 0);
        return;
    }
    let end = play("forked_before_the_start", "both", &[]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}
