//! Handshakes as the client.

use pingora_error::Result;
use pingora_rustls::TlsConnector;

use super::TlsStream;
use crate::protocols::IO;

/// Does the handshake over `io` with the server `domain`, which is its name or its IP address.
///
/// # Errors
/// `InvalidCert` when the server's certificate is refused; `TLSHandshakeFailure` when anything else fails, or
/// `domain` is neither a name nor an address.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn handshake<S: IO>(
    connector: &TlsConnector,
    domain: &str,
    io: S,
) -> Result<TlsStream<S>> {
    TlsStream::from_connector(connector, domain, io).await
}
