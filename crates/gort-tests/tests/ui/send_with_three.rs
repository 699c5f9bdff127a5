use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        send(s, 1, 2) -> _ => {}
    }
    let _ = (s, r);
}
