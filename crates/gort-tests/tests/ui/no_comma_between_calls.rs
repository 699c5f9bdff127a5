use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        default => {}
        recv(r) -> _ => drop(1)
        send(s, 1) -> _ => drop(2),
    }
    let _ = (s, r);
}
