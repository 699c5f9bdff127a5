//! GOMAXPROCS follows the limits of the system (GO-CASES B). Each scene has a process of its own.

mod child;

use child::{play, scene};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn ends_well(test: &str, env: &[(&str, &str)]) -> String {
    let end = play(test, "scene", env);
    assert_eq!(end.code, Some(0), "{}", end.text);
    end.text
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(50), "hangs: {what}");
        gort::sleep(Duration::from_millis(5));
    }
}

fn run_on_one_cpu() {
    // SAFETY: a CPU set of this function's own.
    unsafe {
        let mut now: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut now), 0);
        let first = (0..1024).find(|&cpu| libc::CPU_ISSET(cpu, &now)).unwrap();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(first, &mut one);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &one), 0);
    }
}

/// Affinity limits GOMAXPROCS, and the optional log line has both numbers.
#[test]
fn affinity_bounds_it() {
    if scene().is_some() {
        run_on_one_cpu();
        return gort::run(|| assert_eq!(gort::gomaxprocs(), 1));
    }
    let text = ends_well("affinity_bounds_it", &[("GOMAXPROCS", ""), ("GORT_DEBUG", "logprocs=1")]);
    assert!(text.contains("gort: GOMAXPROCS=1 (affinity 1 CPUs, cgroup limit "), "{text}");
}

/// A number in the environment wins; anything else is ignored. Updates do not change the
/// environment's number, but asking for the default does.
#[test]
fn the_environment_wins() {
    if let Some(scene) = scene() {
        return gort::run(|| match scene.as_str() {
            "five" => {
                assert_eq!(gort::gomaxprocs(), 5);
                assert_eq!(gort::set_default_gomaxprocs(), 5);
                assert!(gort::gomaxprocs() <= gort::num_cpu());
            }
            _ => assert!(gort::gomaxprocs() <= gort::num_cpu()),
        });
    }
    for (scene, value) in [("five", "5"), ("default", "0"), ("default", "abc"), ("default", "-3")] {
        let end = play("the_environment_wins", scene, &[("GOMAXPROCS", value)]);
        assert_eq!(end.code, Some(0), "{value}: {}", end.text);
    }
}

/// An environment variable that cannot be parsed is reported and ignored.
#[test]
fn what_cannot_be_read_is_said() {
    if scene().is_some() {
        return assert_eq!(gort::run(|| gort::blocking(|| 7)), 7);
    }
    for (name, value, says) in [
        ("GORT_THREAD_CAP", "many", "no number"),
        ("GORT_BLOCKING_LIMIT", "-1", "no number"),
        ("GORT_STACK", "64 kilos", "not a number of bytes (examples: 65536, 64K, 1M)"),
        ("GORT_SWAP", "soon", "neither a duration nor off (examples: 500ms, 5s, off)"),
    ] {
        let text = ends_well("what_cannot_be_read_is_said", &[(name, value)]);
        let line = format!("gort: {name}={value:?} is {says}; ignored");
        assert_eq!(text.matches(&line).count(), 1, "{text}");
    }
}

/// An error of the write to stderr does not end the process.
#[test]
fn a_full_disk_behind_stderr_ends_nothing() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = child::command("what_cannot_be_read_is_said", "scene");
    assert!(child.env("GORT_SWAP", "soon").stderr(full).status().unwrap().success());
}

/// GOMAXPROCS goes up and down under full load. Nothing is lost, and the metrics have the
/// durations.
#[test]
fn resizing_under_load_loses_nothing() {
    if scene().is_some() {
        return gort::run(|| {
            let stop = Arc::new(AtomicBool::new(false));
            let (tx, rx) = gort::chan::bounded::<u64>(8);
            let senders: Vec<_> = (0..20)
                .map(|i| {
                    let (tx, stop) = (tx.clone(), stop.clone());
                    gort::go(move || {
                        let mut sent = 0;
                        while !stop.load(SeqCst) {
                            match i % 4 {
                                0 => gort::sleep(Duration::from_micros(50)),
                                1 => gort::blocking(|| std::thread::sleep(Duration::from_micros(50))),
                                2 => (0..10_000).for_each(|_| std::hint::spin_loop()),
                                _ => gort::yield_now(),
                            }
                            tx.send(1).unwrap();
                            sent += 1;
                        }
                        sent
                    })
                })
                .collect();
            drop(tx);
            let received = Arc::new(AtomicU64::new(0));
            let receivers: Vec<_> = (0..4)
                .map(|_| {
                    let (rx, received) = (rx.clone(), received.clone());
                    gort::go(move || {
                        for n in rx.iter() {
                            received.fetch_add(n, SeqCst);
                        }
                    })
                })
                .collect();
            for i in 0..120 {
                gort::set_gomaxprocs([1, 7, 2, 5, 3, 16][i % 6]);
                if i % 8 == 0 {
                    gort::sleep(Duration::from_millis(1));
                }
            }
            stop.store(true, SeqCst);
            let sent: u64 = senders.into_iter().map(|h| h.join().unwrap()).sum();
            receivers.into_iter().for_each(|h| h.join().unwrap());
            assert_eq!(received.load(SeqCst), sent);
            let s = gort::metrics::snapshot();
            assert!(s.resizes >= 119, "{s:?}");
            assert!(s.resize_longest <= s.resize_time && s.resize_longest > Duration::ZERO, "{s:?}");
        });
    }
    ends_well("resizing_under_load_loses_nothing", &[("GOMAXPROCS", "2")]);
}

/// A control group for this test, with the `cpu` controller of version 1 or 2. Removed at the end.
struct Group {
    dir: PathBuf,
    v1: bool,
}

impl Group {
    fn make() -> Result<Group, String> {
        let name = format!("gort-test-{}", std::process::id());
        for (parent, v1) in [("/sys/fs/cgroup/cpu", true), ("/sys/fs/cgroup", false)] {
            let dir = PathBuf::from(parent).join(&name);
            if std::fs::create_dir(&dir).is_ok() {
                let group = Group { dir, v1 };
                if group.dir.join(if v1 { "cpu.cfs_quota_us" } else { "cpu.max" }).exists() {
                    return Ok(group);
                }
            }
        }
        Err("no control group with the cpu controller can be made here".into())
    }

    /// Sets the limit, in hundredths of a CPU; `None` means no limit.
    fn limit(&self, percent: Option<u32>) {
        let (file, text) = match (self.v1, percent) {
            (true, limit) => ("cpu.cfs_quota_us", limit.map_or("-1".into(), |p| (p * 1000).to_string())),
            (false, limit) => {
                ("cpu.max", format!("{} 100000", limit.map_or("max".into(), |p| (p * 1000).to_string())))
            }
        };
        std::fs::write(self.dir.join(file), text).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// A real quota, as a container has it: read at the start and followed while the program is busy,
/// but not once a number was set.
#[test]
fn a_real_quota() {
    if let Some(scene) = scene() {
        let dir = PathBuf::from(&scene);
        let group = std::mem::ManuallyDrop::new(Group { v1: dir.starts_with("/sys/fs/cgroup/cpu/"), dir });
        std::fs::write(group.dir.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        return gort::run(move || {
            assert_eq!((gort::gomaxprocs(), gort::cgroup_cpu_limit()), (1, Some(0.5)));
            let stop = Arc::new(AtomicBool::new(false));
            let busy = gort::go({
                let stop = stop.clone();
                move || while !stop.load(SeqCst) {}
            });
            group.limit(Some(150));
            until("up", || gort::gomaxprocs() == 2);
            group.limit(Some(100));
            until("down", || gort::gomaxprocs() == 1);
            group.limit(None);
            until("no limit", || gort::gomaxprocs() == gort::num_cpu());
            // A number that was set stays.
            gort::set_gomaxprocs(3);
            group.limit(Some(100));
            gort::sleep(Duration::from_millis(2500));
            assert_eq!(gort::gomaxprocs(), 3);
            assert_eq!(gort::set_default_gomaxprocs(), 3);
            assert_eq!(gort::gomaxprocs(), 1);
            stop.store(true, SeqCst);
            busy.join().unwrap();
        });
    }
    if gort::num_cpu() < 2 {
        return eprintln!("skipped: one CPU is too few to see a quota");
    }
    let group = match Group::make() {
        Ok(group) => group,
        Err(e) => return eprintln!("skipped: {e}"),
    };
    group.limit(Some(50));
    let end = play("a_real_quota", group.dir.to_str().unwrap(), &[("GOMAXPROCS", "")]);
    assert_eq!(end.code, Some(0), "{}", end.text);
}
