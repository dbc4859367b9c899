//! Transport connections that an application makes itself.

use std::fmt;

use async_trait::async_trait;
use pingora_error::Result;

use super::socket::SocketAddr;
use super::stream::Stream;

/// Makes transport connections in place of the connector, such as ones that are not sockets.
#[async_trait]
pub trait Connect: fmt::Debug {
    /// Connects to `addr`.
    async fn connect(&self, addr: &SocketAddr) -> Result<Stream>;
}
