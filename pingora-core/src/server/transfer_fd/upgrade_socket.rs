//! The meeting of the old and the new process: the new one listens on a Unix socket, the old connects.
//!
//! The socket is open to every user (mode 0666), as an old process may run as another user than
//! the new one; each side therefore believes only a peer that the kernel says runs as a user it
//! trusts. And as the socket often stands in a directory where everybody may write, neither side
//! follows a link there, and nothing but a socket is ever removed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::{fchmodat, lstat, FchmodatFlags, Mode, SFlag};
use nix::unistd::Pid;
use nix::NixPath;
use socket2::{Domain, SockAddr, Socket, Type};

use super::wire::{self, Message, Sent};
use crate::server::users;

/// The retries of two processes that try to meet.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    /// Tries after the first one.
    pub(crate) retries: usize,
    /// Time between tries.
    pub(crate) pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience::new(None)
    }
}

impl Patience {
    /// So many retries, 1 s apart; 5 when unset.
    pub(crate) fn new(retries: Option<usize>) -> Self {
        Patience {
            retries: retries.unwrap_or(5),
            pause: Duration::from_secs(1),
        }
    }
}

/// The users whose processes are believed: one's own, root, and one more.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    own: u32,
    other: Option<u32>,
}

impl Default for Trust {
    fn default() -> Self {
        Trust::new(None)
    }
}

impl Trust {
    /// Trusts the configured `user` too, when there is one and the system knows it.
    pub(crate) fn new(user: Option<&str>) -> Self {
        Trust {
            own: nix::unistd::geteuid().as_raw(),
            other: user
                .and_then(|name| users::user(name).ok())
                .map(|user| user.uid.as_raw()),
        }
    }

    #[cfg(test)]
    pub(super) fn only(own: u32, other: Option<u32>) -> Self {
        Trust { own, other }
    }

    /// Returns whether a process or a file of this user is believed.
    pub(super) fn covers(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own || Some(uid) == self.other
    }
}

/// Names, descriptors in the same order, and the process that sent them; 0 where the system does not tell.
pub(super) type Received = (Vec<String>, Vec<RawFd>, Pid);

/// Waits at `path` for the old process and receives its sockets.
pub(super) fn receive(path: &Path, patience: &Patience, trust: &Trust) -> nix::Result<Received> {
    remove_old_socket(path)?;
    let listener = UnixListener::bind(path).map_err(errno)?;
    let received = receive_on(&listener, path, patience, trust);
    if let Err(e) = std::fs::remove_file(path) {
        log::warn!("cannot remove {}: {e}", path.display());
    }
    received
}

fn receive_on(
    listener: &UnixListener,
    path: &Path,
    patience: &Patience,
    trust: &Trust,
) -> nix::Result<Received> {
    let all = Mode::from_bits_truncate(0o666);
    let here = nix::fcntl::AT_FDCWD;
    if let Err(e) = fchmodat(here, path, all, FchmodatFlags::NoFollowSymlink) {
        // Only an old process that runs as another user needs it.
        log::warn!("cannot open {} to other users: {e}", path.display());
    }
    listener.set_nonblocking(true).map_err(errno)?;
    let retries = u32::try_from(patience.retries).unwrap_or(u32::MAX);
    let deadline = Instant::now().checked_add(patience.pause.saturating_mul(retries));
    loop {
        match listener.accept() {
            Ok((stream, _)) => match receive_from(&stream, trust) {
                Ok(received) => return Ok(received),
                Err(e) => {
                    wire::refuse(&stream);
                    match e {
                        // Whoever it was, the old process may still come.
                        Errno::EPERM | Errno::EAGAIN | Errno::EPROTO => {}
                        e => return Err(e),
                    }
                }
            },
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(Errno::EAGAIN);
                }
                std::thread::sleep(Duration::from_millis(20).min(patience.pause));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(errno(e)),
        }
    }
}

fn receive_from(stream: &UnixStream, trust: &Trust) -> nix::Result<Received> {
    let giver = check_peer(stream, trust)?;
    stream.set_nonblocking(false).map_err(errno)?;
    let (binds, fds) = wire::receive(stream)?;
    Ok((binds, fds, giver))
}

/// Connects to the process that waits at `path`, and hands it the sockets.
pub(super) fn send(
    path: &Path,
    patience: &Patience,
    trust: &Trust,
    messages: &[Message],
) -> nix::Result<Sent> {
    let mut retries = patience.retries;
    let stream = loop {
        match connect(path, trust) {
            Err(e @ (Errno::ENOENT | Errno::ECONNREFUSED | Errno::EACCES | Errno::EAGAIN)) => {
                if retries == 0 {
                    return Err(e);
                }
                retries -= 1;
                log::info!("no process waits at {} yet: {e}", path.display());
                std::thread::sleep(patience.pause);
            }
            other => break other?,
        }
    };
    check_peer(&stream, trust)?;
    wire::send(&stream, messages)
}

fn connect(path: &Path, trust: &Trust) -> nix::Result<UnixStream> {
    let file = lstat(path)?;
    if file_type(file.st_mode) == SFlag::S_IFLNK && !trust.covers(file.st_uid) {
        log::error!(
            "{} is a link that user {} put there: not followed",
            path.display(),
            file.st_uid
        );
        return Err(Errno::ELOOP);
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(errno)?;
    // A listener whose queue is full must not hold this process up: EAGAIN, and a retry.
    socket.set_nonblocking(true).map_err(errno)?;
    socket
        .connect(&SockAddr::unix(path).map_err(errno)?)
        .map_err(errno)?;
    socket.set_nonblocking(false).map_err(errno)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
}

fn check_peer(stream: &UnixStream, trust: &Trust) -> nix::Result<Pid> {
    let (uid, pid) = peer(stream)?;
    if trust.covers(uid) {
        return Ok(pid);
    }
    log::error!("a process of user {uid} is at the upgrade socket: refused");
    Err(Errno::EPERM)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer(stream: &impl AsFd) -> nix::Result<(u32, Pid)> {
    let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
    Ok((peer.uid(), Pid::from_raw(peer.pid())))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peer(stream: &impl AsFd) -> nix::Result<(u32, Pid)> {
    nix::unistd::getpeereid(stream).map(|(uid, _)| (uid.as_raw(), Pid::from_raw(0)))
}

/// Removes the socket that an earlier process left at `path`.
///
/// # Errors
/// `ELOOP` for a link, `ENOTSOCK` for any other thing that is no socket.
fn remove_old_socket(path: &Path) -> nix::Result<()> {
    match lstat(path) {
        Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
        Ok(file) => match file_type(file.st_mode) {
            // Does not follow a link that has taken the socket's place since.
            SFlag::S_IFSOCK => nix::unistd::unlink(path),
            SFlag::S_IFLNK => Err(Errno::ELOOP),
            _ => Err(Errno::ENOTSOCK),
        },
    }
}

fn file_type(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

pub(super) fn to_path<P: ?Sized + NixPath>(path: &P) -> nix::Result<PathBuf> {
    path.with_nix_path(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes())))
}

pub(super) fn errno(e: io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EINVAL))
}
