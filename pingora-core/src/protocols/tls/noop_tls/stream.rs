//! The stream that no handshake ever returns.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::NO_BACKEND;
use crate::protocols::raw_connect::ProxyDigest;
use crate::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};

/// Stands for a TLS stream over `S`; reading and writing fail.
#[derive(Debug)]
pub struct SslStream<S> {
    marker: PhantomData<S>,
}

impl<S> Default for SslStream<S> {
    fn default() -> Self {
        SslStream {
            marker: PhantomData,
        }
    }
}

impl<S> SslStream<S> {
    /// The connection under TLS; there is none.
    pub(crate) fn transport(&self) -> Option<&S> {
        None
    }

    /// The connection under TLS; there is none.
    pub(crate) fn transport_mut(&mut self) -> Option<&mut S> {
        None
    }
}

fn refused<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::Unsupported, NO_BACKEND)))
}

impl<S> AsyncRead for SslStream<S>
where
    S: AsyncRead + AsyncWrite,
{
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        refused()
    }
}

impl<S> AsyncWrite for SslStream<S>
where
    S: AsyncRead + AsyncWrite,
{
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        refused()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        refused()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        refused()
    }
}

#[async_trait]
impl<S: Send> Shutdown for SslStream<S> {
    async fn shutdown(&mut self) {}
}

impl<S> UniqueID for SslStream<S> {
    fn id(&self) -> UniqueIDType {
        -1
    }
}

impl<S> Ssl for SslStream<S> {}

impl<S> GetTimingDigest for SslStream<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S> GetProxyDigest for SslStream<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<S> GetSocketDigest for SslStream<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl<S> Peek for SslStream<S> {}
