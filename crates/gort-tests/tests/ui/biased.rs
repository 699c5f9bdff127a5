use gort::chan::bounded;
use gort::select_biased;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select_biased! {
        recv(r) => {}
    }
    let _ = (s, r);
}
