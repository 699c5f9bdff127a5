use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        send(s, 1), if true -> _ => {}
        default => {}
    }
    let _ = (s, r);
}
