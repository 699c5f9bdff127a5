use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        read(r) -> _ => {}
    }
    let _ = (s, r);
}
