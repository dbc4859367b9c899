//! Virtual sockets: connections that are not sockets of the operating system.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ext::TcpKeepalive;
use crate::protocols::UniqueIDType;

/// A socket option that a virtual socket may be asked to set.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum VirtualSockOpt {
    /// Send small writes at once, as `TCP_NODELAY` does.
    NoDelay,
    /// Probe an idle connection, as `SO_KEEPALIVE` does.
    KeepAlive(TcpKeepalive),
}

/// A connection in user space that behaves like a socket.
pub trait VirtualSocket: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug {
    /// Sets a socket option.
    ///
    /// # Errors
    /// When the socket does not support the option; ignoring it is `Ok`.
    fn set_socket_option(&self, opt: VirtualSockOpt) -> io::Result<()>;
}

/// A [`VirtualSocket`] as a stream, which becomes an [`l4::Stream`](super::stream::Stream) by `From`.
#[derive(Debug)]
pub struct VirtualSocketStream {
    socket: Box<dyn VirtualSocket>,
    id: UniqueIDType,
}

impl VirtualSocketStream {
    /// A stream over `socket`.
    pub fn new(socket: Box<dyn VirtualSocket>) -> Self {
        // Counted down from -2, so as not to meet a descriptor, or -1.
        static NEXT: AtomicI32 = AtomicI32::new(-2);
        let id = NEXT.fetch_sub(1, Ordering::Relaxed);
        VirtualSocketStream { socket, id }
    }

    pub(crate) fn id(&self) -> UniqueIDType {
        self.id
    }

    /// Sets an option on the socket underneath.
    ///
    /// # Errors
    /// The error of the socket.
    pub fn set_socket_option(&self, opt: VirtualSockOpt) -> io::Result<()> {
        self.socket.set_socket_option(opt)
    }
}

impl AsyncRead for VirtualSocketStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for VirtualSocketStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
