//! The old process, while it waits for this one to serve. It is told lines over standard input, which is a socket then.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Set by an old process that waits.
pub(super) const VARIABLE: &str = "REVERSE_PROXY_UPGRADE";

fn parent() -> &'static Mutex<Option<UnixStream>> {
    static PARENT: OnceLock<Mutex<Option<UnixStream>>> = OnceLock::new();
    PARENT.get_or_init(|| {
        let there = std::env::var_os(VARIABLE).is_some();
        let stream = || std::io::stdin().as_fd().try_clone_to_owned().ok();
        let stream = there.then(stream).flatten().map(UnixStream::from);
        // Anything else than the socket of an old process has no peer.
        Mutex::new(stream.filter(|stream| stream.peer_addr().is_ok()))
    })
}

/// Returns whether an old process waits for this one to serve.
pub fn is_there() -> bool {
    let parent = parent().lock().unwrap_or_else(PoisonError::into_inner);
    parent.is_some()
}

/// Tells it a line.
pub(super) fn tell(line: &str) {
    let mut parent = parent().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stream) = parent.as_mut() {
        let line = line.replace(['\n', '\r'], " ");
        if let Err(e) = stream.write_all(format!("{line}\n").as_bytes()) {
            log::warn!("the old process is gone: {e}");
        }
    }
}

/// Tells it that this process cannot serve, and why.
pub fn tell_failure(why: &str) {
    tell(&format!("failed {why}"));
}
