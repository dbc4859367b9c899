//! A TLS connection.

#![allow(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use super::library::ext;
use super::library::ssl::{self, Ssl as RawSsl, SslRef};
use super::library::tokio_ssl::SslStream as RawSslStream;
use async_trait::async_trait;
use pingora_error::Result;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::errors::refused;
use super::TlsRef;
use crate::protocols::raw_connect::ProxyDigest;
use crate::protocols::tls::{SslDigest, ALPN};
use crate::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};

/// As much as fits in one record (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;

thread_local! {
    /// The buffer in which the pieces of a record are put together. Taken and put back, because the transport may write
    /// to another stream.
    static GATHERED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection with TLS over the transport `T`.
#[derive(Debug)]
pub struct SslStream<T> {
    ssl: RawSslStream<T>,
    digest: Option<Arc<SslDigest>>,
    timing: TimingDigest,
    /// The beginning of the handshake, which may stop for a callback and go on.
    begun: Option<Instant>,
}

impl<T> SslStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// A session over `stream` whose handshake has not begun.
    ///
    /// # Errors
    /// `InvalidCert` when the library refuses, which it does only without memory.
    pub fn new(ssl: RawSsl, stream: T) -> Result<Self> {
        let ssl = RawSslStream::new(ssl, stream).map_err(refused("preparing a TLS session"))?;
        Ok(SslStream {
            ssl,
            digest: None,
            timing: TimingDigest::default(),
            begun: None,
        })
    }

    /// Does the handshake as the client.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn connect(&mut self) -> Result<(), ssl::Error> {
        ext::clear_error_stack();
        let begun = *self.begun.get_or_insert_with(Instant::now);
        Pin::new(&mut self.ssl).connect().await?;
        self.established(begun);
        Ok(())
    }

    /// Does the handshake as the server.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn accept(&mut self) -> Result<(), ssl::Error> {
        ext::clear_error_stack();
        let begun = *self.begun.get_or_insert_with(Instant::now);
        Pin::new(&mut self.ssl).accept().await?;
        self.established(begun);
        Ok(())
    }

    fn established(&mut self, begun: Instant) {
        self.digest = Some(Arc::new(SslDigest::from_ssl(self.ssl.ssl())));
        self.timing.established_ts = SystemTime::now();
        self.timing.establishment_duration = Some(begun.elapsed());
    }
}

impl<T> SslStream<T> {
    /// The session, to change it.
    pub(super) fn ssl_mut(&mut self) -> &mut SslRef {
        // SAFETY: the session is this stream's own, and `&mut self` says that nobody else uses it meanwhile.
        unsafe { ext::ssl_mut(self.ssl.ssl()) }
    }

    /// Keeps what a callback returned with the digest.
    pub(super) fn extend(&mut self, extension: Option<Arc<dyn Any + Send + Sync>>) {
        if let Some(digest) = &mut self.digest {
            Arc::make_mut(digest).extension.set(extension);
        }
    }

    /// Notes how long the handshake waited for a thread.
    pub(crate) fn set_offload_wait(&mut self, wait: Duration) {
        self.timing.offload_wait_duration = Some(wait);
    }

    /// The connection under TLS.
    pub(crate) fn transport(&self) -> Option<&T> {
        Some(self.ssl.get_ref())
    }

    /// The connection under TLS.
    pub(crate) fn transport_mut(&mut self) -> Option<&mut T> {
        Some(self.ssl.get_mut())
    }

    /// Returns what the handshake agreed on; `None` before it is complete.
    pub fn ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.digest.clone()
    }
}

impl<T> Deref for SslStream<T> {
    type Target = RawSslStream<T>;

    fn deref(&self) -> &RawSslStream<T> {
        &self.ssl
    }
}

impl<T> DerefMut for SslStream<T> {
    fn deref_mut(&mut self) -> &mut RawSslStream<T> {
        &mut self.ssl
    }
}

impl<T> AsyncRead for SslStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // An error that another session of this thread left would be taken for one of this.
        ext::clear_error_stack();
        Pin::new(&mut self.ssl).poll_read(cx, buf)
    }
}

impl<T> AsyncWrite for SslStream<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ext::clear_error_stack();
        Pin::new(&mut self.ssl).poll_write(cx, buf)
    }

    /// Puts what the slices begin with into one record.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ext::clear_error_stack();
        let mut pieces = bufs.iter().filter(|piece| !piece.is_empty());
        let Some(first) = pieces.next() else {
            return Poll::Ready(Ok(0));
        };
        if first.len() >= RECORD || pieces.next().is_none() {
            return Pin::new(&mut self.ssl).poll_write(cx, first);
        }
        let mut gathered = GATHERED.take();
        gathered.clear();
        for piece in bufs {
            let room = RECORD - gathered.len();
            gathered.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let poll = Pin::new(&mut self.ssl).poll_write(cx, &gathered);
        GATHERED.set(gathered);
        poll
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ext::clear_error_stack();
        Pin::new(&mut self.ssl).poll_flush(cx)
    }

    /// Says that nothing more comes (`close_notify`), and closes the sending direction of the transport.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ext::clear_error_stack();
        Pin::new(&mut self.ssl).poll_shutdown(cx)
    }
}

#[async_trait]
impl<S> Shutdown for SslStream<S>
where
    S: AsyncRead + AsyncWrite + Sync + Unpin + Send,
{
    async fn shutdown(&mut self) {
        if let Err(e) = AsyncWriteExt::shutdown(self).await {
            log::debug!("closing a TLS connection: {e}");
        }
    }
}

impl<T> Ssl for SslStream<T> {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        ALPN::from_wire_selected(self.ssl.ssl().selected_alpn_protocol()?)
    }

    fn get_ssl(&self) -> Option<&TlsRef> {
        Some(self.ssl.ssl())
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.ssl_digest()
    }
}

impl<T> Peek for SslStream<T> {}

impl<T> UniqueID for SslStream<T>
where
    T: UniqueID,
{
    fn id(&self) -> UniqueIDType {
        self.ssl.get_ref().id()
    }
}

impl<S> GetTimingDigest for SslStream<S>
where
    S: GetTimingDigest,
{
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        let mut layers = self.ssl.get_ref().get_timing_digest();
        layers.push(Some(self.timing.clone()));
        layers
    }

    fn get_read_pending_time(&self) -> Duration {
        self.ssl.get_ref().get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.ssl.get_ref().get_write_pending_time()
    }
}

impl<S> GetProxyDigest for SslStream<S>
where
    S: GetProxyDigest,
{
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.ssl.get_ref().get_proxy_digest()
    }
}

impl<S> GetSocketDigest for SslStream<S>
where
    S: GetSocketDigest,
{
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.ssl.get_ref().get_socket_digest()
    }

    fn set_socket_digest(&mut self, socket_digest: SocketDigest) {
        self.ssl.get_mut().set_socket_digest(socket_digest);
    }
}
