//! The client's side.

use pingora_error::{Error, ErrorType::TLSHandshakeFailure, Result};

use super::stream::SslStream;
use super::NO_BACKEND;
use crate::protocols::tls::options::{ClientOptions, Handshake};

pub use crate::connectors::tls::connect;

/// Makes no TLS connections.
#[derive(Clone)]
pub struct Connector {
    /// The configuration that a backend makes once.
    pub ctx: TlsConnector,
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
