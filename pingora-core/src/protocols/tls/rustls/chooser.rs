//! The choice of a configuration for each handshake.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use pingora_error::Error;
use pingora_rustls::{ClientHello, ServerConfig};

use super::TlsRef;

/// Chooses the configuration of each handshake by the client's first message: by server name, for instance, with
/// versions, client certificates and application protocols that differ from one name to the next.
///
/// Its methods run on the task of the handshake, and delay it and its worker.
pub trait ConfigChooser: Send + Sync {
    /// Chooses the configuration.
    fn choose(&self, hello: &ClientHello<'_>) -> Choice;

    /// Called when the handshake is complete; what it returns is kept in the [`SslDigest`](super::super::SslDigest)'s
    /// extension. Unless overridden that is nothing.
    fn complete(
        &self,
        chosen: &ChosenConfig,
        session: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let _ = (chosen, session);
        None
    }

    /// Called when a handshake has failed, also before there was anything to choose by. `peer` is the client's address,
    /// which one on a Unix socket has not. Unless overridden it does nothing.
    fn failed(&self, peer: Option<SocketAddr>, error: &Error) {
        let _ = (peer, error);
    }
}

/// What a [`ConfigChooser`] says.
pub enum Choice {
    /// The configuration.
    Now(ChosenConfig),
    /// The configuration, once the future is ready. The handshake waits for it, for no longer than its time limit.
    Later(Pin<Box<dyn Future<Output = ChosenConfig> + Send>>),
}

/// A configuration, and what the chooser wants to remember of its choice.
#[derive(Clone)]
pub struct ChosenConfig {
    /// The configuration.
    pub config: Arc<ServerConfig>,
    /// A value of any type for [`ConfigChooser::complete`].
    pub note: Option<Arc<dyn Any + Send + Sync>>,
}

impl From<Arc<ServerConfig>> for ChosenConfig {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self { config, note: None }
    }
}
