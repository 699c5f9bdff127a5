use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        recv(r) -> _, if 1 => {}
        default => {}
    }
    let _ = (s, r);
}
