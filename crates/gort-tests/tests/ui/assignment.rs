use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        message = r.recv() => drop(message),
        default => {}
    }
    let _ = (s, r);
}
