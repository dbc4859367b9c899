//! The messages in which sockets travel.
//!
//! One message: bind strings joined by single spaces, at most 2,048 bytes, and the sockets in the
//! same order as one `SCM_RIGHTS`, at most 32. The original implementation sends one message and
//! reads one. Here further messages of the same form follow on the connection until it ends, so
//! that any number of sockets can pass; the kernel keeps messages with descriptors apart.

use std::collections::HashSet;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    recv, recvmsg, sendmsg, ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr,
};

const SOCKETS: usize = 32;
const BYTES: usize = 2048;
/// The kernel passes no more descriptors than this in one message.
const KERNEL_SOCKETS: usize = 253;

/// The time for which to wait for the first message of a process that has connected.
const FIRST: Duration = Duration::from_secs(5);
/// The time for which to wait for a further one, or for the end: a process of the original implementation
/// need not end its side at once.
const NEXT: Duration = Duration::from_secs(1);
/// The time between two looks at whether a message was read.
const LOOK: Duration = Duration::from_millis(5);
/// The answer of a new process to sockets that it cannot take.
const REFUSAL: u8 = b'!';

#[cfg(target_os = "linux")]
const RECV: MsgFlags = MsgFlags::MSG_CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const RECV: MsgFlags = MsgFlags::empty();
#[cfg(target_os = "linux")]
const SEND: MsgFlags = MsgFlags::MSG_NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const SEND: MsgFlags = MsgFlags::empty();

/// A message: names joined by spaces, and the descriptors in the same order.
pub type Message = (String, Vec<RawFd>);

/// The sockets that a new process has taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Bytes of names.
    pub(crate) bytes: usize,
    /// The descriptors.
    pub(crate) taken: HashSet<RawFd>,
}

/// Sends messages. A process that takes the first one only has no use for the others, which is no error.
///
/// # Errors
/// `ECONNREFUSED` when the new process refuses them, `ETIMEDOUT` when it does not read them, or what the system says.
pub(super) fn send(to: &UnixStream, messages: &[Message]) -> nix::Result<Sent> {
    to.set_write_timeout(Some(FIRST))
        .map_err(super::upgrade_socket::errno)?;
    let Some(((payload, fds), others)) = messages.split_first() else {
        return Ok(Sent::default());
    };
    let mut bytes = send_one(to, payload, fds)?;
    await_reader(to)?;
    let mut all = true;
    for (payload, fds) in others {
        match send_one(to, payload, fds) {
            Ok(n) => bytes += n,
            Err(e) => {
                log::debug!("the new process reads no further message: {e}");
                all = false;
                break;
            }
        }
    }
    all &= has_read_all(to)?;
    let taken = match all {
        true => messages,
        false if others.is_empty() => return Err(Errno::ECONNREFUSED),
        false => {
            log::warn!("the new process took one message of sockets and wanted no more");
            &messages[..1]
        }
    };
    let taken = taken.iter().flat_map(|(_, fds)| fds).copied().collect();
    Ok(Sent { bytes, taken })
}

/// Says that what was received, or is about to be, is of no use: a process that reads none of it, or that closes the
/// connection when it has, may also be one that took it.
pub(super) fn refuse(mut from: &UnixStream) {
    // An error says that it has not waited for an answer.
    let _ = from
        .set_nonblocking(true)
        .and_then(|()| from.write_all(&[REFUSAL]));
}

/// Waits until what was sent is read.
///
/// # Errors
/// As [`send`].
fn await_reader(to: &UnixStream) -> nix::Result<()> {
    let deadline = Instant::now() + FIRST;
    while is_unread(to)? {
        if Instant::now() >= deadline {
            return Err(Errno::ETIMEDOUT);
        }
        std::thread::sleep(LOOK);
    }
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match retry(|| recv(to.as_raw_fd(), &mut [0], peek)) {
        // Nothing was said; or it has read, and closed.
        Err(Errno::EAGAIN) | Ok(0) => Ok(()),
        // A byte is a refusal, an error is a connection that was closed with something unread.
        Ok(_) | Err(_) => Err(Errno::ECONNREFUSED),
    }
}

/// Returns whether the peer has not read everything; where the system does not tell, that is no.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn is_unread(to: &UnixStream) -> nix::Result<bool> {
    let mut unread: libc::c_int = 0;
    // SAFETY: the descriptor is open, and this request writes one int to where its argument points.
    let done = unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCOUTQ, &mut unread) };
    Errno::result(done).map(|_| unread > 0)
}

#[cfg(not(target_os = "linux"))]
fn is_unread(_to: &UnixStream) -> nix::Result<bool> {
    Ok(false)
}

/// Returns whether the peer reads to the end before it closes: one that leaves something unread resets the connection.
///
/// # Errors
/// `ECONNREFUSED` when it says that it has no use for what it read.
fn has_read_all(mut peer: &UnixStream) -> nix::Result<bool> {
    let end = peer
        .shutdown(Shutdown::Write)
        .and_then(|()| peer.set_read_timeout(Some(FIRST)))
        .and_then(|()| loop {
            match peer.read(&mut [0]) {
                // A read with a time limit is not begun anew by the system.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        });
    match end {
        Ok(0) => Ok(true),
        Ok(_) => Err(Errno::ECONNREFUSED),
        // Who takes its time is busy with what it got.
        Err(e) => Ok(e.kind() == io::ErrorKind::WouldBlock),
    }
}

/// Sends one message; says how many bytes of names it has.
///
/// # Errors
/// `EIO` when a part of it was sent, or what the system says.
pub fn send_one(to: &UnixStream, payload: &str, fds: &[RawFd]) -> nix::Result<usize> {
    let data = [IoSlice::new(payload.as_bytes())];
    let rights = [ControlMessage::ScmRights(fds)];
    let n = retry(|| sendmsg::<UnixAddr>(to.as_raw_fd(), &data, &rights, SEND, None))?;
    if n < payload.len() {
        return Err(Errno::EIO);
    }
    Ok(n)
}

/// Receives sockets until the peer's end of the connection.
///
/// # Errors
/// `EPROTO` for a message of another form, `ENOBUFS` when the open-file limit keeps descriptors
/// out, `EAGAIN` when nothing comes.
pub(super) fn receive(from: &UnixStream) -> nix::Result<(Vec<String>, Vec<RawFd>)> {
    let (mut binds, mut fds) = (Vec::new(), Vec::new());
    let mut wait = FIRST;
    loop {
        from.set_read_timeout(Some(wait))
            .map_err(super::upgrade_socket::errno)?;
        match receive_one(from) {
            Ok(Some((more_binds, more_fds))) => {
                binds.extend(more_binds);
                fds.extend(more_fds);
            }
            Ok(None) if !binds.is_empty() => return Ok((binds, fds)),
            Ok(None) => return Err(Errno::EPROTO),
            Err(Errno::EAGAIN | Errno::ECONNRESET) if !binds.is_empty() => return Ok((binds, fds)),
            Err(e) => {
                close_all(&fds);
                return Err(e);
            }
        }
        wait = NEXT;
    }
}

/// Receives one message; `None` at the end of the connection.
///
/// # Errors
/// As `receive`. What was received is closed then.
pub fn receive_one(from: &UnixStream) -> nix::Result<Option<(Vec<String>, Vec<RawFd>)>> {
    let mut data = [0u8; BYTES];
    let mut control = nix::cmsg_space!([RawFd; KERNEL_SOCKETS]);
    let mut fds: Vec<RawFd> = Vec::new();
    let n = {
        let mut into = [IoSliceMut::new(&mut data)];
        let message = loop {
            match recvmsg::<UnixAddr>(from.as_raw_fd(), &mut into, Some(&mut control), RECV) {
                Err(Errno::EINTR) => continue,
                other => break other?,
            }
        };
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(some) = part {
                fds.extend(some);
            }
        }
        message.bytes
    };
    if n == 0 {
        close_all(&fds);
        return Ok(None);
    }
    let binds: Vec<String> = match std::str::from_utf8(&data[..n]) {
        Ok(text) => text.split(' ').map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    };
    if binds.len() != fds.len() || binds.iter().any(String::is_empty) {
        close_all(&fds);
        return Err(Errno::EPROTO);
    }
    Ok(Some((binds, fds)))
}

fn close_all(fds: &[RawFd]) {
    for fd in fds {
        // A descriptor that came and is of no use; there is no one to tell.
        let _ = nix::unistd::close(*fd);
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            other => return other,
        }
    }
}

/// Splits sockets into messages; leaves out those whose bind strings have no form in one.
pub fn messages(binds: Vec<String>, fds: Vec<RawFd>) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for (bind, fd) in binds.into_iter().zip(fds) {
        if bind.is_empty() || bind.contains(' ') || bind.len() > BYTES {
            log::warn!("the socket of {bind:?} cannot be handed over: its name has a space in it or is too long");
            continue;
        }
        match messages.last_mut() {
            Some((payload, fds))
                if fds.len() < SOCKETS && payload.len() + 1 + bind.len() <= BYTES =>
            {
                payload.push(' ');
                payload.push_str(&bind);
                fds.push(fd);
            }
            _ => messages.push((bind, vec![fd])),
        }
    }
    messages
}
