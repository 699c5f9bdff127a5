//! A libc with another layout than gort expects: the start refuses with a message, and shared mode
//! starts. A preloaded library falsifies what libc tells debuggers of its layout.

mod child;

use child::{play, scene};
use std::process::Command;

const TEST: &str = "a_wrong_fact_is_refused";

/// A wrong fact, in C; how the program starts then; the text of the refusal.
const FACTS: [(&str, &str, &str); 6] = [
    ("_thread_db_pthread_tid[3] = {32, 1, 8}", "own", "the descriptor's tid is not where libthread_db says"),
    ("_thread_db_sizeof_pthread = 1 << 24", "own", "static TLS is smaller than a descriptor"),
    (
        "_thread_db_pthread_cancelhandling[3] = {32, 1, 1 << 24}",
        "own",
        "cancelhandling's offset is not as expected",
    ),
    ("_thread_db___pthread_keys[3] = {8, 1, 0}", "own", "the table of pthread keys is not as expected"),
    // Blocks would not see what libraries that are opened later bring.
    (
        "_thread_db_rtld_global__dl_stack_user[3] = {128, 1, 0}",
        "reserved",
        "the list of threads is not where libthread_db says",
    ),
    (
        "_thread_db_rtld_global__dl_stack_user[3] = {128, 1, 0}",
        "left",
        "the list of threads is not where libthread_db says",
    ),
];

const REFUSED: &str = "this libc is not laid out as gort needs it";

fn start(scene: &str) {
    let builder = gort::Runtime::builder();
    let builder = match scene {
        // SAFETY: nothing here keeps state of its thread across a park.
        "shared" => unsafe { builder.shared_thread_locals() },
        "reserved" => builder.reserve_static_tls(64),
        _ => builder,
    };
    match builder.run(|| gort::go(|| 7).join().unwrap()) {
        Ok(seven) => println!("it runs: {seven}"),
        Err(gort::StartError::Unsupported(why)) => println!("refused: {why}"),
        Err(other) => panic!("{other:?}"),
    }
}

/// Each wrong fact is refused with its message, without a crash. Shared mode needs none of them.
#[test]
fn a_wrong_fact_is_refused() {
    if let Some(scene) = scene() {
        return start(&scene);
    }
    let plain = play(TEST, "own", &[]);
    assert_eq!(plain.code, Some(0), "{}", plain.text);
    if plain.text.contains(REFUSED) {
        let shared = play(TEST, "shared", &[]);
        assert!(shared.text.contains("it runs: 7"), "{}", shared.text);
        return println!("refused here anyway, so a wrong fact shows nothing: {}", plain.text);
    }
    assert!(plain.text.contains("it runs: 7"), "{}", plain.text);
    let dir = std::env::temp_dir().join(format!("gort-unknown-layout-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (i, (fact, mode, says)) in FACTS.into_iter().enumerate() {
        let (source, library) = (dir.join("lib.c"), dir.join(format!("lib{i}.so")));
        std::fs::write(&source, format!("const unsigned {fact};\n")).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        match cc.status() {
            Ok(status) => assert!(status.success()),
            Err(e) => return println!("no C compiler here ({e}): this row shows nothing"),
        }
        let preload = ("LD_PRELOAD", library.to_str().unwrap());
        let surplus = ("GORT_DEBUG", if mode == "left" { "tlssurplus=0" } else { "" });
        let end = play(TEST, mode, &[preload, surplus]);
        assert_eq!(end.code, Some(0), "{fact}: {}", end.text);
        assert!(end.text.contains(REFUSED) && end.text.contains(says), "{fact}: {}", end.text);
        let end = play(TEST, "shared", &[preload]);
        assert!(end.text.contains("it runs: 7"), "{fact}, shared: {}", end.text);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
