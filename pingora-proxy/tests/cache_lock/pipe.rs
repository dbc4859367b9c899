//! A connection in memory, of which the one end is the proxy's and the other one the model's.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use pingora_core::protocols::l4::stream::Stream;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug, Default)]
struct Wire {
    to_proxy: Vec<u8>,
    /// The model's end sends no more.
    ended: bool,
    reader: Option<Waker>,
    from_proxy: Vec<u8>,
    /// The proxy's end sends no more.
    closed: bool,
}

/// The model's end.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Arc<Mutex<Wire>>);

impl Pipe {
    /// The proxy's end.
    pub fn stream(&self) -> Stream {
        VirtualSocketStream::new(Box::new(ProxyEnd(self.clone()))).into()
    }

    pub fn send(&self, text: &str) {
        let mut wire = self.wire();
        wire.to_proxy.extend(text.as_bytes());
        wire.wake();
    }

    /// Sends no more, and reads no more.
    pub fn end(&self) {
        let mut wire = self.wire();
        wire.ended = true;
        wire.wake();
    }

    pub fn has_ended(&self) -> bool {
        self.wire().ended
    }

    /// Returns whether the proxy sends no more.
    pub fn is_closed(&self) -> bool {
        self.wire().closed
    }

    /// What the proxy has sent.
    pub fn received(&self) -> String {
        String::from_utf8(self.wire().from_proxy.clone()).unwrap()
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

impl Wire {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[derive(Debug)]
struct ProxyEnd(Pipe);

impl AsyncRead for ProxyEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.wire();
        if wire.to_proxy.is_empty() && !wire.ended {
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let length = wire.to_proxy.len().min(buf.remaining());
        buf.put_slice(&wire.to_proxy[..length]);
        wire.to_proxy.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ProxyEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.wire();
        if wire.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        wire.from_proxy.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.wire().closed = true;
        Poll::Ready(Ok(()))
    }
}

impl VirtualSocket for ProxyEnd {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ProxyEnd {
    fn drop(&mut self) {
        self.0.wire().closed = true;
    }
}
