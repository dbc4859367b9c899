//! Sockets that the process was started with (`sd_listen_fds(3)`): `LISTEN_FDS` of them, from descriptor 3 on.
#![allow(unsafe_code)]

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::fcntl::{fcntl, FcntlArg, FdFlag};

/// The first of them.
const FIRST: RawFd = 3;
/// More than anybody passes.
const MOST: RawFd = 1024;

/// Returns the sockets whose addresses are among these, each with its address, and closes the others.
pub(super) fn sockets(addresses: &[String]) -> Vec<(String, OwnedFd)> {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<i32>().ok())
    };
    let own = number("LISTEN_PID").is_some_and(|pid| pid.unsigned_abs() == std::process::id());
    let count = number("LISTEN_FDS").filter(|_| own).unwrap_or(0);
    let mut taken: Vec<(String, OwnedFd)> = Vec::new();
    for fd in FIRST..FIRST + count.clamp(0, MOST) {
        if !std::path::Path::new(&format!("/proc/self/fd/{fd}")).exists() {
            log::warn!("LISTEN_FDS: there is no descriptor {fd}");
            continue;
        }
        // SAFETY: it is open, and nobody else in the process has it: the manager passed it to this process alone, which
        // has opened nothing of its own at a number that was taken.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if let Err(e) = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
            log::warn!("LISTEN_FDS: {e}");
        }
        let Some((address, fd)) = named(fd) else {
            log::warn!("LISTEN_FDS: a descriptor is no socket that listens; it is closed");
            continue;
        };
        if addresses.contains(&address) && !taken.iter().any(|(known, _)| *known == address) {
            log::info!("listening on {address}, as the service manager does");
            taken.push((address, fd));
        } else {
            log::warn!("LISTEN_FDS: `listen` does not name {address}; its socket is closed");
        }
    }
    taken
}

/// Returns the address of a socket as `listen` names it.
fn named(fd: OwnedFd) -> Option<(String, OwnedFd)> {
    let tcp = TcpListener::from(fd);
    if let Ok(address) = tcp.local_addr() {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        return Some((address.to_string(), tcp.into()));
    }
    let unix = UnixListener::from(OwnedFd::from(tcp));
    let address = unix.local_addr().ok()?;
    let path = address.as_pathname()?.to_str()?.to_owned();
    Some((path, unix.into()))
}
