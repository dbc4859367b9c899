//! The kinds of connection under a [`Stream`](super::Stream), as one.

mod socket;

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::protocols::l4::virt::VirtualSocketStream;

#[derive(Debug)]
pub(super) enum RawStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Virtual(VirtualSocketStream),
    /// The rest of a connection that could not be registered anew.
    Closed,
}

impl RawStream {
    /// One byte, if the reactor knows that there is something to read.
    pub(super) fn probe(&self) -> Option<Poll<io::Result<usize>>> {
        let mut byte = [0];
        let read = match self {
            RawStream::Tcp(s) => s.try_read(&mut byte),
            RawStream::Unix(s) => s.try_read(&mut byte),
            RawStream::Virtual(_) => return None,
            RawStream::Closed => Ok(0),
        };
        Some(match read {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        })
    }

    pub(super) fn reregister(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, RawStream::Closed) {
            RawStream::Tcp(tcp) => RawStream::Tcp(TcpStream::from_std(tcp.into_std()?)?),
            RawStream::Unix(unix) => RawStream::Unix(UnixStream::from_std(unix.into_std()?)?),
            other => other,
        };
        Ok(())
    }

    /// Returns whether reads can tell the time of arrival from now on.
    #[cfg(target_os = "linux")]
    pub(super) fn enable_rx_timestamp(&self) -> io::Result<bool> {
        use nix::sys::socket::{setsockopt, sockopt, TimestampingFlag};
        let RawStream::Tcp(tcp) = self else {
            return Ok(false);
        };
        let software = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
        setsockopt(tcp, sockopt::Timestamping, &software)?;
        Ok(true)
    }

    pub(super) fn is_socket(&self) -> bool {
        matches!(self, RawStream::Tcp(_) | RawStream::Unix(_))
    }

    /// Waits until a read may bring something, for sockets; others have to be read to find out.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            RawStream::Tcp(s) => s.poll_read_ready(cx).map(|_| ()),
            RawStream::Unix(s) => s.poll_read_ready(cx).map(|_| ()),
            RawStream::Virtual(_) | RawStream::Closed => Poll::Ready(()),
        }
    }

    /// Returns whether reads can tell the time of arrival from now on.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn enable_rx_timestamp(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Reads, and returns when the kernel received what was read.
    #[cfg(target_os = "linux")]
    pub(super) fn poll_read_timestamp(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<SystemTime>>> {
        let RawStream::Tcp(tcp) = self else {
            return Pin::new(self).poll_read(cx, buf).map_ok(|()| None);
        };
        loop {
            std::task::ready!(tcp.poll_read_ready(cx))?;
            let read = tcp.try_io(tokio::io::Interest::READABLE, || {
                receive(tcp, buf.initialize_unfilled())
            });
            match read {
                Ok((n, ts)) => {
                    buf.advance(n);
                    return Poll::Ready(Ok(ts));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Reads, and returns when the kernel received what was read.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn poll_read_timestamp(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<SystemTime>>> {
        Pin::new(self).poll_read(cx, buf).map_ok(|()| None)
    }
}

#[cfg(target_os = "linux")]
fn receive(tcp: &TcpStream, buf: &mut [u8]) -> io::Result<(usize, Option<SystemTime>)> {
    use nix::sys::socket::{recvmsg, ControlMessageOwned, MsgFlags, Timestamps};
    let mut control = nix::cmsg_space!(Timestamps);
    let mut slices = [io::IoSliceMut::new(buf)];
    let message = recvmsg::<()>(
        tcp.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let received = message.cmsgs()?.find_map(|m| match m {
        ControlMessageOwned::ScmTimestampsns(ts) => Some(ts.system),
        _ => None,
    });
    let at = received.and_then(|ts| {
        let since_epoch = std::time::Duration::from(ts);
        (!since_epoch.is_zero()).then(|| SystemTime::UNIX_EPOCH + since_epoch)
    });
    Ok((message.bytes, at))
}

fn closed() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsRawFd for RawStream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            RawStream::Tcp(s) => s.as_raw_fd(),
            RawStream::Unix(s) => s.as_raw_fd(),
            RawStream::Virtual(_) | RawStream::Closed => -1,
        }
    }
}

impl AsyncRead for RawStream {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            RawStream::Tcp(s) => socket::poll_read(s, cx, buf),
            RawStream::Unix(s) => socket::poll_read(s, cx, buf),
            RawStream::Virtual(s) => Pin::new(s).poll_read(cx, buf),
            RawStream::Closed => Poll::Ready(Err(closed())),
        }
    }
}

impl AsyncWrite for RawStream {
    #[inline]
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            RawStream::Tcp(s) => socket::poll_write(s, cx, buf),
            RawStream::Unix(s) => socket::poll_write(s, cx, buf),
            RawStream::Virtual(s) => Pin::new(s).poll_write(cx, buf),
            RawStream::Closed => Poll::Ready(Err(closed())),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            RawStream::Tcp(s) => socket::poll_write_vectored(s, cx, bufs),
            RawStream::Unix(s) => socket::poll_write_vectored(s, cx, bufs),
            RawStream::Virtual(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            RawStream::Closed => Poll::Ready(Err(closed())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            RawStream::Virtual(s) => s.is_write_vectored(),
            _ => true,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            // Sockets have nothing to flush.
            RawStream::Tcp(_) | RawStream::Unix(_) | RawStream::Closed => Poll::Ready(Ok(())),
            RawStream::Virtual(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            RawStream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            RawStream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            RawStream::Virtual(s) => Pin::new(s).poll_shutdown(cx),
            RawStream::Closed => Poll::Ready(Ok(())),
        }
    }
}
