//! Callbacks of applications in the course of a handshake.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;

use super::TlsRef;

/// Called with the session when a handshake is complete; what it returns is kept in the
/// [`SslDigest`](super::SslDigest)'s extension.
pub type HandshakeCompleteHook =
    Arc<dyn Fn(&TlsRef) -> Option<Arc<dyn Any + Send + Sync>> + Send + Sync>;

/// The callbacks of a TLS handshake with a client.
#[async_trait]
pub trait TlsAccept {
    /// Called when the client has said which name it wants, to choose a certificate for it. Unless
    /// overridden it does nothing.
    async fn certificate_callback(&self, ssl: &mut TlsRef) {
        let _ = ssl;
    }

    /// Called when the handshake is complete; what it returns is kept with the connection's digest.
    /// Unless overridden that is nothing.
    async fn handshake_complete_callback(
        &self,
        ssl: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let _ = ssl;
        None
    }
}

/// Boxed TLS callbacks.
pub type TlsAcceptCallbacks = Box<dyn TlsAccept + Send + Sync>;
