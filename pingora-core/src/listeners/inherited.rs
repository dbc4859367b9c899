//! Sockets that come by number from an old process.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};
use socket2::Socket;

use crate::listeners::fds::ListenFds;

/// The inherited sockets for a bind string that no listener has.
///
/// # Errors
/// One line, when one of them is no listening socket of the kind that is wanted.
pub(super) fn claim(fds: &ListenFds, bind: &str, unix: bool) -> Result<Vec<Socket>, String> {
    let claimed = fds.lock().claim(bind);
    let claimed = claimed.map_err(|e| format!("cannot listen on {bind}: {e}"))?;
    let sockets: Vec<Socket> = claimed.into_iter().map(Socket::from).collect();
    let fits = |socket: &Socket| {
        let listens = getsockopt(socket, sockopt::AcceptConn).unwrap_or(false);
        let kind = socket
            .local_addr()
            .is_ok_and(|address| address.is_unix() == unix);
        listens && kind
    };
    if sockets.iter().all(fits) {
        return Ok(sockets);
    }
    if let Some(first) = sockets.first() {
        fds.lock().remove(bind, first.as_raw_fd());
    }
    Err(format!(
        "cannot listen on {bind}: the old process handed over something else for it"
    ))
}

/// The inherited file that travels with the sockets of a bind string, if there is one.
pub(super) fn claim_traveller(fds: &ListenFds, bind: &str, first: &Socket) -> Option<OwnedFd> {
    fds.lock().claim_traveller(bind, first.as_raw_fd())
}
