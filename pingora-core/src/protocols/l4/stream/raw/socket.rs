//! Reads and writes on the sockets of the reactor.
//!
//! The system is called directly and not through the C library, whose `read` and `write` are points at which
//! a thread may be cancelled: in a process of several threads each of them costs two locked instructions.

use std::io;
use std::os::fd::AsFd;
use std::task::{ready, Context, Poll};

use bytes::BufMut;
use rustix::net::SendFlags;
use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

/// What the reactor offers for each kind of socket.
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

/// Does `io`, which moves at most `room` bytes. Less than that tells, without another call, that the socket has
/// no more to give or to take: reactors that report changes, as all on Unix do, will report the next one.
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

fn would_block(done: &io::Result<usize>) -> bool {
    matches!(done, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

#[inline]
pub(super) fn poll_read(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        // Asked first, because this is where a task that always finds something to read makes room for others.
        ready!(socket.poll_read_ready(cx))?;
        let room = buf.remaining();
        let read = transfer(socket, Interest::READABLE, room, || receive(socket, buf));
        if !would_block(&read) {
            return Poll::Ready(read.map(|_| ()));
        }
    }
}

#[allow(unsafe_code)]
fn receive(socket: &impl Socket, buf: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: `read` only writes to the memory, and has written to the first `n` bytes of it.
    unsafe {
        let n = {
            let room = buf.chunk_mut().as_uninit_slice_mut();
            rustix::io::read(socket, room)?.0.len()
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
    poll_send(socket, cx, buf.len(), || {
        Ok(rustix::net::send(socket, buf, SendFlags::NOSIGNAL)?)
    })
}

#[inline]
pub(super) fn poll_write_vectored(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let room = bufs.iter().map(|buf| buf.len()).sum();
    poll_send(socket, cx, room, || Ok(rustix::io::writev(socket, bufs)?))
}

/// A socket mostly takes what it is given: the reactor is asked to wait for it only when it does not.
#[inline]
fn poll_send(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    room: usize,
    send: impl Fn() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    // As when the reactor is asked first: a task whose socket takes everything makes room for others.
    let budget = ready!(coop::poll_proceed(cx));
    loop {
        let sent = transfer(socket, Interest::WRITABLE, room, &send);
        if !would_block(&sent) {
            budget.made_progress();
            return Poll::Ready(sent);
        }
        ready!(socket.poll_write_ready(cx))?;
    }
}
