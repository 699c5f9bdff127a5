//! PLACEHOLDER: just enough of the channels for `context`, until they are merged.
use crate::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

struct Shared<T> {
    synced: Mutex<(Option<T>, bool)>,
    changed: Condvar,
}
/// Sender
pub struct Sender<T>(Arc<Shared<T>>);
/// Receiver
#[derive(Clone)]
pub struct Receiver<T>(Arc<Shared<T>>);
/// RecvError
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct RecvError;
/// TryRecvError
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum TryRecvError {
    /// Empty
    Empty,
    /// Disconnected
    Disconnected,
}
/// RecvTimeoutError
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum RecvTimeoutError {
    /// Timeout
    Timeout,
    /// Disconnected
    Disconnected,
}
/// bounded
pub fn bounded<T>(_: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { synced: Mutex::new((None, false)), changed: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}
impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.synced.lock().unwrap().1 = true;
        self.0.changed.notify_all();
    }
}
impl<T> Receiver<T> {
    /// recv
    pub fn recv(&self) -> Result<T, RecvError> {
        let wait = |s: &mut (Option<T>, bool)| !s.1;
        drop(self.0.changed.wait_while(self.0.synced.lock().unwrap(), wait));
        Err(RecvError)
    }
    /// try_recv
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        Err(if self.0.synced.lock().unwrap().1 { TryRecvError::Disconnected } else { TryRecvError::Empty })
    }
    /// recv_timeout
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let wait = |s: &mut (Option<T>, bool)| !s.1;
        let ended = self.0.changed.wait_timeout_while(self.0.synced.lock().unwrap(), timeout, wait);
        Err(if ended.unwrap().1.timed_out() { RecvTimeoutError::Timeout } else { RecvTimeoutError::Disconnected })
    }
}
