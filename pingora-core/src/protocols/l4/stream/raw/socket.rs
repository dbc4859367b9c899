//! Reads and writes on the sockets of the reactor.
//!
//! The system is called directly and not through the C library, whose `read` and `write` are points at which
//! a thread may be cancelled: in a process of several threads each of them costs two locked instructions. And it is asked
//! by `recv` and `send`, which go to the socket straight; `read` and `writev` find out first what kind of file it is, which
//! costs 4 % more (one message of 190 bytes over loopback and back, in one run).

use std::io;
use std::os::fd::AsFd;
use std::task::{ready, Context, Poll};

use bytes::BufMut;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

/// The operations that the reactor offers for each kind of socket.
pub(super) trait Socket: AsFd {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Does `io` if the socket is ready; after `WouldBlock` it is not until the system says so again.
    fn try_io<R>(&self, interest: Interest, io: impl FnOnce() -> io::Result<R>) -> io::Result<R>;
}

macro_rules! socket {
    ($kind:ident) => {
        impl Socket for $kind {
            #[inline]
            fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                $kind::poll_read_ready(self, cx)
            }

            #[inline]
            fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                $kind::poll_write_ready(self, cx)
            }

            #[inline]
            fn try_io<R>(
                &self,
                interest: Interest,
                io: impl FnOnce() -> io::Result<R>,
            ) -> io::Result<R> {
                $kind::try_io(self, interest, io)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// Does `io`, which moves at most `room` bytes, once the socket lets it.
///
/// Sockets mostly do: the reactor is asked to wait for them only when they do not. Then it is asked each time, even by
/// who has waited already: another thread that drives the reactor says first that a socket is ready and wakes later, by
/// when the waker that it takes may be one that came to wait for the next time.
#[inline]
fn poll_io(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    interest: Interest,
    room: usize,
    mut io: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    // A task whose socket always has something to give, or takes everything, makes room for others.
    let budget = ready!(coop::poll_proceed(cx));
    loop {
        match transfer(socket, interest, room, &mut io) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => {
                budget.made_progress();
                return Poll::Ready(done);
            }
        }
        ready!(if interest.is_readable() {
            socket.poll_read_ready(cx)
        } else {
            socket.poll_write_ready(cx)
        })?;
    }
}

/// Less than `room` tells, without another call, that the socket has no more to give or to take. The reactor is told so
/// by `WouldBlock`, as it would be after that call: it then waits for the next change, or asks for it anew, as it has to.
#[inline]
fn transfer(
    socket: &impl Socket,
    interest: Interest,
    room: usize,
    io: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = None;
    let done = socket.try_io(interest, || {
        let n = io()?;
        if 0 < n && n < room {
            moved = Some(n);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(n)
    });
    match moved {
        Some(n) => Ok(n),
        None => done,
    }
}

#[inline]
pub(super) fn poll_read(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let room = buf.remaining();
    let read = poll_io(socket, cx, Interest::READABLE, room, || {
        receive(socket, buf)
    });
    read.map_ok(|_| ())
}

#[allow(unsafe_code)]
fn receive(socket: &impl Socket, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: `recv` only writes to the memory, and has written to the first `n` bytes of it.
    unsafe {
        let n = {
            let room = buf.chunk_mut().as_uninit_slice_mut();
            rustix::net::recv(socket, room, RecvFlags::empty())?.1
        };
        buf.advance_mut(n);
        Ok(n)
    }
}

#[inline]
pub(super) fn poll_write(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    poll_io(socket, cx, Interest::WRITABLE, buf.len(), || {
        Ok(rustix::net::send(socket, buf, SendFlags::NOSIGNAL)?)
    })
}

/// The number of slices that one call may write (`IOV_MAX`).
const MOST_SLICES: usize = 1024;

/// A peer that is gone is told by an error: as all of Rust's own vectored writes, this relies on the process to ignore
/// SIGPIPE, which every Rust program does.
#[inline]
pub(super) fn poll_write_vectored(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [one] = bufs {
        return poll_write(socket, cx, one);
    }
    // The system takes no more at a time, which must not look as if the socket took no more.
    let bufs = &bufs[..bufs.len().min(MOST_SLICES)];
    let room = bufs.iter().map(|buf| buf.len()).sum();
    poll_io(socket, cx, Interest::WRITABLE, room, || {
        Ok(rustix::io::writev(socket, bufs)?)
    })
}
