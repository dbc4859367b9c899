//! Transport connections: those that an application makes itself, where from, and why one failed.

use std::fmt;

use async_trait::async_trait;
use pingora_error::Result;

use crate::protocols::l4::socket::SocketAddr;
use crate::protocols::l4::stream::Stream;

pub use crate::protocols::l4::bind_to::BindTo;
pub use crate::protocols::l4::connect_error::{is_local_shortage, ConnectErrorExt};

/// Makes transport connections in place of the connector, such as ones that are not sockets.
#[async_trait]
pub trait Connect: fmt::Debug {
    /// Connects to `addr`.
    async fn connect(&self, addr: &SocketAddr) -> Result<Stream>;
}
