use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        recv(r) -> _ => 1 2,
        default => 3,
    }
    let _ = (s, r);
}
