//! A TLS connection.

use std::any::Any;
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pingora_error::{ErrorType::TLSHandshakeFailure, OrErr, Result};
use pingora_rustls::{ServerName, TlsConnector, TlsStream as RustlsStream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::errors::failed;
use super::TlsRef;
use crate::protocols::raw_connect::ProxyDigest;
use crate::protocols::tls::{SslDigest, ALPN};
use crate::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};

/// The library's stream in a [`TlsStream`].
#[derive(Debug)]
pub struct InnerStream<T> {
    tls: RustlsStream<T>,
}

impl<T> InnerStream<T> {
    fn transport(&self) -> &T {
        self.tls.get_ref().0
    }

    fn transport_mut(&mut self) -> &mut T {
        self.tls.get_mut().0
    }
}

/// A connection with TLS over the transport `T`.
#[derive(Debug)]
pub struct TlsStream<T> {
    inner: InnerStream<T>,
    session: TlsRef,
    digest: Arc<SslDigest>,
    timing: TimingDigest,
}

impl<T> TlsStream<T> {
    /// The stream after a handshake that began at `begun`.
    pub(super) fn established(
        tls: RustlsStream<T>,
        session: TlsRef,
        extension: Option<Arc<dyn Any + Send + Sync>>,
        begun: Instant,
    ) -> Self {
        let mut digest = session.digest();
        digest.extension.set(extension);
        TlsStream {
            inner: InnerStream { tls },
            session,
            digest: Arc::new(digest),
            timing: TimingDigest {
                established_ts: SystemTime::now(),
                establishment_duration: Some(begun.elapsed()),
                offload_wait_duration: None,
            },
        }
    }

    /// Notes how long the handshake waited for a thread.
    pub(crate) fn set_offload_wait(&mut self, wait: Duration) {
        self.timing.offload_wait_duration = Some(wait);
    }

    /// The connection under TLS.
    pub(crate) fn transport(&self) -> Option<&T> {
        Some(self.inner.transport())
    }

    /// The connection under TLS.
    pub(crate) fn transport_mut(&mut self) -> Option<&mut T> {
        Some(self.inner.transport_mut())
    }

    /// Returns what the handshake agreed on.
    pub fn ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(self.digest.clone())
    }
}

impl<T> TlsStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Does the handshake over `stream` with the server `domain`, which is its name or its IP address.
    ///
    /// # Errors
    /// `InvalidCert` when the server's certificate is refused; `TLSHandshakeFailure` when anything else
    /// fails, or `domain` is neither a name nor an address.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn from_connector(connector: &TlsConnector, domain: &str, stream: T) -> Result<Self> {
        let name = server_name(domain)?;
        Self::connect(connector, name, None, stream).await
    }

    /// The same with a name that was parsed, and with these application protocols in place of the
    /// configuration's.
    pub(super) async fn connect(
        connector: &TlsConnector,
        name: ServerName<'static>,
        alpn: Option<Vec<Vec<u8>>>,
        stream: T,
    ) -> Result<Self> {
        let begun = Instant::now();
        let asked = match &name {
            ServerName::DnsName(name) if connector.config().enable_sni => {
                Some(name.as_ref().to_owned())
            }
            _ => None,
        };
        let handshake = match alpn {
            Some(alpn) => connector.with_alpn(alpn).connect(name, stream),
            None => connector.connect(name, stream),
        };
        let tls = handshake.await.map_err(failed)?;
        let session = TlsRef::agreed(tls.get_ref().1, asked.as_deref());
        Ok(TlsStream::established(tls.into(), session, None, begun))
    }

    /// Has `hook` look at the session, and keeps what it returns with the digest.
    pub(super) fn extend(
        &mut self,
        hook: impl FnOnce(&TlsRef) -> Option<Arc<dyn Any + Send + Sync>>,
    ) {
        let extension = hook(&self.session);
        Arc::make_mut(&mut self.digest).extension.set(extension);
    }
}

/// A name or an IP address, to connect to.
pub(super) fn server_name(domain: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(domain.to_owned()).or_err_with(TLSHandshakeFailure, || {
        format!("{domain:?} is not the name of a server")
    })
}

impl<T> Deref for TlsStream<T> {
    type Target = InnerStream<T>;

    fn deref(&self) -> &InnerStream<T> {
        &self.inner
    }
}

impl<T> DerefMut for TlsStream<T> {
    fn deref_mut(&mut self) -> &mut InnerStream<T> {
        &mut self.inner
    }
}

impl<T> AsyncRead for TlsStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner.tls).poll_read(cx, buf)
    }
}

impl<T> AsyncWrite for TlsStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner.tls).poll_flush(cx)
    }

    /// Says that nothing more comes (`close_notify`), and closes the sending direction of the transport.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner.tls).poll_shutdown(cx)
    }
}

#[async_trait]
impl<S> Shutdown for TlsStream<S>
where
    S: AsyncRead + AsyncWrite + Sync + Unpin + Send,
{
    async fn shutdown(&mut self) {
        if let Err(e) = AsyncWriteExt::shutdown(self).await {
            log::debug!("closing a TLS connection: {e}");
        }
    }
}

impl<T> Ssl for TlsStream<T> {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        let state = self.inner.tls.get_ref().1;
        ALPN::from_wire_selected(state.alpn_protocol()?)
    }

    fn get_ssl(&self) -> Option<&TlsRef> {
        Some(&self.session)
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.ssl_digest()
    }
}

impl<S> Peek for TlsStream<S> {}

impl<T> UniqueID for TlsStream<T>
where
    T: UniqueID,
{
    fn id(&self) -> UniqueIDType {
        self.inner.transport().id()
    }
}

impl<S> GetTimingDigest for InnerStream<S>
where
    S: GetTimingDigest,
{
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.transport().get_timing_digest()
    }
}

impl<S> GetTimingDigest for TlsStream<S>
where
    S: GetTimingDigest,
{
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        let mut layers = self.inner.get_timing_digest();
        layers.push(Some(self.timing.clone()));
        layers
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.transport().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.transport().get_write_pending_time()
    }
}

impl<S> GetProxyDigest for InnerStream<S>
where
    S: GetProxyDigest,
{
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.transport().get_proxy_digest()
    }
}

impl<S> GetProxyDigest for TlsStream<S>
where
    S: GetProxyDigest,
{
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl<S> GetSocketDigest for InnerStream<S>
where
    S: GetSocketDigest,
{
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.transport().get_socket_digest()
    }

    fn set_socket_digest(&mut self, socket_digest: SocketDigest) {
        self.transport_mut().set_socket_digest(socket_digest);
    }
}

impl<S> GetSocketDigest for TlsStream<S>
where
    S: GetSocketDigest,
{
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, socket_digest: SocketDigest) {
        self.inner.set_socket_digest(socket_digest);
    }
}
