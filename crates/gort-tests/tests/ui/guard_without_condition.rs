use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        recv(r) -> _, if => {}
    }
    let _ = (s, r);
}
