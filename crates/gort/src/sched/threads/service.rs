//! The runtime's own threads: Ms, sysmon, the template thread, the swapper.
//!
//! # A panic there
//! is a fault of the runtime, or of code that has taken away what the runtime rests on. Without the
//! thread the process would limp on, with a P that no M runs, or timers that no thread fires. So a
//! panic there is a fatal error.
//!
//! # A start that fails
//! Threads that the runtime has from its start are made before anything is settled, and wait
//! ([`PendingThreads`]). When the last step that can fail is done, they begin. If a step fails,
//! they end, and the start can be tried again.

use crate::sys::{fatal, payload, thread};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

/// Makes a thread of the runtime. All its threads come from here.
pub(crate) fn spawn(
    name: String,
    stack_bytes: usize,
    f: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.clone());
    let thread = thread.stack_size(thread::stack_size(stack_bytes));
    thread.spawn(move || {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            end_of(&name, &*payload);
        }
    })
}

/// The thread `name` has panicked. The panic hook has said where; if the program has replaced the
/// hook, this message is said at least.
#[cold]
fn end_of(name: &str, payload: &(dyn Any + Send)) -> ! {
    let text = payload::text(payload).unwrap_or("no message");
    fatal::throw(&format!("fatal error: {name}, a thread of the gort runtime, panicked: {text}"))
}

/// Threads that wait until the runtime's start has succeeded. If this is dropped before, they end.
#[derive(Default)]
pub(crate) struct PendingThreads(Vec<(Sender<()>, JoinHandle<()>)>);

impl PendingThreads {
    /// Makes one more thread, which waits.
    pub(crate) fn add(
        &mut self,
        name: &str,
        stack_bytes: usize,
        f: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (begin, begun) = mpsc::channel();
        let thread = spawn(name.to_string(), stack_bytes, move || {
            if begun.recv().is_ok() {
                f();
            }
        })?;
        self.0.push((begin, thread));
        Ok(())
    }

    /// The start has succeeded: lets them go on.
    pub(crate) fn begin(mut self) {
        for (begin, _) in self.0.drain(..) {
            begin.send(()).expect("it waits for this");
        }
    }
}

impl Drop for PendingThreads {
    fn drop(&mut self) {
        for (begin, thread) in self.0.drain(..) {
            drop(begin);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    static BEGUN: AtomicBool = AtomicBool::new(false);

    /// Threads of a start that fails end without having begun.
    #[test]
    fn threads_of_a_failed_start_do_nothing() {
        let mut pending = PendingThreads::default();
        pending.add("one", 64 << 10, || BEGUN.store(true, SeqCst)).unwrap();
        pending.add("two", 64 << 10, || BEGUN.store(true, SeqCst)).unwrap();
        drop(pending); // joins them
        assert!(!BEGUN.load(SeqCst));
        let mut pending = PendingThreads::default();
        let (tx, rx) = mpsc::channel();
        pending.add("three", 64 << 10, move || tx.send(3).unwrap()).unwrap();
        pending.begin();
        assert_eq!(rx.recv(), Ok(3));
    }

    /// A panic on a thread of the runtime ends the process with status 2, and says which and why,
    /// also where the program has silenced panics. In a process of its own.
    #[test]
    fn a_panic_is_the_end() {
        const CHILD: &str = "GORT_TEST_SERVICE_PANICS";
        if std::env::var_os(CHILD).is_some() {
            std::panic::set_hook(Box::new(|_| ()));
            let thread = spawn("gort-test".into(), 64 << 10, || panic!("for {}", "a test"));
            let _ = thread.unwrap().join();
            return; // status 0: the process limps on
        }
        let test = "sched::threads::service::tests::a_panic_is_the_end";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let end = child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&end.stderr);
        assert_eq!(end.status.code(), Some(2), "{text}");
        let said = "fatal error: gort-test, a thread of the gort runtime, panicked: for a test";
        assert_eq!(text.matches(said).count(), 1, "{text}");
    }
}
