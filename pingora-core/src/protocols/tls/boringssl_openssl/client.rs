//! Handshakes as the client.

use std::any::Any;
use std::sync::Arc;

use super::library::ssl::{ConnectConfiguration, SslRef};
use pingora_error::Result;

use super::errors::{failed, refused};
use super::SslStream;
use crate::protocols::IO;

/// Does the handshake over `io` with the server `domain`, and has `complete_hook` look at the session then.
///
/// # Errors
/// `InvalidCert` when the server's certificate is refused; `TLSHandshakeFailure` when anything else fails.
///
/// # Cancel safety
/// Dropping the future closes the connection.
#[allow(clippy::type_complexity)] // The signature is given; the alias is of another module.
pub async fn handshake<S: IO>(
    conn_config: ConnectConfiguration,
    domain: &str,
    io: S,
    complete_hook: Option<Arc<dyn Fn(&SslRef) -> Option<Arc<dyn Any + Send + Sync>> + Send + Sync>>,
) -> Result<SslStream<S>> {
    let ssl = conn_config
        .into_ssl(domain)
        .map_err(refused("preparing a TLS session"))?;
    let mut stream = SslStream::new(ssl, io)?;
    if let Err(e) = stream.connect().await {
        return Err(failed(e, stream.ssl()));
    }
    if let Some(hook) = complete_hook {
        let extension = hook(stream.ssl());
        stream.extend(extension);
    }
    Ok(stream)
}
