//! Turning connections away before anything is read from them.

use std::fmt::Debug;
use std::net::SocketAddr;

use async_trait::async_trait;

/// Decides which connections are served.
#[async_trait]
pub trait ConnectionFilter: Debug + Send + Sync {
    /// Returns whether to serve a connection from this address, none for a Unix socket. It is closed
    /// otherwise, with nothing read or written. Unless overridden all are served.
    async fn should_accept(&self, addr: Option<&SocketAddr>) -> bool {
        let _ = addr;
        true
    }
}

/// Serves every connection.
#[derive(Debug, Clone)]
pub struct AcceptAllFilter;

impl ConnectionFilter for AcceptAllFilter {}

pub(super) async fn admits(filter: &dyn ConnectionFilter, addr: Option<&SocketAddr>) -> bool {
    filter.should_accept(addr).await
}
