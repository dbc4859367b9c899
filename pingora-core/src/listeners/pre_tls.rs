//! Processing of a connection by the application, before TLS.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_error::Result;

use crate::protocols::l4::stream::Stream as L4Stream;

/// The processing of a connection before TLS, or before the application where there is no TLS, and after the PROXY
/// protocol ([`ListenerConfig::proxy_protocol`](super::ListenerConfig::proxy_protocol)) where there is that.
#[async_trait]
pub trait PreTlsProcess: Send + Sync {
    /// Works on a connection that was just accepted.
    ///
    /// It may take as long as a handshake may ([`ListenerConfig::tls_handshake_timeout`](super::ListenerConfig::tls_handshake_timeout)), also where there is no
    /// TLS; then the connection is closed.
    ///
    /// # Errors
    /// With any error the connection is closed.
    async fn process(&self, stream: &mut L4Stream) -> Result<()>;
}

/// A shared [`PreTlsProcess`].
pub type PreTlsCallback = Arc<dyn PreTlsProcess>;
