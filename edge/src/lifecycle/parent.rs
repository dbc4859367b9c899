//! The old process, while it waits for this one to serve. It is told lines over standard input, which is a socket then, and
//! says there when it waits no more.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Set by an old process that waits.
pub(super) const VARIABLE: &str = "REVERSE_PROXY_UPGRADE";

/// Said by an old process that has given this one up, and serves on. One that has ended says nothing.
pub(super) const GIVEN_UP: &[u8] = b"given up\n";

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

/// Tells whether it has given this process up.
pub(super) fn has_given_up() -> bool {
    let mut parent = parent().lock().unwrap_or_else(PoisonError::into_inner);
    parent.as_mut().is_some_and(says_so)
}

fn says_so(stream: &mut UnixStream) -> bool {
    let mut said = [0; GIVEN_UP.len()];
    let read = stream.set_nonblocking(true);
    let read = read.and_then(|()| stream.read(&mut said));
    // What it is told later waits until there is room.
    let _ = stream.set_nonblocking(false);
    read.is_ok_and(|length| said[..length] == *GIVEN_UP)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_process_that_has_ended_has_not_given_it_up() {
        let (mut old, mut new) = UnixStream::pair().unwrap();
        assert!(!says_so(&mut new));
        old.write_all(GIVEN_UP).unwrap();
        assert!(says_so(&mut new));
        drop(old);
        assert!(!says_so(&mut new));
    }

    #[test]
    fn it_is_heard_of_one_that_has_ended_since() {
        let (mut old, mut new) = UnixStream::pair().unwrap();
        // Nobody has read this.
        new.write_all(b"waiting\n").unwrap();
        old.write_all(GIVEN_UP).unwrap();
        drop(old);
        assert!(says_so(&mut new));
    }
}
