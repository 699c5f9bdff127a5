//! The way out: what is left when nothing can be trusted any more. Fit for signal handlers.

/// Writes all of `bytes` to stderr, as far as it goes.
pub(crate) fn write_stderr(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the bytes are readable for the length of the call.
        let n = unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(0) => return,
            Ok(n) => bytes = &bytes[n..],
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Tells the user something, a line of its own. Not by `eprintln`: a goroutine may have parked with std's lock, which the runtime's own threads must
/// not wait for; and that nobody can be told (a full disk) is no panic.
pub(crate) fn say(what: std::fmt::Arguments<'_>) {
    write_stderr(format!("gort: {what}\n").as_bytes());
}

/// Ends the process at once: no destructors, no `atexit`.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Says `message` and ends the process with status 2.
#[cold]
pub(crate) fn throw(message: &str) -> ! {
    write_stderr(message.as_bytes());
    write_stderr(b"\n");
    exit(2)
}
