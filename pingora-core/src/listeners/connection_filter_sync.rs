//! Turning connections away before anything is read from them.

use std::fmt::Debug;
use std::net::SocketAddr;

/// Decides which connections are served.
///
/// With the feature `connection_filter` the decision may be awaited.
pub trait ConnectionFilter: Debug + Send + Sync {
    /// Returns whether to serve a connection from this address. It is closed otherwise, with nothing read
    /// or written. Unless overridden all are served, as all over Unix sockets are.
    fn should_accept(&self, addr: &SocketAddr) -> bool {
        let _ = addr;
        true
    }
}

/// Serves every connection.
#[derive(Debug, Clone)]
pub struct AcceptAllFilter;

impl ConnectionFilter for AcceptAllFilter {
    fn should_accept(&self, _addr: &SocketAddr) -> bool {
        true
    }
}

pub(super) async fn admits(filter: &dyn ConnectionFilter, addr: Option<&SocketAddr>) -> bool {
    addr.is_none_or(|addr| filter.should_accept(addr))
}
