//! The client's side.

use pingora_error::{Error, ErrorType::TLSHandshakeFailure, Result};

use super::stream::SslStream;
use super::NO_BACKEND;
use crate::connectors::ConnectorOptions;
use crate::protocols::tls::options::{ClientOptions, Handshake};
use crate::protocols::{ALPN, IO};
use crate::upstreams::peer::Peer;

/// Makes no TLS connections.
#[derive(Clone)]
pub struct Connector {
    /// The configuration that a backend makes once.
    pub ctx: TlsConnector,
}

impl Connector {
    /// A connector that refuses.
    pub fn new(_: Option<ConnectorOptions>) -> Self {
        Connector { ctx: TlsConnector }
    }
}

/// Stands for the client configuration of a backend.
#[derive(Clone)]
pub struct TlsConnector;

impl TlsConnector {
    pub(crate) fn new(_: ClientOptions) -> Self {
        TlsConnector
    }

    /// Refuses to do a handshake.
    ///
    /// # Errors
    /// Always `TLSHandshakeFailure`, saying that no TLS backend is compiled in.
    pub(crate) async fn connect<T>(&self, _: T, _: &Handshake<'_>) -> Result<SslStream<T>> {
        Error::e_explain(TLSHandshakeFailure, NO_BACKEND)
    }
}

/// Stands for the settings of a client.
pub struct TlsSettings;

/// Refuses to make a TLS connection.
///
/// # Errors
/// Always `TLSHandshakeFailure`, saying that no TLS backend is compiled in.
pub async fn connect<T, P>(_: T, _: &P, _: Option<ALPN>, _: &TlsConnector) -> Result<SslStream<T>>
where
    T: IO,
    P: Peer + Send + Sync,
{
    Error::e_explain(TLSHandshakeFailure, NO_BACKEND)
}
