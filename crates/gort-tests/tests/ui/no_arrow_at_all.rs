use gort::chan::bounded;
use gort::select;

fn main() {
    let (s, r) = bounded::<i32>(1);
    select! {
        recv(r) -> message,
        send(s, 1) -> _ => {}
    }
    let _ = (s, r);
}
