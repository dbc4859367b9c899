//! Reads and writes on the sockets of the reactor.
//!
//! The system is called directly and not through the C library, whose `read` and `write` are points at which
//! a thread may be cancelled: in a process of several threads each of them costs two locked instructions.

use std::io;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::BufMut;
use rustix::net::SendFlags;
use tokio::io::{AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop;

/// What the reactor offers for each kind of socket.
pub(in super::super) trait Socket: AsFd + AsyncWrite + Unpin {
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

/// A socket, and whom it wakes when there is something to read.
#[derive(Debug)]
pub(in super::super) struct Watched<S> {
    socket: S,
    /// The waker that the reactor has. It keeps what the waker points to alive, so that no other one is mistaken for
    /// it; and it keeps the waker until it has told that the socket is ready, after which it is forgotten here before
    /// the socket can cease to be so.
    reader: Option<WakerId>,
}

/// A waker as [`Waker::will_wake`](std::task::Waker::will_wake) knows it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WakerId {
    data: usize,
    vtable: usize,
}

impl WakerId {
    fn of(cx: &Context<'_>) -> WakerId {
        WakerId {
            data: cx.waker().data() as usize,
            vtable: std::ptr::from_ref(cx.waker().vtable()) as usize,
        }
    }
}

impl<S> From<S> for Watched<S> {
    fn from(socket: S) -> Self {
        Watched {
            socket,
            reader: None,
        }
    }
}

impl<S> Watched<S> {
    pub(super) fn into_inner(self) -> S {
        self.socket
    }
}

impl<S> Deref for Watched<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

impl<S: Socket> Watched<S> {
    /// Does `io` if there may be something to read, else says `WouldBlock`. Every read goes this way.
    #[inline]
    pub(super) fn try_read<R>(&mut self, io: impl FnOnce(&S) -> io::Result<R>) -> io::Result<R> {
        let Watched { socket, reader } = self;
        socket.try_io(Interest::READABLE, || {
            *reader = None;
            io(socket)
        })
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Waits until there may be something to read.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.socket.try_io(Interest::READABLE, || Ok(())) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(_) => self.poll_unready(cx),
        }
    }

    /// Waits as [`poll_readable`](Self::poll_readable) does, once there was nothing to read. Who waits already need not
    /// tell the reactor again: so does a worker that watched for a client to leave, and now waits for its next request.
    #[inline]
    fn poll_unready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waker = Some(WakerId::of(cx));
        if self.reader == waker {
            return Poll::Pending;
        }
        // A task that used up its turn waits without being registered.
        let registers = coop::has_budget_remaining();
        let ready = self.socket.poll_read_ready(cx);
        self.reader = waker.filter(|_| registers && ready.is_pending());
        ready
    }
}

/// Does `io` once the socket lets it.
///
/// Sockets mostly do: the reactor is asked to wait for them only when they do not.
#[inline]
fn poll_io<S, R>(
    socket: &mut S,
    cx: &mut Context<'_>,
    mut io: impl FnMut(&mut S) -> io::Result<R>,
    mut wait: impl FnMut(&mut S, &mut Context<'_>) -> Poll<io::Result<()>>,
) -> Poll<io::Result<R>> {
    // A task whose socket always has something to give, or takes everything, makes room for others.
    let budget = ready!(coop::poll_proceed(cx));
    loop {
        match io(socket) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            done => {
                budget.made_progress();
                return Poll::Ready(done);
            }
        }
        ready!(wait(socket, cx))?;
    }
}

/// What `io` moves, which is done if the socket is ready and moves at most `room` bytes.
///
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
    socket: &mut Watched<impl Socket>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let room = buf.remaining();
    let read = |watched: &mut Watched<_>| {
        let Watched { socket, reader } = watched;
        transfer(socket, Interest::READABLE, room, || {
            *reader = None;
            receive(socket, buf)
        })
    };
    poll_io(socket, cx, read, Watched::poll_unready).map_ok(|_| ())
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
fn poll_send(
    mut socket: &impl Socket,
    cx: &mut Context<'_>,
    room: usize,
    mut io: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    poll_io(
        &mut socket,
        cx,
        |socket| transfer(*socket, Interest::WRITABLE, room, &mut io),
        |socket, cx| socket.poll_write_ready(cx),
    )
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

/// How many slices one call may write (`IOV_MAX`).
const MOST_SLICES: usize = 1024;

/// A peer that is gone is told by an error: as all of Rust's own vectored writes, this relies on the process to ignore
/// SIGPIPE, which every Rust program does.
#[inline]
pub(super) fn poll_write_vectored(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    // The system takes no more at a time, which must not look as if the socket took no more.
    let bufs = &bufs[..bufs.len().min(MOST_SLICES)];
    let room = bufs.iter().map(|buf| buf.len()).sum();
    poll_send(socket, cx, room, || Ok(rustix::io::writev(socket, bufs)?))
}
