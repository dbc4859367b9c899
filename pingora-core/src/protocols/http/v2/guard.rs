//! Between the transport and the `h2` crate: watches the frames that a client sends.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::conn_state::ConnState;
use crate::limits::LIMITS;
use crate::protocols::l4::stream::Stream as L4Stream;
use crate::protocols::raw_connect::ProxyDigest;
use crate::protocols::tls::{transport, SslDigest, TlsRef};
use crate::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType, ALPN,
};

mod budget;
mod frames;
mod hpack;
mod huffman;
mod streams;

use frames::Frames;

thread_local! {
    /// Why the connection that this thread polls right now is to be ended: the way from the transport, which
    /// the `h2` crate owns, to whoever polls that.
    static VERDICT: Cell<Option<Reason>> = const { Cell::new(None) };
    /// True if the connection that this thread polls has received a part of its preface.
    static BEGUN: Cell<bool> = const { Cell::new(false) };
}

/// Why the connection that was just polled, and failed, is to be ended; `None` when it failed by itself.
pub(crate) fn close_reason() -> Option<Reason> {
    VERDICT.take()
}

/// Returns whether the connection that was just polled has received a part of its preface.
pub(crate) fn has_begun() -> bool {
    BEGUN.take()
}

/// A transport whose frames are watched.
pub(crate) struct Guard {
    io: Stream,
    frames: Frames,
    state: Option<Arc<ConnState>>,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Guard {
    /// With `state`, what is seen here that concerns others is noted there.
    pub(crate) fn new(io: Stream, state: Option<Arc<ConnState>>) -> Self {
        Guard {
            io,
            frames: Frames::new(),
            state,
            linger: None,
        }
    }

    /// Reads on for nothing until the client closes, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (sleep, left) = self.linger.get_or_insert_with(|| {
            (
                Box::pin(tokio::time::sleep(LIMITS.client_linger_h2)),
                LIMITS.linger_bytes,
            )
        });
        let mut buf = [0; 4096];
        loop {
            let mut into = ReadBuf::new(&mut buf);
            match Pin::new(&mut self.io).poll_read(cx, &mut into) {
                Poll::Ready(Ok(())) => {
                    let n = into.filled().len();
                    if n == 0 || n > *left {
                        return Poll::Ready(());
                    }
                    *left -= n;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return std::future::Future::poll(sleep.as_mut(), cx),
            }
        }
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let awaits_preface = this.frames.awaits_preface();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if awaits_preface {
            let part = transport(&*this.io).is_some_and(L4Stream::is_within_record);
            BEGUN.set(BEGUN.get() || read.is_ready() || part);
        }
        ready!(read)?;
        if let Err(reason) = this.frames.received(&mut buf.filled_mut()[before..]) {
            VERDICT.set(Some(reason));
            return Poll::Ready(Err(io::Error::other("the client is sent away")));
        }
        if let Some(state) = &this.state {
            state.set_field_block(this.frames.open_block().unwrap_or(0));
            state.set_opened(this.frames.opened());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if let Some(state) = &self.state {
            state.set_blocked(flushed.is_pending());
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl Guard {
    fn note(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &written {
            self.frames.sent(*n);
        }
        if let Some(state) = &self.state {
            state.set_blocked(written.is_pending());
            if let Poll::Ready(Ok(n)) = &written {
                state.written(*n);
            }
        }
        written
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.io.fmt(f)
    }
}

#[async_trait]
impl Shutdown for Guard {
    async fn shutdown(&mut self) {
        self.io.shutdown().await;
    }
}

impl UniqueID for Guard {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl Ssl for Guard {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }

    fn get_ssl(&self) -> Option<&TlsRef> {
        self.io.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io.get_ssl_digest()
    }
}

#[async_trait]
impl Peek for Guard {}

impl GetTimingDigest for Guard {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.io.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.io.get_write_pending_time()
    }
}

impl GetProxyDigest for Guard {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.io.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Guard {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.io.set_socket_digest(digest);
    }
}
