//! Writing to stderr and ending the process when other parts of the program can no longer be
//! trusted. Safe in signal handlers, except [`say`], which allocates.

/// Writes `bytes` to stderr; gives up on the first error except `EINTR`.
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

/// Prints a line for the user to stderr.
///
/// It does not use `eprintln`: a goroutine may have parked while it holds std's lock, and the
/// runtime's own threads must not wait for that. A failed write (a full disk) is not a panic.
pub(crate) fn say(what: std::fmt::Arguments<'_>) {
    write_stderr(format!("gort: {what}\n").as_bytes());
}

/// Ends the process at once, without destructors or `atexit` handlers.
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
