//! The traits that all layers of a connection have in common.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use super::digest::{Digest, GetProxyDigest, GetSocketDigest, GetTimingDigest};
use super::tls::{SslDigest, TlsRef, ALPN};

/// The value that [`UniqueID::id`] returns: a file descriptor where the stream has one.
pub type UniqueIDType = i32;

/// A connection whose type was erased: what listeners hand to applications and connectors to clients.
pub type Stream = Box<dyn IO>;

/// Closing a connection in an orderly way.
#[async_trait]
pub trait Shutdown {
    /// Flushes what is buffered and closes the sending direction; errors are dropped, because the
    /// connection is not used after this.
    async fn shutdown(&mut self);
}

/// An identity among the connections that are open at the same time.
pub trait UniqueID {
    /// The identity of this connection. Once it is closed, another one may get the same.
    fn id(&self) -> UniqueIDType;
}

/// The knowledge of a layer about TLS; the defaults are those of a layer without it.
pub trait Ssl {
    /// The application protocol that the handshake selected (ALPN, RFC 7301), if it did.
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        None
    }

    /// The TLS session, or `None` on a plain connection.
    fn get_ssl(&self) -> Option<&TlsRef> {
        None
    }

    /// Returns what the handshake agreed on, or `None` on a plain connection.
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        None
    }
}

/// Looking at the first bytes of a connection without taking them.
#[async_trait]
pub trait Peek {
    /// Fills all of `buf` with the bytes that the next reads will return, waiting for them if need be.
    ///
    /// Returns `Ok(false)`, with `buf` untouched, when this kind of stream cannot do that; so does the
    /// provided method.
    ///
    /// # Errors
    /// Whatever reading returns; `UnexpectedEof` when the stream ends before `buf` is full. The bytes
    /// that did arrive can still be read.
    ///
    /// # Cancel safety
    /// Implementations of this crate lose no byte when the future is dropped.
    async fn try_peek(&mut self, _buf: &mut [u8]) -> std::io::Result<bool> {
        Ok(false)
    }
}

/// Everything that a connection must be able to do; implemented for all types that can.
///
/// `tokio_test::io::Mock` does with the feature `mock`.
#[diagnostic::on_unimplemented(
    note = "`tokio_test::io::Mock` is a connection with the feature `mock`; a project that has pingora-core without its \
            default features, as with the facade, adds to its [dev-dependencies]: \
            pingora-core = {{ version = \"0.9.1\", features = [\"mock\"] }}"
)]
#[rustfmt::skip] // Grouped by what they are for.
pub trait IO:
    AsyncRead + AsyncWrite + Shutdown + UniqueID
    + Ssl + GetTimingDigest + GetProxyDigest + GetSocketDigest
    + Peek + Unpin + Debug + Send + Sync
{
    /// The connection as [`Any`], to look at its concrete type.
    fn as_any(&self) -> &dyn Any;

    /// The connection as [`Any`], to use it by its concrete type.
    fn as_any_mut(&mut self) -> &mut dyn Any;

    /// The boxed connection as [`Any`], to get its concrete type back.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

#[rustfmt::skip] // As above.
impl<T> IO for T
where
    T: 'static + AsyncRead + AsyncWrite + Shutdown + UniqueID
        + Ssl + GetTimingDigest + GetProxyDigest + GetSocketDigest
        + Peek + Unpin + Debug + Send + Sync,
{
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Digest {
    /// Returns what a connection knows of itself.
    pub(crate) fn of(connection: &dyn IO) -> Self {
        Digest {
            socket_digest: connection.get_socket_digest(),
            proxy_digest: connection.get_proxy_digest(),
            timing_digest: connection.get_timing_digest(),
            ssl_digest: connection.get_ssl_digest(),
        }
    }
}
