//! The server's side.

use std::net::SocketAddr;

use pingora_error::{
    Error,
    ErrorType::{InternalError, TLSHandshakeFailure},
    Result,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::stream::SslStream;
use super::NO_BACKEND;
use crate::server::configuration::ServerConf;

/// Accepts no TLS connections.
pub struct Acceptor;

impl Acceptor {
    /// Would tell of a handshake that has failed.
    pub(crate) fn handshake_failed(&self, _: Option<SocketAddr>, _: &Error) {}

    /// Refuses a handshake.
    ///
    /// # Errors
    /// Always `TLSHandshakeFailure`.
    pub async fn tls_handshake<S: AsyncRead + AsyncWrite>(&self, _: S) -> Result<SslStream<S>> {
        Error::e_explain(TLSHandshakeFailure, NO_BACKEND)
    }
}

/// Stands for the settings of a server.
pub struct TlsSettings;

impl TlsSettings {
    /// An acceptor that refuses.
    pub fn build(&self) -> Acceptor {
        Acceptor
    }

    /// Refuses to make an acceptor.
    ///
    /// # Errors
    /// Always `InternalError`.
    pub(crate) fn try_build(self) -> Result<Acceptor> {
        Error::e_explain(InternalError, NO_BACKEND)
    }

    /// Would offer HTTP/2 to clients.
    pub fn enable_h2(&mut self) {}

    /// Refuses to make settings with a certificate and a key.
    ///
    /// # Errors
    /// Always `InternalError`.
    pub fn intermediate(_: &str, _: &str) -> Result<Self> {
        Error::e_explain(InternalError, NO_BACKEND)
    }

    /// Would do handshakes on threads of their own.
    pub fn set_offload_threadpool(&mut self, _: usize, _: usize) {}

    /// Would do handshakes on threads of their own, if the configuration says so.
    pub fn set_offload_threadpool_from_server_conf(&mut self, _: &ServerConf) {}
}
