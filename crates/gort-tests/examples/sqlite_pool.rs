//! A C library that keeps state per thread: SQLite, with one connection for each worker of an
//! `AffinePool`, opened without SQLite's own locks. A thousand goroutines write and read through
//! it. All rows of one user go through one connection.
//!
//! `cargo run --release -p gort-tests --example sqlite_pool`

use gort::affine::AffinePool;
use rusqlite::{Connection, OpenFlags, params};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WORKERS: usize = 2;
const USERS: u64 = 1000;
const NOTES: u64 = 5;

thread_local! {
    /// The worker's own connection, which never leaves its thread.
    static DB: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

fn open(path: &Path, worker: usize) -> rusqlite::Result<Connection> {
    // Only one thread uses the connection, so it needs no locks.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Each worker has its own file: the data is split by key, as the jobs are.
    let db = Connection::open_with_flags(path.join(format!("notes-{worker}.db")), flags)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE notes (user INTEGER, text TEXT)",
    )?;
    Ok(db)
}

fn with_db<R>(f: impl FnOnce(&Connection) -> R) -> R {
    DB.with_borrow(|db| f(db.as_ref().expect("opened by the worker's init")))
}

fn main() {
    let dir = std::env::temp_dir().join(format!("gort-sqlite-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory for the databases");
    gort::run(|| {
        let path = dir.clone();
        let init = move |worker| DB.set(Some(open(&path, worker).expect("a database")));
        let pool = Arc::new(AffinePool::new(WORKERS, init, |_| DB.set(None)));
        let begun = Instant::now();
        let users: Vec<_> = (0..USERS)
            .map(|user| {
                let pool = pool.clone();
                gort::go(move || {
                    for n in 0..NOTES {
                        let insert = move || {
                            with_db(|db| {
                                db.prepare_cached("INSERT INTO notes VALUES (?1, ?2)")?
                                    .execute(params![user as i64, format!("note {n} of user {user}")])
                            })
                        };
                        pool.submit_keyed(&user, insert).join().expect("no panic").expect("inserted");
                    }
                    let count = move || {
                        with_db(|db| {
                            db.prepare_cached("SELECT count(*) FROM notes WHERE user = ?1")?
                                .query_row([user as i64], |row| row.get::<_, i64>(0))
                        })
                    };
                    pool.submit_keyed(&user, count).join().expect("no panic").expect("counted")
                })
            })
            .collect();
        let notes: i64 = users.into_iter().map(|h| h.join().expect("no panic")).sum();
        assert_eq!(notes as u64, USERS * NOTES);
        println!(
            "{notes} notes of {USERS} goroutines through {WORKERS} SQLite connections in {:.0?} ({} OS threads)",
            begun.elapsed(),
            gort::metrics::snapshot().threads + WORKERS,
        );
        Arc::into_inner(pool).expect("this is the last owner").shutdown();
    });
    let _ = std::fs::remove_dir_all(&dir);
}
