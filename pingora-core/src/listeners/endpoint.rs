//! Endpoints that listen.

use std::sync::Arc;

#[cfg(test)]
use super::accept;
use super::accept::AcceptStrategy;
use super::entrance::Entrance;
use super::l4::Listening;

/// An endpoint that listens.
pub(crate) struct Endpoint {
    pub(super) listening: Listening,
    pub(super) strategy: AcceptStrategy,
    pub(crate) entrance: Arc<Entrance>,
}

#[cfg(test)]
impl Endpoint {
    #[allow(dead_code)] // Not asked without a TLS backend.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        let address = self.listening.socket.local_addr().unwrap();
        address.as_socket().unwrap()
    }

    /// A connection that waits in the queue.
    #[allow(dead_code)] // As above.
    pub(crate) fn accept_one(&self) -> Option<accept::Accepted> {
        accept::accept(&self.listening.socket).ok()
    }
}
