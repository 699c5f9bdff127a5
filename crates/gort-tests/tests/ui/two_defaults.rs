use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        default => {}
        recv(r) -> _ => {}
        default(std::time::Duration::ZERO) => {}
    }
    let _ = (s, r);
}
