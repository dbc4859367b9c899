//! Handshakes as the server.

use std::pin::Pin;

use super::library::ext;
use super::library::ssl::{self, SslAcceptor};
use async_trait::async_trait;
use pingora_error::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};

use super::errors::{failed, refused};
use super::SslStream;
use crate::protocols::tls::callbacks::TlsAccept;
use crate::protocols::tls::follow_records;
use crate::protocols::IO;

/// A session over `io` that has not begun.
///
/// # Errors
/// `InvalidCert` when the library makes none, which it does only without memory.
pub fn prepare_tls_stream<S: IO>(ssl_acceptor: &SslAcceptor, mut io: S) -> Result<SslStream<S>> {
    follow_records(&mut io);
    let ssl = ext::ssl_from_acceptor(ssl_acceptor).map_err(refused("preparing a TLS session"))?;
    SslStream::new(ssl, io)
}

/// Does the handshake over `io`.
///
/// # Errors
/// `InvalidCert` when the client's certificate is refused, `TLSHandshakeFailure` when anything else fails.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn handshake<S: IO>(ssl_acceptor: &SslAcceptor, io: S) -> Result<SslStream<S>> {
    let mut stream = prepare_tls_stream(ssl_acceptor, io)?;
    let done = stream.accept().await;
    complete(done, &stream)?;
    Ok(stream)
}

/// Does the handshake over `io`, and calls back in its course: when the client has said which name it wants, and
/// when all is done.
///
/// # Errors
/// As [`handshake`].
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn handshake_with_callback<S: IO>(
    ssl_acceptor: &SslAcceptor,
    io: S,
    callbacks: &(dyn TlsAccept + Send + Sync),
) -> Result<SslStream<S>> {
    let mut stream = prepare_tls_stream(ssl_acceptor, io)?;
    let done = Pin::new(&mut stream).start_accept().await;
    if !complete(done, &stream)? {
        callbacks.certificate_callback(stream.ssl_mut()).await;
        let done = Pin::new(&mut stream).resume_accept().await;
        complete(done, &stream)?;
    }
    let extension = callbacks.handshake_complete_callback(stream.ssl()).await;
    stream.extend(extension);
    Ok(stream)
}

fn complete<S, T>(done: Result<T, ssl::Error>, stream: &SslStream<S>) -> Result<T> {
    done.map_err(|e| failed(e, stream.ssl()))
        .map_err(Error::into_down)
}

/// A handshake that stops where a certificate is to be chosen.
#[async_trait]
pub trait ResumableAccept {
    /// Begins, and returns whether the handshake is complete; if not, it waits for a certificate.
    ///
    /// # Errors
    /// Why the handshake failed.
    async fn start_accept(self: Pin<&mut Self>) -> Result<bool, ssl::Error>;

    /// Goes on with the certificate that was set meanwhile.
    ///
    /// # Errors
    /// Why the handshake failed.
    async fn resume_accept(self: Pin<&mut Self>) -> Result<(), ssl::Error>;
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ResumableAccept for SslStream<S> {
    async fn start_accept(mut self: Pin<&mut Self>) -> Result<bool, ssl::Error> {
        ext::suspend_when_need_ssl_cert(self.ssl_mut());
        match self.accept().await {
            Ok(()) => Ok(true),
            Err(e) if ext::is_suspended_for_cert(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn resume_accept(mut self: Pin<&mut Self>) -> Result<(), ssl::Error> {
        ext::unblock_ssl_cert(self.ssl_mut());
        self.accept().await
    }
}
