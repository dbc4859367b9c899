//! Writing to a stream.

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::io::AsyncWrite;

use super::Stream;

impl Stream {
    /// Sends what is kept back.
    #[inline]
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            self.poll_send_kept(cx)
        }
    }

    fn poll_send_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.raw).poll_write(cx, self.unsent.bytes()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.unsent.consume(n),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_buffered(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let capacity = self.write_capacity as usize;
        if self.unsent.bytes().len() + data.len() > capacity {
            ready!(self.poll_send(cx))?;
        }
        if data.len() >= capacity {
            return Pin::new(&mut self.raw).poll_write(cx, data);
        }
        self.unsent.append(data, capacity);
        Poll::Ready(Ok(data.len()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = self.poll_write_buffered(cx, data);
        self.write_waiting.note(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let poll = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.raw).poll_write_vectored(cx, bufs),
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => Poll::Pending,
        };
        this.write_waiting.note(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.raw.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // After each write of a head: nothing is kept back, and sockets themselves have nothing to flush.
        if this.unsent.is_empty() && !this.write_waiting.waits() && this.raw.is_socket() {
            return Poll::Ready(Ok(()));
        }
        let poll = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.raw).poll_flush(cx),
            other => other,
        };
        this.write_waiting.note(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let poll = match this.poll_send(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.raw).poll_shutdown(cx),
            other => other,
        };
        this.write_waiting.note(poll)
    }
}
