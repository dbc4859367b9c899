//! Sockets that come by number from an old process.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd};

use nix::sys::socket::{getsockopt, sockopt};
use socket2::Socket;

use crate::server::ListenFds;

/// The inherited socket for a bind string, if there is one that no listener has.
///
/// # Errors
/// One line, when that is no listening socket of the kind that is wanted.
pub(super) fn claim(fds: &ListenFds, bind: &str, unix: bool) -> Result<Option<Socket>, String> {
    let Some(fd) = fds.lock().claim(bind) else {
        return Ok(None);
    };
    // SAFETY: the table has only sockets that this process was sent and that are open, and `claim`
    // gives each of them away once.
    let socket = unsafe { Socket::from_raw_fd(fd) };
    let listens = getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
    let kind = socket
        .local_addr()
        .is_ok_and(|address| address.is_unix() == unix);
    if listens && kind {
        return Ok(Some(socket));
    }
    fds.lock().remove(bind, socket.as_raw_fd());
    Err(format!(
        "cannot listen on {bind}: the old process handed over something else for it"
    ))
}
